"""The page of an evaluation, from what the package's own statistics say; every part but the classes may be missing."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import cache
from typing import Any

import pytest

from tests.report.pages import checked
from voxicon.evaluate.against import compare
from voxicon.evaluate.agreement import PairScore, summarize_agreement
from voxicon.evaluate.table import CaseRow, summarize
from voxicon.report.evaluation import evaluation_page

HOSTILE = "<script>alert('1')</script>"


def row(case: str, name: str = "liver", dataset: str = "lits", state: Any = "scored", **measures: float) -> CaseRow:
    return CaseRow(
        dataset=dataset, case=case, patient=case, split="test", labels_by="human", name=name, state=state, **measures
    )


def rows(shift: float = 0.0) -> list[CaseRow]:
    scored = [
        row(f"c{i}", name, dataset, dice=0.9 + 0.01 * i - shift, nsd=0.8, hd95_mm=3.25, truth_ml=100.0 + i,
            predicted_ml=110.0, volume_error_ml=10.0, volume_error_percent=9.5)
        for name in ("liver", "spleen") for dataset in ("lits", "word") for i in range(4)
    ]  # fmt: skip
    return [
        *scored,
        row("c9", "liver_tumor", state="missed", dice=0.0, nsd=0.0, truth_ml=12.5, predicted_ml=0.0),
        row("c8", "liver_tumor", state="false_alarm", dice=0.0, nsd=0.0, truth_ml=0.0, predicted_ml=3.5),
        row("c7", "liver_tumor", state="absent", truth_ml=0.0, predicted_ml=0.0),
        row("c6", "liver_tumor", state="absent", truth_ml=0.0, predicted_ml=0.0),
    ]


@cache
def summary() -> dict[str, Any]:
    return summarize(rows())


def example(**more: Any) -> dict[str, Any]:
    return {
        "name": "nine sets",
        "weights": {"name": "our-weights", "sha256": "ab" * 32},
        "split": "test",
        "tolerance_mm": 2.0,
        "command": "voxicon evaluate assembly.yaml",
        "n_cases": 1234,
        "n_patients": 1200,
        "notes": ["labels are by a machine"],
        "failed": {"lits/volume-7": "ends too early"},
        **summary(),
        "cases": [asdict(one) for one in rows()],
        **more,
    }


def test_headline() -> None:
    text = checked(evaluation_page(example())).text
    # Liver and spleen: (0.90 + 0.91 + 0.92 + 0.93) / 4 = 0.915; tumor: 0; (0.915 + 0.915 + 0) / 3 = 0.61.
    for words in (
        "Evaluation of nine sets",
        "Weights our-weights abababababab on split test",
        "0.610 mean Dice of 3 classes 95% interval",
        "mean NSD at 2 mm",
        "1,234 scans 1,200 patients, split test",
        "1 masks missed",
        "1 false alarms",
        "1 scans not judged",
        "Before you read the numbers labels are by a machine",
        "lits/volume-7 ends too early",
        "voxicon evaluate assembly.yaml",
    ):
        assert words in text


def test_the_table_has_classes_datasets_measures_and_states() -> None:
    source = evaluation_page(example())
    table = source[source.index('id="numbers"') : source.index('id="worst"')]
    text = " ".join(checked(source).text.split())
    assert table.count("<tr><th scope") == 3
    assert table.count('<tr class="sub">') == 4
    # Dice and interval, median, NSD and interval, HD95, volume error; then scored, absent, missed, false alarm.
    assert "spleen 0.915" in text
    assert "3.2 3.2 to 3.2 9.5 9.5 to 9.5 8 0 0 0" in text
    assert "liver tumor 0.000 0.000 to 0.000 0.000 0.000 0.000 to 0.000 – – 0 2 1 1" in text
    assert "not predicted" not in text


def test_what_nobody_predicted_gets_a_column() -> None:
    all_rows = [*rows(), row("c1", "colon", state="not_predicted", truth_ml=50.0)]
    page = checked(evaluation_page(example(**summarize(all_rows), cases=[asdict(one) for one in all_rows])))
    assert "not predicted" in page.text
    assert "colon – – – – – 0 0 0 0 1" in page.text


def test_classes_are_ranked_on_a_scale_that_starts_below_the_worst() -> None:
    source = evaluation_page(example())
    part = source[source.index("Mean Dice of each class") : source.index("</section>")]
    assert part.index(">liver<") < part.index(">spleen<") < part.index(">liver tumor<")
    # The tumor's 0 makes the scale whole: 0.915 lies at 91.5%.
    assert 'x="91.5%"' in part
    assert 'x="0%"' in part


@pytest.mark.parametrize(
    ("dice", "places"),
    # Above 0.8 the scale stays from 0.8 to 1: (0.95 - 0.8) / 0.2; else it starts at the twentieth 0.01 below.
    [
        ((0.95, 0.95), {"75%"}),
        ((0.72, 0.72), {f"{100 * (0.72 - 0.7) / 0.3:.2f}%"}),
        ((0.7, 0.7), {f"{100 * 0.05 / 0.35:.2f}%"}),
    ],
)
def test_a_scale_of_dice_is_never_narrow(dice: tuple[float, ...], places: set[str]) -> None:
    own = [row(f"c{i}", dice=value) for i, value in enumerate(dice)]
    source = evaluation_page(summarize(own))
    part = source[source.index("Mean Dice of each class") : source.index("</section>")]
    assert set(re.findall(r'<svg x="([^"]*)"', part)) == places


def test_worst_cases_come_with_the_most_at_stake_first() -> None:
    source = evaluation_page(example())
    part = source[source.index('id="worst"') : source.index('id="volumes"')]
    at = [part.index(words) for words in ("lits/c9", "lits/c8", "lits/c0")]
    assert at == sorted(at)
    assert part.count("<tr><td") == 18
    assert "lits/c7" not in part


def test_readers_are_compared_with_each_other_too() -> None:
    scores = [
        PairScore(dataset="jhh", case=str(i), patient=str(i), split="test", labels_by="human", name="liver",
                  pair=pair, dice=dice)
        for i in range(3) for pair, dice in ((("AI", "R1"), 0.95), (("AI", "R2"), 0.94), (("R1", "R2"), 0.93))
    ]  # fmt: skip
    text = checked(evaluation_page(example(readers=summarize_agreement(scores, ("R1", "R2"))))).text
    assert "on the same 3 scans of 3 patients" in text
    assert "class AI-R1 AI-R2 R1-R2 n liver 0.950 0.950 to 0.950 0.940 0.940 to 0.940 0.930 0.930 to 0.930 3" in text


def test_a_comparison_says_by_how_much_and_how_sure() -> None:
    against = {"folder": "b", "name": "the old one", "weights": None, **compare(rows(), rows(0.125))}
    source = evaluation_page(example(against=against))
    text = checked(source).text
    assert "Compared with the old one" in text
    # Eight pairs of four patients, all better by 0.125: Wilcoxon of four equal signs is 2 / 2**4 = 0.125; two
    # classes were tested, Holm doubles it.
    assert "liver Dice 0.915 0.790 0.125 0.125 to 0.125 8 0.12 0.38" in text
    assert "NSD at 2 mm 0.800 0.800 0.000" in text
    plot = source[source.index("Difference in Dice") :]
    # On a scale from -0.14 to 0.14, 0.125 lies at (0.125 + 0.14) / 0.28 = 94.64%.
    assert 'x="94.64%"' in plot[: plot.index('class="scroll')]


@pytest.mark.parametrize(
    "missing", ["name", "weights", "split", "tolerance_mm", "command", "n_cases", "notes", "failed", "cases"]
)
def test_every_part_may_be_missing_or_none(missing: str) -> None:
    found = example()
    del found[missing]
    assert (
        checked(evaluation_page(found)).text.replace("None", "")
        == checked(evaluation_page(found | {missing: None})).text
    )


def test_nothing_judged_has_a_page() -> None:
    text = checked(evaluation_page({**summarize([]), "cases": [], "detection": {}, "readers": None})).text
    assert "Evaluation of masks" in text
    assert "mean Dice of 0 classes too few patients for an interval" in text
    assert text.count("nothing to show") == 2
    for section in ("Detection", "Readers", "Comparison", "Worst", "Volumes"):
        assert section not in text


def test_a_single_patient_has_no_interval_and_still_a_page() -> None:
    one = [row("c1", dice=0.5, nsd=0.5, hd95_mm=2.0, truth_ml=10.0, predicted_ml=9.0, volume_error_percent=-10.0)]
    text = checked(evaluation_page({**summarize(one), "cases": [asdict(o) for o in one]})).text
    assert "0.500 mean Dice of 1 class too few patients" in text


def test_foreign_text_stays_text() -> None:
    found = example(notes=[HOSTILE], failed={HOSTILE: HOSTILE}, command=HOSTILE, name=HOSTILE, split=HOSTILE)
    found["weights"] = {"name": HOSTILE, "sha256": HOSTILE}
    hostile = [row(HOSTILE, HOSTILE, HOSTILE, dice=0.5, nsd=0.5, truth_ml=1.0, predicted_ml=2.0)]
    found |= summarize([*hostile, row("b", HOSTILE, dice=0.4, nsd=0.1)])
    found["cases"] = [asdict(one) for one in hostile]
    found["datasets"] = {
        HOSTILE: {"title": HOSTILE, "terms": HOSTILE, "labels_by": HOSTILE, "n_cases": 1, "n_patients": 1}
    }
    source = evaluation_page(found)
    assert "<script" not in source
    assert checked(source).text.count(HOSTILE) > 15


def test_the_page_is_the_same_from_json() -> None:
    found = example()
    assert evaluation_page(json.loads(json.dumps(found))) == evaluation_page(found)
