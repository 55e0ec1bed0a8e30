"""Which files of a folder are the scan, and which make it unusable."""

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import SegmentationStorage

from tests.io.dicom_files import GRID, HU, SHAPE, refused, save, series
from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry, NotCt, UnreadableFile
from voxicon.io.dicom import read_mask_series, read_series, slice_files


def test_no_folder_and_an_empty_one(tmp_path):
    refused(tmp_path / "absent", "E-OPEN", UnreadableFile)
    (tmp_path / "empty").mkdir()
    assert "holds no DICOM image (0 other files)" in refused(tmp_path / "empty", "E-FORMAT", UnreadableFile)


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "scan"
    path.write_bytes(b"text")
    refused(path, "E-OPEN", UnreadableFile)


def test_row_45_what_is_no_image_is_skipped_and_counted(tmp_path):
    folder = save(tmp_path / "scan", series())
    directory = get_testdata_file("dicomdirtests/DICOMDIR", download=False)
    (folder / "DICOMDIR").write_bytes(Path(directory).read_bytes())
    report = series()[0]
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.Modality = "SR"
    segments = series()[0]
    segments.SOPClassUID, segments.Modality = SegmentationStorage, "SEG"
    for element in ("Rows", "Columns", "PixelData"):
        del report[element]
    save(folder, [report, segments], ["report", "segments"])
    (folder / "LICENSE").write_text("free")
    (folder / "picture.png").write_bytes(b"\x08\x00 starts like a DICOM file without preamble")
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "._000.dcm").write_bytes(b"left by a Mac")
    volume = read_series(folder)
    assert volume.hu.shape == SHAPE
    assert volume.source.warnings == ("scan: 5 files that are no DICOM images were skipped",)


def test_slices_may_lie_in_folders_below(tmp_path):
    slices = series()
    save(tmp_path / "study" / "a", slices[:7])
    save(tmp_path / "study" / "b", slices[7:])
    assert read_series(tmp_path / "study").geometry == GRID
    assert slice_files(tmp_path / "study")[7] == tmp_path / "study" / "b" / "000.dcm"


@pytest.mark.parametrize(("raw", "name"), [(b"", "010"), (b"", "010.dcm"), (b"<html>", "010.dcm"), (b"x", "a.IMA")])
def test_a_file_that_must_have_been_a_slice(tmp_path, raw, name):
    folder = save(tmp_path / "scan", series())
    (folder / name).write_bytes(raw)
    message = refused(folder, "E-FORMAT", UnreadableFile)
    assert message.startswith(f"scan/{name}: is no DICOM file ({len(raw)} bytes")


@pytest.mark.parametrize("kept", [*range(132, 1100, 30), -1])
def test_row_40_a_slice_that_ends_early(tmp_path, kept):
    folder = save(tmp_path / "scan", series())
    path = folder / "011.dcm"
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(folder, "E-TRUNC", UnreadableFile).startswith("scan/011.dcm: ends early or is damaged: ")


def test_row_6_a_small_file_that_promises_a_huge_slice(tmp_path):
    slices = series()
    for data in slices:
        data.Rows = data.Columns = 65535
    message = refused(save(tmp_path / "scan", slices), "E-TRUNC", UnreadableFile)
    assert "expected more than 8,589,672,450 for its pixels" in message  # 65,535² pixels of two bytes


def test_a_slice_without_the_kind_of_its_pixels(tmp_path):
    slices = series()
    del slices[3].BitsAllocated, slices[3].PixelData
    assert "/003.dcm" in refused(save(tmp_path / "scan", slices), "E-TRUNC", UnreadableFile)


@pytest.mark.parametrize(("element", "what"), [("NumberOfFrames", "2 frames"), ("SamplesPerPixel", "2 values")])
def test_row_44_what_is_not_one_gray_slice(tmp_path, element, what):
    slices = series()
    setattr(slices[3], element, 2)
    message = refused(save(tmp_path / "scan", slices), "E-DTYPE", UnreadableFile)
    assert message.startswith(f"scan/003.dcm: holds {what}")


def test_row_25_not_ct(tmp_path):
    message = refused(save(tmp_path / "scan", series(modality="MR")), "E-MODALITY", NotCt)
    assert "12 of modality MR" in message
    slices = series()
    for data in slices:
        del data.Modality
    assert "12 of modality none" in refused(save(tmp_path / "none", slices), "E-MODALITY", NotCt)


def test_ct_among_other_modalities(tmp_path):
    save(tmp_path / "ct", series())
    save(tmp_path / "pet", series(modality="PT"))
    volume = read_series(tmp_path)
    assert volume.hu.shape == SHAPE
    assert volume.source.warnings == (f"{tmp_path.name}: 12 images of another modality than CT were left out",)


def test_row_36_localizers_are_left_out(tmp_path):
    slices = series()
    localizer = series(HU + 1)[0]
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localizer.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    localizer.SeriesInstanceUID = slices[0].SeriesInstanceUID
    volume = read_series(save(tmp_path / "scan", [*slices, localizer]))
    assert volume.geometry == GRID
    assert volume.source.warnings == ("scan: 1 localizer images were left out",)
    message = refused(save(tmp_path / "only", [localizer]), "E-MODALITY", NotCt)
    assert "localizers: 1" in message


def test_row_37_two_series(tmp_path):
    other = series(HU[..., :5] + 1, Geometry((16, 14, 5), GRID.affine))
    for data in other:
        data.SeriesNumber = 7
    save(tmp_path / "b", other)
    save(tmp_path / "a", series())
    message = refused(tmp_path, "E-SERIES", BadGeometry)
    assert "holds 2 series (series 1: 12 images from a/000.dcm on; series 7: 5 images from b/000.dcm on)" in message
    refused(tmp_path, "E-SERIES", BadGeometry, read_mask_series, GRID)


def test_many_series_are_not_all_listed(tmp_path):
    for k in range(7):
        save(tmp_path / f"{k}", series(HU + k))
    message = refused(tmp_path, "E-SERIES", BadGeometry)
    assert "holds 7 series" in message
    assert "4/000.dcm on; ...)" in message
    assert "5/000.dcm" not in message


def test_pictures_without_a_position_are_left_out_beside_a_scan(tmp_path):
    report = series(HU + 1)[0]
    del report.ImagePositionPatient
    volume = read_series(save(tmp_path / "scan", [*series(), report]))
    assert volume.geometry == GRID
    assert volume.source.warnings == ("scan: 1 images of series without any position were left out",)


def scattered():
    slices = series()
    for k, data in enumerate(slices):
        data.SeriesInstanceUID = f"1.2.3.{k}"
    return slices


def test_files_that_each_claim_a_series_of_their_own(tmp_path):
    volume = read_series(save(tmp_path / "scan", scattered()))
    assert volume.geometry == GRID
    assert len(volume.source.warnings) == 1
    assert "every file claims a series of its own" in volume.source.warnings[0]


def test_scattered_files_of_two_patients_two_files_or_two_of_one_series_are_no_series(tmp_path):
    slices = scattered()
    slices[5].PatientID = "another"
    refused(save(tmp_path / "patients", slices), "E-SERIES", BadGeometry)
    refused(save(tmp_path / "files", scattered()[:2]), "E-SERIES", BadGeometry)
    slices = scattered()
    slices[5].SeriesInstanceUID = slices[6].SeriesInstanceUID
    refused(save(tmp_path / "pair", slices), "E-SERIES", BadGeometry)


def test_an_unknown_transfer_syntax(tmp_path):
    folder = save(tmp_path / "scan", series())
    data = series()[0]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.3"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    dcmwrite(folder / "000.dcm", data, implicit_vr=False, little_endian=True)
    assert "(1.2.3)" in refused(folder, "E-TS", UnreadableFile)
