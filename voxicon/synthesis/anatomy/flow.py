"""How anatomy may differ, as velocities on a coarse grid over the whole patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.synthesis.anatomy.naming import standard_name
from voxicon.synthesis.label_map import OUTSIDE, LabelMap
from voxicon.synthesis.texture import smooth_noise

_CELL_MM = 9.0
"""Grid of the flow. Nothing in it is finer than about 30 mm."""

_MARGIN_MM = 55.0
"""Room for the body to grow into, on sides where it ends within the scan."""

_ORGANS: tuple[tuple[float, float, tuple[str, ...]], ...] = (
    (0.16, 8.0, ("liver",)),
    (0.20, 8.0, ("spleen",)),
    (0.14, 8.0, ("kidney_right",)),
    (0.14, 8.0, ("kidney_left",)),
    (0.22, 8.0, ("stomach",)),
    (0.16, 6.0, ("pancreas",)),
    (0.22, 6.0, ("gallbladder",)),
    (0.22, 6.0, ("urinary_bladder",)),
    (0.20, 4.0, ("prostate",)),
    (0.12, 6.0, ("heart",)),
    (0.12, 3.0, ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right")),
    (0.12, 3.0, ("lung_upper_lobe_left", "lung_lower_lobe_left")),
    (0.16, 6.0, ("duodenum",)),
    (0.10, 2.0, ("aorta",)),
    (0.15, 2.0, ("inferior_vena_cava",)),
)
"""Standard deviation of the log size, of the shift in mm, and what moves as one."""

_FAT = ("fat", "skin")
_NOT_BODY = ("table",)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """The source on the coarse grid of the flow.

    Attributes:
        values: Labels looked up at the coarse points.
        origin: Source voxel index of the first coarse point.
        cell: Source voxels between coarse points, per axis.
        spacing_mm: Distance of coarse points, per axis.
        open_ends: Per axis, whether the body ends before the low and the high end of the scan.
    """

    source: LabelMap
    values: NDArray[np.int16]
    origin: NDArray[np.float64]
    cell: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]
    open_ends: tuple[tuple[bool, bool], ...]

    def mask(self, structures: Sequence[str]) -> NDArray[np.bool_]:
        """Where any of some structures is, whatever the source calls it."""
        wanted = [value for value, name in self.source.names.items() if standard_name(name) in structures]
        return np.isin(self.values, wanted)

    def places_mm(self) -> Floats:
        """(3, x, y, z): mm of the coarse points from the first one."""
        axes = [np.arange(n, dtype=np.float32) * s for n, s in zip(self.values.shape, self.spacing_mm, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def draw_velocity(frame: Frame, rng: np.random.Generator, strength: float) -> Floats:
    """(3, x, y, z) mm per unit of time: waves, organs, fat and breath together.

    Nothing flows through an edge of the scan that cuts the body, and the air at the other edges is at rest.
    """
    velocity = (
        _waves(frame, rng, strength)
        + _organs(frame, rng, strength)
        + _habitus(frame, rng, strength)
        + _breath(frame, rng, strength)
    )
    return _held(velocity, frame)


def coarse_frame(label_map: LabelMap) -> Frame:
    """The grid of the flow for a source: beyond it where there is air for the body to grow into, else just as far."""
    values, spacing = label_map.values, np.array(label_map.geometry.spacing_mm)
    shape = np.array(values.shape)
    open_ends = []
    aside = [OUTSIDE, *(value for value, name in label_map.names.items() if name in _NOT_BODY)]
    for axis in range(3):
        faces = ~np.isin(np.moveaxis(values, axis, 0)[[0, -1]], aside)
        # A fold of skin may touch an edge; a body cut by it shows more than a few voxels.
        open_ends.append(tuple(bool(face.mean() < 0.005) for face in faces))
    margins = np.array([[_MARGIN_MM if is_open else 0.0 for is_open in ends] for ends in open_ends])
    low = -margins[:, 0] / spacing
    high = shape - 1 + margins[:, 1] / spacing
    counts = np.maximum(np.ceil((high - low) * spacing / _CELL_MM).astype(int), 2) + 1
    cell = np.maximum(high - low, 1e-3) / (counts - 1)
    index = [np.rint(low[a] + cell[a] * np.arange(counts[a])).astype(int) for a in range(3)]
    coarse = values[np.ix_(*(np.clip(i, 0, n - 1) for i, n in zip(index, shape, strict=True)))].copy()
    for axis, (positions, n) in enumerate(zip(index, shape, strict=True)):
        np.moveaxis(coarse, axis, 0)[(positions < 0) | (positions >= n)] = OUTSIDE
    return Frame(label_map, coarse, low, cell, cell * spacing, tuple((e[0], e[1]) for e in open_ends))


def _waves(frame: Frame, rng: np.random.Generator, strength: float) -> Floats:
    """Slow waves over the whole body, in mm: broad strong ones and finer weak ones."""
    velocity = np.zeros((3, *frame.values.shape), dtype=np.float32)
    for shortest, longest, amplitude in ((80.0, 120.0, 6.0), (40.0, 60.0, 2.5)):
        correlation = rng.uniform(shortest, longest)
        for axis in range(3):
            field = smooth_noise(rng, frame.values.shape, correlation, frame.spacing_mm.tolist())
            velocity[axis] += rng.uniform(0.3, 1.0) * amplitude * strength * np.clip(field, -2.5, 2.5)
    return velocity


def _organs(frame: Frame, rng: np.random.Generator, strength: float) -> Floats:
    """Every big organ swells or shrinks about its middle and moves; the pull fades within its neighbors."""
    places = frame.places_mm()
    velocity = np.zeros_like(places)
    for spread, shift_mm, structures in _ORGANS:
        # Drawn for every organ, there or not, so that one organ more does not change all others.
        growth = float(np.clip(rng.normal(0, spread), -0.36, 0.36)) * strength
        shift = np.clip(rng.normal(0, shift_mm / 2, 3), -shift_mm, shift_mm) * strength
        mask = frame.mask(structures)
        if not mask.any():
            continue
        points = places[:, mask]
        center = points.mean(axis=1)
        away = places - center.reshape(3, 1, 1, 1)
        spread_mm = np.cov(points) if points.shape[1] > 3 else np.zeros((3, 3))
        shape = 2.0 * spread_mm + 20.0**2 * np.eye(3)
        reach = np.einsum("ixyz,ij,jxyz->xyz", away, np.linalg.inv(shape), away, optimize=True)
        fade = np.exp(-reach / 2).astype(np.float32)
        velocity += fade * (1.5 * growth * away + shift.reshape(3, 1, 1, 1))
    return velocity.astype(np.float32)


def _habitus(frame: Frame, rng: np.random.Generator, strength: float) -> Floats:
    """More or less fat under the skin: skin moves outward in the plane, the more the farther it is from muscle."""
    velocity = np.zeros((3, *frame.values.shape), dtype=np.float32)
    gain = float(rng.uniform(-0.6, 1.2)) * strength
    body = (frame.values != OUTSIDE) & ~frame.mask(_NOT_BODY)
    inner = body & ~frame.mask(_FAT)
    if not inner.any() or not frame.mask(_FAT).any():
        return velocity
    inner = ndimage.binary_fill_holes(ndimage.binary_closing(inner, iterations=2) | inner)
    depth = ndimage.distance_transform_edt(~inner, sampling=frame.spacing_mm)
    skin_depth = ndimage.distance_transform_edt(~body, sampling=frame.spacing_mm)
    outward = np.gradient(ndimage.gaussian_filter(depth, 14.0 / frame.spacing_mm), *frame.spacing_mm[:2], axis=(0, 1))
    # Beyond the skin, air moves as far as the skin it touches and comes to rest farther out.
    thickness = np.clip(depth - skin_depth, 0, 60.0) * np.exp(-((skin_depth / 60.0) ** 2))
    # The lean gain more than their share, or no one would grow fat.
    thickness += 0.5 * np.minimum(thickness, 15.0)
    smooth = ndimage.gaussian_filter(thickness, 7.0 / frame.spacing_mm)
    length = np.maximum(np.sqrt(outward[0] ** 2 + outward[1] ** 2), 0.3)
    for axis in range(2):
        velocity[axis] = gain * smooth * outward[axis] / length
    return velocity


def _breath(frame: Frame, rng: np.random.Generator, strength: float) -> Floats:
    """The upper abdomen goes up or down with the diaphragm, more in front than at the back."""
    velocity = np.zeros((3, *frame.values.shape), dtype=np.float32)
    stroke = float(np.clip(rng.normal(0, 8.0), -16, 16)) * strength
    dome = frame.mask(("liver", "spleen"))
    if not dome.any():
        return velocity
    places = frame.places_mm()
    top = places[2][dome].max() - 40.0
    back, front = places[1][frame.values != OUTSIDE].min(), places[1][frame.values != OUTSIDE].max()
    forward = np.clip((places[1] - back) / max(float(front - back), 1.0), 0, 1)
    velocity[2] = stroke * np.exp(-(((places[2] - top) / 90.0) ** 2)) * (0.4 + 0.6 * forward)
    return velocity


def _held(velocity: Floats, frame: Frame) -> Floats:
    """The field with nothing flowing through an edge that cuts the body, and at rest at the others."""
    for axis, ends in enumerate(frame.open_ends):
        place = np.arange(velocity.shape[axis + 1]) * frame.spacing_mm[axis]
        low, high = (np.clip(p / 40.0, 0, 1) for p in (place, place[::-1]))
        profile = (low * high).astype(np.float32)
        view = np.moveaxis(velocity, axis + 1, -1)
        view[axis] *= profile
        for is_open, ramp in zip(ends, (low, high), strict=True):
            if is_open:
                others = [a for a in range(3) if a != axis]
                view[others] *= ramp.astype(np.float32)
    return velocity
