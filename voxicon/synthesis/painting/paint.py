"""A body as a map of structures becomes a CT.

Structures get the mean of their tissue in this patient and phase, then clouds, then what their pattern adds
(vessels, shells, septa, content), and all edges are blurred by the partial volume of a voxel.
Source of the idea: HU drawn per structure make networks robust (SynthSeg, Billot et al., Medical Image Analysis 2023).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from voxicon.errors import ConfigError
from voxicon.synthesis.label_map import OUTSIDE, LabelMap
from voxicon.synthesis.painting import lumen, patterns
from voxicon.synthesis.painting.canvas import Canvas, Floats, Patient, Region
from voxicon.synthesis.painting.tissues import PHASES, Phase

__all__ = ["OUTSIDE_HU", "PHASES", "paint"]

OUTSIDE_HU = -1000.0
"""Air around the body."""

_PATTERNS: dict[str, tuple[Callable[[Canvas, Region], None], bool]] = {
    "fat": (patterns.paint_fat, True),
    "muscle": (patterns.paint_muscle, True),
    "lung": (patterns.paint_lung, True),
    "bone": (patterns.paint_bone, True),
    "cartilage": (patterns.paint_cartilage, True),
    "long_bone": (patterns.paint_long_bone, False),
    "liver": (patterns.paint_liver, False),
    "spleen": (patterns.paint_spleen, False),
    "kidney": (patterns.paint_kidney, False),
    "lobulated": (patterns.paint_lobulated, False),
    "heart": (patterns.paint_heart, False),
    "artery": (patterns.paint_artery, True),
    "hollow": (lumen.paint_hollow, False),
    "bile": (lumen.paint_bile, False),
    "urine": (lumen.paint_urine, False),
}
"""Pattern of a tissue → how it is painted, and whether all structures of it are painted as one."""

_PHASE_CHANCES = (0.3, 0.25, 0.45)
_BETWEEN = 0.3
"""Share of scans without a named phase that lie between two."""

_BLUR_VOXELS = (0.45, 0.75)


def paint(
    label_map: LabelMap, rng: np.random.Generator, phase: Phase | str | None = None, variety: float = 1.0
) -> Floats:
    """Hounsfield units of a patient with these structures, as a perfect scanner would see them.

    Args:
        label_map: The body, on a grid with axes along R, A, S. The patient lies on the back, so gas rises along +y.
        rng: Source of randomness; the same state gives the same patient.
        phase: ``plain``, ``arterial`` or ``venous``; None draws one, sometimes a time between two.
        variety: Factor on how far patients lie from the means of `tissues.yaml`; 0 makes every patient average
            in brightness, more than 1 goes beyond what occurs.

    Returns:
        (X, Y, Z) float32 HU on the grid of the map; `OUTSIDE_HU` away from the body. A structure that
        the table does not know looks like soft tissue.

    Raises:
        ConfigError: There is no such phase, or the variety is negative.
    """
    if phase is not None and phase not in PHASES:
        raise ConfigError(f"phase: {phase!r} is no phase; expected {', '.join(PHASES)}, or none for a random one")
    if not 0 <= variety < np.inf:
        raise ConfigError(f"variety: {variety} is no factor; expected 0 (all alike), 1 (as in patients) or more")
    patient = Patient.draw(rng, _phase_weights(rng, phase), variety)
    canvas = Canvas(_means(label_map, patient), label_map, patient)
    patterns.paint_texture(canvas)
    for name, (painter, together) in _PATTERNS.items():
        for region in canvas.regions(name, together):
            painter(canvas, region)
    blur = float(rng.uniform(*_BLUR_VOXELS))
    return np.asarray(ndimage.gaussian_filter(canvas.hu, blur, mode="nearest", truncate=3), dtype=np.float32)


def _phase_weights(rng: np.random.Generator, phase: str | None) -> list[float]:
    weights = np.zeros(len(PHASES))
    if phase is not None:
        weights[[p == phase for p in PHASES]] = 1
    else:
        first = int(rng.choice(len(PHASES), p=_PHASE_CHANCES))
        second = int(rng.choice(len(PHASES), p=_PHASE_CHANCES))
        share = rng.uniform() if rng.uniform() < _BETWEEN else 0
        weights[first] += 1 - share
        weights[second] += share
    return [float(w) for w in weights]


def _means(label_map: LabelMap, patient: Patient) -> Floats:
    values = label_map.values
    table = np.full(int(values.max(initial=OUTSIDE)) + 1, OUTSIDE_HU, dtype=np.float32)
    for value in np.flatnonzero(np.bincount(values.ravel(), minlength=1)).tolist():
        if value != OUTSIDE:
            table[value] = patient.mean_hu(label_map.names.get(value, ""))
    hu: Floats = table[values]
    return hu
