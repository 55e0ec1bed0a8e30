"""Two lungs told apart without losing either.

The right and the left lung are two classes, and a network mixes them up: it claims voxels for both, or
calls a lobe of one lung by the name of the other. The rule here moves voxels between the two and drops
crumbs; it never empties a lung, whether there are two, one, or two that touch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.components import SIZABLE_FRACTION, Components, Mask, components, joint_box, sizable
from voxicon.core.geometry import Geometry

_NEAR_MM = 10.0
"""First guess how far a voxel claimed by both lungs lies from one of them; doubled until it holds."""


def separate_lungs(right: Mask, left: Mask, geometry: Geometry) -> tuple[Mask, Mask]:
    """Both lungs, disjoint where they can be told apart.

    1. Voxels claimed by both go to the lung whose own voxels are nearer. Where most are claimed by both, the
       two largest pieces side by side are taken as the lungs; a lung that has next to no voxels of its own
       keeps its claim; two claims that are the same single piece stay as they are.
    2. A piece that lies on the other lung's side of the mid-line and touches the other lung changes its name.
    3. Pieces below `SIZABLE_FRACTION` of the lung's largest are removed.

    Args:
        right: (X, Y, Z) bool on a grid whose directions are those of `geometry`; may be empty.
        left: Same shape; may be empty.
        geometry: Only directions and spacing are used, so the masks may be a box cut out of it.

    Returns:
        Right and left; a lung is empty only if it came in empty. No voxel is set that neither had.
    """
    if not (right.any() and left.any()):
        return sizable(right), sizable(left)
    both = right & left
    if both.any():
        shared = _share(right, left, both, geometry)
        if shared is None:
            return right, left
        right, left = shared
    right, left = _rename_strays(right, left, geometry)
    return sizable(right), sizable(left)


def _share(right: Mask, left: Mask, both: Mask, geometry: Geometry) -> tuple[Mask, Mask] | None:
    """Two disjoint lungs from two that overlap, or None where nothing tells them apart."""
    n_both, n_right, n_left = (int(np.count_nonzero(mask)) for mask in (both, right, left))
    if n_both > max(n_right, n_left) / 2:
        sides = _two_sides(right | left, geometry)
        if sides is not None:
            return _by_distance(right | left, *sides, geometry)
    right_is_clear = n_right - n_both >= SIZABLE_FRACTION * n_right
    left_is_clear = n_left - n_both >= SIZABLE_FRACTION * n_left
    if right_is_clear and left_is_clear:
        return _by_distance(right | left, right & ~both, left & ~both, geometry)
    if left_is_clear:
        return right, left & ~both
    if right_is_clear:
        return right & ~both, left
    return None


def _two_sides(lungs: Mask, geometry: Geometry) -> tuple[Mask, Mask] | None:
    """The right and the left of two large pieces that lie beside, not above, each other; or None."""
    parts = components(lungs)
    pair = parts.ranked(2)
    if len(pair) < 2 or parts.sizes[pair[1]] < SIZABLE_FRACTION * parts.sizes[pair[0]]:
        return None
    axis = geometry.axis_order[0][0]
    first, second = (parts.boxes[n][axis] for n in pair)
    overlap = min(first.stop, second.stop) - max(first.start, second.start)
    if overlap > min(first.stop - first.start, second.stop - second.start) / 2:
        return None
    x = _toward_right(parts, geometry)
    right, left = pair if x[pair[0]] > x[pair[1]] else pair[::-1]
    return parts.pick([right]), parts.pick([left])


def _by_distance(lungs: Mask, right: Mask, left: Mask, geometry: Geometry) -> tuple[Mask, Mask]:
    """Every voxel of the lungs given to the nearer of two disjoint, non-empty parts; ties go to the right."""
    open_question = lungs & ~right & ~left
    if not open_question.any():
        return right, left
    filled = components(open_question)
    boxes = filled.boxes[1:]
    near_mm = _NEAR_MM
    # A distance map costs about 0.2 µs a voxel: one of both whole lungs would take seconds.
    while True:
        margin = [int(np.ceil(near_mm / step)) for step in geometry.spacing_mm]
        box = joint_box(boxes, margin, lungs.shape)
        to_right, to_left = (_distance_mm(part[box], geometry) for part in (right, left))
        asked = open_question[box]
        is_whole = all(cut == slice(0, n) for cut, n in zip(box, lungs.shape, strict=True))
        if is_whole or np.minimum(to_right, to_left)[asked].max() <= near_mm:
            break
        near_mm *= 2
    right, left = right.copy(), left.copy()
    right[box] |= asked & (to_right <= to_left)
    left[box] |= asked & (to_right > to_left)
    return right, left


def _distance_mm(part: Mask, geometry: Geometry) -> NDArray[np.float64]:
    """Distance of every voxel to the nearest voxel of a part; infinite where the part is empty."""
    if not part.any():
        return np.full(part.shape, np.inf)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~part, sampling=geometry.spacing_mm)
    return distance


def _rename_strays(right: Mask, left: Mask, geometry: Geometry) -> tuple[Mask, Mask]:
    """Pieces that lie in the other lung's half and touch its largest piece get its name.

    Ends because every round merges at least one piece into a largest one, and those never move.
    """
    while True:
        rights, lefts = components(right), components(left)
        main_right, main_left = rights.ranked(1)[0], lefts.ranked(1)[0]
        x_right, x_left = _toward_right(rights, geometry), _toward_right(lefts, geometry)
        middle = (x_right[main_right] + x_left[main_left]) / 2
        if x_right[main_right] <= middle:
            return right, left  # no side is the right one: lungs on top of each other, or a mirrored scan
        to_left = _touching(rights, lefts.pick([main_left])) & (x_right < middle)
        to_right = _touching(lefts, rights.pick([main_right])) & (x_left > middle)
        if not (to_left.any() or to_right.any()):
            return right, left
        moving_left, moving_right = to_left[rights.labels], to_right[lefts.labels]
        right, left = (right & ~moving_left) | moving_right, (left & ~moving_right) | moving_left


def _touching(parts: Components, other: Mask) -> NDArray[np.bool_]:
    """(n + 1,) true for pieces that touch another mask; false for 0, which is no piece."""
    grown = ndimage.maximum_filter(other.view(np.uint8), size=3, mode="constant").view(bool)
    touches = np.zeros(len(parts.sizes), dtype=bool)
    touches[np.unique(parts.labels[grown])] = True
    touches[0] = False
    return touches


def _toward_right(parts: Components, geometry: Geometry) -> NDArray[np.float64]:
    """Center of each piece along the patient's left-right axis, in voxels, growing to the right."""
    axis, backwards = geometry.axis_order[0]
    x: NDArray[np.float64] = parts.centers[:, axis]
    return -x if backwards else x
