"""Rows and what they say together: means by hand, intervals over patients, CSV there and back, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluate.shapes import box, empty
from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry, ConfigError
from voxicon.evaluate.table import CaseRow, Subject, read_csv, score, summarize, to_csv

GRID = Geometry((6, 6, 6), np.diag([1.0, 2.0, 5.0, 1.0]))  # voxels of 0.01 ml
WHO = Subject(dataset="d", case="c", patient="d/p", split="test", labels_by="human")
FULL = box(GRID.shape, ((1, 5), (1, 5), (1, 5)))
HALF = box(GRID.shape, ((1, 3), (1, 5), (1, 5)))


def row(name: str, dice: float | None, patient: str = "p", dataset: str = "d", **more: object) -> CaseRow:
    fields = {"dataset": dataset, "case": patient, "patient": patient, "split": "test", "labels_by": "human"}
    state = "absent" if dice is None else "scored"
    return CaseRow(**{**fields, "name": name, "state": state, "dice": dice, **more})  # type: ignore[arg-type]


# --- one row


def test_a_row_by_hand() -> None:
    found = score(WHO, "liver", FULL, HALF, GRID, 2.0)
    # 64 and 32 voxels share 32: 2 * 32 / 96.
    assert found.dice == pytest.approx(2 / 3)
    assert (found.sensitivity, found.precision) == (0.5, 1.0)
    assert (found.truth_ml, found.predicted_ml) == (pytest.approx(0.64), pytest.approx(0.32))
    assert (found.volume_error_ml, found.volume_error_percent) == (pytest.approx(-0.32), -50)
    # The far face lies 2 voxels of 1 mm away.
    assert (found.nsd, found.hd95_mm) == (1.0, 2.0)
    assert score(WHO, "liver", FULL, HALF, GRID, 1.9).nsd < 1  # type: ignore[operator]
    assert (found.state, found.id, found.name) == ("scored", "d/c", "liver")


def test_empty_masks_and_masks_that_nobody_made() -> None:
    nothing = empty(GRID.shape)
    states = {
        "absent": (nothing, nothing, None),
        "missed": (FULL, nothing, 0.0),
        "false_alarm": (nothing, FULL, 0.0),
    }
    for state, (truth, predicted, dice) in states.items():
        found = score(WHO, "liver", truth, predicted, GRID, 2.0)
        assert (found.state, found.dice, found.nsd, found.hd95_mm) == (state, dice, dice, None)
    found = score(WHO, "liver", FULL, None, GRID, 2.0)
    assert (found.state, found.dice, found.nsd, found.predicted_ml) == ("not_predicted", None, None, None)
    assert found.truth_ml == pytest.approx(0.64)


def test_refusals_of_a_row() -> None:
    with pytest.raises(BadGeometry, match="of one shape"):
        score(WHO, "liver", FULL, empty((6, 6, 5)), GRID, 2.0)
    with pytest.raises(ConfigError, match="tolerance_mm -1"):
        score(WHO, "liver", FULL, HALF, GRID, -1)


# --- together


def test_means_by_hand() -> None:
    rows = [
        row("liver", 0.9, "p1"),
        row("liver", 0.7, "p1", case="p1b"),
        row("liver", 0.5, "p2", dataset="e", labels_by="machine"),
        row("liver", None, "p3"),
        row("liver", 0.0, "p4", state="missed"),
        row("liver", None, "p5", state="not_predicted"),
        row("spleen", 0.8, "p1"),
        row("aorta", 0.9, "p1"),
    ]
    found = summarize(rows)
    liver = found["classes"]["liver"]["all"]
    # (0.9 + 0.7 + 0.5 + 0.0) / 4; of the sorted the middle two are 0.5 and 0.7.
    assert (liver["dice"]["mean"], liver["dice"]["median"]) == (pytest.approx(0.525), pytest.approx(0.6))
    assert (liver["dice"]["n"], liver["dice"]["patients"]) == (4, 3)
    assert [liver[f"n_{s}"] for s in ("scored", "absent", "missed", "false_alarm", "not_predicted")] == [3, 1, 1, 0, 1]
    assert (liver["n_cases"], liver["n_patients"], liver["labels_by"]) == (6, 5, ["human", "machine"])
    assert liver["nsd"] == dict.fromkeys(("mean", "low", "high", "median")) | {"n": 0, "patients": 0}
    only = found["classes"]["liver"]["per_dataset"]["e"]["dice"]
    assert (only["mean"], only["low"], only["n"]) == (0.5, None, 1)
    # Each class weighs the same: (0.525 + 0.8 + 0.9) / 3, and 0.8 is the middle one.
    mean = found["mean"]["all"]["dice"]
    assert (mean["mean"], mean["n"], mean["patients"]) == (pytest.approx(2.225 / 3), 3, 3)
    assert mean["median"] == pytest.approx(0.8)
    assert set(found["mean"]["per_dataset"]) == {"d", "e"}


def test_no_rows() -> None:
    found = summarize([])
    assert found["classes"] == {}
    assert found["mean"]["all"]["dice"] == dict.fromkeys(("mean", "low", "high", "median")) | {"n": 0, "patients": 0}


def test_the_mean_over_classes_draws_patients_whole() -> None:
    # Every patient has 0.2 in one class and 0.8 in the other: drawn whole, the mean never moves.
    rows = [row(name, dice, f"p{i}") for i in range(5) for name, dice in (("liver", 0.2), ("spleen", 0.8))]
    mean = summarize(rows)["mean"]["all"]["dice"]
    assert (mean["low"], mean["high"]) == (pytest.approx(0.5), pytest.approx(0.5))
    # A hard class of one patient stays in every draw, whoever is drawn.
    rare = [*(row("liver", 1.0, f"p{i}") for i in range(5)), row("tumor", 0.5, "p0")]
    mean = summarize(rare)["mean"]["all"]["dice"]
    assert (mean["mean"], mean["low"], mean["high"]) == (0.75, 0.75, 0.75)


def test_the_interval_widens_when_scans_share_a_patient() -> None:
    values = np.linspace(0, 1, 12)
    apart = [row("liver", float(v), f"p{i}") for i, v in enumerate(values)]
    tied = [replace(one, patient=f"p{i // 4}") for i, one in enumerate(apart)]
    alone, together = (summarize(rows)["classes"]["liver"]["all"]["dice"] for rows in (apart, tied))
    assert alone["mean"] == together["mean"]
    assert together["high"] - together["low"] > 1.2 * (alone["high"] - alone["low"])


@settings(max_examples=20)  # two thousand draws each
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("pqr"), st.floats(0, 1)), min_size=1, max_size=12))
def test_one_class_alone_is_its_own_mean_over_classes(cells: list[tuple[str, str, float]]) -> None:
    rows = [row("liver", dice, patient, dataset) for dataset, patient, dice in cells]
    found = summarize(rows)
    one, mean = found["classes"]["liver"]["all"]["dice"], found["mean"]["all"]["dice"]
    assert mean["mean"] == pytest.approx(one["mean"])
    assert (mean["low"] is None) == (one["low"] is None)
    assert min(dice for *_, dice in cells) - 1e-9 <= mean["mean"] <= max(dice for *_, dice in cells) + 1e-9


# --- files

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\0"), min_size=1)


@given(texts, texts, st.none() | st.floats(0, 1), st.none() | st.floats(allow_nan=False, allow_infinity=False))
def test_csv_there_and_back(tmp_path_factory: pytest.TempPathFactory, case, patient, dice, error) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("t") / "cases.csv"
    rows = [row("liver", dice, patient, case=case, volume_error_percent=error), row("spleen", 0.5)]
    path.write_text(to_csv(rows), encoding="utf8", newline="")
    assert read_csv(path) == tuple(rows)


def test_csv_columns_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    text = to_csv([row("liver", 0.5)])
    assert text.splitlines()[0].startswith("dataset,case,patient,split,labels_by,class,state,dice,nsd,hd95_mm,")
    assert to_csv([]).count("\n") == 1
    path.write_text(text.replace(",class,", ",klass,"))
    with pytest.raises(ConfigError, match=r"cases.csv:1: has no column class"):
        read_csv(path)
    path.write_text(text.replace(",scored,", ",sored,"))
    with pytest.raises(ConfigError, match=r"cases.csv:2: state is 'sored'"):
        read_csv(path)
    path.write_text(text.replace(",0.5,", ",half,"))
    with pytest.raises(ConfigError, match=r"cases.csv:2: a measure is no number"):
        read_csv(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_csv(tmp_path / "none.csv")
