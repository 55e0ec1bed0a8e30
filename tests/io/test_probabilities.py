"""Probability maps on disk: a byte per voxel, read as 0 to 1, placed like the scan."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry, OutputError
from voxicon.io.probabilities import write_probabilities

GRID = Geometry((4, 8, 8), np.array([[0, 2.0, 0, -9], [-3.0, 0, 0, 5], [0, 0, 1.5, 7], [0, 0, 0, 1]]))
EVERY_LEVEL = np.arange(256, dtype=np.uint8).reshape(GRID.shape)


def scan_header(kind: type[nib.Nifti1Header], endianness: str) -> bytes:
    """A scan's header with a placement by sform alone, and a scale and range of its own."""
    header = kind(endianness=endianness)
    header.set_data_dtype(np.int16)
    header.set_data_shape(GRID.shape)
    header.set_sform(GRID.affine, code=2)
    header["pixdim"][1:4] = GRID.spacing_mm
    header["xyzt_units"] = 2
    header["scl_slope"], header["scl_inter"], header["cal_max"], header["descrip"] = 2, -1024, 300, b"Jane Doe"
    return bytes(header.binaryblock)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        *(scan_header(kind, end) for kind in (nib.Nifti1Header, nib.Nifti2Header) for end in "<>"),
    ],
)
def test_every_level_reads_as_its_share_of_one(header: bytes, tmp_path: Path) -> None:
    [path] = write_probabilities({"liver": EVERY_LEVEL}, tmp_path, GRID, header)
    assert path == tmp_path / "probabilities" / "liver.nii.gz"
    image = nib.load(path)
    assert image.get_data_dtype() == np.uint8
    assert (image.dataobj.get_unscaled() == EVERY_LEVEL).all()
    values = image.get_fdata()
    assert np.abs(values - EVERY_LEVEL / 255).max() < 1e-6
    assert values.min() == 0
    assert 1 - 1e-6 < values.max() <= 1, "nothing is more than certain"
    assert (np.asarray(image.dataobj) > 0.5).sum() == 128
    assert (image.affine == GRID.affine).all()
    assert (image.header["cal_min"], image.header["cal_max"]) == (0, 1)
    assert image.dataobj.inter == 0
    assert bytes(image.header["descrip"]).rstrip(b"\0") == b"voxicon"
    if header:
        assert image.header["sform_code"] == 2
        assert image.header["qform_code"] == 0


def test_same_maps_same_bytes_in_their_order(tmp_path: Path) -> None:
    maps = {"spleen": EVERY_LEVEL, "liver": np.asfortranarray(EVERY_LEVEL)}
    first, second = write_probabilities(maps, tmp_path, GRID)
    assert [first.name, second.name] == ["spleen.nii.gz", "liver.nii.gz"]
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[4:8] == bytes(4), "a packed file holds no time (RFC 1952, MTIME)"


def test_no_maps_no_folder(tmp_path: Path) -> None:
    assert write_probabilities({}, tmp_path, GRID) == []
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(BadGeometry, match=r"liver\.nii\.gz: array has shape \(2, 2, 2\), its grid \(4, 8, 8\)"):
        write_probabilities({"liver": EVERY_LEVEL[:2, :2, :2]}, tmp_path, GRID)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "probabilities").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot be written"):
        write_probabilities({"liver": EVERY_LEVEL}, tmp_path, GRID)
