"""The belly in files: its scan, and its masks as a folder of somebody else's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.answering.phantom import VOCABULARY, geometry, masks, volume
from voxicon.io.masks import write_masks
from voxicon.io.nifti import write_volume


def write_belly(folder: Path) -> Path:
    """``belly.nii.gz``, with noise of 3 HU as real CT has."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 3, volume().hu.shape)
    write_volume(folder / "belly.nii.gz", (volume().hu + noise).astype(np.int16), geometry())
    return folder / "belly.nii.gz"


def write_belly_masks(folder: Path, *names: str) -> Path:
    """``<class>.nii.gz`` of some classes, by default of all, in the folder itself."""
    write_masks(masks(), folder / "written", VOCABULARY)
    (folder / "written" / "segmentations").rename(folder / "masks")
    for path in (folder / "masks").iterdir():
        if names and path.name.removesuffix(".nii.gz") not in names:
            path.unlink()
    return folder / "masks"
