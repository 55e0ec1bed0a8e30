"""Making few scans look like many: warped, repainted, degraded; never mirrored (left must stay left).

Every augmentation comes in two parts: parameters are drawn from a generator, then applied. The same
parameters give the same patch, so a run can be repeated and resumed exactly.

Warping is done where the patch is cut: the patch's voxels are looked up in the whole scan at rotated,
scaled and elastically moved places, once, so nothing outside the patch is ever computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from voxicon.core.volume import AIR_HU

GAS_HU = -150.0
"""Below this a voxel inside a soft organ is gas (or fat beside it) and is not repainted."""


_AIRY_HU = -200.0
"""Contrast changes stop growing below this."""


class AugmentConfig(BaseModel):
    """How far patches may stray from the scans. Lengths in mm, angles in degrees, values in HU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotate_degrees: float = Field(15.0, ge=0)
    scale: float = Field(1.2, ge=1)
    """Overall size between 1/scale and scale; each axis by half as much again on its own."""
    elastic_mm: float = Field(9.0, ge=0)
    """Standard deviation of the largest elastic shift drawn for a patch."""
    elastic_cell_mm: float = Field(60.0, gt=0)
    """Distance between the control points of the elastic warp."""
    repaint: float = Field(0.7, ge=0, le=1)
    """Share of patches whose structures get new HU."""
    flatten: float = Field(0.0, ge=0, le=2)
    """Largest share of a structure's own texture that repainting takes away. More than 1 turns it over: vessels that
    contrast agent had made brighter than the liver become darker, as they are on a plain scan."""
    noise_hu: float = Field(30.0, ge=0)
    blur_voxels: float = Field(0.8, ge=0)
    thick_slices: float = Field(0.25, ge=0, le=1)
    """Share of patches blurred along z as by slices two or three voxels thick."""
    contrast: float = Field(1.15, ge=1)
    brightness_hu: float = Field(15.0, ge=0)
    brightness: float = Field(1.0, ge=0, le=1)
    """Share of patches made brighter or darker."""
    quarter_turns: float = Field(0.0, ge=0, le=1)
    """Share of patches turned by 90, 180 or 270 degrees in the axial plane. Left and right keep their handedness,
    up and down do not keep their meaning: off unless the original's training is wanted."""
    streaks: float = Field(0.0, ge=0, le=1)
    """Share of patches with dark and bright bands; see `voxicon.train.streaks`."""
    fat: float = Field(0.0, ge=0, le=1)
    """Share of patches with pockets, folds and strands of fat and dark vessels in organs; see `voxicon.train.fat`."""
    cut: float = Field(0.2, ge=0, le=1)
    """Share of patches whose field of view ends inside the patch."""


PAPER = AugmentConfig(
    rotate_degrees=0,
    scale=1,
    elastic_mm=0,
    repaint=0,
    noise_hu=0,
    blur_voxels=0,
    thick_slices=0,
    contrast=1,
    brightness_hu=42.5,
    brightness=0.2,
    quarter_turns=0.1,
    cut=0,
)
"""What the original trains with: quarter turns p 0.1, intensity shift 0.1 of the window (425 HU) p 0.2; the zoom
comes from the cards. Source: the original's training transforms, design notes section 3."""

PRESETS = {"paper": PAPER, "strong": AugmentConfig()}
"""``strong`` makes few scans look like many; ``paper`` is for thousands of them."""


@dataclass(frozen=True)
class Warp:
    """Where in the scan the voxels of a patch are looked up: (X, Y, Z, 3) voxel indices, float32."""

    index_XYZ3: Tensor


def draw_uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def draw_chance(generator: torch.Generator, share: float) -> bool:
    """True with the given probability."""
    return float(torch.rand((), generator=generator)) < share


def draw_warp(
    config: AugmentConfig,
    generator: torch.Generator,
    center: tuple[float, float, float],
    size: tuple[int, int, int],
    spacing_mm: float,
    zoom: float = 1.0,
) -> Warp:
    """A random rotation, scaling and elastic warp of the voxels of a patch around a center.

    Args:
        config: Ranges.
        generator: Source of chance.
        center: Voxel index in the scan where the patch's middle lands.
        size: Voxels of the patch.
        spacing_mm: Voxel size, the same along all axes.
        zoom: How much larger things appear in the patch.
    """
    angles = [torch.deg2rad(torch.tensor(draw_uniform(generator, -1, 1) * config.rotate_degrees)) for _ in range(3)]
    overall = config.scale ** draw_uniform(generator, -1, 1)
    scales = [overall * config.scale ** draw_uniform(generator, -0.5, 0.5) for _ in range(3)]
    matrix = _rotation(angles) @ torch.diag(torch.tensor(scales) / zoom)
    if draw_chance(generator, config.quarter_turns):
        matrix = matrix @ _quarter_turns(1 + int(torch.randint(0, 3, (), generator=generator)))
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    index = grid @ matrix.T + torch.tensor(center)
    if config.elastic_mm > 0:
        cells = [max(4, round(n * spacing_mm / config.elastic_cell_mm) + 3) for n in size]
        amplitude = abs(float(torch.randn((), generator=generator))) * config.elastic_mm / spacing_mm
        control = torch.randn((1, 3, *cells), generator=generator) * amplitude / 2
        # Two trilinear steps: the first smooths the control points, the second is cheap per voxel.
        smooth = functional.avg_pool3d(functional.interpolate(control, scale_factor=3, mode="trilinear"), 3, 1, 1)
        shift = functional.interpolate(smooth, size=size, mode="trilinear", align_corners=True)
        index = index + shift[0].permute(1, 2, 3, 0)
    return Warp(index)


def _rotation(angles: list[Tensor]) -> Tensor:
    (cx, sx), (cy, sy), (cz, sz) = ((torch.cos(a), torch.sin(a)) for a in angles)
    one, nil = torch.ones(()), torch.zeros(())
    about_x = torch.stack([one, nil, nil, nil, cx, -sx, nil, sx, cx]).reshape(3, 3)
    about_y = torch.stack([cy, nil, sy, nil, one, nil, -sy, nil, cy]).reshape(3, 3)
    about_z = torch.stack([cz, -sz, nil, sz, cz, nil, nil, nil, one]).reshape(3, 3)
    rotation: Tensor = about_z @ about_y @ about_x
    return rotation


def _quarter_turns(n: int) -> Tensor:
    once = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned: Tensor = torch.linalg.matrix_power(once, n)
    return turned


def warp_values(hu_XYZ: Tensor, warp: Warp) -> Tensor:
    """Trilinear look-up of HU; air outside the scan."""
    # Values are lifted so that the zeros grid_sample finds outside mean air. A scan of one slice gets a second one
    # of air: where an axis has no length, grid_sample finds the slice everywhere.
    lifted = functional.pad(hu_XYZ - AIR_HU, [p for n in reversed(hu_XYZ.shape) for p in (0, int(n == 1))])
    size = torch.tensor(lifted.shape, dtype=torch.float32)
    # grid_sample wants z first and [-1, 1].
    where = (2 * warp.index_XYZ3 / (size - 1) - 1).flip(-1)
    sampled = functional.grid_sample(lifted[None, None], where[None], align_corners=True)
    return sampled[0, 0] + AIR_HU


def warp_labels(labels_XYZ: Tensor, warp: Warp) -> Tensor:
    """Nearest look-up of integers, (..., X, Y, Z); 0 outside the scan. Bits of a mask word stay together."""
    nearest = warp.index_XYZ3.round().to(torch.int64)
    size = torch.tensor(labels_XYZ.shape[-3:])
    inside = ((nearest >= 0) & (nearest < size)).all(-1)
    clamped = torch.minimum(nearest.clamp_min(0), size - 1)
    flat = (clamped[..., 0] * size[1] + clamped[..., 1]) * size[2] + clamped[..., 2]
    found = labels_XYZ.flatten(-3)[..., flat]
    return torch.where(inside, found, torch.zeros_like(found))


_TURNED_HU = 60.0
"""Most of a difference that is turned over. Own choice: what vessels differ by; else an organ's rim, part fat, would
shine."""


@dataclass(frozen=True)
class Paint:
    """New HU for raw structures: entry *v* of each tensor is for raw value *v*.

    Attributes:
        offset_hu: (n_values,) what is added.
        flatten: (n_values,) share of the difference to the structure's mean that is taken away: 1 leaves one gray, more
            turns bright into dark.
        mean_hu: (n_values,) mean before.
    """

    offset_hu: Tensor
    flatten: Tensor
    mean_hu: Tensor


def draw_paint(
    generator: torch.Generator,
    mean_hu: Mapping[int, float],
    range_hu: Mapping[int, tuple[float, float]],
    n_values: int,
    flatten: float = 0.0,
) -> Paint:
    """New HU for each raw structure, so that its mean lands somewhere in its range.

    Structures without a range are left alone. Half of the time all structures move together, as
    under one contrast phase; otherwise each moves on its own, as no patient ever did. What marks one phase within an
    organ (a bright cortex, veins still dark) is taken away by a share up to `flatten`.
    """
    paint = Paint(torch.zeros(n_values), torch.zeros(n_values), torch.zeros(n_values))
    together = draw_chance(generator, 0.5)
    level = draw_uniform(generator, 0, 1)
    for value, (low, high) in range_hu.items():
        own = draw_uniform(generator, 0, 1)
        share = min(1.0, max(0.0, level + 0.3 * (own - 0.5))) if together else own
        paint.offset_hu[value] = low + (high - low) * share - mean_hu[value]
        paint.mean_hu[value] = mean_hu[value]
        if flatten > 0:
            paint.flatten[value] = draw_uniform(generator, 0, flatten)
    return paint


def apply_paint(hu_XYZ: Tensor, structure_XYZ: Tensor, paint: Paint) -> Tensor:
    """Flatten each structure and add its offset, softened at its edges; gas keeps its value."""
    index = structure_XYZ.to(torch.int64)
    change = paint.offset_hu[index]
    if bool(paint.flatten.any()):
        share, difference = paint.flatten[index], paint.mean_hu[index] - hu_XYZ
        difference = torch.where(share > 1, difference.clamp(-_TURNED_HU, _TURNED_HU), difference)
        change = change + share * difference
    solid = hu_XYZ > GAS_HU
    # Gas inside a bowel must not lend its distance from the mean to the wall beside it.
    soft = functional.avg_pool3d(torch.where(solid, change, torch.zeros(()))[None, None], 3, 1, 1)[0, 0]
    return torch.where(solid, hu_XYZ + soft, hu_XYZ)


def degrade(hu_XYZ: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Blur, thick slices, contrast, brightness and noise, each by chance."""
    hu = hu_XYZ[None, None]
    if draw_chance(generator, 0.4) and config.blur_voxels > 0:
        hu = _blur(hu, draw_uniform(generator, 0.2, config.blur_voxels))
    if draw_chance(generator, config.thick_slices):
        thickness = min(2 + int(draw_chance(generator, 0.4)), hu.shape[-1])
        thick = functional.avg_pool3d(hu, (1, 1, thickness), (1, 1, thickness))
        hu = functional.interpolate(thick, size=hu.shape[2:], mode="trilinear")
    contrast = config.contrast ** draw_uniform(generator, -1, 1)
    brightness = config.brightness_hu * draw_uniform(generator, -1, 1) * draw_chance(generator, config.brightness)
    # Tissue contrast differs between scanners; air is -1000 HU on all of them, and lung must not pass for it.
    hu = hu + (contrast - 1) * hu.clamp_min(_AIRY_HU) + brightness
    noise = config.noise_hu * draw_uniform(generator, 0, 1) ** 2
    if noise > 0:
        hu = hu + noise * torch.randn(hu.shape, generator=generator)
    degraded: Tensor = hu[0, 0]
    return degraded


def draw_cut(
    config: AugmentConfig, generator: torch.Generator, size: tuple[int, int, int]
) -> tuple[slice, slice, slice] | None:
    """The part of a patch beyond a field of view that ends inside it, or None."""
    if not draw_chance(generator, config.cut):
        return None
    box = [slice(None)] * 3
    axis = int(torch.randint(0, 3, (), generator=generator))
    lost = int(size[axis] * draw_uniform(generator, 0.05, 0.3))
    box[axis] = slice(0, lost) if draw_chance(generator, 0.5) else slice(size[axis] - lost, None)
    return box[0], box[1], box[2]


def _blur(hu: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 5
        hu = functional.conv3d(functional.pad(hu, _pad(axis), mode="replicate"), kernel.reshape(shape))
    return hu


def _pad(axis: int) -> list[int]:
    padding = [0] * 6
    padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = 2
    return padding
