"""Thresholds that evaluations chose, written into weights and read back."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluate.test_planted import lesion, look
from tests.evaluate.test_tumors import scan
from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon.answering.detection import CARD_KEY, OperatingPoint, Share, operating_points
from voxicon.errors import CheckpointError, ConfigError, OutputError, UnknownClass, UsageError, VoxiconError
from voxicon.evaluate.planted import Look, PlantedLesion, summarize_planted
from voxicon.evaluate.tumors import detection, plain
from voxicon.extension import Extended, _metadata
from voxicon.io.atomic import file_sha256
from voxicon.model.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from voxicon.model.text import TextBank
from voxicon.operating import Evaluation, carried_over, described, operate, read_evaluation
from voxicon.rewording import own_controllers, reword

BINS = ((3.0, 5.0), (5.0, 10.0), (10.0, 20.0))
LESIONS = [
    lesion(True, 0.9, "5-10 mm", case="a"),
    lesion(True, 0.8, "5-10 mm", case="b"),
    lesion(False, 0.4, "3-5 mm", case="b"),
    lesion(False, 0.1, "3-5 mm", case="b"),
]
QUIET = [look(score, case="abc"[n % 3]) for n, score in enumerate((0.0, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.6, 0.7))]
OLD = OperatingPoint(0.25, None, {"all": Share(0.5, 0.25, 0.75, 8)}, "eight of old").to_dict()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_small_weights(tmp_path / "w.safetensors", (*CLASSES, "kidney_tumor"))


def write_planted(
    folder: Path, weights: Path, classes: Mapping[str, tuple[list[PlantedLesion], list[Look]]], seen: int = 0
) -> Path:
    folder.mkdir(exist_ok=True)
    content = {
        "weights": {"name": "w", "sha256": file_sha256(weights)},
        "lesions": {name: summarize_planted(*both, BINS) for name, both in classes.items()},
        "rows": plain([one for lesions, _ in classes.values() for one in lesions]),
        "seen_in_training": ["d/a", "d/b"][:seen],
    }
    (folder / "planted.json").write_text(json.dumps(content, allow_nan=False))
    return folder


def write_labels(folder: Path, weights: Path | None, choose_on: str | None = "val", **classes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    content = {
        "weights": weights and {"name": "w", "sha256": file_sha256(weights)},
        "split": "test",
        "choose_on": choose_on,
        "detection": classes,
        "seen_in_training": [],
    }
    (folder / "summary.json").write_text(json.dumps(content, allow_nan=False))
    return folder


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """A safetensors file: metadata of its own, where tensors of which type lie, and their bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert set(metadata) == {"voxicon"}
    return json.loads(metadata["voxicon"]), header, content[8 + length :]


# --- planted lesions


@pytest.mark.parametrize(
    ("asked", "threshold", "n_quiet", "n_found"), [(None, 0.7, 9, 2), ("0.9", 0.7, 9, 2), ("0.8", 0.4, 8, 3)]
)
def test_planted_lesions_by_hand(
    weights: Path, tmp_path: Path, asked: str | None, threshold: float, n_quiet: int, n_found: int
) -> None:
    others = [lesion(True, 0.9, case=case, name="kidney_tumor") for case in "cd"]
    folder = write_planted(tmp_path / "e", weights, {"liver_tumor": (LESIONS, QUIET), "kidney_tumor": (others, [])})
    out = tmp_path / "new.safetensors"
    written = operate(weights, read_evaluation(folder, asked), out)
    assert list(written) == ["liver_tumor"]
    assert operating_points(read_metadata(out).card, "new") == written
    point = written["liver_tumor"]
    assert point.threshold == threshold
    assert point.specificity is not None
    assert (point.specificity.value, point.specificity.n) == (n_quiet / 10, 10)
    # No lesion of 10 to 20 mm was planted.
    assert {size: (share.value, share.n) for size, share in point.sensitivity.items()} == {
        "all": (n_found / 4, 4),
        "3-5": ((n_found - 2) / 2, 2),
        "5-10": (1.0, 2),
    }
    # Wilson: 2 of 2 is [1 / (1 + z^2 / 2), 1].
    assert point.sensitivity["5-10"].low == pytest.approx(1 / (1 + 1.959964**2 / 2))
    assert point.sensitivity["5-10"].high == 1
    # The third scan had no room for them, and the fourth no liver.
    assert point.data == "4 lesions planted into 2 CTs (synthetic), judged on the scans the threshold was chosen on"


def test_scans_of_training_and_single_ones_are_told(weights: Path, tmp_path: Path) -> None:
    one = ([LESIONS[0]], [look(0.3, case="a")])
    evaluation = read_evaluation(write_planted(tmp_path / "e", weights, {"liver_tumor": one}, seen=1))
    assert evaluation.points["liver_tumor"].data == (
        "1 lesion planted into 1 CT (synthetic), judged on the scans the threshold was chosen on"
        "; the weights learned from 1 of all scans of this evaluation"
    )


@pytest.mark.parametrize(
    ("lesions", "looks", "why"),
    [
        (LESIONS, [look(0.9, planted=True)], "no untouched scan was looked at"),
        (LESIONS, [look(0.95)], "keeping 90% of 1 untouched scans without a finding takes a threshold above every"),
        ([], QUIET, "no lesion was planted"),
    ],
)
def test_planted_lesions_without_a_threshold(
    weights: Path, tmp_path: Path, lesions: list[PlantedLesion], looks: list[Look], why: str
) -> None:
    evaluation = read_evaluation(write_planted(tmp_path / "e", weights, {"liver_tumor": (lesions, looks)}))
    assert evaluation.points == {}
    assert evaluation.lacking["liver_tumor"].startswith(why)
    with pytest.raises(UsageError, match="no operating point of liver_tumor: " + why):
        operate(weights, evaluation, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


# --- labels


FOUR = [scan("a", 0.9), scan("b", 0.3, 0.2), scan("c", None, 0.6), scan("d", None)]
CHOOSING = [scan("x", 0.55), scan("y", None, 0.4)]


def test_labels_by_hand(weights: Path, tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "e", weights, liver_tumor=detection(FOUR, CHOOSING, "val"))
    written = operate(weights, read_evaluation(folder), tmp_path / "new.safetensors")
    assert operating_points(read_metadata(tmp_path / "new.safetensors").card, "new") == written
    point = written["liver_tumor"]
    # What is told is of the split reported on, where half is right, not of that chosen on, where all is.
    assert point.threshold == 0.55
    assert point.specificity is not None
    assert (point.specificity.value, point.specificity.n) == (0.5, 2)
    assert {size: (share.value, share.n) for size, share in point.sensitivity.items()} == {"all": (0.5, 2)}
    assert point.data == (
        "4 patients of the split 'test' (2 with lesions, labels by human), "
        "threshold chosen on other scans, the split 'val'"
    )


def test_nobody_healthy_to_report_on(weights: Path, tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "e", weights, liver_tumor=detection(FOUR[:2], CHOOSING, "val"))
    out = tmp_path / "new.safetensors"
    point = operate(weights, read_evaluation(folder), out)["liver_tumor"]
    assert point.specificity is None
    assert read_metadata(out).card[CARD_KEY]["liver_tumor"]["specificity"] is None
    assert "specificity unknown, sensitivity all 50% [9%, 91%] (n = 2); 2 patients" in described("x", point)


@pytest.mark.parametrize(
    ("found", "choose_on", "why"),
    [
        (detection(FOUR), None, "no split was given to choose a threshold on"),
        (detection(FOUR, CHOOSING[:1], "val"), "val", "of 1 patients in 'val' 1 have a lesion; choosing takes"),
        (detection(FOUR, [scan("x", 0.2), scan("y", None, 0.9)], "val"), "val", "on 'val' no threshold was better"),
        (detection(FOUR[2:], CHOOSING, "val"), "val", "no patient of 'test' has one"),
        (
            detection(FOUR, [scan("x", 0.9, maps=False), scan("y", None, maps=False)], "val"),
            "val",
            "patients were scored by volume",
        ),
    ],
)
def test_labels_without_a_threshold(
    weights: Path, tmp_path: Path, found: dict[str, Any], choose_on: str | None, why: str
) -> None:
    evaluation = read_evaluation(write_labels(tmp_path / "e", weights, choose_on, liver_tumor=found))
    assert evaluation.points == {}
    assert evaluation.lacking["liver_tumor"].startswith(why)


def test_a_specificity_means_nothing_for_labels(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--specificity 0.9: .* evaluation on labels"):
        read_evaluation(write_labels(tmp_path / "e", weights), "0.9")


# --- what is written


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_all_but_the_card_stays_bit_by_bit(weights: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    # Numbers that half precision holds too stay single where they are single.
    network, metadata = load_checkpoint(weights).network.half().float(), read_metadata(weights)
    save_checkpoint(weights, network, metadata, dtype=dtype)
    out = tmp_path / "new.safetensors"
    folder = write_planted(tmp_path / "e", weights, {"liver_tumor": (LESIONS, QUIET)})
    before = weights.read_bytes()
    written = operate(weights, read_evaluation(folder), out)
    assert weights.read_bytes() == before
    (old, old_places, old_bytes), (new, new_places, new_bytes) = parts(weights), parts(out)
    assert new_bytes == old_bytes
    assert new_places == old_places
    added = {CARD_KEY: {"liver_tumor": written["liver_tumor"].to_dict()}, "operating_points_of": file_sha256(weights)}
    assert new.pop("card") == {**old.pop("card"), **added}
    assert new == old


def test_points_of_other_classes_are_kept_and_older_ones_replaced(tmp_path: Path) -> None:
    classes = (*CLASSES, "kidney_tumor")
    weights = write_small_weights(
        tmp_path / "w.safetensors", classes, card={CARD_KEY: {"kidney_tumor": OLD, "liver_tumor": OLD}}
    )
    folder = write_planted(tmp_path / "e", weights, {"liver_tumor": (LESIONS, QUIET)})
    out = tmp_path / "new.safetensors"
    written = operate(weights, read_evaluation(folder), out)
    entries = read_metadata(out).card[CARD_KEY]
    assert entries == {"kidney_tumor": OLD, "liver_tumor": written["liver_tumor"].to_dict()}


def test_evaluations_of_the_first_weights_go_on_to_fit(weights: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    both = read_evaluation(
        write_planted(tmp_path / "e", weights, {"liver_tumor": (LESIONS, QUIET), "kidney_tumor": (LESIONS, QUIET)})
    )
    assert list(operate(weights, both, first, ["liver tumour"])) == ["liver_tumor"]
    assert list(operate(first, both, second, ["kidney_tumor", "renal tumor"])) == ["kidney_tumor"]
    card = read_metadata(second).card
    assert sorted(card[CARD_KEY]) == ["kidney_tumor", "liver_tumor"]
    assert card["operating_points_of"] == file_sha256(weights)
    # One of those in between fits them, too, and a file may be replaced by itself.
    own = read_evaluation(write_planted(tmp_path / "own", first, {"kidney_tumor": (LESIONS, QUIET)}))
    operate(first, own, first)
    assert read_metadata(first).card == card


def test_classes_without_a_threshold_are_left_out(weights: Path, tmp_path: Path) -> None:
    classes = {"kidney_tumor": ([], QUIET), "liver_tumor": (LESIONS, QUIET)}
    evaluation = read_evaluation(write_planted(tmp_path / "e", weights, classes))
    out = tmp_path / "new.safetensors"
    assert list(operate(weights, evaluation, out)) == ["liver_tumor"]
    with pytest.raises(UsageError, match="no operating point of kidney_tumor: no lesion was planted"):
        operate(weights, evaluation, out, ["liver_tumor", "kidney_tumor"])
    with pytest.raises(UsageError, match="no operating point of pancreas: is not judged"):
        operate(weights, evaluation, out, ["pancreas"])


def test_a_point_in_words() -> None:
    point = OperatingPoint(0.3456, Share(0.9, 0.7, 0.98, 20), {"all": Share(0.5, 0.2, 0.8, 6)}, "six lesions")
    point.sensitivity["10-20"] = Share(0.25, 0.05, 0.7, 4)  # type: ignore[index]
    assert described("liver_tumor", point) == (
        "liver_tumor: threshold 0.346, specificity 90% [70%, 98%] (n = 20), "
        "sensitivity all 50% [20%, 80%] (n = 6), 10-20 mm 25% [5%, 70%] (n = 4); six lesions"
    )


# --- refusals


def test_folders_that_are_no_evaluation(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: holds no evaluation; expected planted.json or summary.json"):
        read_evaluation(tmp_path / "nowhere")
    folder = write_planted(tmp_path / "e", weights, {})
    for text in ("{}", "[]", "nothing", '{"weights": null, "lesions": {"x": {}}}'):
        (folder / "planted.json").write_text(text)
        with pytest.raises(ConfigError, match=r"planted.json: is no evaluation, or a damaged one"):
            read_evaluation(folder)
    write_labels(folder, weights)
    with pytest.raises(ConfigError, match="holds two evaluations"):
        read_evaluation(folder)


@pytest.mark.parametrize("threshold", [0, 1.5])
def test_a_threshold_that_is_none(weights: Path, tmp_path: Path, threshold: float) -> None:
    found = detection(FOUR, CHOOSING, "val")
    found["operating_point"]["threshold"] = threshold
    with pytest.raises(ConfigError, match=f"threshold {threshold}"):
        read_evaluation(write_labels(tmp_path / "e", weights, liver_tumor=found))


def test_evaluations_that_do_not_fit(weights: Path, tmp_path: Path) -> None:
    other = write_small_weights(tmp_path / "other.safetensors", ("liver_tumor", "liver"))
    found = detection(FOUR, CHOOSING, "val")
    cases: list[tuple[Path, type[VoxiconError], str]] = [
        (write_labels(tmp_path / "a", other, liver_tumor=found), UsageError, f"sha256 {file_sha256(other)[:12]}... *;"),
        (write_labels(tmp_path / "b", None, liver_tumor=found), UsageError, "does not say which weights"),
        (write_labels(tmp_path / "c", weights, colon_tumor=found), UnknownClass, "not trained for colon_tumor; they"),
        (write_labels(tmp_path / "d", weights), UsageError, "no operating point of any lesion: none is judged"),
    ]
    for folder, error, message in cases:
        with pytest.raises(error, match=message):
            operate(weights, read_evaluation(folder), tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_files_that_cannot_be(weights: Path, tmp_path: Path) -> None:
    nothing = Evaluation(tmp_path, file_sha256(weights), {"liver_tumor": OperatingPoint(0.5, None, {}, "")}, {})
    with pytest.raises(UsageError, match=r"new.pth: the output must end in .safetensors"):
        operate(weights, nothing, tmp_path / "new.pth")
    with pytest.raises(UnknownClass, match="wombat"):
        operate(weights, nothing, tmp_path / "new.safetensors", ["wombat"])
    with pytest.raises(OutputError):
        operate(weights, nothing, tmp_path / "nowhere" / "new.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(CheckpointError):
        operate(tmp_path / "text.safetensors", nothing, tmp_path / "new.safetensors")
    write_small_weights(weights, card={CARD_KEY: ["damaged"]})
    own = replace(nothing, sha256=file_sha256(weights))
    with pytest.raises(CheckpointError, match=r"w.safetensors: its operating points are damaged"):
        operate(weights, own, tmp_path / "new.safetensors")


# --- weights that change afterward


@pytest.fixture
def operated(tmp_path: Path) -> Path:
    card = {"title": "noise", CARD_KEY: {"liver_tumor": OLD, "pancreas": OLD}, "operating_points_of": "0" * 64}
    return write_small_weights(tmp_path / "operated.safetensors", card=card)


def test_points_go_with_their_words(operated: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.safetensors"
    reword(operated, out, remove=["pancreas"], rename={"liver_tumor": "kidney_tumor"})
    card = read_metadata(out).card
    assert card[CARD_KEY] == {"kidney_tumor": OLD}
    # An evaluation of the old weights knows other words.
    assert "operating_points_of" not in card
    assert card["title"] == "noise"
    own_controllers(operated, out)
    assert read_metadata(out).card[CARD_KEY] == {"liver_tumor": OLD, "pancreas": OLD}
    reword(operated, out, remove=["pancreas", "liver_tumor"])
    assert CARD_KEY not in read_metadata(out).card


@pytest.mark.parametrize(("mode", "kept"), [("frozen", True), ("light", True), ("joint", False)])
def test_points_hold_while_old_words_answer_as_before(operated: Path, mode: Any, kept: bool) -> None:
    old = load_checkpoint(operated)
    done = Extended(operated, ("spleen",), 0, 0.0, {}, ())
    bank = TextBank(("spleen",), np.zeros((1, 8), dtype=np.float32), ("spleen",), "random")
    card = _metadata(old, operated, old.metadata, bank, done, mode, "none").card
    assert (CARD_KEY in card) is kept
    assert "operating_points_of" not in card


def test_cards_without_points_get_none() -> None:
    assert carried_over({"title": "x"}, {"a": "b"}) == {"title": "x"}
