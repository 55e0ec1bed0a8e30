"""The language file: every key is there and used, every sentence goes through it, numbers read as its readers do."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import voxicon
from tests.answering.findings import LESION, POINT, found, lesion, organ, verdict
from tests.answering.phantom import VOCABULARY, clauses, scene
from voxicon.answering import language as module
from voxicon.answering.answers import ClauseAnswer, Comparison, TargetAnswer
from voxicon.answering.language import Language, language, languages, sentence
from voxicon.answering.telling import answer_lines, impression
from voxicon.errors import UsageError
from voxicon.findings.organs import ABOVE_NORMAL, AT_BORDER, BELOW_NORMAL, IN_PIECES

SOURCES = Path(voxicon.__file__).parent
EN: dict[str, Any] = yaml.safe_load((SOURCES / "answering" / "languages" / "en.yaml").read_text(encoding="utf8"))
SETTINGS = ("language", "decimal", "thousands", "classes")
"""Keys that are read by name and are no sentences."""


def leaves(entries: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Keys as `Language.say` takes them, with their sentences; `one` and `many` belong to one key."""
    for key, entry in entries.items():
        if isinstance(entry, dict) and set(entry) != {"one", "many"}:
            yield from leaves(entry, f"{before}{key}.")
        else:
            several = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else [entry]
            yield from ((before + key, text) for text in several)


KEYS = {key for key, _ in leaves(EN)} - set(SETTINGS)


def _said() -> set[str]:
    """The key of every call of `say` or `lines` and those in templates, as a pattern where a part is not known here."""
    patterns = set()
    for path in sorted(SOURCES.rglob("*.html")):
        for call in re.findall(r"""\bt\(([^)]*)\)""", path.read_text(encoding="utf8")):
            patterns |= set(map(re.escape, re.findall(r'"(page\.[\w.]+)"', call)))
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("say.say", "self.say", "say.lines"):
                patterns |= set(_patterns(node.args[0], path))
    return patterns


def _patterns(key: ast.expr, path: Path) -> Iterator[str]:
    if isinstance(key, ast.Constant):
        yield re.escape(str(key.value))
    elif isinstance(key, ast.JoinedStr):
        yield "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else r"\w+" for p in key.values)
    elif isinstance(key, ast.IfExp):
        yield from _patterns(key.body, path)
        yield from _patterns(key.orelse, path)
    else:
        # A name: every text that is assigned to it in its file.
        assert isinstance(key, ast.Name), ast.dump(key)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == key.id:
                yield from _patterns(node.value, path)


SAID = _said()


def test_every_key_that_is_said_is_there() -> None:
    assert len(SAID) > 40
    assert [pattern for pattern in SAID if not any(re.fullmatch(pattern, key) for key in KEYS)] == []


def test_every_key_that_is_there_is_said() -> None:
    assert [key for key in sorted(KEYS) if not any(re.fullmatch(pattern, key) for pattern in SAID)] == []


def test_words_that_are_chosen_when_it_runs_are_all_there() -> None:
    from voxicon.findings.place import ALONG_PRINCIPAL_AXIS, ALONG_S_I

    assert set(EN["thirds"]) == {word for words in (ALONG_PRINCIPAL_AXIS | ALONG_S_I).values() for word in words}
    assert set(EN["attenuation"]) == {"hypo", "iso", "hyper"}
    assert set(EN["quantities"]) == {"volume", "diameter", "density"}


@pytest.mark.parametrize("code", languages())
def test_all_languages_have_the_same_keys_and_fields(code: str) -> None:
    text = (SOURCES / "answering" / "languages" / f"{code}.yaml").read_text(encoding="utf8")
    for (key, one), (other_key, other) in zip(leaves(EN), leaves(yaml.safe_load(text)), strict=True):
        assert key == other_key
        assert {f[1] for f in string.Formatter().parse(one)} == {f[1] for f in string.Formatter().parse(other)}, key


def marked(entry: Any) -> Any:
    """Every sentence between marks."""
    if isinstance(entry, list):
        return [marked(one) for one in entry]
    return {key: marked(one) for key, one in entry.items()} if isinstance(entry, dict) else f"⟦{entry}⟧"


MARKED = Language("xx", marked(EN) | {"decimal": ".", "thousands": ",", "classes": {}}, VOCABULARY)


def outside(line: str) -> str:
    """What of a line is between no marks."""
    kept, depth = "", 0
    for sign in line:
        depth += (sign == "⟦") - (sign == "⟧")
        kept += sign if not depth and sign != "⟧" else ""
    return kept


LINES = [
    *impression([verdict(measured=POINT)], [LESION], (), ("lung_tumor", "colon_tumor"), MARKED),
    *impression([verdict(lesions=2)], [LESION, lesion(attenuation="iso", touches_border=True)], (), (), MARKED),
    *impression([verdict(lesions=0, measured=POINT)], [], (), (), MARKED),
    *impression([verdict(detected=False)], [LESION], (), (), MARKED),
    *impression([verdict(detected=False, lesions=0, score=s) for s in (0.1, None)], [], (), (), MARKED),
    *impression([verdict(detected=False, lesions=0, by="masks")], [], (), (), MARKED),
    *impression([], [], [organ(), organ()], (), MARKED),
    *impression(
        [], [], [organ(volume_ml=0.0), organ(flags=(ABOVE_NORMAL, BELOW_NORMAL, AT_BORDER, IN_PIECES))], (), MARKED
    ),
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_no_word_of_an_impression_is_written_past_the_language(line: str) -> None:
    assert outside(line) == ""


QUESTIONS = (
    "segment the liver tumors", "segment the largest liver tumor", "segment the kidneys", "segment the aorta",
    "segment the liver tumors larger than 5 cm", "count the tumors", "mark the liver tumors", "generate a report",
    "measure the volume, diameter and density of the aorta", "measure the liver tumors", "segment the vessels",
    "compare the liver, the pancreas and the spleen", "compare the density of the kidneys", "report on the pancreas",
)  # fmt: skip


@pytest.mark.parametrize("text", QUESTIONS)
def test_no_word_of_an_answer_is_written_past_the_language(text: str) -> None:
    belly = scene(spleen=scene().masks["kidney_cyst"])
    (clause,) = clauses(text, belly)
    lesions = {(one.name, one.number): one for one in belly.lesions("liver_tumor")}
    # Request wording and names of classes may stand alone, and so may numbers and units.
    names = sorted((concept.display_name for concept in VOCABULARY), key=len, reverse=True)
    own = [*(target.said for target in clause.targets), *names, "ml", "mm", "HU"]
    lines = answer_lines(clause, lesions, MARKED)
    assert lines
    for line in lines:
        left = outside(line)
        for word in own:
            left = left.replace(word, "")
        assert not re.search("[a-z]", left, re.IGNORECASE), line


def test_a_file_of_ones_own_names_classes_otherwise() -> None:
    own = Language("xx", EN | {"classes": {"liver": "Leber"}}, VOCABULARY)
    assert own.names(["liver", "spleen", "pancreas"]) == "Leber, spleen and pancreas"
    assert (own.names([]), own.names(["liver"])) == ("–", "Leber")


GERMAN = Language("de", EN | {"decimal": ",", "thousands": "."}, VOCABULARY)
ENGLISH = language("en")


@pytest.mark.parametrize(
    ("value", "digits", "english", "other"),
    [
        (1234567.891, 2, "1,234,567.89", "1.234.567,89"),
        (999.96, 1, "1,000.0", "1.000,0"),
        (0.5, 0, "0", "0"),
        (-0.4, 0, "0", "0"),
        (-0.0, 2, "0.00", "0,00"),
        (-1234.5, 1, "-1,234.5", "-1.234,5"),
        (12, 0, "12", "12"),
        (None, 1, "–", "–"),
    ],
)
def test_numbers(value: float | None, digits: int, english: str, other: str) -> None:
    assert ENGLISH.number(value, digits) == english
    assert GERMAN.number(value, digits) == other


def test_numbers_with_a_sign() -> None:
    told = [ENGLISH.number(value, 1, signed=True) for value in (1234.5, 0.04, 0.0, -0.04, -2.0, None)]
    assert told == ["+1,234.5", "0.0", "0.0", "0.0", "-2.0", "–"]


def test_milliliters_have_as_many_decimals_as_they_deserve() -> None:
    amounts = [ENGLISH.amount(ml) for ml in (1500.4, 100.0, 99.94, 1.0, 0.99949, 0.016, 0.0)]
    assert amounts == ["1,500", "100", "99.9", "1.0", "0.999", "0.016", "0.000"]


def test_one_and_many() -> None:
    assert [ENGLISH.say("answers.lesions", n, volume="1") for n in (1, 2, 0)] == [
        "1 found, 1 ml",
        "2 found, 1 ml together",
        "0 found, 1 ml together",
    ]


def test_a_sentence_begins_with_a_capital() -> None:
    assert [sentence(text) for text in ("liver: 1", "", "äh", "No")] == ["Liver: 1", "", "Äh", "No"]


def test_languages_and_what_is_none() -> None:
    assert "en" in languages()
    assert language("en").vocabulary is VOCABULARY
    for wrong in ("xx", "EN", "", "../en", "de.yaml"):
        with pytest.raises(UsageError, match=r"not there; expected one of: .*\ben\b") as caught:
            language(wrong)
        assert repr(wrong) in str(caught.value)


def test_a_new_language_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "de.yaml").write_text(yaml.safe_dump(EN | {"decimal": ","}), encoding="utf8")
    (tmp_path / "README.md").write_text("not a language")
    monkeypatch.setattr(module, "_folder", lambda: tmp_path)
    for cached in (module.languages, module._entries):
        cached.cache_clear()
    try:
        assert languages() == ("de",)
        assert language("de").number(0.5, 1) == "0,5"
    finally:
        monkeypatch.undo()
        for cached in (module.languages, module._entries):
            cached.cache_clear()


def test_lines_of_comparisons_are_of_the_language_too() -> None:
    comparison = Comparison("density", "HU", ("a", "b"), (1000.0, 2500.0), (0.0, 1500.0), (None, None))
    clause = ClauseAnswer("compare", "", (), False, (), (comparison,))
    assert answer_lines(clause, {}, GERMAN) == ["mean density: a 1.000 HU, b 2.500 HU (+1.500 HU)"]
    target = TargetAnswer("liver", ("liver",), (), False, (found(name="liver", number=None),), ())
    assert answer_lines(ClauseAnswer("segment", "", (), False, (target,)), {}, GERMAN) == ["liver: 3,1 ml"]
