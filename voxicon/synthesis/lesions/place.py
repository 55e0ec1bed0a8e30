"""Where a lesion goes: of several places in the host, one where it fits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxicon.synthesis.lesions.kinds import LesionKind
from voxicon.synthesis.lesions.shape import Floats, Mask, Shape, Triple

_TRIES = 24
"""Places looked at before the one that harms least is taken."""

GAS_HU = -250.0
"""Below this a voxel beside an organ is no tissue a lesion could grow into."""

BONE_HU = 180.0
"""Above this it is bone or an artery full of contrast."""

_RAY_STEPS = 96

_BALL = np.array(
    [p for p in np.stack(np.meshgrid(*[np.linspace(-1, 1, 6)] * 3), -1).reshape(-1, 3) if np.linalg.norm(p) <= 1.05]
)
"""Points of a unit ball, evenly spread."""


def draw_center(
    places: NDArray[np.intp],
    hu: Floats,
    host: Mask,
    avoid: Mask | None,
    spacing_mm: Triple,
    kind: LesionKind,
    shape: Shape,
    rng: np.random.Generator,
) -> Triple:
    """Fractional voxel of a lesion's middle.

    Lesions that stay inside go where most of them is host; a part of them, drawn each time, may lie at its border.
    Others go where nothing is in their way: gas, bone. What is to be avoided counts double.
    """
    spacing = np.array(spacing_mm)
    drawn = places[rng.integers(len(places), size=_TRIES)]
    at = np.stack(np.unravel_index(drawn, host.shape), axis=-1) + rng.uniform(-0.5, 0.5, (_TRIES, 3))
    if kind.at_wall or kind.outward is not None:
        wall, way = _walls(at, host, spacing, rng)
        beyond = rng.uniform(0, kind.outward or 0.0, _TRIES) * shape.radius_mm
        leaves = np.full(_TRIES, kind.at_wall) | (rng.random(_TRIES) < 0.6)
        at = np.where(leaves[:, None], wall + way * beyond[:, None] / spacing, at)
        at = np.clip(at, 0, np.array(host.shape) - 1)
    around = at[:, None, :] + _BALL * (shape.radius_mm / spacing)
    index = np.rint(around).astype(np.intp)
    inside = ((index >= 0) & (index < host.shape)).all(axis=-1)
    x, y, z = np.moveaxis(np.clip(index, 0, np.array(host.shape) - 1), -1, 0)
    hosted = host[x, y, z] & inside
    if kind.outward is None:
        lost = 1 - hosted.mean(axis=1)
    else:
        values = hu[x, y, z]
        lost = (~hosted & (~inside | (values < GAS_HU) | (values > BONE_HU))).mean(axis=1)
    if avoid is not None:
        lost = lost + 2 * (avoid[x, y, z] & inside).mean(axis=1)
    fits = np.flatnonzero(lost <= (0.05 if rng.random() < 0.6 else 0.3))
    best = at[fits[0] if len(fits) else int(np.argmin(lost))]
    return float(best[0]), float(best[1]), float(best[2])


def ball_in(host: Mask, center: Triple, radius_mm: float, spacing_mm: Triple) -> bool:
    """Whether a ball lies in the host, as far as its sampled points and its surface tell."""
    rim = _BALL / np.maximum(np.linalg.norm(_BALL, axis=1, keepdims=True), 1e-9)
    index = np.rint(np.array(center) + np.concatenate([_BALL, rim]) * (radius_mm / np.array(spacing_mm))).astype(
        np.intp
    )
    if not ((index >= 0) & (index < host.shape)).all():
        return False
    return bool(host[tuple(index.T)].all())


def _walls(
    at: NDArray[np.float64], host: Mask, spacing: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For places in the host: where rays in random directions leave it, and the directions (unit length, in mm)."""
    way = rng.normal(size=at.shape)
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    reach = float(np.linalg.norm(np.array(host.shape) * spacing))
    step = max(float(spacing.min()), min(1.5, reach / _RAY_STEPS))
    along = np.arange(1, _RAY_STEPS) * step
    ray = at[:, None, :] + along[None, :, None] * way[:, None, :] / spacing
    index = np.rint(ray).astype(np.intp)
    inside = ((index >= 0) & (index < host.shape)).all(axis=-1)
    x, y, z = np.moveaxis(np.clip(index, 0, np.array(host.shape) - 1), -1, 0)
    gone = ~(host[x, y, z] & inside)
    first = np.where(gone.any(axis=1), gone.argmax(axis=1), len(along))
    return at + (first * step)[:, None] * way / spacing, way
