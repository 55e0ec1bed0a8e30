"""Tiny CT series, whole or broken in one known way, and the check that a refusal is a good one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite

from tests.io.nifti_faults import phantom
from voxicon.core.geometry import Geometry
from voxicon.errors import InputError
from voxicon.io.dicom import read_series
from voxicon.io.dicom_write import series_slices

SHAPE = (16, 14, 12)
SPACING_MM = (0.8, 0.9, 2.0)
HU = phantom(SHAPE)
GRID = Geometry(SHAPE, np.array([[-0.8, 0, 0, 6], [0, -0.9, 0, 5], [0, 0, 2, -10], [0, 0, 0, 1.0]]))
"""Axial slices from z = -10 mm to 12 mm, stored as scanners do: columns toward the left, rows toward the back."""


def series(values: Any = HU, geometry: Geometry = GRID, **options: Any) -> list[Dataset]:
    """Slices by index along Z, to be changed before they are saved."""
    return series_slices(values, geometry, **options)


def save(folder: Path, slices: list[Dataset], names: list[str] | None = None) -> Path:
    """Write slices as 000.dcm, 001.dcm, ... by index along Z, or under other names."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, data in enumerate(slices):
        dcmwrite(folder / (names[k] if names else f"{k:03d}.dcm"), data, enforce_file_format=True)
    return folder


def move(data: Dataset, *shift_mm: float) -> None:
    """Move a slice by LPS millimetres."""
    data.ImagePositionPatient = [
        round(float(a) + b, 6) for a, b in zip(data.ImagePositionPatient, shift_mm, strict=True)
    ]


def refused(folder: Path, code: str, kind: type[InputError], read: Any = read_series, *args: Any) -> str:
    """Assert that a folder is refused with this code by one line that names it; returns the line."""
    with pytest.raises(kind) as caught:
        read(folder, *args)
    message = str(caught.value)
    assert caught.value.code == code
    assert type(caught.value) is kind
    assert message.startswith(folder.name)
    assert "expected" in message
    assert ";" in message
    assert str(folder.parent) not in message
    assert "EXAMPLE" not in message  # the patient's name
    return message
