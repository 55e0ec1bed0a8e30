"""A body as a map: one structure per voxel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry

OUTSIDE = 0
"""Value of what is not the patient: air around the body."""

TISSUES = {
    1000: "fat",
    1001: "muscle",
    1002: "skin",
    1003: "bone",
    1004: "soft_tissue",
    1005: "gas",
    1006: "vessel",
    1007: "table",
    1008: "metal",
    1009: "bowel_content",
    1010: "hepatic_vessel",
    1011: "lung_vessel",
    1012: "pulmonary_artery",
}
"""Values and names of what lies between the organs, on top of whatever names a map brings along."""


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Structures on a grid.

    Attributes:
        values: (X, Y, Z) int16, `OUTSIDE` or a key of `names`.
        names: Value → structure name, such as ``liver``, ``lung_upper_lobe_left`` or one of `TISSUES`.
        geometry: Where the voxels are.

    Raises:
        BadGeometry: Array and geometry disagree in shape.
    """

    values: NDArray[np.int16]
    names: Mapping[int, str]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.values.shape != self.geometry.shape:
            raise BadGeometry(
                f"label map of shape {self.values.shape} does not fit a grid of shape {self.geometry.shape}; "
                "pass the geometry that belongs to this array"
            )

    def mask(self, structures: Iterable[str]) -> NDArray[np.bool_]:
        """(X, Y, Z) bool: voxels of any of some structures; all False where the map has none of them."""
        table = np.zeros(max([OUTSIDE, *self.names]) + 1, dtype=bool)
        wanted = set(structures)
        table[[value for value, name in self.names.items() if name in wanted]] = True
        found: NDArray[Any] = table[self.values]
        return found

    def volumes_ml(self) -> dict[str, float]:
        """Structure → volume on the grid, for those that have voxels."""
        counts = np.bincount(self.values.ravel(), minlength=1)
        return {
            name: float(counts[value]) * self.geometry.voxel_ml
            for value, name in sorted(self.names.items())
            if value < len(counts) and counts[value]
        }
