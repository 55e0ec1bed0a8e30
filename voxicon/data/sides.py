"""Right and left told apart where a dataset gives both one value: kidneys, lungs, adrenals, femoral heads.

Every voxel goes to exactly one side, whatever the grid's orientation. The order of the rules:

1. Large pieces (`SIZABLE_FRACTION` of the largest or more) go to the side of the middle on which their center
   lies. The middle is the body's mid-plane where it is given. Without it, pieces that form two groups beside
   each other decide by themselves: the middle is half way between the groups. Otherwise it is the middle of
   the grid, which is right for a whole scan of a centered patient and a guess for a cut-out.
2. Two groups of comparable size beside each other on the same side of the mid-plane are the right and the left
   organ: the farther right one is right. That two kidneys lie on one side by birth and that the mid-plane was
   misjudged look the same; both come out well. Pieces above each other are one organ in pieces.
3. A piece that reaches substantially over the middle while nothing lies beside it holds both organs. Where it
   has a neck (touching lungs, most horseshoe kidneys) each voxel goes to the lobe that is nearer *within the
   piece*, so the seam follows the bridge; without a neck the plane cuts.
4. Fragments go with the large piece they lie next to; far from any, to the side their center lies on.

A single organ that grew across the middle cannot be told from two that merged.
"""

from __future__ import annotations

from collections import deque
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from voxicon.core.components import SIZABLE_FRACTION, Components, Mask, components
from voxicon.core.geometry import Geometry
from voxicon.core.orientation import from_ras_order, to_ras_order
from voxicon.data.midline import body_midline_mm
from voxicon.errors import BadGeometry

__all__ = ["body_midline_mm", "split_sides"]

_CROSSING_SHARE = 0.15
"""Share of a piece beyond the middle from which it may hold both organs. Own choice: the heart pushes a lung less."""

_COMPARABLE = 1 / 3
"""Size ratio above which two groups on one side are two organs. Own choice: a shrunken kidney, not a severed tip."""

_NECK = 1.5
"""How many times thicker than the neck each lobe must be. Own choice: the wobble of an even band is less."""

_CELL_MM = 2.5
"""Lobes are looked for in cells of about this size: distance maps of whole lungs at full resolution take seconds."""

_NEXT_TO_MM = 10.0
"""A fragment this near to a large piece belongs to it. Own choice: less than lies between two kidneys."""

_DIGITS = 6
_EXACT_MM = 10.0**-_DIGITS
"""Places in mm are compared to this, so that rounding never lets the answer depend on the voxel order."""


def split_sides(mask: Mask, geometry: Geometry, midline_mm: float | None = None) -> tuple[Mask, Mask]:
    """The right and the left part of a mask that holds a paired organ.

    Args:
        mask: (X, Y, Z) bool on `geometry`.
        geometry: Any orientation, oblique or not. On sheared grids thickness is approximate.
        midline_mm: RAS x of the body's mid-plane, such as from `body_midline_mm`; None where only labels
            are known. See the head of this file for what is done then.

    Returns:
        Right and left, two fresh arrays like `mask`: disjoint, and together exactly the mask. Both are empty
        for an empty mask, one of them where there is one organ.

    Raises:
        BadGeometry: Mask and geometry disagree in shape.
    """
    if mask.shape != geometry.shape:
        raise BadGeometry(
            f"mask of shape {mask.shape} does not fit a grid of shape {geometry.shape}; "
            "pass the geometry that belongs to this mask"
        )
    turned, whole = to_ras_order(mask, geometry)
    right = np.zeros(turned.shape, dtype=bool)
    found = ndimage.find_objects(turned.view(np.uint8))
    if found:
        box = _widened(found[0], turned.shape)
        center_mm = float(_x_mm((np.array(whole.shape) - 1) / 2, whole))
        right[box] = _right_part(np.ascontiguousarray(turned[box]), _cut_out(whole, box), midline_mm, center_mm)
    right = np.ascontiguousarray(from_ras_order(right, geometry))
    return right, mask & ~right


# --- sides -----------------------------------------------------------------------------------------------------


def _right_part(mask: Mask, grid: Geometry, midline_mm: float | None, center_mm: float) -> Mask:
    """The right part of a non-empty mask in RAS order; `center_mm` is x of the middle of the whole scan."""
    parts = components(mask)
    x_mm = _x_mm(parts.centers, grid)
    groups = _two_groups(parts, x_mm)
    middle_mm, is_decided = _middle(parts, x_mm, groups, midline_mm, center_mm)
    is_right = x_mm >= middle_mm - _EXACT_MM
    large = _sizable(parts)
    right: Mask = (is_right & large)[parts.labels]
    for number in map(int, np.flatnonzero(large) if not is_decided else ()):
        box = _widened(parts.boxes[number], mask.shape)
        part, part_grid = parts.labels[box] == number, _cut_out(grid, box)
        beyond = _is_right(part_grid, middle_mm)
        share = np.count_nonzero(part & beyond) / parts.sizes[number]
        if _CROSSING_SHARE < share < 1 - _CROSSING_SHARE:
            right[box] = (right[box] & ~part) | _divide(part, part_grid, middle_mm)
    small = ~large
    small[0] = False
    if small.any():
        left = large[parts.labels] & ~right
        numbers = np.flatnonzero(small)
        centers_mm = grid.to_world(parts.centers[numbers])
        to_right, to_left = (_distances_mm(centers_mm, side, grid) for side in (right, left))
        goes_right = np.zeros(len(small), dtype=bool)
        goes_right[numbers] = np.where(to_right == to_left, is_right[numbers], to_right < to_left)
        right |= goes_right[parts.labels]
    return right


def _middle(
    parts: Components,
    x_mm: NDArray[np.float64],
    groups: tuple[NDArray[np.intp], NDArray[np.intp]] | None,
    midline_mm: float | None,
    center_mm: float,
) -> tuple[float, bool]:
    """RAS x that parts right from left, and whether every large piece is known to be one organ or a part of one."""
    if groups is None:
        return (center_mm if midline_mm is None else midline_mm), False
    right_mm, left_mm = (float(np.average(x_mm[g], weights=parts.sizes[g])) for g in groups)
    if midline_mm is None:
        return (right_mm + left_mm) / 2, True
    if left_mm < midline_mm <= right_mm:
        return midline_mm, True
    smaller, larger = sorted(int(parts.sizes[g].sum()) for g in groups)
    if smaller >= _COMPARABLE * larger:
        return (right_mm + left_mm) / 2, True
    return midline_mm, False


def _two_groups(parts: Components, x_mm: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Numbers of the large pieces right and left, or None where they do not form two groups beside each other.

    They are parted where the variance between the groups is largest. Source: N. Otsu, IEEE Trans. SMC 9 (1979) 62.
    """
    numbers = np.flatnonzero(_sizable(parts))
    if len(numbers) < 2:
        return None
    numbers = numbers[np.argsort(x_mm[numbers], kind="stable")]
    sizes, moments = parts.sizes[numbers], parts.sizes[numbers] * x_mm[numbers]
    below, above = np.cumsum(sizes)[:-1], sizes.sum() - np.cumsum(sizes)[:-1]
    mean_below, mean_above = np.cumsum(moments)[:-1] / below, (moments.sum() - np.cumsum(moments)[:-1]) / above
    cut = int(np.argmax(below * above * (mean_above - mean_below) ** 2)) + 1
    left, right = numbers[:cut], numbers[cut:]
    (start, stop), (other_start, other_stop) = (
        (min(parts.boxes[n][0].start for n in group), max(parts.boxes[n][0].stop for n in group))
        for group in (left, right)
    )
    overlap = min(stop, other_stop) - max(start, other_start)
    if overlap > min(stop - start, other_stop - other_start) / 2:
        return None
    return right, left


def _sizable(parts: Components) -> NDArray[np.bool_]:
    large: NDArray[np.bool_] = (parts.sizes > 0) & (parts.sizes >= SIZABLE_FRACTION * parts.sizes.max())
    return large


def _is_right(grid: Geometry, middle_mm: float) -> Mask:
    """Voxels right of, or on, a plane; a read-only view."""
    x_mm = np.full((1, 1, 1), grid.affine[0, 3])
    for axis in range(3):
        # An axis along which x hardly changes is left out: on an aligned grid one column stands for all.
        if abs(grid.affine[0, axis]) * grid.shape[axis] > _EXACT_MM:
            index = np.arange(grid.shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
            x_mm = x_mm + grid.affine[0, axis] * index
    return np.broadcast_to(x_mm >= middle_mm - _EXACT_MM, grid.shape)


def _distances_mm(points_mm: NDArray[np.float64], mask: Mask, grid: Geometry) -> NDArray[np.float64]:
    """Distance of points to a mask, to about `_CELL_MM`; infinite beyond `_NEXT_TO_MM` and for an empty mask."""
    steps = _steps(grid)
    cells = np.argwhere(_cells(mask, steps).any(axis=(1, 3, 5)))
    if len(cells) == 0:
        return np.full(len(points_mm), np.inf)
    tree = KDTree(grid.to_world(_cell_centers(cells, steps)))
    distances_mm: NDArray[np.float64] = np.round(tree.query(points_mm, distance_upper_bound=_NEXT_TO_MM)[0], _DIGITS)
    return distances_mm


# --- one piece that holds both organs --------------------------------------------------------------------------


def _divide(part: Mask, grid: Geometry, middle_mm: float) -> Mask:
    """The right part of one connected piece: along its neck, or along the plane where it has none."""
    beyond = _is_right(grid, middle_mm)
    lobes = _lobes(part, grid, middle_mm)
    return part & beyond if lobes is None else _nearest_within(part, *lobes, beyond, grid)


def _lobes(part: Mask, grid: Geometry, middle_mm: float) -> tuple[Mask, Mask] | None:
    """The inner parts of the right and the left lobe of a piece with a neck near the middle, or None.

    The piece is eroded until it falls into two groups beside each other, on either side of the middle.
    """
    steps = _steps(grid)
    solid = _cells(part, steps).all(axis=(1, 3, 5))
    if solid.all():
        return None  # nothing is outside, so nothing has a depth
    cell_mm = np.array(grid.spacing_mm) * steps
    depth_mm = ndimage.distance_transform_edt(solid, sampling=cell_mm)
    for neck_mm in np.arange(0, depth_mm.max() / _NECK, cell_mm.min()):
        cores = components(depth_mm > neck_mm)
        x_mm = _x_mm(_cell_centers(cores.centers, steps), grid)
        groups = _two_groups(cores, x_mm)
        if groups is None:
            continue
        right_mm, left_mm = (float(np.average(x_mm[g], weights=cores.sizes[g])) for g in groups)
        right, left = (cores.pick(group) for group in groups)
        is_thick = min(depth_mm[right].max(), depth_mm[left].max()) >= _NECK * neck_mm
        if is_thick and left_mm < middle_mm <= right_mm:
            return _full_size(right, steps, part), _full_size(left, steps, part)
    return None


def _nearest_within(part: Mask, right: Mask, left: Mask, beyond: Mask, grid: Geometry) -> Mask:
    """Voxels of a piece that are nearer to `right` than to `left` on ways that stay inside the piece.

    Both grow at one pace, voxel by voxel, each step taking its length in mm as time (Dial's form of Dijkstra's
    algorithm). Where both arrive at once, `beyond` says which voxels are right.
    """
    taken_right, taken_left, closed = np.uint8(1), np.uint8(2), np.uint8(4)
    state = np.pad(np.where(part, np.uint8(0), closed), 1, constant_values=closed)
    inner = (slice(1, -1),) * 3
    state[inner][right], state[inner][left] = closed | taken_right, closed | taken_left
    padded_shape = state.shape
    tie = np.pad(beyond, 1).ravel()
    state = state.ravel()
    offsets, ticks = _neighbors(padded_shape, grid)
    # waves[-n] is what each side reached n ticks ago.
    waves: deque[dict[np.uint8, NDArray[np.intp]]] = deque(maxlen=int(ticks.max()))
    waves.append({side: np.flatnonzero(state == (closed | side)) for side in (taken_right, taken_left)})
    while any(len(wave) for both in waves for wave in both.values()):
        reached = {}
        for side in (taken_right, taken_left):
            found = [np.empty(0, dtype=np.intp)]
            for offset, tick in zip(offsets, ticks, strict=True):
                if tick <= len(waves):
                    near = waves[-tick][side] + offset
                    near = near[state[near] & (closed | side) == 0]
                    state[near] |= side
                    found.append(near)
            reached[side] = np.concatenate(found)
        for side, wins in ((taken_right, tie), (taken_left, ~tie)):
            arrived = reached[side]
            reached[side] = arrived[(state[arrived] != (taken_right | taken_left)) | wins[arrived]]
        for side, arrived in reached.items():
            state[arrived] = closed | side
        waves.append(reached)
    grown: Mask = (state == (closed | taken_right)).reshape(padded_shape)[inner]
    return grown


def _neighbors(shape: tuple[int, ...], grid: Geometry) -> tuple[list[int], NDArray[np.int64]]:
    """The 26 neighbors as offsets into a flat array of a shape, and their distances in half voxels."""
    steps = np.array([step for step in product((-1, 0, 1), repeat=3) if any(step)])
    length_mm = np.linalg.norm(steps @ grid.affine[:3, :3].T, axis=1)
    ticks = np.maximum(1, np.round(2 * length_mm / min(grid.spacing_mm))).astype(np.int64)
    strides = (shape[1] * shape[2], shape[2], 1)
    return [int(offset) for offset in steps @ strides], ticks


# --- boxes and cells -------------------------------------------------------------------------------------------


def _widened(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """A box with one voxel around it, unless the scan ends there: an organ cut off by the scan is not thin there."""
    x, y, z = (slice(max(cut.start - 1, 0), min(cut.stop + 1, n)) for cut, n in zip(box, shape, strict=True))
    return x, y, z


def _cut_out(grid: Geometry, box: tuple[slice, slice, slice]) -> Geometry:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world([cut.start for cut in box])
    x, y, z = (cut.stop - cut.start for cut in box)
    return Geometry((x, y, z), affine)


def _steps(grid: Geometry) -> NDArray[np.int64]:
    """Voxels per cell along each axis."""
    return np.maximum(1, np.floor(_CELL_MM / np.array(grid.spacing_mm))).astype(np.int64)


def _cells(mask: Mask, steps: NDArray[np.int64]) -> Mask:
    """(cells, steps) for each axis in turn, six axes; a cell that the grid cuts off is filled up from its edge."""
    filled = np.pad(mask, [(0, int(-n % s)) for n, s in zip(mask.shape, steps, strict=True)], mode="edge")
    return filled.reshape([n for pair in zip(filled.shape // steps, steps, strict=True) for n in pair])


def _cell_centers(cells: NDArray[np.floating[Any] | np.integer[Any]], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Voxel indices of the centers of cells, (..., 3)."""
    centers: NDArray[np.float64] = (np.asarray(cells, dtype=np.float64) + 0.5) * steps - 0.5
    return centers


def _x_mm(index: NDArray[np.float64], grid: Geometry) -> NDArray[np.float64]:
    return np.round(grid.to_world(index)[..., 0], _DIGITS)


def _full_size(cells: Mask, steps: NDArray[np.int64], like: Mask) -> Mask:
    for axis in range(3):
        cells = np.repeat(cells, steps[axis], axis=axis)
    x, y, z = like.shape
    return cells[:x, :y, :z]
