"""The organ that a patch is looked into, as an earlier network might have found it.

A network that looks for lesions inside their organ (`voxicon.model.host`) is told where that organ is. In training that
comes from labels, which are better than any network: so the border is moved and bitten into, neighbors as bright as the
organ are taken for it, and lesions and healthy pieces are now and then left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import ndimage
from torch.nn import functional

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

FEWEST_VOXELS = 500
"""A patch with less of an organ is not looked into."""

_BALL_MM, _HOLE_MM, _LEAK_MM = (4.0, 14.0), (3.0, 12.0), (10.0, 35.0)
"""Radii of what is added or bitten off at the border, left out within, and taken of neighbors. Own choice, after livers
found by weights that were trained for half an hour."""
_SURFACE_MM, _BEYOND_MM = 4.0, 15.0
"""What is border, and how far beyond it the middle of a leak lies."""
_ALIKE_HU = (40.0, 120.0)
"""How much neighbors may differ from the organ's median to be taken for it; a network mistakes fat for a liver too."""


class HostConfig(BaseModel):
    """How far the organ that is told may be from the labelled one. Lengths in mm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shift_mm: float = Field(1.0, ge=0)
    """Standard deviation of how much larger or smaller it is everywhere."""
    waves: tuple[tuple[float, float], ...] = ((30.0, 2.0), (12.0, 1.2))
    """Wavelength and standard deviation of how far its border is moved from place to place."""
    balls: int = Field(2, ge=0)
    """Most places of its border where a ball is added or bitten off."""
    leaks: float = Field(0.4, ge=0, le=1)
    """Share of patches where up to three pieces of neighbors are taken for it, centimeters wide."""
    left_out: float = Field(0.3, ge=0, le=1)
    """Share of patches with lesions whose lesions are told to be no part of it."""
    holes: float = Field(0.3, ge=0, le=1)
    """Share of patches where up to three healthy pieces are told to be no part of it: were it lesions alone that are
    left out, whatever is left out, as fat in a fissure, would pass for a lesion."""
    soft_mm: tuple[float, float] = (1.0, 3.0)
    """How slowly its probability falls across its border."""

    @model_validator(mode="after")
    def _is_sound(self) -> HostConfig:
        if any(length <= 0 or sigma < 0 for length, sigma in self.waves):
            raise ValueError(f"waves are pairs of a wavelength above 0 and a deviation in mm, got {self.waves}")
        if not 0 < self.soft_mm[0] <= self.soft_mm[1]:
            raise ValueError(f"soft_mm is a range above 0, the lower end first, got {self.soft_mm}")
        return self


@dataclass(frozen=True)
class Group:
    """Classes that are looked for in the same organs.

    Attributes:
        lesions: Indexes of the classes.
        hosts: Indexes of their organs.
    """

    lesions: tuple[int, ...]
    hosts: tuple[int, ...]


def groups_of(classes: Sequence[str], hosts_of: Mapping[str, Sequence[str]]) -> tuple[Group, ...]:
    """Which lesions of a run are looked for together.

    Args:
        classes: Of the run, in order.
        hosts_of: Lesion class → its organs, of which those that are no class of the run are left out.

    Returns:
        One group for each set of organs, in the order of the classes; none where no lesion has an organ here.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for index, name in enumerate(classes):
        hosts = tuple(classes.index(host) for host in hosts_of.get(name, ()) if host in classes)
        if hosts:
            found.setdefault(hosts, []).append(index)
    return tuple(Group(tuple(lesions), hosts) for hosts, lesions in found.items())


class Hosts:
    """Chooses an organ of a patch, and says what an earlier network might have said of it.

    Args:
        config: How far it may stray.
        groups: What is looked for where.
    """

    def __init__(self, config: HostConfig, groups: Sequence[Group]) -> None:
        self.config, self.groups = config, tuple(groups)

    def choose(
        self, hu_XYZ: Floats, target_NXYZ: Mask, known_N: Mask, spacing_mm: float, rng: np.random.Generator
    ) -> tuple[Floats, Mask]:
        """An organ, and the classes that are looked for in it.

        Args:
            hu_XYZ: The patch.
            target_NXYZ: One mask per class.
            known_N: Which of them are known.
            spacing_mm: Voxel size.
            rng: Source of chance.

        Returns:
            (X, Y, Z) float32, its probability, and (N,) bool. All zeros and none where the patch shows too little
            of any organ whose lesions are known.
        """
        there = [
            group
            for group in self.groups
            if known_N[list(group.lesions)].any()
            and known_N[list(group.hosts)].all()
            and target_NXYZ[list(group.hosts)].sum() >= FEWEST_VOXELS
        ]
        if not there:
            return np.zeros(target_NXYZ.shape[1:], dtype=np.float32), np.zeros_like(known_N)
        group = there[int(rng.integers(len(there)))]
        lesions = list(group.lesions)
        host_XYZ: Mask = np.logical_or.reduce(target_NXYZ[list(group.hosts)])
        lesion_XYZ: Mask = np.logical_or.reduce(target_NXYZ[lesions])
        counted_N = np.zeros_like(known_N)
        counted_N[lesions] = known_N[lesions]
        return told(hu_XYZ, host_XYZ, lesion_XYZ, spacing_mm, self.config, rng), counted_N


def told(
    hu_XYZ: Floats,
    host_XYZ: Mask,
    lesion_XYZ: Mask,
    spacing_mm: float,
    config: HostConfig,
    rng: np.random.Generator,
) -> Floats:
    """What an earlier network might say of an organ: (X, Y, Z) float32, 0 to 1.

    Args:
        hu_XYZ: The patch.
        host_XYZ: The organ, its lesions included; at least one voxel.
        lesion_XYZ: Its lesions.
        spacing_mm: Voxel size.
        config: How far it may stray.
        rng: Source of chance.
    """
    depth_mm = _depth_mm(host_XYZ, spacing_mm) + np.float32(rng.normal(0, config.shift_mm))
    for wavelength_mm, sigma_mm in config.waves:
        depth_mm += np.float32(rng.normal(0, sigma_mm)) * _waves(host_XYZ.shape, wavelength_mm / spacing_mm, rng)
    for _ in range(int(rng.integers(config.balls + 1))):
        surface = np.argwhere(np.abs(depth_mm) < _SURFACE_MM)
        if not len(surface):
            break
        center, radius_mm = surface[rng.integers(len(surface))], rng.uniform(*_BALL_MM)
        ball_mm = np.float32(radius_mm) - _distance_mm(host_XYZ.shape, center, spacing_mm)
        depth_mm = np.maximum(depth_mm, ball_mm) if rng.random() < 0.5 else np.minimum(depth_mm, -ball_mm)
    if rng.random() < config.leaks:
        depth_mm = np.maximum(depth_mm, _leaks_mm(hu_XYZ, host_XYZ, depth_mm, spacing_mm, rng))
    if lesion_XYZ.any() and rng.random() < config.left_out:
        depth_mm = np.minimum(depth_mm, np.float32(rng.uniform(-1, 4)) - _depth_mm(lesion_XYZ, spacing_mm))
    if rng.random() < config.holes:
        depth_mm = _with_holes(depth_mm, host_XYZ & ~lesion_XYZ, spacing_mm, rng)
    soft_mm = rng.uniform(*config.soft_mm)
    found: Floats = torch.from_numpy(depth_mm / np.float32(soft_mm)).sigmoid().numpy()
    return found


def _leaks_mm(hu_XYZ: Floats, host_XYZ: Mask, depth_mm: Floats, spacing_mm: float, rng: np.random.Generator) -> Floats:
    """Depth within pieces of neighbors that are about as bright as the organ; negative outside of them."""
    smooth = ndimage.uniform_filter(hu_XYZ, 3)
    alike = np.abs(smooth - np.median(hu_XYZ[host_XYZ])) < rng.uniform(*_ALIKE_HU)
    found = np.full(hu_XYZ.shape, -np.inf, dtype=np.float32)
    near = np.argwhere((depth_mm < 0) & (depth_mm > -_BEYOND_MM) & alike)
    for _ in range(int(rng.integers(1, 4)) if len(near) else 0):
        center, radius_mm = near[rng.integers(len(near))], rng.uniform(*_LEAK_MM)
        found = np.maximum(found, np.float32(radius_mm) - _distance_mm(hu_XYZ.shape, center, spacing_mm))
    return np.where(alike, found, np.minimum(found, -_SURFACE_MM)).astype(np.float32)


def _with_holes(depth_mm: Floats, healthy_XYZ: Mask, spacing_mm: float, rng: np.random.Generator) -> Floats:
    places = np.argwhere(healthy_XYZ)
    for _ in range(int(rng.integers(1, 4)) if len(places) else 0):
        center, radius_mm = places[rng.integers(len(places))], rng.uniform(*_HOLE_MM)
        depth_mm = np.minimum(depth_mm, _distance_mm(depth_mm.shape, center, spacing_mm) - np.float32(radius_mm))
    return depth_mm


def _depth_mm(mask: Mask, spacing_mm: float) -> Floats:
    """Distance to the border, positive inside."""
    if mask.all():
        return np.full(mask.shape, float(max(mask.shape)) * spacing_mm, dtype=np.float32)
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    found: Floats = ((inside - outside) * spacing_mm).astype(np.float32)
    return found


def _waves(shape: tuple[int, ...], wavelength: float, rng: np.random.Generator) -> Floats:
    """Smooth noise of about unit variance."""
    cells = [max(3, int(np.ceil(n / wavelength)) + 2) for n in shape]
    coarse = torch.from_numpy(rng.standard_normal(cells).astype(np.float32))[None, None]
    found: Floats = functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    return found


def _distance_mm(shape: tuple[int, ...], center: NDArray[np.intp], spacing_mm: float) -> Floats:
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    squares = sum((axis - float(c)) ** 2 for axis, c in zip(axes, center, strict=True))
    found: Floats = (np.sqrt(squares) * spacing_mm).astype(np.float32)
    return found
