"""A torso of boxes: a liver with a vessel, two kidneys and a spleen, whose every voxel is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Source, Volume
from voxicon.io.nifti import write_labels, write_volume

SPACING_MM = 2.0
SHAPE = (56, 44, 48)
ORIGIN_MM = (-55.0, -40.0, 100.0)

BOXES = {
    "liver": (slice(28, 54), slice(14, 42), slice(14, 44)),
    "hepatic_vessel": (slice(28, 54), slice(26, 29), slice(27, 30)),
    "kidney_right": (slice(36, 50), slice(2, 13), slice(4, 26)),
    "kidney_left": (slice(6, 20), slice(2, 13), slice(4, 26)),
    "spleen": (slice(2, 22), slice(14, 40), slice(20, 40)),
}
HU = {"liver": 100, "hepatic_vessel": 180, "kidney_right": 140, "kidney_left": 140, "spleen": 120}
"""In this order, each over those before."""

VALUES = {"spleen": 1, "kidney_right": 2, "kidney_left": 3, "liver": 5}
"""As in the card `chest_abdomen`."""


def geometry() -> Geometry:
    """RAS; x grows to the patient's right."""
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = ORIGIN_MM
    return Geometry(SHAPE, affine)


def torso(seed: int = 0) -> Volume:
    """Organs in fat in air, with noise of 8 HU."""
    hu = np.full(SHAPE, -1000.0)
    hu[1:-1, 1:-1] = -90
    for name, box in BOXES.items():
        hu[box] = HU[name]
    hu += np.random.default_rng(seed).normal(0, 8, SHAPE) * (hu > -1000)
    return Volume(np.rint(hu).astype(np.float32), geometry(), Source(name="torso"))


def organs(*left_out: str) -> MaskSet:
    """Masks of the torso; the vessel is part of the liver too."""
    masks = {}
    for name, box in BOXES.items():
        if name not in left_out:
            masks[name] = np.zeros(SHAPE, dtype=bool)
            masks[name][box] = True
    return MaskSet.from_masks(masks, geometry())


def labels() -> NDArray[np.int16]:
    """The torso's label map in values of the card `chest_abdomen`."""
    values = np.zeros(SHAPE, dtype=np.int16)
    for name, value in VALUES.items():
        values[BOXES[name]] = value
    return values


def write_torso(folder: Path) -> tuple[Path, Path]:
    """``torso.nii.gz`` and ``labels.nii.gz`` in a folder."""
    write_volume(folder / "torso.nii.gz", torso().hu.astype(np.int16), geometry())
    write_labels(folder / "labels.nii.gz", labels(), geometry())
    return folder / "torso.nii.gz", folder / "labels.nii.gz"
