"""Lesions planted into training patches as they are cut: every patch other ones, none of them stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from voxicon.core.ball import ball_diameter_mm
from voxicon.core.concepts import Vocabulary
from voxicon.errors import ConfigError
from voxicon.synthesis.lesions.plant import KINDS, LesionKind, Planted, draw_diameter, kind_of, plant

Mask = NDArray[np.bool_]

ROSE = 5.0
"""Least contrast times the root of the number of voxels, in standard deviations; what has less is not
found reliably. Source: A. Rose, The Sensitivity Performance of the Human Eye on an Absolute Scale, J. Opt. Soc. Am. 38,
1948."""

_FEWEST_VOXELS = 60
"""A corner of an organ smaller than this holds no lesion worth planting."""


class Looks(BaseModel):
    """What the lesions of a kind look like in training, where it differs from `KINDS`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    diameter_mm: tuple[float, float] | None = None
    contrast_hu: tuple[tuple[float, float], ...] | None = None
    """Ranges of the difference to the host, each as likely as the others."""

    @model_validator(mode="after")
    def _is_sound(self) -> Looks:
        ranges = [*(self.contrast_hu or ()), *filter(None, [self.diameter_mm])]
        if any(low > high for low, high in ranges) or (self.diameter_mm is not None and self.diameter_mm[0] <= 0):
            raise ValueError(f"ranges go from low to high, diameters above 0; got {self.model_dump(exclude_none=True)}")
        return self

    def of(self, kind: LesionKind) -> LesionKind:
        """A kind with this look.

        Raises:
            ConfigError: A contrast for lesions that have a value of their own.
        """
        if self.contrast_hu is not None and kind.own_hu:
            raise ConfigError(f"{kind.name} has a value of its own, whatever its host: leave contrast_hu out")
        return replace(kind, **self.model_dump(exclude_none=True))


class PlantingConfig(BaseModel):
    """How often lesions are planted, and which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(0.0, ge=0, le=1)
    """Share of patches that get lesions, where an organ for them is in sight. 0 plants none."""
    most: int = Field(4, ge=1)
    """Most lesions in one patch."""
    visible: float = Field(0.0, ge=0)
    """Least contrast of a lesion with its host, in standard deviations of the host around it; others are not planted,
    nor are those too small for their contrast (`ROSE`). Told to find what nobody can see, a network learns to doubt
    what it sees. Those at a wall are left to chance: what bowel holds is no measure. 0 plants whatever was drawn."""
    room: float = Field(0.25, gt=0, le=1)
    """Largest share of a host that lesions take together, so that many are small ones: in a liver that is mostly tumor
    not even a radiologist could say which part is the liver."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Classes to plant; those that a recipe does not learn are left out."""

    looks: Mapping[str, Looks] = {}
    """By kind."""

    @field_validator("kinds", "looks")
    @classmethod
    def _can_be_planted(cls, value: Any) -> Any:
        for name in value:
            if name not in KINDS:
                raise ValueError(f"{name!r} cannot be planted; known: {', '.join(KINDS)}")
        return value


class Planter:
    """Plants lesions into patches of organs that are known to have none other than those annotated.

    A kind is planted only where its class and all classes it also belongs to are known: in a scan whose tumors nobody
    looked for, a tumor more would be labelled and the one beside it not.

    Args:
        config: How often, and which.
        classes: Of the run, in order.
    """

    def __init__(self, config: PlantingConfig, classes: Sequence[str]) -> None:
        self.config = config
        index = {name: i for i, name in enumerate(classes)}
        self.index = index
        vocabulary = Vocabulary.default()
        self.lesions = [i for name, i in index.items() if name in vocabulary and vocabulary[name].kind == "lesion"]
        self.kinds: tuple[LesionKind, ...] = tuple(
            config.looks.get(kind.name, Looks()).of(kind)
            for kind in map(kind_of, config.kinds)
            if kind.name in index and any(host in index for host in kind.hosts)
        )

    def plantable(self, known_N: NDArray[np.bool_], there_N: NDArray[np.bool_]) -> tuple[LesionKind, ...]:
        """Kinds for which a scan knows enough and has an organ.

        Of a kind and one that belongs to it as well only the latter: a liver tumor and a tumor at hepatic vessels look
        alike, and a network told now one name and now both would learn neither.

        Args:
            known_N: bool, which classes the scan knows.
            there_N: bool, which classes it has.
        """
        found = [
            kind
            for kind in self.kinds
            if all(known_N[self.index[name]] for name in (kind.name, *kind.also) if name in self.index)
            and any(known_N[self.index[host]] and there_N[self.index[host]] for host in self._hosts(kind))
        ]
        return tuple(kind for kind in found if not any(kind.name in other.also for other in found))

    def _hosts(self, kind: LesionKind) -> list[str]:
        return [host for host in kind.hosts if host in self.index]

    def plant(
        self,
        hu_XYZ: NDArray[np.float32],
        target_NXYZ: NDArray[np.bool_],
        known_N: NDArray[np.bool_],
        spacing_mm: float,
        rng: np.random.Generator,
    ) -> list[str]:
        """Change a patch in place; returns the classes planted, empty when chance or the patch says no.

        The lesion also becomes part of its host, as everywhere in this package: the liver holds its tumors.

        Args:
            hu_XYZ: float32.
            target_NXYZ: bool, one mask per class.
            known_N: bool, which classes the scan knows.
            spacing_mm: Voxel size.
            rng: Source of chance.
        """
        if rng.random() >= self.config.share:
            return []
        there_N = target_NXYZ.sum(axis=(1, 2, 3)) >= _FEWEST_VOXELS
        kinds = self.plantable(known_N, there_N)
        if not kinds:
            return []
        planted = []
        sides = (spacing_mm, spacing_mm, spacing_mm)
        lesion_XYZ: Mask = np.logical_or.reduce(target_NXYZ[self.lesions])
        there_XYZ: Mask = np.logical_or.reduce(target_NXYZ)
        # Few kinds in a patch and several of each: metastases come in numbers.
        for _ in range(int(rng.integers(1, self.config.most + 1))):
            kind = kinds[int(rng.integers(len(kinds)))]
            hosts = [name for name in self._hosts(kind) if there_N[self.index[name]]]
            host_XYZ = target_NXYZ[self.index[hosts[int(rng.integers(len(hosts)))]]]
            diameter = self._diameter(kind, host_XYZ, lesion_XYZ, spacing_mm, rng)
            if diameter is None:
                continue
            # Neither other lesions nor, where it grows out of its host, other organs.
            taken = lesion_XYZ | (there_XYZ & ~host_XYZ)
            found = plant(hu_XYZ, host_XYZ, sides, kind, rng, diameter_mm=diameter, avoid_XYZ=taken)
            if found is None or not self._is_visible(found, (host_XYZ & ~taken)[found.box], kind):
                continue
            hu_XYZ[found.box] = found.hu
            labels = [target_NXYZ[self.index[name]] for name in (kind.name, *kind.also) if name in self.index]
            for mask in (*labels, host_XYZ, lesion_XYZ, there_XYZ):
                mask[found.box] |= found.mask
            planted.append(kind.name)
        return planted

    def _diameter(
        self, kind: LesionKind, host_XYZ: Mask, lesion_XYZ: Mask, spacing_mm: float, rng: np.random.Generator
    ) -> float | None:
        """Drawn from what the kind, the host and the room left in it allow; None without room."""
        n_host = int(host_XYZ.sum())
        n_left = max(0.0, self.config.room * n_host - int((lesion_XYZ & host_XYZ).sum()))
        host_mm3, room_mm3 = n_host * spacing_mm**3, n_left * spacing_mm**3
        if ball_diameter_mm(room_mm3) < kind.diameter_mm[0]:
            return None
        return draw_diameter(kind, host_mm3, rng, room_mm3=room_mm3)

    def _is_visible(self, found: Planted, host_XYZ: Mask, kind: LesionKind) -> bool:
        around = found.hu[host_XYZ & ~found.mask]
        if kind.at_wall or around.size < _FEWEST_VOXELS:
            return True
        contrast = abs(found.hu[found.mask].mean() - around.mean())
        rose = ROSE / np.sqrt(found.mask.sum()) if self.config.visible > 0 else 0.0
        return bool(contrast >= max(self.config.visible, rose) * around.std())
