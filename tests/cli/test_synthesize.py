"""``voxicon synthesize`` from the command line: what it writes, what it tells, what it refuses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.conftest import Call
from tests.organs import BOXES, organs, write_torso
from tests.weights_on_disk import write_small_weights
from voxicon.core.concepts import Vocabulary
from voxicon.io.masks import write_masks

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(call: Call, monkeypatch: pytest.MonkeyPatch, torso: Path) -> Run:
    monkeypatch.chdir(torso)
    return partial(call, "synthesize")


@pytest.fixture
def torso(tmp_path: Path) -> Path:
    """A folder with torso.nii.gz and labels.nii.gz, in which the command runs."""
    write_torso(tmp_path)
    return tmp_path


LABELLED = ("--organs", "labels.nii.gz", "--card", "chest_abdomen")


def record(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "planted.json").read_text())
    return found


def test_a_round_trip(run: Run, torso: Path) -> None:
    words = ("torso.nii.gz", "--lesion", "liver tumour", "--diameter-mm", 10, "--count", 3, "--seed", 1, *LABELLED)
    code, out, err = run(*words, "--contrast-hu", "-60--20", "-o", "out", "--json")
    assert code == 0, err
    folder = torso / "out" / "torso"
    assert json.loads(out) == {
        "scan": "torso.nii.gz", "folder": "out/torso", "planted": 3, "asked": 3, "missing": [],
    }  # fmt: skip
    assert "out/torso: 3 of 3 lesions planted" in err
    assert "liver_tumor 1: 10.0 mm" in err
    found = record(folder)
    assert [one["class"] for one in found["lesions"]] == ["liver_tumor"] * 3  # type: ignore[index,attr-defined]
    assert all(-60 <= one["contrast_hu"] <= -20 for one in found["lesions"])  # type: ignore[index,attr-defined]
    assert found["seed"] == 1
    assert found["mass_effect"] is True
    assert found["organs"]["kind"] == "labels"  # type: ignore[index,call-overload]
    assert found["input"]["sha256"] == hashlib.sha256((torso / "torso.nii.gz").read_bytes()).hexdigest()  # type: ignore[index,call-overload]
    before, after, mask = (
        nib.load(path)
        for path in (
            torso / "torso.nii.gz",
            folder / "ct.nii.gz",
            folder / "segmentations" / "liver_tumor.nii.gz",
        )
    )
    assert (before.affine == after.affine).all()
    assert (before.affine == mask.affine).all()
    inside = np.asarray(mask.dataobj) != 0
    liver = np.zeros(inside.shape, dtype=bool)
    liver[BOXES["liver"]] = True
    assert inside.any()
    assert not (inside & ~liver).any()
    assert (np.asarray(after.dataobj)[inside] < np.asarray(before.dataobj)[inside]).mean() > 0.8
    again = run(*words, "--contrast-hu", "-60--20", "-o", "again", "-q")
    assert again == (0, "", "")
    for name in ("ct.nii.gz", "segmentations/liver_tumor.nii.gz"):
        assert (torso / "again" / "torso" / name).read_bytes() == (folder / name).read_bytes()


def test_several_kinds_and_sizes_in_turn(run: Run, torso: Path) -> None:
    code, _, err = run(
        "torso.nii.gz", "--lesion", "liver_tumor", "--lesion", "kidney_cyst", "--lesion", "liver tumor", "--count", 2,
        "--no-mass-effect",
        "--diameter-mm", 8, "--diameter-mm", "10-12", "--contrast-hu", "-40", *LABELLED, "-o", "out",
    )  # fmt: skip
    assert code == 0, err
    found = record(torso / "out" / "torso")
    assert found["mass_effect"] is False
    assert [(one["class"], one["diameter_mm"]) for one in found["requested"]] == [  # type: ignore[index,attr-defined]
        ("liver_tumor", [8, 8]), ("liver_tumor", [10, 12]), ("kidney_cyst", [8, 8]), ("kidney_cyst", [10, 12]),
    ]  # fmt: skip
    assert {tuple(one["contrast_hu"]) for one in found["requested"]} == {(-40, -40)}  # type: ignore[index,attr-defined]
    assert all(one["push_mm"] == 0 for one in found["lesions"])  # type: ignore[index,attr-defined]


def test_organs_from_a_result_folder(run: Run, torso: Path) -> None:
    write_masks(organs(), torso / "result", Vocabulary.default())
    code, _, err = run("torso.nii.gz", "--lesion", "kidney_tumor", "--organs", "result", "-o", "out")
    assert code == 0, err
    assert record(torso / "out" / "torso")["organs"]["kind"] == "result"  # type: ignore[index,call-overload]


def test_without_organs_the_scan_is_segmented_and_that_is_told(run: Run, torso: Path) -> None:
    weights = write_small_weights(torso / "small.safetensors", ("liver", "kidney_right"))
    words = ("torso.nii.gz", "--lesion", "liver_tumor", "--diameter-mm", 6, "--weights", weights, "-o", "out")
    code, _, err = run(*words)
    assert "no --organs given: segmenting with weights small on cpu first" in err
    assert code == 0, err
    found = record(torso / "out" / "torso")["organs"]
    assert found["kind"] == "weights"  # type: ignore[index,call-overload]
    assert found["name"] == "small"  # type: ignore[index,call-overload]


def test_existing_output_is_replaced_only_when_asked(run: Run, torso: Path) -> None:
    words = ("torso.nii.gz", "--lesion", "liver_tumor", *LABELLED, "-o", "out")
    assert run(*words)[0] == 0
    code, _, err = run(*words)
    assert code == 1
    assert "[E-OUTPUT]" in err
    assert "use --overwrite" in err
    # Told before anything is segmented.
    assert run("torso.nii.gz", "--lesion", "liver_tumor", "-o", "out")[2].count("\n") == 1
    code, _, err = run("torso.nii.gz", "--lesion", "kidney_cyst", *LABELLED, "-o", "out", "--overwrite")
    assert code == 0, err
    names = sorted(path.name for path in (torso / "out" / "torso" / "segmentations").iterdir())
    assert names == ["kidney_cyst.nii.gz"]


def test_lesions_without_a_place_are_told(run: Run) -> None:
    code, out, err = run(
        "torso.nii.gz", "--lesion", "liver_tumor", "--diameter-mm", 46, "--count", 4, *LABELLED, "-o", "out", "--json"
    )
    assert code == 0, err
    row = json.loads(out)
    assert row["planted"] + len(row["missing"]) == row["asked"] == 4
    assert row["missing"]
    assert f"  warning: {row['missing'][0]}" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "give one of: a CT (with --lesion), --labels (with --card), or --phantom"),
        (("torso.nii.gz", "--phantom", "torso"), 2, "give one of"),
        (("torso.nii.gz", "--labels", "labels.nii.gz"), 2, "give one of"),
        (("torso.nii.gz", *LABELLED), 2, "no --lesion given; try: voxicon synthesize"),
        (("torso.nii.gz", "--lesion", "liver_tumr", *LABELLED), 2, "did you mean liver_tumor"),
        (("torso.nii.gz", "--lesion", "liver", *LABELLED), 2, "did you mean liver_tumor or hepatic_vessel_tumor?"),
        (("torso.nii.gz", "--lesion", "soft_tissue_sarcoma", *LABELLED), 2, "cannot be planted; known lesions:"),
        (("torso.nii.gz", "--lesion", "colon_tumor", *LABELLED), 1, "[E-ORGAN] torso: colon_tumor grows in colon"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--diameter-mm", "0", *LABELLED), 2, "expected more than 0"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--diameter-mm", "-4", *LABELLED), 2, "expected more than 0"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--diameter-mm", "300", *LABELLED), 2, "is too large for liver"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--diameter-mm", "30-4", *LABELLED), 2, "is no range"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--diameter-mm", "large", *LABELLED), 2, "such as 4 or 4-30"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--contrast-hu", "dark", *LABELLED), 2, "such as -40 or -60--20"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--count", "0", *LABELLED), 2, "a count of at least 1"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--seed", "-1", *LABELLED), 2, "a seed of at least 0"),
        (("absent.nii.gz", "--lesion", "liver_tumor"), 2, "absent.nii.gz: no such file or folder"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--organs", "no.nii.gz"), 2, "--organs no.nii.gz: no such file"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--organs", "labels.nii.gz"), 2, "a label map needs --card"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--organs", ".", "--card", "lits"), 2, "--card: means nothing"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--organs", "."), 1, "holds no mask named like a class"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--card", "lits"), 2, "--card: means nothing without --organs"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--weights", "starter", *LABELLED), 2, "--weights: means nothing"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--strength", "2"), 2, "--strength: means nothing"),
        (("torso.nii.gz", "--lesion", "liver_tumor", "--ct", "torso.nii.gz"), 2, "--ct: means nothing"),
        (("--phantom", "torso", "--lesion", "liver_tumor"), 2, "--lesion: means nothing without a CT to plant into"),
        (("--phantom", "torso", "--overwrite", "--no-mass-effect"), 2, "--no-mass-effect, --overwrite: means nothing"),
        (("--phantom", "torso", "--real", "1"), 2, "--real: means nothing without --labels"),
        (("--phantom", "torso", "--card", "lits"), 2, "--card: means nothing without --labels"),
        (("--phantom", "head", "-o", "bodies"), 2, "head"),
        (("--labels", "labels.nii.gz"), 2, "a label map needs --card"),
        (("--labels", "absent.nii.gz", "--card", "lits"), 2, "--labels absent.nii.gz: no such file"),
        (("--labels", "labels.nii.gz", "--card", "chest_abdomen", "--ct", "no.nii.gz"), 2, "--ct no.nii.gz: no such"),
        (("--labels", "labels.nii.gz", "--card", "chest_abdomen", "--spacing-mm", "0"), 2, "spacing"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(run: Run, torso: Path, words: tuple[str, ...], code: int, message: str) -> None:
    before = sorted(torso.rglob("*"))
    found, out, err = run(*words)
    assert found == code, err
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert sorted(torso.rglob("*")) == before


def test_bodies_of_nothing(run: Run, torso: Path) -> None:
    words = ("--phantom", "pelvis", "--count", 2, "--spacing-mm", 8, "--seed", 3, "--phase", "venous", "-o", "bodies")
    code, out, err = run(*words, "--json")
    assert code == 0, err
    assert json.loads(out) == {"folder": "bodies", "card": "bodies/card.yaml", "count": 2}
    assert (torso / "bodies" / "card.yaml").is_file()
    assert len(list((torso / "bodies").rglob("ct.nii.gz"))) == 2
    assert "bodies: 2 bodies; train on it with the card bodies/card.yaml" in err
    code, _, err = run(*words)
    assert code == 1
    assert "[E-OUTPUT]" in err


def test_bodies_like_a_labelled_one(run: Run, torso: Path) -> None:
    code, _, err = run(
        "--labels", "labels.nii.gz", "--card", "chest_abdomen", "--ct", "torso.nii.gz", "--count", 2, "--spacing-mm", 6,
        "--strength", 0.5, "--real", 1, "-o", "bodies", "-q",
    )  # fmt: skip
    assert code == 0, err
    assert err == ""
    assert len(list((torso / "bodies" / "real").rglob("labels.nii.gz"))) == 2
