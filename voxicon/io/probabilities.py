"""Probability maps in a result folder: a byte per voxel on disk, 0 to 1 in every viewer."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry
from voxicon.io.atomic import open_atomic
from voxicon.io.nifti import _blocks, _describe, _header_for, _occupied

PROBABILITIES = "probabilities"
"""Folder of the maps inside a result folder."""

SLOPE = float(np.nextafter(np.float32(1 / 255), np.float32(0)))
"""``scl_slope``: 1/255 rounded down, because the nearest float32 lies above and would make 255 more than 1."""

_GZIP_LEVEL = 1
_EXTENSION_FLAG = bytes(4)
"""What follows a NIfTI header that has no extension (nifti1.h)."""


def write_probabilities(
    maps: Mapping[str, NDArray[np.uint8]], folder: Path, geometry: Geometry, source_header: bytes = b""
) -> list[Path]:
    """Write ``probabilities/<name>.nii.gz`` for every class, placed exactly like the scan.

    Args:
        maps: By class, (X, Y, Z) uint8: 255 times a probability. Stored as they are, with the scale in the header.
        folder: The result folder; made if missing.
        geometry: The scan's grid.
        source_header: `Source.header` of the scan; used as `voxicon.io.nifti.write_mask` does.

    Returns:
        The files in the order of `maps`; empty when there are none. Equal input gives equal bytes.

    Raises:
        BadGeometry: A map differs from the grid in shape; maps before it stay.
        OutputError: A file cannot be written; maps before it stay.
    """
    paths = []
    for name, levels in maps.items():
        path = folder / PROBABILITIES / f"{name}.nii.gz"
        if levels.shape != geometry.shape:
            raise BadGeometry(
                f"{path.name}: array has shape {levels.shape}, its grid {geometry.shape}; expected the same; "
                "give the geometry that belongs to the array"
            )
        header = _header_for(geometry, source_header)
        _describe(header, geometry.shape, levels.dtype, intent_code=0, tail_bytes=len(_EXTENSION_FLAG))
        header["scl_slope"], header["cal_max"] = SLOPE, 1
        with open_atomic(path) as file, gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
            packed.write(header.binaryblock + _EXTENSION_FLAG)
            box = _occupied(levels)
            for block in _blocks(levels[box], box, geometry.shape, levels.dtype):
                packed.write(block)
        paths.append(path)
    return paths
