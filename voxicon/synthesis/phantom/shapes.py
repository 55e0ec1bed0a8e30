"""Solids given by a field, and the canvas they are painted on.

A field is negative inside a solid and about the distance to its surface in mm. It is evaluated on lists of points,
(N,) float32 per coordinate, and only at voxels near the solid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline
from scipy.spatial import cKDTree

Floats = NDArray[np.float32]
Field = Callable[[Floats, Floats, Floats], Floats]
Knots = Sequence[tuple[float, ...]]
"""Points on a curve in body mm: x, y, z and perhaps a radius."""

EVERYWHERE_MM = 1e4
"""Bound of a solid without an end."""

_SKETCH_MM = 12.0
"""Step of the coarse look for the voxels near a solid; a twentieth of a second for a whole body."""


_PIECE = 1 << 15
"""Points evaluated at once: a dozen arrays of them fit the second cache."""


@dataclass(frozen=True)
class Solid:
    """A field and the box, in mm, outside which it is positive."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    field: Field


def boundless(field: Field) -> Solid:
    """A solid without a box: a half space, a layer. Meaningful where it meets one that has an end."""
    return Solid((-EVERYWHERE_MM,) * 3, (EVERYWHERE_MM,) * 3, field)


def ellipsoid(center: ArrayLike, half_axes: ArrayLike, turn: NDArray[np.float64] | None = None) -> Solid:
    """An ellipsoid; the columns of `turn` are the directions of its half axes."""
    axes = np.asarray(half_axes, dtype=np.float64)
    turn = np.eye(3) if turn is None else turn
    reach = np.sqrt(((turn * axes) ** 2).sum(axis=1))
    to_unit = (turn / axes).T.astype(np.float32)
    middle = np.asarray(center, dtype=np.float64)
    origin = middle.astype(np.float32)
    thinnest = np.float32(axes.min())

    def field(x: Floats, y: Floats, z: Floats) -> Floats:
        unit = to_unit @ np.stack([x - origin[0], y - origin[1], z - origin[2]])
        value: Floats = (np.sqrt((unit**2).sum(axis=0)) - 1) * thinnest
        return value

    return Solid(tuple(middle - reach), tuple(middle + reach), field)


def slab(low_mm: float, high_mm: float, field: Field) -> Solid:
    """A solid that ends at two heights and is bounded sideways by its field alone."""
    return Solid((-EVERYWHERE_MM, -EVERYWHERE_MM, low_mm), (EVERYWHERE_MM, EVERYWHERE_MM, high_mm), field)


def cloud(points: ArrayLike, radii: ArrayLike) -> Solid:
    """The union of balls, (N, 3) centers and (N,) or one radius in mm; dense centers with slowly changing radii."""
    centers = np.asarray(points, dtype=np.float64)
    sizes = np.broadcast_to(np.asarray(radii, dtype=np.float32), len(centers))
    tree = cKDTree(centers)
    reach = float(sizes.max())
    # One more entry for what the tree does not find within reach: it counts as far away.
    lookup = np.append(sizes, np.float32(-EVERYWHERE_MM))

    def field(x: Floats, y: Floats, z: Floats) -> Floats:
        distance, index = tree.query(np.stack([x, y, z], axis=1), distance_upper_bound=reach + 4)
        distance[np.isinf(distance)] = 0
        value: Floats = (distance - lookup[index]).astype(np.float32)
        return value

    return Solid(tuple(centers.min(axis=0) - reach), tuple(centers.max(axis=0) + reach), field)


def spline(knots: ArrayLike, count: int) -> NDArray[np.float64]:
    """`count` points, evenly in chord length, on a smooth curve through the rows of `knots`, (K, D)."""
    rows = np.asarray(knots, dtype=np.float64)
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(rows[:, :3], axis=0), axis=1))]
    curve = make_interp_spline(along, rows, k=min(3, len(rows) - 1))
    points: NDArray[np.float64] = curve(np.linspace(0, along[-1], count))
    return points


def path(knots: ArrayLike, step_mm: float = 2.0) -> NDArray[np.float64]:
    """Points about `step_mm` apart on a smooth curve through (K, 3 or more) knots; further columns go along."""
    rows = np.asarray(knots, dtype=np.float64)
    length = np.linalg.norm(np.diff(rows[:, :3], axis=0), axis=1).sum()
    return spline(rows, max(2, round(float(length) / step_mm)))


def tube(knots: ArrayLike, scale: float = 1.0) -> Solid:
    """A tube along a smooth curve through (K, 4) knots: x, y, z and radius in mm."""
    rows = path(knots)
    return cloud(rows[:, :3], np.maximum(rows[:, 3] * scale, 0.5))


def sheet(
    edge: ArrayLike, other: ArrayLike, radius_mm: float, step_mm: float = 4.0, bulge: ArrayLike = (0, 0, 0)
) -> Solid:
    """A plate `2 * radius_mm` thick spanned between two curves of (K, 3) knots, bent outward by `bulge` halfway."""
    one, two = np.asarray(edge, dtype=np.float64), np.asarray(other, dtype=np.float64)
    length = max(float(np.linalg.norm(np.diff(rows, axis=0), axis=1).sum()) for rows in (one, two))
    across = float(np.linalg.norm(one - two, axis=1).max()) if len(one) == len(two) else length
    n, m = max(2, round(length / step_mm)), max(2, round(across / step_mm))
    t = np.linspace(0, 1, m)[:, None, None]
    points = (1 - t) * spline(one, n) + t * spline(two, n) + 4 * t * (1 - t) * np.asarray(bulge)
    return cloud(points.reshape(-1, 3), radius_mm)


def join(*solids: Solid) -> Solid:
    """The union."""
    low = tuple(np.min([s.low for s in solids], axis=0))
    high = tuple(np.max([s.high for s in solids], axis=0))
    return Solid(low, high, lambda x, y, z: reduce(np.minimum, (s.field(x, y, z) for s in solids)))


def meet(*solids: Solid, round_mm: float = 0.0) -> Solid:
    """The intersection, its edges rounded over about `round_mm`."""
    low = tuple(np.max([s.low for s in solids], axis=0))
    high = tuple(np.min([s.high for s in solids], axis=0))

    def field(x: Floats, y: Floats, z: Floats) -> Floats:
        return reduce(lambda a, b: smooth_max(a, b, round_mm), (s.field(x, y, z) for s in solids))

    return Solid(low, high, field)


def without(solid: Solid, *others: Solid) -> Solid:
    """What is left of a solid after others are cut out."""

    def field(x: Floats, y: Floats, z: Floats) -> Floats:
        return reduce(np.maximum, (-s.field(x, y, z) for s in others), solid.field(x, y, z))

    return Solid(solid.low, solid.high, field)


def grown(solid: Solid, by_mm: float) -> Solid:
    """A solid with its surface moved outward, as far as its field is a distance."""
    low, high = tuple(np.subtract(solid.low, by_mm)), tuple(np.add(solid.high, by_mm))
    return Solid(low, high, lambda x, y, z: solid.field(x, y, z) - np.float32(by_mm))


def wavy(solid: Solid, rng: np.random.Generator, amplitude_mm: float, wavelength_mm: float) -> Solid:
    """A solid with an uneven surface: four plane waves of random direction are added to its field."""
    directions = rng.normal(size=(4, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    waves = (2 * np.pi / (wavelength_mm * rng.uniform(0.7, 1.5, (4, 1))) * directions).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 4).astype(np.float32)

    def field(x: Floats, y: Floats, z: Floats) -> Floats:
        ripple = sum(np.sin(w[0] * x + w[1] * y + w[2] * z + p) for w, p in zip(waves, phases, strict=True))
        value: Floats = solid.field(x, y, z) + np.float32(amplitude_mm / 2) * ripple
        return value

    low, high = tuple(np.subtract(solid.low, 2 * amplitude_mm)), tuple(np.add(solid.high, 2 * amplitude_mm))
    return Solid(low, high, field)


def evaluated(field: Field, where: Sequence[Floats]) -> Floats:
    """A field at points given by three arrays of one shape; in pieces that stay in the cache, which is faster."""
    flat = [w.ravel() for w in where]
    values = np.empty(flat[0].shape, dtype=np.float32)
    for start in range(0, len(values), _PIECE):
        piece = slice(start, start + _PIECE)
        values[piece] = field(flat[0][piece], flat[1][piece], flat[2][piece])
    return values.reshape(where[0].shape)


def volume_ml(solid: Solid, step_mm: float = 7.0) -> float:
    """About the volume of a solid with a box, from a coarse lattice of points."""
    half = step_mm / 2
    axes = [
        np.arange(low + half, high, step_mm, dtype=np.float32) for low, high in zip(solid.low, solid.high, strict=True)
    ]
    x, y, z = (w.ravel() for w in np.meshgrid(*axes, indexing="ij"))
    return float(np.count_nonzero(evaluated(solid.field, (x, y, z)) < 0)) * step_mm**3 / 1000


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], spacing_mm: float, wavelength_mm: float) -> Floats:
    """(X, Y, Z) float32 noise of mean 0 and about unit spread whose hills are `wavelength_mm` apart."""
    counts = [max(4, round(n * spacing_mm / wavelength_mm * 2) + 2) for n in shape]
    noise: Floats = rng.normal(size=counts).astype(np.float32)
    for axis, (n, count) in enumerate(zip(shape, counts, strict=True)):
        # Cubic interpolation of unit vectors gives the matrix that interpolates a whole axis by one product.
        basis = ndimage.zoom(np.eye(count, dtype=np.float32), (n / count, 1), order=3, mode="nearest", grid_mode=True)
        noise = np.moveaxis(np.tensordot(basis, noise, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(noise)


class Canvas:
    """Values on a grid whose voxels know where in the unwarped body they lie.

    Args:
        where: x, y and z in body mm of every voxel, three (X, Y, Z) float32 arrays.
        ids: Structure → value.
        spacing_mm: Edge of a voxel.
    """

    def __init__(self, where: Sequence[Floats], ids: dict[str, int], spacing_mm: float) -> None:
        self.where = tuple(where)
        self.ids = ids
        self.spacing_mm = spacing_mm
        self.values: NDArray[np.int16] = np.zeros(where[0].shape, dtype=np.int16)
        self._step = max(1, round(_SKETCH_MM / spacing_mm))
        self._sketch = tuple(w[:: self._step, :: self._step, :: self._step] for w in where)

    def paint(self, name: str, solid: Solid, over: Iterable[str] = (), outside: bool = False) -> None:
        """Give a structure's value to the voxels inside a solid.

        Args:
            name: One of `ids`.
            solid: What to fill.
            over: Only voxels of these structures change; empty for any.
            outside: Voxels outside the patient may change too.
        """
        found = self.near(solid)
        if found is None:
            return
        box, where = found
        target = self.values[box]
        allowed = np.full(max(self.ids.values()) + 1, not tuple(over))
        allowed[[self.ids[other] for other in over]] = True
        allowed[0] = outside
        at = np.nonzero(_within(solid, where, 0.0) & allowed[target])
        inside = evaluated(solid.field, [w[at] for w in where]) < 0
        target[tuple(index[inside] for index in at)] = self.ids[name]

    def near(self, solid: Solid) -> tuple[tuple[slice, ...], tuple[Floats, ...]] | None:
        """The box of voxels that a solid's own box may reach, and their coordinates; None when it is out of view."""
        margin = 1.5 * self._step * self.spacing_mm
        hits = np.argwhere(_within(solid, self._sketch, margin))
        if not len(hits):
            return None
        low, high = hits.min(axis=0) * self._step, (hits.max(axis=0) + 1) * self._step
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return box, tuple(w[box] for w in self.where)


def _within(solid: Solid, where: Sequence[Floats], margin: float) -> NDArray[np.bool_]:
    inside = np.ones(where[0].shape, dtype=bool)
    for values, low, high in zip(where, solid.low, solid.high, strict=True):
        if low > -EVERYWHERE_MM:
            inside &= values > low - margin
        if high < EVERYWHERE_MM:
            inside &= values < high + margin
    return inside


def smooth_max(a: Floats, b: Floats, width: float) -> Floats:
    """The larger of two fields, the crease between them rounded over `width` mm; 0 keeps it sharp."""
    if not width:
        return np.maximum(a, b)
    # Source: polynomial smooth minimum of Quilez (iquilezles.org, "smooth minimum"), turned round.
    near = np.maximum(width - np.abs(a - b), 0) / np.float32(width)
    value: Floats = np.maximum(a, b) + near * near * np.float32(width / 4)
    return value
