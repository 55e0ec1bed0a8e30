"""``voxicon evaluate``: readers, another model, submissions, and masks made by weights on the way."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.assemblies import (
    AFFINE,
    GRID,
    LESION,
    labels_of,
    masks_of,
    shifted,
    summary,
    table,
    write_predictions,
)
from tests.cli.conftest import Evaluate
from tests.weights_on_disk import write_small_weights
from voxicon.core.geometry import Geometry
from voxicon.io.nifti import write_labels, write_mask
from voxicon.segmenter import Segmenter

TEST = ("t1", "t2", "t3a", "t3b")


# --- readers, comparison, submission


def test_readers(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out = write_predictions(tmp_path / "p", shifted), tmp_path / "out"
    one, other = tmp_path / "one", tmp_path / "other"
    for case in ("t1", "t2", "t3a", "v1"):
        write_labels(one / f"{case}.nii.gz", labels_of(case), GRID)
    for case in ("t1", "t3a", "t3b", "v1"):
        twice = np.roll(labels_of(case), 2, axis=0)
        write_labels(other / "tiny" / "labelsTr" / f"{case}.nii.gz", twice, GRID)
    words = ("--reader", f"R1={one}", "--reader", f"R2={other}", "--choose-on", "val")
    assert evaluate(pristine, "--predictions", folder, "-o", out, *words, "-q") == (0, "", "")
    found = summary(out)["readers"]
    assert found["names"] == ["R1", "R2"]
    # Both have drawn t1 and t3a, and v1, which is not judged.
    assert (found["n_cases"], found["n_patients"]) == (2, 2)
    # A liver 10 long, the machine's moved by 1 and the second reader's by 2: 9/10, 9/10 and 8/10 are shared.
    liver = {pair: cell["mean"] for pair, cell in found["classes"]["liver"].items()}
    assert liver == pytest.approx({"AI-R1": 0.9, "AI-R2": 0.9, "R1-R2": 0.8})
    assert found["classes"]["liver"]["R1-R2"] | {"n": 2, "patients": 2} == found["classes"]["liver"]["R1-R2"]
    assert {pair: cell["mean"] for pair, cell in found["classes"]["liver_tumor"].items()} == pytest.approx(
        {"AI-R1": 2 / 3, "AI-R2": 2 / 3, "R1-R2": 1 / 3}
    )


def test_a_reader_on_another_grid(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out = write_predictions(tmp_path / "p"), tmp_path / "out"
    one, other = tmp_path / "one", tmp_path / "other"
    write_labels(one / "t1.nii.gz", labels_of("t1"), GRID)
    write_labels(other / "t1.nii.gz", labels_of("t1")[:-1], Geometry((23, 20, 16), AFFINE))
    code, _, errors = evaluate(
        pristine, "--predictions", folder, "-o", out, "--reader", f"A={one}", "--reader", f"B={other}"
    )
    assert code == 1
    assert f"{other / 't1.nii.gz'}: the labels' grid" in errors
    assert {row["case"] for row in table(out)} == {"t2", "t3a", "t3b", "0001"}


def test_against_another_evaluation(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    good, bad = write_predictions(tmp_path / "good"), write_predictions(tmp_path / "bad", shifted)
    shutil.rmtree(bad / "spleens")
    assert evaluate(pristine, "--predictions", bad, "-o", tmp_path / "other", "-q")[0] == 1
    out = tmp_path / "out"
    assert evaluate(pristine, "--predictions", good, "-o", out, "--against", tmp_path / "other", "-q") == (0, "", "")
    found = summary(out)["against"]
    liver = found["classes"]["liver"]["dice"]
    assert liver["difference"] == pytest.approx(0.1)
    assert (liver["low"], liver["high"], liver["n"], liver["patients"]) == (
        pytest.approx(0.1),
        pytest.approx(0.1),
        4,
        3,
    )
    # Three patients, all better: the two signs that are as extreme, of 2^3.
    assert liver["p"] == pytest.approx(2 / 8)
    assert liver["p_holm"] == pytest.approx(3 * 2 / 8)
    assert found["classes"]["spleen"]["dice"]["n"] == 4
    assert (found["n_pairs"], found["n_only_here"], found["n_only_there"]) == (12, 1, 0)
    assert "nsd" in found["classes"]["liver"]
    # Another tolerance makes another NSD.
    words = ("--predictions", good, "-o", out, "--against", tmp_path / "other", "--tolerance-mm", "1")
    assert "note: NSD is not compared" in evaluate(pristine, *words)[1]
    assert "nsd" not in summary(out)["against"]["classes"]["liver"]


def test_against_what_cannot_be_compared(evaluate: Evaluate, assembly: Path, tmp_path: Path) -> None:
    good, other = write_predictions(tmp_path / "good"), tmp_path / "other"
    assert evaluate(assembly, "--predictions", good, "-o", other, "--split", "val", "-q")[0] == 0
    code, _, errors = evaluate(assembly, "--predictions", good, "-o", tmp_path / "out", "--against", other)
    assert code == 2
    assert "judges no scan of this split 'test'" in errors
    # Labels that changed in between are no common ground.
    changed = labels_of("v1")
    changed[LESION] = 1
    write_labels(assembly.parent / "tiny" / "labelsTr" / "v1.nii.gz", changed, GRID)
    words = ("--split", "val", "--against", other, "-o", tmp_path / "out")
    code, text, _ = evaluate(assembly, "--predictions", good, *words)
    assert code == 0
    assert "1 rows were judged by other labels, such as tiny/v1 liver_tumor" in text
    assert summary(tmp_path / "out")["against"] is None


def test_a_submission_is_the_label_file_again(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, sent = write_predictions(tmp_path / "p"), tmp_path / "sent"
    assert evaluate(pristine, "--predictions", folder, "-o", tmp_path / "out", "--submission", sent, "-q") == (
        0,
        "",
        "",
    )
    files = {path.relative_to(sent).as_posix() for path in sent.rglob("*.nii.gz")}
    assert files == {*(f"tiny/{case}.nii.gz" for case in TEST), "spleens/label0001.nii.gz"}
    for name in files:
        own = "labelsTr" if name.startswith("tiny") else "label"
        original = nib.load(pristine.parent / name.replace("/", f"/{own}/"))
        handed_in = nib.load(sent / name)
        assert (np.asarray(handed_in.dataobj) == np.asarray(original.dataobj)).all()
        assert np.allclose(handed_in.affine, original.affine)
        assert handed_in.get_data_dtype() == np.uint8


def test_a_submission_of_scans_without_labels(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    folder, out, sent = write_predictions(tmp_path / "p"), tmp_path / "out", tmp_path / "sent"
    words = (pristine, "--predictions", folder, "-o", out, "--split", "unlabeled", "--submission", sent)
    code, text, errors = evaluate(*words)
    assert (code, errors) == (0, "")
    files = {path.relative_to(sent).as_posix() for path in sent.rglob("*.nii.gz")}
    assert files == {"tiny/u1.nii.gz", "spleens/label0061.nii.gz"}
    assert (np.asarray(nib.load(sent / "tiny" / "u1.nii.gz").dataobj) == labels_of("u1")).all()
    assert "submission: 2 files" in text
    assert summary(out)["classes"] == {}
    assert table(out) == []
    # What is not predicted is told; a scan of which nothing is predicted fails.
    (folder / "tiny" / "u1" / "segmentations" / "liver_tumor.nii.gz").unlink()
    (folder / "spleens" / "0061" / "segmentations" / "spleen.nii.gz").unlink()
    code, _, errors = evaluate(*words)
    assert code == 1
    assert "spleens/0061: none of its dataset's classes was predicted" in errors
    assert summary(out)["submission"]["files"] == {str(sent / "tiny" / "u1.nii.gz"): ["liver_tumor"]}


# --- by weights


def test_weights_and_an_interruption(
    evaluate: Evaluate, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors", classes=("liver", "liver_tumor", "pancreas"))
    out = tmp_path / "out"
    words = (pristine, "--weights", weights, "-o", out, "-q")
    real, done = Segmenter.segment, []

    def interrupted(self: Segmenter, *args: Any, **options: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return real(self, *args, **options)

    monkeypatch.setattr(Segmenter, "segment", interrupted)
    assert evaluate(*words)[0] == 130
    results = sorted((out / "predictions").rglob("case.json"))
    assert [path.parent.name for path in results] == ["t1", "t2"]
    stamps = [path.stat().st_mtime_ns for path in results]
    monkeypatch.setattr(Segmenter, "segment", real)
    assert evaluate(*words)[0] == 0
    assert [path.stat().st_mtime_ns for path in results] == stamps
    found = summary(out)
    assert found["weights"]["name"] == "w"
    assert len(found["weights"]["sha256"]) == 64
    # The weights know no spleen: listed, never scored. What they know beyond the labels is not even made.
    assert found["not_predicted"] == {"spleen": 5}
    assert found["classes"]["spleen"]["all"]["dice"]["n"] == 0
    made = {p.name for p in (out / "predictions" / "tiny" / "t1" / "segmentations").iterdir()}
    assert made == {"liver.nii.gz", "liver_tumor.nii.gz"}
    assert (out / "predictions" / "tiny" / "t1" / "probabilities" / "liver_tumor.nii.gz").is_file()
    assert not (out / "predictions" / "spleens").exists()
    assert found["detection"]["liver_tumor"]["score"] == "probability"
    # Again from the results alone: the same numbers.
    assert evaluate(pristine, "--predictions", out / "predictions" / "tiny", "-o", tmp_path / "again", "-q")[0] == 1
    again = summary(tmp_path / "again")
    assert again["classes"]["liver"] == found["classes"]["liver"]
    assert again["detection"] == found["detection"]
    assert again["weights"] == found["weights"]
    # Other weights do not mix with these.
    others = write_small_weights(tmp_path / "v.safetensors", classes=("liver", "spleen"))
    code, _, errors = evaluate(pristine, "--weights", others, "-o", out)
    assert code == 1
    assert "holds a result of other weights than v" in errors


def test_scans_that_the_weights_learned_from_are_told(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    scan = pristine.parent / "tiny" / "imagesTr" / "t2.nii.gz"
    card = {"title": "w", "data": [{"dataset": "tiny", "sha256": {"t2": [sha256(scan.read_bytes()).hexdigest(), ""]}}]}
    weights = write_small_weights(tmp_path / "w.safetensors", card=card)
    code, text, _ = evaluate(pristine, "--weights", weights, "-o", tmp_path / "out", "-c", "spleen")
    assert code == 0
    assert summary(tmp_path / "out")["seen_in_training"] == ["tiny/t2"]
    assert "note: 1 of the scans judged are among those the weights learned from" in text


def test_the_starter_weights(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, _ = evaluate(pristine, "-o", out, "-c", "spleen,liver_tumor")
    assert code == 0
    assert summary(out)["weights"]["name"] == "starter"
    assert summary(out)["not_predicted"] == {}
    assert summary(out)["detection"]["liver_tumor"]["n_negative"] == 1
    assert summary(out)["classes"]["spleen"]["all"]["n_cases"] == 5
    assert "not predicted" not in text


def test_a_mask_alone_is_enough(evaluate: Evaluate, pristine: Path, tmp_path: Path) -> None:
    """A folder per case, without the dataset's name, and one file that is not packed."""
    folder = write_predictions(tmp_path / "p")
    for case in TEST:
        shutil.move(folder / "tiny" / case, folder / case)
    write_mask(folder / "t1" / "segmentations" / "x.nii.gz", masks_of(labels_of("t1"))["liver"], GRID)
    nib.save(nib.load(folder / "t1" / "segmentations" / "x.nii.gz"), folder / "t1" / "segmentations" / "liver.nii")
    (folder / "t1" / "segmentations" / "liver.nii.gz").unlink()
    assert evaluate(pristine, "--predictions", folder, "-o", tmp_path / "out", "-q") == (0, "", "")
    assert summary(tmp_path / "out")["classes"]["liver"]["all"]["dice"]["mean"] == 1
