"""``measurements.csv`` read back: a line for each lesion and organ, in the document's numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from tests.answering.documents import poor, rich
from tests.answering.findings import lesion, organ
from voxicon.answering.document import Document
from voxicon.answering.table import measurements_csv
from voxicon.findings.organs import AT_BORDER, IN_PIECES

COLUMNS = [
    "scan", "class", "kind", "number", "organ", "side", "third", "volume_ml", "volume_without_lesions_ml",
    "longest_axial_mm", "perpendicular_mm", "longest_3d_mm", "extent_rl_mm", "extent_ap_mm", "extent_si_mm",
    "hu_mean", "hu_sd", "hu_difference", "attenuation", "center_r_mm", "center_a_mm", "center_s_mm",
    "box_x", "box_y", "box_z", "touches_border", "components", "flags", "mean_probability", "stability",
]  # fmt: skip


def read(document: Document) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(measurements_csv(document), newline=""))
    assert reader.fieldnames == COLUMNS
    return list(reader)


def test_a_lesion_and_an_organ() -> None:
    first, second = read(replace(rich(), lesions=(lesion(side="left"),), organs=(organ(flags=(AT_BORDER, IN_PIECES)),)))
    assert first == {
        "scan": "belly", "class": "pancreas_tumor", "kind": "lesion", "number": "1", "organ": "pancreas",
        "side": "left", "third": "tail", "volume_ml": "3.14159", "volume_without_lesions_ml": "",
        "longest_axial_mm": "21.55", "perpendicular_mm": "14.25", "longest_3d_mm": "25",
        "extent_rl_mm": "21", "extent_ap_mm": "21.5", "extent_si_mm": "21",
        "hu_mean": "41.6", "hu_sd": "12.2", "hu_difference": "-48.4", "attenuation": "hypo",
        "center_r_mm": "-30.5", "center_a_mm": "12", "center_s_mm": "140",
        "box_x": "9:11", "box_y": "20:22", "box_z": "14:16", "touches_border": "no", "components": "", "flags": "",
        "mean_probability": "0.874", "stability": "0.7",
    }  # fmt: skip
    assert second == dict.fromkeys(COLUMNS, "") | {
        "scan": "belly", "class": "liver", "kind": "organ", "volume_ml": "1500", "volume_without_lesions_ml": "1490",
        "extent_rl_mm": "180", "extent_ap_mm": "150", "extent_si_mm": "160", "hu_mean": "105", "hu_sd": "15",
        "center_r_mm": "60", "center_a_mm": "10", "center_s_mm": "150", "touches_border": "no", "components": "1",
        "flags": "at_border;in_pieces",
    }  # fmt: skip


def test_what_is_not_known_is_empty() -> None:
    bare = lesion(organ=None, third=None, attenuation=None, hu_difference=None, confidence=None, touches_border=True)
    (row,) = read(replace(rich(), lesions=(bare,), organs=()))
    empty = {key for key, value in row.items() if not value}
    assert empty == {
        "organ", "side", "third", "volume_without_lesions_ml", "hu_difference", "attenuation", "components", "flags",
        "mean_probability", "stability",
    }  # fmt: skip
    assert row["touches_border"] == "yes"


def test_an_organ_that_is_not_there() -> None:
    (row,) = read(poor())
    assert {key: value for key, value in row.items() if value} == {
        "scan": "belly", "class": "spleen", "kind": "organ", "volume_ml": "0", "volume_without_lesions_ml": "0",
        "touches_border": "no", "components": "0",
    }  # fmt: skip


def test_nothing_found_is_a_header() -> None:
    assert measurements_csv(replace(poor(), organs=())) == ",".join(COLUMNS) + "\n"


def test_all_rows_are_the_documents() -> None:
    document = rich()
    rows, data = read(document), document.to_dict()
    assert [(row["class"], row["kind"]) for row in rows] == [
        *((one["name"], "lesion") for one in data["lesions"]),
        *((one["name"], "organ") for one in data["organs"]),
    ]
    for row, one in zip(rows, [*data["lesions"], *data["organs"]], strict=True):
        for key in ("volume_ml", "hu_mean", "hu_sd", "hu_difference", "volume_without_lesions_ml"):
            _same(row[key], one.get(key))
        for axis, value in zip("ras", one["center_mm"] or (None,) * 3, strict=True):
            _same(row[f"center_{axis}_mm"], value)
        assert row["number"] == str(one.get("number", ""))


def _same(text: str, value: Any) -> None:
    if value is None:
        assert text == ""
    else:
        assert float(text) == pytest.approx(value, rel=1e-5, abs=1e-12)


def test_a_name_with_a_comma_is_one_field() -> None:
    document = poor()
    (row,) = read(replace(document, scan=replace(document.scan, name='a, "b"\nc')))
    assert row["scan"] == 'a, "b"\nc'
