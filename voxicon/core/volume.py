"""A CT in Hounsfield units on its grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry

AIR_HU = -1024.0
"""What lies outside any scan. Source: the lower end of 12-bit CT storage, DICOM PS3.3 C.8.2.1."""


@dataclass(frozen=True)
class Source:
    """Where a volume came from, carried along so that results can be written on its exact grid.

    Attributes:
        name: Case name: the file name without its extensions.
        path: The file read, or an empty string for a volume made in memory.
        sha256: Hash of the file's bytes, or an empty string.
        header: The file's own header bytes, opaque to everything but the format's reader and writer.
        warnings: One line each: what was odd about the file and what was done about it.
    """

    name: str
    path: str = ""
    sha256: str = ""
    header: bytes = field(default=b"", repr=False)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT: Hounsfield units on a grid.

    Attributes:
        hu: (X, Y, Z) float32, in voxel order of `geometry`. Not copied; treat as read-only.
        geometry: Where the voxels are.
        source: Where the values came from.

    Raises:
        BadGeometry: Array and geometry disagree in shape.
    """

    hu: NDArray[np.floating[Any] | np.integer[Any]]
    geometry: Geometry
    source: Source = Source(name="volume")

    def __post_init__(self) -> None:
        if self.hu.shape != self.geometry.shape:
            raise BadGeometry(
                f"array of shape {self.hu.shape} does not fit a grid of shape {self.geometry.shape}; "
                "pass the geometry that belongs to this array"
            )
