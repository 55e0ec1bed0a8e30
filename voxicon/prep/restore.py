"""Masks and probabilities from the model grid back to the scan's own grid; masks smooth and without losing volume.

Copying the nearest model voxel would draw staircases on a finer scan. Instead each class's mask is
interpolated linearly in its own box and cut at the level that keeps its volume: at the usual level of
one half, thin things such as adrenal glands would shrink, because interpolation rounds their edges.
On an identical grid this is the identity. Probabilities are interpolated alike and not cut.

To compare with the original system there is its own way too: the nearest model voxel, staircases and all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.orientation import from_ras_order, to_ras_order
from voxicon.core.storage import pieces, zeros
from voxicon.core.volume import Source
from voxicon.prep.resample import (
    apply_matrices,
    axis_positions,
    interpolation_matrix,
    sample_values,
)

LOWEST_LEVEL, HIGHEST_LEVEL = 0.2, 0.6
"""The cut never leaves this range, so that a mask cannot spread into voxels that hardly touch it."""

_SLAB_VOXELS = 1 << 24
"""Voxels of the scan's grid restored at once: 64 MB of float32."""

_ANY = np.zeros((1, 1, 1), dtype=np.uint8)

_Box = tuple[slice, slice, slice]

_Field = tuple[NDArray[np.float32], _Box]
"""Interpolated values, and where they lie in the scan."""

_NOTHING = (np.zeros((0, 0, 0), dtype=np.float32), (slice(0, 0), slice(0, 0), slice(0, 0)))


def restore_masks(masks: MaskSet, source: Geometry, origin: Source) -> MaskSet:
    """Masks of a RAS-aligned model grid on a scan's grid.

    Args:
        masks: On the model grid.
        source: The scan's grid, in any orientation, oblique or sheared.
        origin: Put on the result.

    Returns:
        Same classes; `geometry` is `source` itself. Voxels more than half a model voxel outside the
        model grid are empty.
    """
    restored = MaskSet.empty(masks.names, source, origin, file_order=True)
    for name, box in masks.bounds().items():
        word, bit = divmod(masks.names.index(name), 32)
        rimmed = _rimmed(box, masks.geometry)
        padded = ((masks.words[word][rimmed] >> np.uint32(bit)) & np.uint32(1)).astype(np.float32)
        grid = crop_geometry(masks.geometry, rimmed)
        fields = _Fields(padded, grid, source)
        level = _level(fields, np.count_nonzero(padded) * grid.voxel_ml / source.voxel_ml)
        for field, at in fields:
            target = restored.words[word][at]
            for piece in pieces(target):
                part = target[piece]
                np.bitwise_or(part, np.uint32(1 << bit), out=part, where=field[piece] > level)
    return restored


def nearest_masks(masks: MaskSet, source: Geometry, origin: Source) -> MaskSet:
    """Masks of a model grid on a scan's grid, every voxel copied from the nearest one, as the original system does it.

    Args:
        masks: On the model grid.
        source: The scan's grid, in any orientation, oblique or sheared.
        origin: Put on the result.

    Returns:
        Same classes; `geometry` is `source` itself. Voxels whose center lies outside the model grid are empty.
    """
    restored = MaskSet.empty(masks.names, source, origin, file_order=True)
    # A word is copied whole, all of its 32 classes at once; in double precision its bits survive.
    for words, target in zip(masks.words, restored.words, strict=True):
        for box in pieces(target):
            between = np.linalg.solve(masks.geometry.affine, crop_geometry(source, box).affine)
            target[box] = ndimage.affine_transform(
                words, between[:3, :3], between[:3, 3], output_shape=target[box].shape, order=0,
                mode="grid-constant", cval=0,
            )  # fmt: skip
    return restored


def restore_probabilities(levels: NDArray[np.uint8], model: Geometry, source: Geometry) -> NDArray[np.uint8]:
    """Probabilities of a RAS-aligned model grid on a scan's grid, by linear interpolation.

    Args:
        levels: (X, Y, Z) uint8 on `model`: 255 times a probability, rounded.
        model: The model grid.
        source: The scan's grid, in any orientation, oblique or sheared.

    Returns:
        (X, Y, Z) uint8 on `source`, rounded again, so within one level of the interpolated probability; 0 outside the
        model grid, where an aligned scan keeps the border's value for half a model voxel and an oblique one fades
        within a voxel.
    """
    restored: NDArray[np.uint8] = zeros(source.shape, np.uint8, order="F")
    ends = [np.flatnonzero(levels.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    if not len(ends[0]):
        return restored
    x, y, z = (slice(int(e[0]), int(e[-1]) + 1) for e in ends)
    rimmed = _rimmed((x, y, z), model)
    values, grid = levels[rimmed].astype(np.float32), crop_geometry(model, rimmed)
    for field, at in _Fields(values, grid, source):
        target = restored[at]
        for piece in pieces(target):
            target[piece] = np.rint(field[piece])
    return restored


def crop_geometry(geometry: Geometry, box: _Box) -> Geometry:
    """The grid of ``array[box]``; slices have start and stop, no step."""
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.to_world([s.start for s in box])
    x, y, z = (s.stop - s.start for s in box)
    return Geometry((x, y, z), affine)


def _rimmed(box: _Box, grid: Geometry) -> _Box:
    """A box and a rim of one voxel, which is zero, wherever the grid goes on beyond the box.

    At the grid's own border there is no rim: what lies beyond was never looked at, so a mask that
    reaches the border is taken to reach the edge of the last voxel.
    """
    x, y, z = (slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(box, grid.shape, strict=True))
    return x, y, z


class _Fields:
    """Values of a grid interpolated on the part of a scan that they can reach, slab after slab, as often as asked for.

    What fits into one slab, as most organs do, is computed once and kept.
    """

    def __init__(self, values: NDArray[np.float32], grid: Geometry, source: Geometry) -> None:
        self.values, self.grid, self.source = values, grid, source
        self.slabs = list(_slabs(_reach(grid, source)))
        self.kept = [self._of(slab) for slab in self.slabs] if len(self.slabs) == 1 else None

    def __iter__(self) -> Iterator[_Field]:
        return iter(self.kept) if self.kept is not None else map(self._of, self.slabs)

    def _of(self, slab: _Box) -> _Field:
        interpolate = _aligned_field if self.source.is_aligned else _oblique_field
        field, at = interpolate(self.values, self.grid, crop_geometry(self.source, slab))
        x, y, z = (slice(cut.start + part.start, cut.start + part.stop) for cut, part in zip(slab, at, strict=True))
        return field, (x, y, z)


def _slabs(box: _Box) -> Iterator[_Box]:
    """Parts of a box of a scan, along its last axis, slowest in a file; none of an empty one."""
    x, y, along = box
    area = (x.stop - x.start) * (y.stop - y.start)
    depth = max(1, _SLAB_VOXELS // max(1, area))
    for first in range(along.start, along.stop, depth) if area else ():
        yield x, y, slice(first, min(along.stop, first + depth))


def _reach(grid: Geometry, source: Geometry) -> _Box:
    """The box of a scan that lies less than half a voxel beyond a grid, a little widened by rounding."""
    corners = np.array([[-0.5, n - 0.5] for n in grid.shape])
    points = grid.to_world(np.array(np.meshgrid(*corners, indexing="ij")).reshape(3, -1).T)
    index = source.to_index(points)
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, source.shape)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, 0, source.shape)
    x, y, z = (slice(int(a), max(int(a), int(b))) for a, b in zip(low, high, strict=True))
    return x, y, z


def _aligned_field(values: NDArray[np.float32], grid: Geometry, source: Geometry) -> _Field:
    """Values interpolated on the part of an aligned scan that they can reach, in the scan's voxel order."""
    _, ras = to_ras_order(np.broadcast_to(_ANY, source.shape), source)
    matrices, starts, stops = [], [], []
    for axis, positions in enumerate(axis_positions(grid, ras)):
        reach = np.flatnonzero((positions > -0.5 - 1e-6) & (positions < grid.shape[axis] - 0.5 + 1e-6))
        if not len(reach):
            return _NOTHING  # thinner than the scan's slices, and between two of them
        starts.append(int(reach[0]))
        stops.append(int(reach[-1]) + 1)
        matrices.append(interpolation_matrix(grid.shape[axis], positions[reach]))
    # Turned round, so that the first axis runs fastest: as it does in the words of a scan, and in its files.
    field = apply_matrices(values.T, (matrices[2], matrices[1], matrices[0])).T
    at: list[slice] = [slice(0)] * 3
    for world, (axis, backwards) in enumerate(source.axis_order):
        n = source.shape[axis]
        first, last = (n - stops[world], n - starts[world]) if backwards else (starts[world], stops[world])
        at[axis] = slice(first, last)
    return from_ras_order(field, source), (at[0], at[1], at[2])


def _oblique_field(values: NDArray[np.float32], grid: Geometry, source: Geometry) -> _Field:
    """The same for an oblique or sheared scan."""
    x, y, z = box = _reach(grid, source)
    if min(s.stop - s.start for s in (x, y, z)) == 0:
        return _NOTHING
    return sample_values(values, grid, crop_geometry(source, box), outside=0.0), box


def _level(fields: Iterable[_Field], voxels: float) -> float:
    """The cut of an interpolated mask that leaves about that many voxels, as far as it may go."""
    n_above, between = 0, []
    for field, _ in fields:
        values = field.ravel(order="K")  # their order does not matter, and asking for one would copy them
        n_above += int(np.count_nonzero(values > HIGHEST_LEVEL))
        between.append(values[(values > LOWEST_LEVEL) & (values <= HIGHEST_LEVEL)])
    keep = round(voxels)
    candidates = np.concatenate(between) if between else np.zeros(0, dtype=np.float32)
    if keep <= 0 or keep > n_above + candidates.size:
        return LOWEST_LEVEL
    if keep <= n_above:
        return HIGHEST_LEVEL
    place = candidates.size - (keep - n_above)
    # Just below the value found, so that the voxel that holds it stays in.
    return max(LOWEST_LEVEL, float(np.partition(candidates, place)[place]) - 1e-6)
