"""Organs and lesions in one file, and all that handles weights leaves both in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.test_operating import LESIONS, OLD, QUIET, write_planted
from tests.weights_on_disk import CLASSES, write_small_lesions, write_small_weights
from voxicon.answering.detection import CARD_KEY
from voxicon.errors import CheckpointError, UnknownClass, UsageError
from voxicon.exporting import export
from voxicon.finder import finder_of
from voxicon.joining import described_inside, join
from voxicon.model.checkpoint import load_checkpoint, read_metadata
from voxicon.operating import ORIGIN_KEY, operate, read_evaluation
from voxicon.prediction import ByWeights
from voxicon.rewording import own_controllers, reword
from voxicon.segmenter import load

ORGANS = CLASSES[:-1]
CARD = {
    "title": "organs",
    CARD_KEY: {"liver_tumor": OLD, "pancreas": OLD},
    ORIGIN_KEY: "1" * 64,
    "data": ["a" * 64],
}


@pytest.fixture
def organs(tmp_path: Path) -> Path:
    return write_small_weights(tmp_path / "organs.safetensors", card=CARD)


@pytest.fixture
def lesions(tmp_path: Path) -> Path:
    card = {"title": "noise in organs", "data": ["b" * 64]}
    return write_small_lesions(tmp_path / "lesions.safetensors", ("kidney_tumor", "liver_tumor"), card=card)


@pytest.fixture
def joined(organs: Path, lesions: Path, tmp_path: Path) -> Path:
    join(organs, lesions, tmp_path / "joined.safetensors")
    return tmp_path / "joined.safetensors"


def inside_of(path: Path) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in load_file(path).items() if key.startswith("inside.")}


def assert_inside_is_the_same(new: Path, old: Path) -> None:
    ours, theirs = inside_of(new), inside_of(old)
    assert ours
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert read_metadata(new).inside == read_metadata(old).inside


def test_both_networks_are_in_the_file_as_they_were(joined: Path, organs: Path, lesions: Path) -> None:
    whole, first, second = (load_checkpoint(path) for path in (joined, organs, lesions))
    assert whole.inside is not None
    for ours, theirs in ((whole.network, first.network), (whole.inside, second.network)):
        expected = theirs.state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in ours.state_dict().items())
    assert whole.metadata.inside == second.metadata
    assert described_inside(whole.metadata, "w") == "kidney_tumor in kidney_right; liver_tumor in liver"
    assert described_inside(first.metadata, "w") == ""


def test_the_card_is_that_of_the_organs_without_what_no_longer_holds(joined: Path) -> None:
    # What was measured of the liver's tumors was measured of another network.
    assert read_metadata(joined).card == {"title": "organs", CARD_KEY: {"pancreas": OLD}, "data": ["a" * 64]}


def test_words_that_the_lesions_bring_along_are_known(organs: Path, tmp_path: Path) -> None:
    gland = {
        "kind": "lesion", "parents": ["liver"], "snomed": ["1", "x"], "color": [1, 2, 3], "cleanup": {"rule": "none"},
    }  # fmt: skip
    card = {"defines": {"liver_spot": gland}}
    lesions = write_small_lesions(tmp_path / "l.safetensors", ("liver_spot",), card=card)
    out = tmp_path / "joined.safetensors"
    join(organs, lesions, out)
    assert load(out, device="cpu", engine="torch").classes[-1] == "liver_spot"
    other = {"liver_spot": {**gland, "color": [3, 2, 1]}}
    clash = write_small_weights(tmp_path / "o.safetensors", card={"defines": other})
    with pytest.raises(
        UsageError, match=r"l\.safetensors: defines liver_spot otherwise than the weights of the organs"
    ):
        join(clash, lesions, out)


def test_what_does_not_go_together_is_refused(organs: Path, lesions: Path, joined: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        join(organs, lesions, tmp_path / "out.pth")
    with pytest.raises(
        UsageError, match=r"joined\.safetensors: has a network inside already, for kidney_tumor, liver_t"
    ):
        join(joined, lesions, out)
    with pytest.raises(UsageError, match=r"lesions\.safetensors: looks into organs itself; .* name these first"):
        join(lesions, organs, out)
    with pytest.raises(
        UsageError, match=r"organs\.safetensors: does not look into organs; expected weights trained with"
    ):
        join(organs, organs, out)
    with pytest.raises(UsageError, match=r"joined\.safetensors: does not look into organs"):
        join(organs, joined, out)
    spleen = write_small_weights(tmp_path / "spleen.safetensors", ("spleen",))
    with pytest.raises(
        UsageError,
        match=r"for kidney_tumor, liver_tumor in kidney_right, kidney_left, liver, of which spleen\.safetensors finds",
    ):
        join(spleen, lesions, out)
    fine = {"spacing_mm": [3, 3, 3], "window_hu": [-250, 350]}
    other = write_small_weights(tmp_path / "fine.safetensors", preparation=fine)
    with pytest.raises(CheckpointError, match=r"spacing_mm \[6, 6, 6\], the first one's is \[3, 3, 3\]"):
        join(other, lesions, out)
    assert not out.exists()


def test_they_are_told_before_they_are_loaded(joined: Path) -> None:
    assert finder_of(joined).classes == load(joined, device="cpu", engine="torch").classes


def test_scans_that_either_network_learned_from_are_known(joined: Path, tmp_path: Path) -> None:
    known = ByWeights(load(joined, device="cpu", engine="torch"), tmp_path / "out").trained_on
    assert {"a" * 64, "b" * 64} <= known


# --- what makes other weights of them


def test_operating_points_of_lesions_inside_go_where_all_are(joined: Path, tmp_path: Path) -> None:
    folder = write_planted(tmp_path / "e", joined, {"liver_tumor": (LESIONS, QUIET), "kidney_tumor": (LESIONS, QUIET)})
    out = tmp_path / "operated.safetensors"
    assert list(operate(joined, read_evaluation(folder), out)) == ["liver_tumor", "kidney_tumor"]
    assert set(read_metadata(out).card[CARD_KEY]) == {"pancreas", "liver_tumor", "kidney_tumor"}
    assert_inside_is_the_same(out, joined)
    folder = write_planted(tmp_path / "f", joined, {"pancreas_tumor": (LESIONS, QUIET)})
    with pytest.raises(UnknownClass, match=r"not trained for pancreas_tumor; they find: .* kidney_tumor, liver_tumor"):
        operate(joined, read_evaluation(folder), out)


def test_rewording_takes_them_along_and_leaves_their_organs(joined: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    reword(joined, out, remove=["spleen"])
    assert_inside_is_the_same(out, joined)
    assert "spleen" not in read_metadata(out).trained
    own_controllers(joined, out)
    assert_inside_is_the_same(out, joined)
    for words, needed in (
        ({"remove": ["liver", "pancreas"]}, "liver"),
        ({"remove": ["kidney tumor"]}, "kidney_tumor"),
        ({"rename": {"right kidney": "gallbladder"}}, "kidney_right"),
        ({"rename": {"pancreas": "kidney tumor"}}, "kidney_tumor"),
    ):
        with pytest.raises(
            UsageError, match=rf"joined\.safetensors: {needed}: the network inside finds it or looks into"
        ):
            reword(joined, out, **words)


def test_an_export_is_of_the_first_network_and_says_so(joined: Path, tmp_path: Path) -> None:
    both, out = load(joined, device="cpu", engine="torch"), tmp_path / "export"
    with pytest.raises(
        UsageError, match="liver_tumor: found by a network that looks into organs, which is not exported"
    ):
        export(both, "exported-program", out, ["liver", "liver_tumor"])
    done = export(both, "exported-program", out)
    assert done.left_out == ("kidney_tumor", "liver_tumor")
    told = json.loads((out / "voxicon.json").read_text())
    assert [one["name"] for one in told["classes"]] == list(ORGANS)
    assert export(both, "exported-program", out, ["liver"], overwrite=True).left_out == ()
