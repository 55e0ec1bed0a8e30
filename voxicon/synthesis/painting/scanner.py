"""What the machine, the table and the clothes do to a CT, painted or real.

Every effect has a probability of its own and a random stream of its own: switching one off leaves what the others
draw unchanged. They are applied in the order of physics: first what lies in the beam, then what reconstruction does
to the image, then the noise, and last what of it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from voxicon.core.volume import AIR_HU
from voxicon.errors import BadGeometry, ConfigError
from voxicon.synthesis.texture import smooth_noise

Floats = NDArray[np.float32]
AnyFloats = NDArray[np.floating[Any]]

HIGHEST_HU = 3071.0
"""Brightest value of 12-bit CT storage."""

_BODY_HU = -300.0
_BONE_HU = 250.0


class ScannerConfig(BaseModel):
    """How often each effect occurs (0 to 1) and how strong it is at most."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    couch: float = Field(0.7, ge=0, le=1)
    """A table under the patient, where the scan has none yet."""
    clothes: float = Field(0.3, ge=0, le=1)
    """A blanket over the patient."""
    metal: float = Field(0.03, ge=0, le=1)
    """Rods, screws or clips, with streaks."""
    bias: float = Field(0.5, ge=0, le=1)
    """Cupping by beam hardening, and slow shading."""
    kernel: float = Field(0.5, ge=0, le=1)
    """A softer or sharper reconstruction in-plane."""
    thick_slices: float = Field(0.4, ge=0, le=1)
    noise: float = Field(0.95, ge=0, le=1)
    fov_circle: float = Field(0.3, ge=0, le=1)
    """A round field of view that may cut the flanks."""
    fov_z: float = Field(0.1, ge=0, le=1)
    """The scan ends inside the volume, above or below."""

    noise_hu: tuple[float, float] = (4.0, 22.0)
    """Standard deviation in the middle of the body."""
    bias_hu: float = Field(10.0, ge=0)
    slice_mm: tuple[float, float] = (4.0, 10.0)
    """Thickness of thick slices; volumes whose slices are already that thick stay as they are."""


_OFF = dict.fromkeys(
    ("couch", "clothes", "metal", "bias", "kernel", "thick_slices", "noise", "fov_circle", "fov_z"), 0.0
)

PRESETS = {
    "none": ScannerConfig(**_OFF),
    "typical": ScannerConfig(),
    "hard": ScannerConfig(
        couch=0.7,
        clothes=0.5,
        metal=0.15,
        bias=0.8,
        kernel=0.8,
        thick_slices=0.6,
        fov_circle=0.5,
        fov_z=0.25,
        noise_hu=(8, 45),
        bias_hu=25,
    ),
}
"""``none`` changes nothing, ``typical`` is a mixed archive, ``hard`` has low dose, implants and cut fields of view."""


@dataclass(eq=False)
class _Scan:
    """A volume under way."""

    hu: Floats
    spacing_mm: tuple[float, float, float]
    config: ScannerConfig
    rng: np.random.Generator

    @cached_property
    def body(self) -> NDArray[np.bool_]:
        """(X, Y, Z): what is dense and no table, as it was before any effect; lungs are holes in it."""
        steps = [max(1, round(4 / s)) for s in self.spacing_mm]
        coarse = self.hu[tuple(slice(None, None, step) for step in steps)] > _BODY_HU
        pieces, count = ndimage.label(ndimage.binary_opening(np.pad(coarse, 1, mode="edge"))[1:-1, 1:-1, 1:-1])
        if count == 0:
            return np.zeros(self.hu.shape, dtype=bool)
        largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
        near = ndimage.binary_dilation(pieces == largest, iterations=2)
        for axis, (step, n) in enumerate(zip(steps, self.hu.shape, strict=True)):
            near = np.take(near, np.arange(n) // step, axis=axis)
        body: NDArray[np.bool_] = near & (self.hu > _BODY_HU)
        return body

    def centers_mm(self, axis: int) -> Floats:
        """Distances of voxel centers from the middle of the volume along an axis, ready to broadcast."""
        n = self.hu.shape[axis]
        shape = [1, 1, 1]
        shape[axis] = n
        place: Floats = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * self.spacing_mm[axis]).reshape(shape)
        return place


def scan(
    hu: Floats, spacing_mm: Sequence[float], rng: np.random.Generator, config: ScannerConfig | str = "typical"
) -> tuple[Floats, NDArray[np.bool_]]:
    """The same patient through another machine.

    Args:
        hu: (X, Y, Z) HU with axes along R, A, S; not changed.
        spacing_mm: Voxel size per axis.
        rng: Source of randomness; the same state gives the same scan.
        config: Chances and strengths, or the name of one of `PRESETS`.

    Returns:
        (X, Y, Z) float32 HU from -1024 to `HIGHEST_HU` on the same grid, and (X, Y, Z) bool: what the field of view
        shows. Nothing moves, so masks stay valid where something is shown; elsewhere the HU are -1024.

    Raises:
        ConfigError: There is no such preset.
        BadGeometry: The volume does not have three axes.
    """
    if isinstance(config, str):
        if config not in PRESETS:
            raise ConfigError(f"scanner: {config!r} is no preset; expected {', '.join(PRESETS)}, or a ScannerConfig")
        config = PRESETS[config]
    if hu.ndim != 3 or len(spacing_mm) != 3:
        raise BadGeometry(
            f"volume of {hu.ndim} axes with {len(spacing_mm)} spacings; expected three of each: pass (X, Y, Z)"
        )
    sx, sy, sz = (float(s) for s in spacing_mm)
    state = _Scan(np.array(hu, dtype=np.float32), (sx, sy, sz), config, rng)
    seeds = rng.integers(2**63, size=len(_EFFECTS))
    for (name, effect), seed in zip(_EFFECTS.items(), seeds.tolist(), strict=True):
        state.rng = np.random.default_rng(seed)
        if state.rng.uniform() < getattr(config, name) and state.hu.size:
            effect(state)
    shown = ~np.isnan(state.hu)
    return np.where(shown, np.clip(state.hu, AIR_HU, HIGHEST_HU), np.float32(AIR_HU)), shown


def _couch(state: _Scan) -> None:
    """A hollow board, bent or flat, under the back; thin bright skin around foam."""
    body = state.body
    back, _, middle = _extent(state)
    if back is None or _has_couch(state, back):
        return
    rng = state.rng
    x = state.centers_mm(0)[:, 0, 0] - middle
    y = state.centers_mm(1)[0, :, 0]
    half = rng.uniform(180, 260)
    top = back - rng.uniform(0, 12) + rng.uniform(0, 45) * (x / half) ** 2 * (rng.uniform() < 0.7)
    depth = (top[:, None] - y[None, :]) / rng.uniform(0.9, 1)
    thick, voxel = rng.uniform(6, 60), state.spacing_mm[1]
    skin = np.maximum(_line(depth, 0, 1.5, voxel), _line(depth, thick, 1.5, voxel))
    inside = (depth > 0) & (depth < thick)
    plane = np.where(inside, rng.uniform(-985, -900), AIR_HU + 24)
    plane = plane + skin * (rng.uniform(-500, 100) - plane)
    drawn = ((inside | (skin > 0.05)) & (np.abs(x)[:, None] < half))[:, :, None] & ~body & (state.hu < -900)
    state.hu = np.where(drawn, np.maximum(state.hu, plane[:, :, None].astype(np.float32)), state.hu)


def _extent(state: _Scan) -> tuple[float | None, float, float]:
    """The body's back (None without a body), front and middle of x, in mm from the middle of the volume."""
    rows = np.flatnonzero(state.body.any(axis=(0, 2)))
    if not len(rows):
        return None, 0.0, 0.0
    y, x = state.centers_mm(1)[0, :, 0], state.centers_mm(0)[:, 0, 0]
    columns = state.body.sum(axis=(1, 2))
    return float(y[rows[0]]), float(y[rows[-1]]), float(columns @ x / columns.sum())


def _has_couch(state: _Scan, back: float) -> bool:
    behind = state.centers_mm(1)[0, :, 0] < back - 1
    return bool(behind.any()) and bool((state.hu[:, behind].mean(axis=2) > -700).any())


def _line(distance: AnyFloats, at: float | AnyFloats, thickness: float, voxel: float) -> AnyFloats:
    """Share of a voxel that a sheet of some thickness fills, by the distance of the voxel's center."""
    overlap = (thickness + voxel) / 2 - np.abs(distance - at)
    share: AnyFloats = np.clip(overlap / voxel, 0, min(1, thickness / voxel))
    return share


def _clothes(state: _Scan) -> None:
    """One or two folds of cloth in front of the patient."""
    rng, body = state.rng, state.body
    x_n, y_n, z_n = body.shape
    sx, sy, sz = state.spacing_mm
    covered: NDArray[np.bool_] = np.any(body, axis=1)
    front = np.where(covered, y_n - 1 - np.argmax(body[:, ::-1], axis=1), 0) * sy
    smooth = ndimage.grey_closing(front, (max(1, round(60 / sx)), 1))
    for _ in range(int(rng.integers(1, 3))):
        gap = rng.uniform(2, 14) + 3 * np.abs(smooth_noise(rng, (x_n, z_n), 50, (sx, sz)))
        cloth = _line(np.arange(y_n)[None, :, None] * sy, (smooth + gap)[:, None, :], rng.uniform(0.4, 1.2), sy)
        cloth = cloth * covered[:, None, :]
        state.hu += np.where(state.hu < -900, cloth * rng.uniform(300, 900), 0).astype(np.float32)


def _metal(state: _Scan) -> None:
    """A few rods through bone, or clips in soft tissue, with rays in their slices."""
    rng = state.rng
    rods = bool(rng.uniform() < 0.6)
    seats = np.argwhere(state.body & ((state.hu > _BONE_HU) == rods))
    if not len(seats):
        return
    spacing = np.array(state.spacing_mm)
    metal = np.zeros(state.hu.shape, dtype=bool)
    first = seats[rng.integers(len(seats))]
    near = seats[np.abs((seats - first) * spacing).max(axis=1) < 50]
    for seat in near[rng.integers(len(near), size=rng.integers(1, 5))]:
        direction = rng.standard_normal(3)
        length = rng.uniform(20, 80) if rods else rng.uniform(2, 6)
        radius = rng.uniform(1.5, 3.5) if rods else rng.uniform(1, 2)
        _rod(metal, seat * spacing, direction / np.linalg.norm(direction) * length / 2, radius, spacing)
    metal &= ndimage.binary_dilation(state.body, iterations=2)
    streaks = _streaks(state, metal)
    state.hu += streaks * (state.hu > -900)
    state.hu[metal] = rng.uniform(2600, HIGHEST_HU)


def _rod(metal: NDArray[np.bool_], center: AnyFloats, half: AnyFloats, radius: float, spacing: AnyFloats) -> None:
    """Mark the voxels of a cylinder in place; at least those that its axis passes through."""
    reach = np.abs(half) + radius + spacing
    low = np.maximum(np.floor((center - reach) / spacing), 0).astype(int)
    high = np.minimum(np.ceil((center + reach) / spacing) + 1, metal.shape).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), axis=-1)
    away = grid * spacing - center
    along = np.clip(away @ half / (half @ half), -1, 1)
    distance = np.linalg.norm(away - along[..., None] * half, axis=-1)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    metal[box] |= distance <= max(radius, 0.6 * float(spacing.max()))


def _streaks(state: _Scan, metal: NDArray[np.bool_]) -> Floats:
    """Bright and dark rays from the metal of each slice; stronger along its longest side."""
    rng = state.rng
    streaks = np.zeros(metal.shape, dtype=np.float32)
    x, y = state.centers_mm(0)[:, :, 0], state.centers_mm(1)[:, :, 0]
    # One set of rays for all slices: rods run through many, and so do their shadows.
    angles, width = rng.uniform(0, np.pi, 12), rng.uniform(0.04, 0.2, 12)
    heights = rng.normal(0, rng.uniform(80, 350), 12)
    fade_mm = rng.uniform(30, 90)
    for level in np.flatnonzero(metal.any(axis=(0, 1))).tolist():
        at = np.argwhere(metal[:, :, level])
        dx, dy = x - x[at[:, 0].mean().astype(int)], y - y[:, at[:, 1].mean().astype(int)]
        angle, away = np.arctan2(dy, dx), np.hypot(dx, dy)
        size = min(1.0, float(np.sqrt(len(at) * state.spacing_mm[0] * state.spacing_mm[1])) / 8)
        turned = np.abs((angle[..., None] - angles + np.pi / 2) % np.pi - np.pi / 2)
        rays = (heights * np.exp(-((turned / width) ** 2))).sum(axis=-1)
        streaks[:, :, level] = size * rays * np.exp(-away / fade_mm)
    return streaks


def _bias(state: _Scan) -> None:
    """Darker toward the middle of the body, and slow clouds; air stays air."""
    rng, limit = state.rng, state.config.bias_hu
    matter = np.clip((state.hu + 1000) / 1000, 0, 1.3)
    clouds = smooth_noise(rng, state.hu.shape, float(rng.uniform(80, 200)), state.spacing_mm)
    _, _, middle = _extent(state)
    radius = 0.5 * max(n * s for n, s in zip(state.hu.shape[:2], state.spacing_mm[:2], strict=True))
    away = ((state.centers_mm(0) - middle) ** 2 + state.centers_mm(1) ** 2) / radius**2
    cup = float(rng.uniform(-0.3, 1)) * (away - 0.5)
    state.hu += matter * np.float32(limit) * np.clip(0.4 * rng.uniform() * clouds + cup, -1, 1)
    state.hu += matter * np.float32(0.5 * limit * rng.uniform(-1, 1))


def _kernel(state: _Scan) -> None:
    """Softer, or sharper with the overshoot of bone kernels."""
    rng, (sx, sy, _) = state.rng, state.spacing_mm
    soft = rng.uniform() < 0.5
    sigma_mm = rng.uniform(0.6, 2) if soft else rng.uniform(0.8, 1.5)
    # Kernels are a millimeter wide; on coarser grids, the least that shows is taken.
    sigma = [max(sigma_mm / sx, 0.4), max(sigma_mm / sy, 0.4), 0]
    blurred = ndimage.gaussian_filter(state.hu, sigma, truncate=3)
    state.hu = blurred if soft else state.hu + np.float32(rng.uniform(0.3, 1.2)) * (state.hu - blurred)


def _thick_slices(state: _Scan) -> None:
    """Slices of several millimeters with linear interpolation between them."""
    thick = float(state.rng.uniform(*state.config.slice_mm))
    n, sz = state.hu.shape[2], state.spacing_mm[2]
    if thick <= sz or n < 2:
        return
    z = np.arange(n) * sz
    slices = np.arange(state.rng.uniform(-0.5, 0.5) * thick, z[-1] + thick, thick)
    # Overlap of each thin slice with each thick one, then hats around the thick slices' centers.
    ends = np.minimum(slices[:, None] + thick / 2, z + sz / 2) - np.maximum(slices[:, None] - thick / 2, z - sz / 2)
    average = np.maximum(ends, 0)
    filled = average.sum(axis=1) > 0
    slices, average = slices[filled], average[filled]
    average /= average.sum(axis=1, keepdims=True)
    back = np.stack([np.interp(z, slices, unit) for unit in np.eye(len(slices))], axis=1)
    state.hu = np.ascontiguousarray(state.hu @ (back @ average).T.astype(np.float32))


def _noise(state: _Scan) -> None:
    """Grains that grow with the path through the patient; streaks across shoulders and hips."""
    rng, (sx, sy, sz) = state.rng, state.spacing_mm
    sigma = float(np.exp(rng.uniform(*np.log(state.config.noise_hu))))
    water = np.clip((state.hu + 1000) / 1000, 0, 2.5)
    across = water.sum(axis=0, keepdims=True) * (sx / 100)
    through = water.sum(axis=1, keepdims=True) * (sy / 100)
    # Variance is one over the photons that arrive, exp(0.19/cm of water); tube current modulation and the bow-tie
    # filter take back most of it, so a fifth of the exponent is left. Paths are in decimeters.
    loss = 0.5 * (np.exp(0.38 * across) + np.exp(0.38 * through))
    middle = np.median(loss[water > 0.8]) if (water > 0.8).any() else 1.0
    grain = smooth_noise(
        rng, state.hu.shape, float(rng.uniform(0.6, 1.6) * max(sx, sy)), (sx, sy, sz * rng.uniform(1, 3))
    )
    state.hu += np.float32(sigma) * np.sqrt(np.minimum(loss / middle, 4)).astype(np.float32) * grain
    wide = np.clip(across - rng.uniform(3.0, 4.0), 0, 2)
    if wide.max() > 0:
        streak = smooth_noise(rng, state.hu.shape, 1.2 * sy, (sx / 12, sy, sz))
        state.hu += np.float32(sigma * rng.uniform(0.3, 1.2)) * wide * streak


# What a field of view cuts off is NaN until the end. No effect may come after these two.
def _fov_circle(state: _Scan) -> None:
    rng = state.rng
    back, front, middle = _extent(state)
    if back is None:
        back = 0.0
    width = [n * s for n, s in zip(state.hu.shape[:2], state.spacing_mm[:2], strict=True)]
    radius = rng.uniform(0.38, 0.6) * max(width)
    dx = state.centers_mm(0) - middle - rng.normal(0, 0.02) * width[0]
    dy = state.centers_mm(1) - (back + front) / 2 - rng.normal(0, 0.02) * width[1]
    state.hu = np.where(dx**2 + dy**2 > radius**2, np.float32(np.nan), state.hu)


def _fov_z(state: _Scan) -> None:
    n = state.hu.shape[2]
    cut = int(state.rng.uniform(0.05, 0.4) * n)
    state.hu[:, :, slice(0, cut) if state.rng.uniform() < 0.5 else slice(n - cut, n)] = np.nan


_EFFECTS: dict[str, Callable[[_Scan], None]] = {
    "couch": _couch,
    "clothes": _clothes,
    "metal": _metal,
    "bias": _bias,
    "kernel": _kernel,
    "thick_slices": _thick_slices,
    "noise": _noise,
    "fov_circle": _fov_circle,
    "fov_z": _fov_z,
}
