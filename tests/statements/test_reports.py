"""Whole reports: sections, headings, wrapped lines; the table is ``reports.yaml`` beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.statements.wording import VOCABULARY, all_in_short, in_short
from voxicon.core.concepts import Concept, Vocabulary
from voxicon.errors import UnreadableFile
from voxicon.statements import MOST_CHARACTERS, load_report, read_report

REPORTS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("reports.yaml").read_text(encoding="utf8"))


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_states_what_the_table_says(name: str) -> None:
    expected = REPORTS[name]
    report = read_report(expected["text"], VOCABULARY)
    assert list(map(in_short, report.statements)) == expected["states"]
    assert [" ".join(s.text.split()) for s in report.unread] == expected["unread"]
    assert [" ".join(s.text.split()) for s in report.skipped] == expected["skipped"]


@pytest.mark.parametrize("name", REPORTS)
def test_sentences_are_quoted_as_they_stand(name: str) -> None:
    text = REPORTS[name]["text"]
    report = read_report(text, VOCABULARY)
    for sentence in [*(s.sentence for s in report.statements), *report.unread, *report.skipped]:
        assert sentence.text == text[sentence.start : sentence.end]
        assert sentence.text == sentence.text.strip() != ""


def test_every_field_of_a_statement() -> None:
    [statement] = read_report("Findings: two suspicious lesions in the left kidney, up to 2 cm.").statements
    assert statement.sentence.text == "Findings: two suspicious lesions in the left kidney, up to 2 cm."
    assert (statement.kind, statement.finding, statement.side) == ("present", "tumor", "left")
    assert (statement.organs, statement.lesions) == (("kidney_left",), ("kidney_tumor",))
    assert (statement.count, statement.size_mm, statement.otherwise, statement.unnamed) == (2, 20.0, False, False)
    assert statement.cues == ("suspicious lesions",)


def test_a_report_is_plain_data() -> None:
    data = read_report("Normal liver. Weather is fine.").to_dict()
    assert json.loads(json.dumps(data))["statements"][0]["organs"] == ["liver"]
    assert data["unread"][0]["text"] == "Weather is fine."


def test_a_heading_alone_on_its_line_is_about_the_next() -> None:
    assert all_in_short(read_report("PANCREAS:\nNo mass.\n")) == "absent tumor pancreas"
    assert all_in_short(read_report("FINDINGS:\nPANCREAS:\nNo mass.\n")) == "absent tumor pancreas"


def test_a_heading_ends_with_its_paragraph() -> None:
    assert all_in_short(read_report("LIVER: No mass.\nNo mass.\n")) == "absent tumor liver"
    assert all_in_short(read_report("LIVER: Fine\n\nNo mass.\n")) == "-"
    assert all_in_short(read_report("LIVER: Fine. OMENTUM: No mass.\n")) == "-"


def test_names_of_sections_may_stand_alone() -> None:
    report = read_report("HISTORY\nrule out renal mass\nFINDINGS\nNormal liver\nIMPRESSION\nNormal spleen")
    assert all_in_short(report) == "normal liver; normal spleen"
    assert [sentence.text for sentence in report.skipped] == ["rule out renal mass"]


def test_an_empty_line_ends_a_sentence() -> None:
    assert all_in_short(read_report("The left kidney\n\nNo mass")) == "-"


def test_lines_may_be_wrapped_anywhere_between_words() -> None:
    text = "There is a 2 cm mass in the left kidney."
    for at in (at for at, sign in enumerate(text) if sign == " "):
        assert all_in_short(read_report(f"{text[:at]}\n{text[at + 1 :]}")) == "present tumor left kidney, 20 mm"


def test_a_class_that_weights_bring_along_is_read_too() -> None:
    concept = Concept.from_dict({
        "id": 1000, "name": "adrenal_pheochromocytoma", "kind": "lesion", "snomed": ["1", "x"], "color": [1, 2, 3],
        "parents": ["adrenal_gland_left"], "cleanup": {"rule": "none"},
    })  # fmt: skip
    vocabulary = VOCABULARY.extended([concept])
    [statement] = read_report("Pheochromocytoma or adrenal pheochromocytoma, 2 cm, left.", vocabulary).statements
    assert statement.lesions == ("adrenal_pheochromocytoma",)


def test_a_vocabulary_without_an_organ_knows_nothing_of_it() -> None:
    vocabulary = Vocabulary([concept for concept in VOCABULARY if concept.name in ("liver", "liver_tumor")])
    assert [s.organs for s in read_report("Normal liver. Normal spleen.", vocabulary).statements] == [("liver",)]


@pytest.mark.parametrize("text", ["", " \n\t ", "1.2 3.4 ---"])
def test_a_report_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(UnreadableFile, match="holds no word"):
        read_report(text)


def test_a_report_with_zero_bytes_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="zero bytes"):
        read_report("liver\0normal")


def test_a_report_that_is_too_long_is_refused() -> None:
    assert read_report("Normal liver." + " " * (MOST_CHARACTERS - 13)).statements
    with pytest.raises(UnreadableFile, match="at most 200000"):
        read_report("Normal liver." + " " * (MOST_CHARACTERS - 12))


def test_files_that_are_no_reports_are_refused(tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    with pytest.raises(UnreadableFile, match="cannot be read"):
        load_report(report)
    report.write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(UnreadableFile, match="no text in UTF-8"):
        load_report(report)
    report.write_bytes(b"")
    with pytest.raises(UnreadableFile, match=r"report\.txt: holds no word"):
        load_report(report)
    report.write_bytes(b"a" * (MOST_CHARACTERS + 1))
    with pytest.raises(UnreadableFile, match="expected at most"):
        load_report(report)
    # Cut where it is too long, the file ends inside of a character.
    report.write_bytes(b"a" + "😀".encode() * MOST_CHARACTERS)
    with pytest.raises(UnreadableFile, match="expected at most"):
        load_report(report)
    report.write_bytes("\ufeffNormal œsophagus — “fine”".encode())
    assert load_report(report) == "Normal œsophagus — “fine”"
