"""Probability maps in a result folder: a byte per voxel on disk, 0 to 1 in every viewer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.io.nifti import write_shares

PROBABILITIES = "probabilities"
"""Folder of the maps inside a result folder."""


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
        write_shares(path, levels, geometry, source_header)
        paths.append(path)
    return paths
