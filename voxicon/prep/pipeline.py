"""A scan made ready for a network, and the trace that brings masks back.

The network always sees a patient in RAS at the checkpoint's spacing, values in [0, 1], cut to the body.
An oblique scan is resampled onto the RAS axes, so the answer does not depend on how the scanner's grid
was turned. (The original keeps oblique axes; for the usual axis-aligned scan the two are the same.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import AIR_HU, Source, Volume
from voxicon.errors import CheckpointError, NotCt
from voxicon.prep.resample import resample_values
from voxicon.prep.restore import crop_geometry, nearest_masks, restore_masks, restore_probabilities

BODY_HU = -300.0
"""Skin and everything inside it that is not gas lies above; clothing and couch foam lie below.
Source: fat is about -100 HU, foam and fabric below -500 HU."""

BODY_MARGIN_MM = 10.0
"""Kept around the body on every side."""

_FOREGROUND_MARGIN_VOXELS = 0


@dataclass(frozen=True, kw_only=True)
class PreparationConfig:
    """How a scan is made ready; part of every checkpoint."""

    spacing_mm: tuple[float, float, float]
    """Spacing of the model grid along R, A, S."""
    window_hu: tuple[float, float]
    """HU that become 0 and 1; values outside are clipped."""
    antialias: bool = True
    """Average over coarser voxels (ours) or sample points (the original)."""
    crop: Literal["body", "foreground", "none"] = "body"
    """``body``: box of the largest connected thing above `BODY_HU`, plus a centimetre.
    ``foreground``: box of all that lies above the window's lower end, as the original does."""

    def __post_init__(self) -> None:
        low, high = self.window_hu
        if min(self.spacing_mm) <= 0 or low >= high or self.crop not in ("body", "foreground", "none"):
            raise CheckpointError(
                f"preparation settings make no sense: spacing {self.spacing_mm} mm, window {low}..{high} HU, "
                f"crop {self.crop!r}; the checkpoint is damaged"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreparationConfig:
        """Read a checkpoint's settings.

        Raises:
            CheckpointError: A field is missing, unknown or senseless.
        """
        try:
            fields = dict(values)
            fields["spacing_mm"] = tuple(float(s) for s in fields["spacing_mm"])
            fields["window_hu"] = tuple(float(h) for h in fields["window_hu"])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"preparation settings of the checkpoint are damaged: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return asdict(self)


@dataclass(frozen=True)
class Trace:
    """The way back: from the model grid of one scan to the grid it came from."""

    source: Geometry
    model: Geometry
    origin: Source

    def restore(self, masks: MaskSet, *, nearest: bool = False) -> MaskSet:
        """Masks on the scan's own grid: the same `Geometry` object, not a look-alike.

        Each class keeps its volume to within a voxel's rounding; with `nearest` every voxel is copied from the nearest
        one, as the original system does. See `voxicon.prep.restore`.
        """
        return (nearest_masks if nearest else restore_masks)(masks, self.source, self.origin)

    def restore_probabilities(self, levels: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
        """Probabilities (255 times, rounded) by class on the scan's own grid, 0 beyond the model grid."""
        return {name: restore_probabilities(level, self.model, self.source) for name, level in levels.items()}


@dataclass(frozen=True)
class Prepared:
    """What a network reads.

    Attributes:
        image: (X, Y, Z) float32 in [0, 1] on `trace.model`.
        trace: Brings masks back.
    """

    image: NDArray[np.float32]
    trace: Trace


def model_grid(source: Geometry, spacing_mm: tuple[float, float, float]) -> Geometry:
    """The RAS-aligned grid of a given spacing that covers a scan.

    The first voxel centre is the scan's lowest corner and the last lies within half a spacing of its
    highest. Source: the convention of MONAI's ``Spacing``, kept so that converted weights see the same voxels.
    """
    corners = source.corners_mm()
    low, extent = corners.min(axis=0), np.ptp(corners, axis=0)
    spacing = np.array(spacing_mm)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low
    # Half a step counts as a whole one, with room for float noise: the grid must not depend on the machine.
    x, y, z = (int(n) for n in np.floor(extent / spacing + 0.5 + 1e-6) + 1)
    return Geometry((x, y, z), affine)


def prepare(volume: Volume, config: PreparationConfig) -> Prepared:
    """Turn to RAS, resample, window to [0, 1], cut to the body.

    Raises:
        NotCt: Nothing of the scan lies above air, so there is no body to look at.
    """
    grid = model_grid(volume.geometry, config.spacing_mm)
    hu = resample_values(volume.hu, volume.geometry, grid, antialias=config.antialias, outside=AIR_HU)
    box = _box(hu, grid, config)
    if box is None:
        raise NotCt(
            f"{volume.source.name}: no voxel above {BODY_HU:g} HU, so there is no body in this scan; "
            "check that the values are Hounsfield units",
            code="E-EMPTY",
        )
    grid, hu = crop_geometry(grid, box), hu[box]
    return Prepared(window(hu, config.window_hu), Trace(volume.geometry, grid, volume.source))


def window(hu: NDArray[np.float32], window_hu: tuple[float, float]) -> NDArray[np.float32]:
    """HU to [0, 1]: the window's ends become 0 and 1, values outside are clipped."""
    low, high = window_hu
    scaled: NDArray[np.float32] = np.clip((hu - low) / (high - low), 0, 1).astype(np.float32, copy=False)
    return scaled


def _box(hu: NDArray[np.float32], grid: Geometry, config: PreparationConfig) -> tuple[slice, slice, slice] | None:
    if config.crop == "none":
        x, y, z = (slice(0, n) for n in hu.shape)
        return x, y, z
    if config.crop == "foreground":
        inside, margins = hu > config.window_hu[0], (_FOREGROUND_MARGIN_VOXELS,) * 3
    else:
        labels = cc3d.largest_k((hu > BODY_HU).astype(np.uint8), k=1, connectivity=6)
        inside = labels > 0
        mx, my, mz = (round(BODY_MARGIN_MM / s) for s in grid.spacing_mm)
        margins = (mx, my, mz)
    if not inside.any():
        return None
    box = []
    for axis in range(3):
        hits = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        low = max(0, int(hits[0]) - margins[axis])
        box.append(slice(low, min(hu.shape[axis], int(hits[-1]) + 1 + margins[axis])))
    return box[0], box[1], box[2]
