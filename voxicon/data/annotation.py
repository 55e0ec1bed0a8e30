"""The labels of one case on its scan's grid, whatever files they came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.orientation import from_ras_order, to_ras_order
from voxicon.core.volume import Volume
from voxicon.data.card import DatasetCard
from voxicon.data.layout import Case
from voxicon.errors import BadGeometry, CardError
from voxicon.io.nifti import read_labels

NEAR_ENOUGH_VOXELS = 0.1
"""Labels whose header differs by less are laid on the scan's grid: public datasets round their headers."""

_MOST_VALUES = 1 << 16

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Annotation:
    """Raw structures of one case.

    Attributes:
        geometry: The scan's grid.
        raw: (X, Y, Z) raw label values for datasets with one label map, or
        masks: structure → what gives its mask (X, Y, Z) bool, read when asked for.
    """

    geometry: Geometry
    raw: NDArray[np.integer[Any]] | None = None
    masks: Mapping[str, Callable[[], Mask]] | None = None

    def mask(self, structures: Iterable[str], card: DatasetCard) -> Mask:
        """Voxels of any of some structures; empty where a structure has no file."""
        wanted = set(structures)
        if self.raw is not None:
            return _one_of(self.raw, [value for value, name in card.raw.items() if name in wanted])
        union = np.zeros(self.geometry.shape, dtype=bool)
        for name in wanted & set(self.masks or {}):
            union |= (self.masks or {})[name]()
        return union

    def values(self, card: DatasetCard) -> NDArray[np.integer[Any]]:
        """One raw value per voxel; where masks overlap the later structure of the card wins."""
        if self.raw is not None:
            return self.raw
        values = np.zeros(self.geometry.shape, dtype=np.int16)
        for value, name in card.raw.items():
            if name in (self.masks or {}):
                values[(self.masks or {})[name]()] = value
        return values


def _one_of(raw: NDArray[np.integer[Any]], values: list[int]) -> Mask:
    """Voxels that hold one of some values."""
    low, high = int(raw.min()), int(raw.max())
    if low < 0 or high > _MOST_VALUES:
        return np.isin(raw, values)
    # Many times faster than a search: one look into a table for each voxel.
    table = np.zeros(high + 1, dtype=bool)
    table[[value for value in values if 0 <= value <= high]] = True
    found: Mask = table[raw]
    return found


def read_annotation(case: Case, volume: Volume) -> Annotation:
    """The labels of a case on the grid of its scan.

    Raises:
        BadGeometry: Labels and scan lie on different grids.
        UnreadableFile: A file is damaged.
    """
    if case.label is not None and case.label.is_dir():
        return _pngs(case, volume.geometry)
    if case.label is not None:
        return Annotation(volume.geometry, raw=_placed(case.label, case.card, volume.geometry))
    masks = {name: _reader(files, case.card, volume.geometry) for name, files in case.masks.items()}
    return Annotation(volume.geometry, masks=masks)


def _pngs(case: Case, geometry: Geometry) -> Annotation:
    from voxicon.io.dicom import read_mask_pngs, slice_files

    if len(case.card.raw) != 1:
        raise CardError(f"{case.card.id}: PNG slices hold one structure, the card lists {len(case.card.raw)}")
    (value,) = case.card.raw
    mask = read_mask_pngs(case.label or Path(), slice_files(case.image), geometry)
    return Annotation(geometry, raw=mask.astype(np.int16) * value)


def _reader(files: tuple[Path, ...], card: DatasetCard, geometry: Geometry) -> Callable[[], Mask]:
    def read() -> Mask:
        union = np.zeros(geometry.shape, dtype=bool)
        for path in files:
            if path.is_dir():
                from voxicon.io.dicom import read_mask_series

                union |= read_mask_series(path, geometry)
            else:
                union |= _placed(path, card, geometry) != 0
        return union

    return read


def _placed(path: Path, card: DatasetCard, image: Geometry) -> NDArray[np.integer[Any]]:
    """A label map in the voxel order of its scan."""
    values, grid = read_labels(path)
    if card.label_axes not in ("header", "image"):
        values = _turned(values, card.label_axes, image)
    if values.shape == image.shape and (card.label_axes != "header" or _is_near(grid, image)):
        return values
    if card.label_axes == "header":
        # The same voxels written in another order are the same labels.
        turned, turned_grid = to_ras_order(values, grid)
        image_order = np.empty(image.shape, dtype=bool)
        _, image_grid = to_ras_order(image_order, image)
        if turned.shape == image_grid.shape and _is_near(turned_grid, image_grid):
            return np.ascontiguousarray(from_ras_order(turned, image))
    raise BadGeometry(
        f"{path}: the labels' grid {values.shape} at {_mm(grid)} mm, {grid.orientation}, is not the scan's "
        f"{image.shape} at {_mm(image)} mm, {image.orientation}; use the labels made for this scan, "
        f"or state label_axes in the card {card.id} if the labels' header is known to be wrong",
        code="E-GRID",
    )


def _turned(values: NDArray[np.integer[Any]], axes: str, image: Geometry) -> NDArray[np.integer[Any]]:
    """Values whose voxel axes run along `axes`, in the voxel order of the scan."""
    rows = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(axes):
        affine[rows[letter], axis] = 1 if letter in "RAS" else -1
    x, y, z = values.shape
    ras, _ = to_ras_order(values, Geometry((x, y, z), affine))
    return np.ascontiguousarray(from_ras_order(ras, image))


def _is_near(grid: Geometry, image: Geometry) -> bool:
    if grid.shape != image.shape:
        return False
    shift = float(np.abs(grid.corners_mm() - image.corners_mm()).max())
    return shift <= NEAR_ENOUGH_VOXELS * min(image.spacing_mm)


def _mm(grid: Geometry) -> tuple[float, ...]:
    return tuple(round(s, 3) for s in grid.spacing_mm)
