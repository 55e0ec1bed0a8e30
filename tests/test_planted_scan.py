"""Folders of planted scans: files that place voxels like the scan, a record that comes last, organs from anywhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.organs import BOXES, SHAPE, VALUES, geometry, labels, organs, torso, write_torso
from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.volume import Volume
from voxicon.data.card import load_card
from voxicon.errors import BadGeometry, CardError, InputError, OutputError
from voxicon.io.masks import write_masks
from voxicon.io.nifti import read_volume, write_labels, write_mask, write_volume
from voxicon.planted_scan import organs_by_weights, organs_of_labels, organs_of_result, requested, save
from voxicon.planting import PlantedScan, Request, plant_lesions
from voxicon.segmenter import load
from voxicon.synthesis.lesions.plant import KINDS

TUMOR = Request(KINDS["hepatic_vessel_tumor"], (14, 14), (-40, -40))


def scan_like(path: Path) -> PlantedScan:
    return plant_lesions(read_volume(path), organs(), [TUMOR, TUMOR], 0)


def write_as(path: Path, dtype: type, slope: float = 1.0) -> Path:
    image = nib.Nifti1Image((torso().hu / slope).astype(dtype), geometry().affine)
    image.set_sform(geometry().affine, 2)
    image.set_qform(geometry().affine, 1)
    image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("dtype", "slope", "stored"),
    [(np.int16, 1, "int16"), (np.int32, 1, "int16"), (np.float32, 1, "float32"), (np.int16, 0.5, "float32")],
)
def test_the_ct_is_written_like_the_file_it_came_from(dtype: type, slope: float, stored: str, tmp_path: Path) -> None:
    source = write_as(tmp_path / "ct.nii.gz", dtype, slope)
    planted = scan_like(source)
    save(planted, tmp_path / "out", {})
    before, after = nib.load(source), nib.load(tmp_path / "out" / "ct.nii.gz")
    assert after.get_data_dtype() == stored
    assert (after.affine == before.affine).all()
    assert (int(after.header["sform_code"]), int(after.header["qform_code"])) == (2, 1)
    np.testing.assert_allclose(np.asarray(after.dataobj), planted.volume.hu, atol=0.5 if stored == "int16" else 0)
    again = read_volume(tmp_path / "out" / "ct.nii.gz")
    assert again.geometry == planted.volume.geometry


def test_the_record_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    source, _ = write_torso(tmp_path)
    planted = scan_like(source)
    path = save(planted, tmp_path / "out", {"seed": 3, "requested": requested([TUMOR])})
    record = json.loads(path.read_text())
    assert path == tmp_path / "out" / "planted.json"
    assert set(record["files"]) == {
        "ct.nii.gz", "segmentations/hepatic_vessel_tumor.nii.gz", "segmentations/liver_tumor.nii.gz",
    }  # fmt: skip
    for name, digest in record["files"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    assert record["input"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record["case"] == "torso"
    assert record["seed"] == 3
    assert record["requested"] == [
        {"class": "hepatic_vessel_tumor", "diameter_mm": [14, 14], "contrast_hu": [-40, -40]}
    ]
    assert record["lesions"] == list(planted.lesions)
    mask = np.asarray(nib.load(tmp_path / "out" / "segmentations" / "liver_tumor.nii.gz").dataobj)
    np.testing.assert_array_equal(mask != 0, planted.masks["liver_tumor"])
    assert record["volumes_ml"]["liver_tumor"] == pytest.approx(mask.sum() * 0.008)


def test_a_volume_made_in_memory_is_written_too(tmp_path: Path) -> None:
    planted = plant_lesions(torso(), organs(), [Request(KINDS["kidney_cyst"])], 0)
    save(planted, tmp_path / "out", {"requested": requested([Request(KINDS["kidney_cyst"])])})
    assert nib.load(tmp_path / "out" / "ct.nii.gz").get_data_dtype() == "int16"
    record = json.loads((tmp_path / "out" / "planted.json").read_text())
    assert record["requested"] == [{"class": "kidney_cyst", "diameter_mm": None, "contrast_hu": None}]


def test_values_beyond_16_bits_are_cut(tmp_path: Path) -> None:
    planted = plant_lesions(torso(), organs(), [TUMOR], 0)
    hu = planted.volume.hu.copy()
    hu[0, 0, 0] = 40000
    bright = PlantedScan(Volume(hu, geometry()), planted.masks, planted.lesions)
    save(bright, tmp_path / "out", {})
    assert np.asarray(nib.load(tmp_path / "out" / "ct.nii.gz").dataobj)[0, 0, 0] == 32767


def test_overwriting_takes_away_what_does_not_come_again(tmp_path: Path) -> None:
    source, _ = write_torso(tmp_path)
    save(scan_like(source), tmp_path / "out", {})
    (tmp_path / "out" / "mine.txt").write_text("kept")
    other = plant_lesions(read_volume(source), organs(), [Request(KINDS["kidney_cyst"])], 0)
    with pytest.raises(OutputError, match="already holds something; use --overwrite"):
        save(other, tmp_path / "out", {})
    save(other, tmp_path / "out", {}, overwrite=True)
    names = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert names == ["ct.nii.gz", "kidney_cyst.nii.gz", "mine.txt", "planted.json"]


def test_no_record_while_files_are_being_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = write_torso(tmp_path)
    planted = scan_like(source)
    save(planted, tmp_path / "out", {})
    monkeypatch.setattr("voxicon.planted_scan.write_masks", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(planted, tmp_path / "out", {}, overwrite=True)
    assert not (tmp_path / "out" / "planted.json").exists()


def test_a_damaged_record_names_no_files_to_delete(tmp_path: Path) -> None:
    source, _ = write_torso(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    outside = tmp_path / "outside.txt"
    outside.write_text("kept")
    for text in ("{", "[]", json.dumps({"files": {"../outside.txt": ""}})):
        (out / "planted.json").write_text(text)
        save(scan_like(source), out, {}, overwrite=True)
        assert outside.exists()


def test_the_result_of_a_segmentation_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case.json").write_text("{}")
    planted = plant_lesions(torso(), organs(), [TUMOR], 0)
    with pytest.raises(OutputError, match="holds the result of a segmentation; choose another output folder"):
        save(planted, tmp_path / "out", {}, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file, but results need a folder"):
        save(planted, tmp_path / "file", {}, overwrite=True)


def test_organs_of_labels_are_what_the_card_says(tmp_path: Path) -> None:
    source, path = write_torso(tmp_path)
    found = organs_of_labels(read_volume(source), path, load_card("chest_abdomen"))
    for name in VALUES:
        mask = np.zeros(SHAPE, dtype=bool)
        mask[BOXES[name]] = True
        np.testing.assert_array_equal(found.masks[name], mask)
    assert found.masks.count("aorta") == 0
    assert found.origin == {
        "kind": "labels",
        "file": "labels.nii.gz",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "card": "chest_abdomen",
    }


def test_organs_of_labels_are_told_apart_by_side_where_the_card_cannot(tmp_path: Path) -> None:
    source, _ = write_torso(tmp_path)
    both = (labels() == 2) | (labels() == 3)
    write_labels(tmp_path / "kits.nii.gz", both.astype(np.int16), geometry())
    found = organs_of_labels(read_volume(source), tmp_path / "kits.nii.gz", load_card("kits23"))
    np.testing.assert_array_equal(found.masks["kidney_right"], labels() == 2)
    np.testing.assert_array_equal(found.masks["kidney_left"], labels() == 3)


def test_one_kidney_alone_is_on_the_side_of_the_body_it_is_on(tmp_path: Path) -> None:
    # 40 columns of air move the middle of the grid beyond the right kidney; the body's is where it was.
    wide = Geometry((SHAPE[0] + 40, *SHAPE[1:]), geometry().affine)
    hu = np.full(wide.shape, -1000, dtype=np.int16)
    hu[: SHAPE[0]] = torso().hu
    one = np.zeros(wide.shape, dtype=np.int16)
    one[: SHAPE[0]] = labels() == 2
    write_volume(tmp_path / "ct.nii.gz", hu, wide)
    write_labels(tmp_path / "kits.nii.gz", one, wide)
    found = organs_of_labels(read_volume(tmp_path / "ct.nii.gz"), tmp_path / "kits.nii.gz", load_card("kits23"))
    assert found.masks.count("kidney_right") == (one == 1).sum()
    assert found.masks.count("kidney_left") == 0


def test_labels_of_another_scan_or_dataset_are_refused(tmp_path: Path) -> None:
    source, _ = write_torso(tmp_path)
    shifted = np.array(geometry().affine)
    shifted[0, 3] += 30
    write_labels(tmp_path / "far.nii.gz", labels(), Geometry(SHAPE, shifted))
    with pytest.raises(BadGeometry, match="is not the scan's"):
        organs_of_labels(read_volume(source), tmp_path / "far.nii.gz", load_card("chest_abdomen"))
    write_labels(tmp_path / "strange.nii.gz", np.full(SHAPE, 250, dtype=np.int16), geometry())
    with pytest.raises(CardError, match="of which the card lists none"):
        organs_of_labels(read_volume(source), tmp_path / "strange.nii.gz", load_card("chest_abdomen"))


@pytest.mark.parametrize("below", ["result", "result/segmentations"])
def test_organs_of_a_result_folder(below: str, tmp_path: Path) -> None:
    write_masks(organs(), tmp_path / "result", Vocabulary.default())
    write_mask(tmp_path / "result" / "segmentations" / "something.nii.gz", labels() == 1, geometry())
    found = organs_of_result(torso(), tmp_path / below)
    assert sorted(found.masks) == sorted(BOXES)
    for name in BOXES:
        np.testing.assert_array_equal(found.masks[name], organs()[name])
    assert found.origin["kind"] == "result"


def test_a_folder_without_masks_or_of_another_scan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no mask named like a class") as caught:
        organs_of_result(torso(), tmp_path)
    assert caught.value.code == "E-ORGAN"
    smaller = Geometry((10, 10, 10), geometry().affine)
    write_mask(tmp_path / "liver.nii.gz", np.ones((10, 10, 10), dtype=bool), smaller)
    with pytest.raises(BadGeometry, match=r"liver\.nii\.gz: lies on another grid than the scan") as wrong:
        organs_of_result(torso(), tmp_path)
    assert wrong.value.code == "E-GRID"


def test_organs_by_weights_are_all_they_find(tmp_path: Path) -> None:
    segmenter = load(write_small_weights(tmp_path / "small.safetensors"), device="cpu")
    ticks = []
    found = organs_by_weights(torso(), segmenter, lambda done, total: ticks.append((done, total)))
    assert set(found.masks) == set(CLASSES)
    assert found.masks.geometry == geometry()
    assert found.origin == {"kind": "weights", "name": "small", "sha256": segmenter.checkpoint.sha256}
    assert ticks
