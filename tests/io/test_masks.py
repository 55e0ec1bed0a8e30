import dataclasses
import json
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest

from tests.io.nifti_faults import LPS_AFFINE, nifti_bytes, save
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.errors import InputError, UnknownClass
from voxicon.io.masks import mask_files, write_combined, write_masks
from voxicon.io.nifti import read_labels, read_volume

VOCABULARY = Vocabulary.default()
GEOMETRY = Geometry((6, 5, 4), LPS_AFFINE)


def box(*slices):
    mask = np.zeros(GEOMETRY.shape, bool)
    mask[slices] = True
    return mask


def label_names(path):
    """Names as TotalSegmentator reads them: the first extension, as XML."""
    root = ElementTree.fromstring(nib.load(path).header.extensions[0].get_content())
    assert root.tag == "CaretExtension"
    labels = root.findall("VolumeInformation/LabelTable/Label")
    return {int(label.attrib["Key"]): label.text for label in labels}


def test_one_file_per_class_empty_ones_too(tmp_path):
    masks = MaskSet.empty(VOCABULARY.names, GEOMETRY)
    masks.set("liver", box(slice(1, 3)))
    paths = write_masks(masks, tmp_path / "case", VOCABULARY)
    assert paths == [tmp_path / "case" / "segmentations" / f"{name}.nii.gz" for name in VOCABULARY.names]
    for name, path in zip(VOCABULARY.names, paths, strict=True):
        stored, geometry = read_labels(path)
        assert stored.dtype == np.uint8
        assert (stored == masks[name]).all()
        assert geometry.same_grid(GEOMETRY)
    assert sorted(p.name for p in (tmp_path / "case" / "segmentations").iterdir()) == sorted(p.name for p in paths)


def test_no_classes_no_files(tmp_path):
    masks = MaskSet.empty([], GEOMETRY)
    assert write_masks(masks, tmp_path, VOCABULARY) == []
    labels, names = write_combined(masks, tmp_path / "combined_labels.nii.gz", VOCABULARY)
    assert not read_labels(labels)[0].any()
    assert json.loads(names.read_text(encoding="utf8")) == {}
    assert label_names(labels) == {}


@pytest.mark.parametrize("write", [write_masks, write_combined])
def test_unknown_names_write_nothing(tmp_path, write):
    masks = MaskSet.from_masks({"liver": box(0), "../liver": box(1)}, GEOMETRY)
    with pytest.raises(UnknownClass, match="liver"):
        write(masks, tmp_path / "out", VOCABULARY)
    assert list(tmp_path.rglob("*")) == []


def test_masks_lie_on_the_scan(tmp_path):
    volume = read_volume(save(tmp_path, nifti_bytes(sform_code=2, qform_code=3), "ct.nii.gz"))
    masks = MaskSet.from_masks({"liver": volume.hu > 0}, volume.geometry, volume.source)
    (mask,) = write_masks(masks, tmp_path, VOCABULARY)
    combined, _ = write_combined(masks, tmp_path / "combined_labels.nii.gz", VOCABULARY)
    scan = nib.load(tmp_path / "ct.nii.gz").header
    for path in (mask, combined):
        header = nib.load(path).header
        for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_d", "qoffset_x", "pixdim"):
            assert header[field].tobytes() == scan[field].tobytes()


@pytest.mark.parametrize("backwards", [False, True])
def test_lesion_covers_vessel_covers_organ_and_higher_ids_cover_lower(tmp_path, backwards):
    parts = {
        "liver": box(slice(0, 6)),  # 6, organ
        "stomach": box(slice(5, 6)),  # 7, organ
        "hepatic_vessel": box(slice(1, 4)),  # 15, vessel
        "colon": box(slice(3, 4)),  # 18, organ of a higher id than the vessel
        "liver_tumor": box(slice(2, 3)),  # 27, lesion
    }
    names = list(reversed(parts)) if backwards else list(parts)
    masks = MaskSet.from_masks({name: parts[name] for name in names}, GEOMETRY)
    path, _ = write_combined(masks, tmp_path / "combined_labels.nii.gz", VOCABULARY)
    labels, _ = read_labels(path)
    assert labels.dtype == np.uint8
    assert labels[:, 0, 0].tolist() == [6, 15, 27, 15, 6, 7]
    assert (labels == labels[:, :1, :1]).all()


def test_lesion_covers_even_a_vessel_of_a_higher_id(tmp_path):
    concepts = [
        dataclasses.replace(c, id=200) if c.name == "hepatic_vessel" else c
        for c in VOCABULARY
        if c.name in ("liver_tumor", "hepatic_vessel")
    ]
    masks = MaskSet.from_masks({"hepatic_vessel": box(0), "liver_tumor": box(0)}, GEOMETRY)
    path, _ = write_combined(masks, tmp_path / "c.nii.gz", Vocabulary(concepts))
    assert read_labels(path)[0][0, 0, 0] == 27


def test_a_part_covers_its_whole_whatever_the_ids(tmp_path):
    parts = {
        "femoral_head_left": box(slice(1, 2)),  # 23, part of the femur
        "femur_left": box(slice(0, 2)),  # 90
        "bone": box(slice(0, 2)),  # 33, below every single bone but the femoral heads
        "lung_left": box(slice(2, 4)),  # 17
        "lung_upper_lobe_left": box(slice(3, 4)),  # 34, part of the lung
    }
    path, _ = write_combined(MaskSet.from_masks(parts, GEOMETRY), tmp_path / "c.nii.gz", VOCABULARY)
    assert read_labels(path)[0][:, 0, 0].tolist() == [90, 23, 17, 34, 0, 0]


@pytest.mark.parametrize(("number", "dtype"), [(133, np.uint8), (255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_ids_above_255_need_two_bytes(tmp_path, number, dtype):
    vocabulary = Vocabulary([dataclasses.replace(VOCABULARY["liver"], id=number)])
    masks = MaskSet.from_masks({"liver": box(1)}, GEOMETRY)
    path, _ = write_combined(masks, tmp_path / "c.nii.gz", vocabulary)
    labels, _ = read_labels(path)
    assert labels.dtype == dtype
    assert labels.max() == number


def test_names_are_inside_the_file_and_beside_it(tmp_path):
    masks = MaskSet.empty(["kidney_cyst", "spleen", "colon", "hepatic_vessel"], GEOMETRY)
    path, beside = write_combined(masks, tmp_path / "combined_labels.nii.gz", VOCABULARY)
    expected = {VOCABULARY[name].id: name for name in masks}
    assert label_names(path) == expected
    header = nib.load(path).header
    assert header.extensions[0].get_code() == 0
    assert int(header["intent_code"]) == 1002
    assert beside == tmp_path / "combined_labels.json"
    table = json.loads(beside.read_text(encoding="utf8"))
    assert {int(key): entry["name"] for key, entry in table.items()} == expected
    assert list(map(int, table)) == sorted(expected)
    assert table["1"]["color"] == list(VOCABULARY["spleen"].color)
    assert table["1"]["snomed"] == list(VOCABULARY["spleen"].snomed)


def test_colors_are_shares_of_one(tmp_path):
    masks = MaskSet.empty(["spleen"], GEOMETRY)
    path, _ = write_combined(masks, tmp_path / "c.nii.gz", VOCABULARY)
    (label,) = ElementTree.fromstring(nib.load(path).header.extensions[0].get_content()).iter("Label")
    red, green, blue = VOCABULARY["spleen"].color
    assert float(label.attrib["Red"]) == pytest.approx(red / 255, abs=1e-4)
    assert float(label.attrib["Green"]) == pytest.approx(green / 255, abs=1e-4)
    assert float(label.attrib["Blue"]) == pytest.approx(blue / 255, abs=1e-4)
    assert label.attrib["Alpha"] == "1"


def test_equal_masks_give_equal_files(tmp_path):
    masks = MaskSet.from_masks({"liver": box(1), "spleen": box(2)}, GEOMETRY)
    for name in ("a", "b"):
        write_combined(masks, tmp_path / name / "c.nii.gz", VOCABULARY)
        write_masks(masks, tmp_path / name, VOCABULARY)
    for path in (tmp_path / "a").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_two_masks_of_one_class_are_refused(tmp_path):
    for name in ("liver.nii", "liver.nii.gz", "notes.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"liver\.nii.*lies beside it; expected one mask a class; remove one"):
        mask_files(tmp_path, Vocabulary.default())
