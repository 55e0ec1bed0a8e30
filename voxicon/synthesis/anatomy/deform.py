"""Another patient's anatomy: one smooth, invertible map that carries a label map and its CT along.

All changes of shape are velocities, added up into one stationary field and followed for one unit of time. A flow never
folds and never tears, so organs push their neighbors instead of growing into them, and what is one piece stays one.
Where the patient is cut by the edge of the scan, the flow runs along that edge, which stays flat.

Source: Arsigny et al., MICCAI 2006 (exponentials of velocity fields by scaling and squaring).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.components import CONNECTIVITY, SIZABLE_FRACTION
from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry
from voxicon.synthesis.anatomy.flow import Floats, Frame, coarse_frame, draw_velocity
from voxicon.synthesis.label_map import OUTSIDE, LabelMap

AIR_HU = -1024.0

LARGEST_SCALE = 1.25
"""Size of a body in terms of the source, at most; its inverse at least. Source: heights of 1.45 to 2.0 m."""

_AXIS_SPREAD = 0.06
"""Standard deviation of the logarithm of the size along each axis, on top of the common one."""

_SKIN_MM = 2.0

_SQUARINGS = 6
_TIGHTEST = 0.25
"""No place shrinks to less than this share of its volume or grows to more than its inverse; a wilder flow is calmed."""


@dataclass(frozen=True, eq=False)
class Warp:
    """A map from the grid of a new body back to the grid it is made from.

    Attributes:
        geometry: Grid of the new body.
        source_index: (3, X, Y, Z) float32, fractional voxel index in the source of each voxel of the new body.
    """

    geometry: Geometry
    source_index: Floats

    def volume_ratios(self) -> Floats:
        """(X-1, Y-1, Z-1) source volume per new volume between neighboring voxels: above 0 where nothing folds."""
        steps = [np.diff(self.source_index, axis=axis + 1)[:, : n[0], : n[1], : n[2]] for axis, n in self._cells()]
        a, b, c = steps
        ratios: Floats = (np.cross(a, b, axis=0) * c).sum(axis=0)
        return ratios

    def _cells(self) -> list[tuple[int, tuple[int, int, int]]]:
        x, y, z = (n - 1 for n in self.geometry.shape)
        return [(axis, (x, y, z)) for axis in range(3)]


def deform(
    label_map: LabelMap, hu: NDArray[np.float32] | None, rng: np.random.Generator, strength: float = 1.0
) -> tuple[LabelMap, NDArray[np.float32] | None]:
    """Another patient: size, build, fat, breath, and the size and place of every organ differ.

    Args:
        label_map: The source, RAS-aligned. Works best on a complete one: fat is told from `fat` and `skin`.
        hu: (X, Y, Z) the CT of the source, carried along by the same map.
        rng: The same state makes the same patient.
        strength: 0 gives the source back; 1 covers most adults; more is a stranger body, never a torn one.

    Returns:
        Labels by nearest look-up and HU by linear interpolation, on a grid of the same spacing that holds the new
        body. Left stays left, and structures in one piece stay so.

    Raises:
        BadGeometry: The label map is not in RAS order, or `hu` has another shape.
    """
    if hu is not None and hu.shape != label_map.values.shape:
        raise BadGeometry(
            f"CT of shape {hu.shape} for a label map of shape {label_map.values.shape}; pass both on one grid"
        )
    if strength == 0:
        return label_map, hu
    warp = draw_warp(label_map, rng, strength)
    nearest = np.rint(warp.source_index).astype(np.int32)
    limits = np.array(label_map.values.shape).reshape(3, 1, 1, 1)
    inside = ((nearest >= 0) & (nearest < limits)).all(axis=0)
    np.clip(nearest, 0, limits - 1, out=nearest)
    values = np.where(inside, label_map.values[tuple(nearest)], np.int16(OUTSIDE)).astype(np.int16)
    values = _reskinned(_without_crumbs(values, label_map.values), label_map)
    new = LabelMap(values, label_map.names, warp.geometry)
    if hu is None:
        return new, None
    carried = ndimage.map_coordinates(
        np.asarray(hu, dtype=np.float32), warp.source_index, order=1, mode="nearest", output=np.float32
    )
    carried[~inside] = AIR_HU
    return new, carried


def draw_warp(label_map: LabelMap, rng: np.random.Generator, strength: float = 1.0) -> Warp:
    """The map that `deform` would use.

    Raises:
        BadGeometry: The label map is not in RAS order.
    """
    geometry = label_map.geometry
    if not geometry.is_aligned or geometry.orientation != "RAS":
        raise BadGeometry(
            f"label map runs along {geometry.orientation}, aligned: {geometry.is_aligned}; expected a grid along RAS; "
            "bring it there with complete.resampled"
        )
    frame = coarse_frame(label_map)
    sizes = _sizes(rng, strength)
    # Looked up against the flow: what is here now was upstream.
    displacement = _followed(-draw_velocity(frame, rng, strength), frame)
    return _fine(label_map, frame, displacement, sizes)


def _sizes(rng: np.random.Generator, strength: float) -> NDArray[np.float64]:
    common = np.clip(rng.normal(0, 0.10) * strength, -np.log(LARGEST_SCALE), np.log(LARGEST_SCALE))
    sizes: NDArray[np.float64] = np.exp(common + np.clip(rng.normal(0, _AXIS_SPREAD, 3), -0.12, 0.12) * strength)
    return sizes


def _followed(velocity: Floats, frame: Frame) -> Floats:
    """Displacement in mm after following a field for one unit of time; calmed until no place is squeezed too much."""
    for _ in range(12):
        displacement = _exponential(velocity, frame)
        whole = frame.places_mm() + displacement
        cells = Warp(Geometry(frame.values.shape, np.eye(4)), whole)
        ratios = cells.volume_ratios() / np.float32(frame.spacing_mm.prod())
        if float(ratios.min()) >= _TIGHTEST and float(ratios.max()) <= 1 / _TIGHTEST:
            return displacement
        velocity = velocity * np.float32(0.8)
    return np.zeros_like(velocity)


def _exponential(velocity: Floats, frame: Frame) -> Floats:
    cell = frame.spacing_mm.reshape(3, 1, 1, 1).astype(np.float32)
    grid = np.indices(frame.values.shape, dtype=np.float32)
    step = velocity / cell / 2**_SQUARINGS
    for _ in range(_SQUARINGS):
        at = grid + step
        step = step + np.stack([ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in step])
    displacement: Floats = step * cell
    return displacement


def _fine(label_map: LabelMap, frame: Frame, displacement: Floats, sizes: NDArray[np.float64]) -> Warp:
    """The flow on the voxels of the new body, after the body as a whole has changed its size."""
    spacing = np.array(label_map.geometry.spacing_mm)
    coarse = np.array(frame.values.shape)
    span = (coarse - 1) * frame.cell
    voxels = np.maximum(np.rint(span * sizes).astype(int), 1)
    # Exactly as many source voxels as there are: what is cut by an edge stays cut by it, to the last slice.
    steps = [np.linspace(0, 1, n + 1) * c for n, c in zip(voxels, coarse - 1, strict=True)]
    keep = _box_of_body(label_map, frame, displacement, steps)
    steps = [s[k] for s, k in zip(steps, keep, strict=True)]
    at = np.stack(np.meshgrid(*steps, indexing="ij")).astype(np.float32)
    index = np.empty_like(at)
    for axis in range(3):
        moved = ndimage.map_coordinates(displacement[axis] / np.float32(spacing[axis]), at, order=1, mode="nearest")
        index[axis] = frame.origin[axis] + at[axis] * np.float32(frame.cell[axis]) + moved
    affine = np.diag([*spacing, 1.0])
    first = np.array([k.start for k in keep]) + frame.origin * sizes
    affine[:3, 3] = label_map.geometry.affine[:3, 3] + first * spacing
    x, y, z = index.shape[1:]
    return Warp(Geometry((x, y, z), affine), index)


def _box_of_body(
    label_map: LabelMap, frame: Frame, displacement: Floats, steps: list[NDArray[np.float64]]
) -> list[slice]:
    """Range of new voxels, per axis, that holds every label, with 12 mm of air around where there is air."""
    grid = np.indices(frame.values.shape, dtype=np.float32)
    moved = grid + displacement / frame.spacing_mm.reshape(3, 1, 1, 1).astype(np.float32)
    labels = (frame.values != OUTSIDE).astype(np.float32)
    body = ndimage.map_coordinates(labels, moved, order=1, mode="nearest") > 0.05
    keep = []
    for axis, places in enumerate(steps):
        seen = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (seen[0] - 1, seen[-1] + 1) if len(seen) else (0, len(body))
        extra = 12.0 / label_map.geometry.spacing_mm[axis]
        start = int(max(np.searchsorted(places, low) - extra, 0))
        stop = int(min(np.searchsorted(places, high) + extra, len(places)))
        keep.append(slice(start, max(stop, start + 1)))
    return keep


def _reskinned(values: NDArray[np.int16], label_map: LabelMap) -> NDArray[np.int16]:
    """Skin as thick as it was: fat that grew under it has stretched it too."""
    code = {name: value for value, name in label_map.names.items()}
    if "skin" not in code or "fat" not in code:
        return values
    body = (values != OUTSIDE) & (values != code.get("table", OUTSIDE))
    cross = ndimage.generate_binary_structure(2, 1)[:, :, None]
    layers = max(1, round(_SKIN_MM / label_map.geometry.spacing_mm[0]))
    # Where the scan ends there is no skin.
    deep = ndimage.binary_erosion(body, cross, iterations=layers, border_value=1)
    skin = values == code["skin"]
    new = np.where(deep & skin, np.int16(code["fat"]), values)
    new[body & ~deep & (values == code["fat"])] = code["skin"]
    return new


def _without_crumbs(values: NDArray[np.int16], source: NDArray[np.int16]) -> NDArray[np.int16]:
    """Crumbs that sampling broke off structures in one piece, given to what lies around them.

    A thin vessel that broke in two keeps both parts: only pieces below `SIZABLE_FRACTION` of the largest are crumbs.
    """
    whole = _pieces(source)[1]
    numbers, pieces = _pieces(values)
    crumbs = np.zeros(int(numbers.max()) + 1, dtype=bool)
    for value, parts in pieces.items():
        if len(parts) > 1 and len(whole.get(value, ())) == 1:
            largest = max(voxels for _, voxels in parts)
            crumbs[[number for number, voxels in parts if voxels < SIZABLE_FRACTION * largest]] = True
    lost = crumbs[numbers] & (values != OUTSIDE)
    if not lost.any():
        return values
    nearest = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
    return np.where(lost, values[tuple(nearest)], values).astype(np.int16)


def _pieces(values: NDArray[np.int16]) -> tuple[NDArray[np.unsignedinteger[Any]], dict[int, list[tuple[int, int]]]]:
    """Number of the piece each voxel is in, and per label its pieces as (number, voxels)."""
    numbers = cc3d.connected_components(np.ascontiguousarray(values), connectivity=CONNECTIVITY, return_N=False)
    first = np.unique(numbers, return_index=True, return_counts=True)
    pieces: dict[int, list[tuple[int, int]]] = {}
    for number, at, count in zip(*first, strict=True):
        pieces.setdefault(int(values.flat[at]), []).append((int(number), int(count)))
    return numbers, pieces
