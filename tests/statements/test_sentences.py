"""Sentences of many kinds and what they state; the table is ``sentences.yaml`` beside this file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.statements.wording import VOCABULARY, all_in_short
from voxicon.statements import read_report

SENTENCES: dict[str, str] = yaml.safe_load(Path(__file__).with_name("sentences.yaml").read_text(encoding="utf8"))


@pytest.mark.parametrize(("text", "meaning"), SENTENCES.items(), ids=list(SENTENCES))
def test_a_sentence_states_what_the_table_says(text: str, meaning: str) -> None:
    report = read_report(text, VOCABULARY)
    assert all_in_short(report) == meaning
    assert [sentence.text for sentence in report.unread] == ([text] if meaning == "-" else [])


def test_the_table_is_large() -> None:
    assert len(SENTENCES) >= 130
