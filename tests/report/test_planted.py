"""The page about planted lesions says what the numbers say."""

from __future__ import annotations

import json
from typing import Any

from tests.evaluate.test_planted import BINS, study
from tests.report.pages import checked, texts, with_class
from voxicon.evaluate.planted import summarize_planted
from voxicon.report.planted import _card, planted_page


def found(**more: Any) -> dict[str, Any]:
    lesions, looks = study()
    told = {
        "name": "torso", "command": "voxicon evaluate x.yaml --planted", "weights": {"name": "w", "sha256": "ab" * 32},
        "split": "test", "seed": 3, "scans": ["d/c"], "failed": {}, "notes": ["a note"],
        "lesions": {"liver_tumor": summarize_planted(lesions, looks, BINS)},
    } | more  # fmt: skip
    return dict(json.loads(json.dumps(told)))


def test_a_page() -> None:
    page = checked(planted_page(found()))
    for words in (
        "Planted lesions, weights w",
        "4 lesions planted",
        "5 untouched looks at 1 scan ",
        "a note",
        "seed 3",
    ):
        assert words in page.text
    # As delivered three of four are found; at a specificity of 0.8 the same three, from 0.6 on.
    assert "in the mask as delivered 80% 4/5, 38% to 96% 75% 3/4" in page.text
    assert "from probability 0.600, chosen for specificity 0.8 80% 4/5" in page.text
    assert "1.50 beside planted lesions" in page.text
    assert "75% of liver tumors found" in page.text


def test_plots() -> None:
    card = _card("liver_tumor", found()["lesions"]["liver_tumor"])
    assert {"3 of 4", "1 of 2", "2 of 2"} <= set(texts(card["sizes"]))
    assert {"0 of 1", "2 of 2", "1 of 1"} <= set(texts(card["contrast"]))
    assert "40-60 HU" not in texts(card["contrast"])
    assert "4 lesions, 5 untouched" in texts(card["curve"])
    # At 0.6: one of five untouched is called, three of four lesions are found; the plot is 314 wide and 282 high.
    [mark] = with_class(card["curve"], "mark")
    assert abs(float(mark.get("cx") or 0) - (52 + 0.2 * 314)) < 0.1
    assert abs(float(mark.get("cy") or 0) - (294 - 0.75 * 282)) < 0.1


def test_nothing_found_and_nothing_planted() -> None:
    empty = summarize_planted([], [], BINS)
    page = checked(planted_page(found(lesions={"liver_tumor": empty})))
    assert "0 lesions planted" in page.text
    assert "at specificity" not in page.text.replace("Found at specificity", "")
    page = checked(planted_page(found(lesions={}, scans=[], failed={"d/c": "<script>broken"})))
    assert "nothing to show" in page.text
    assert "<script>broken" in page.text
    assert "1 scans not used" in page.text
    lesions, looks = study()
    silent = summarize_planted(lesions, [look for look in looks if look.score > 0.65], BINS)
    assert "No threshold is high enough" not in planted_page(found(lesions={"liver_tumor": silent}))
    hopeless = summarize_planted([one for one in lesions if one.score < 0.5], looks[3:4], BINS)
    page = checked(planted_page(found(lesions={"liver_tumor": hopeless})))
    assert "never, chosen for specificity 0.8" in page.text
    assert "No threshold is high enough" in page.text
