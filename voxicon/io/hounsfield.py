"""Are these values Hounsfield units of a CT? Odd ones are mended with a word, the rest is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.storage import pieces, release
from voxicon.core.volume import AIR_HU
from voxicon.errors import NotCt

MAX_NAN_SHARE = 0.05
"""More voxels without a number than this: the file is damaged rather than blemished."""

LABEL_INTENTS = frozenset(range(1002, 1011))
"""LABEL, NEURONAME, matrices, vectors, point sets, triangles, quaternions. Source: nifti1.h, NIFTI_INTENT_*."""

MAX_LABELS = 150
"""A file of whole numbers with no more distinct ones is a label map; noise alone gives a CT far more."""

GRAY_LEVELS = 255.0
"""Highest value of an 8-bit picture."""

NORMALIZED_LIMIT = 20.0
"""A CT spans hundreds of units; all values within ±20 are z-scores or some other normalization."""

STORED_OFFSET_HU = 1024.0
"""Scanners store HU + 1024 as unsigned numbers and leave it to the header to subtract it again."""

_SAMPLE_VOXELS = 1_000_000

Hu = NDArray[np.float32]


def check_intent(code: int, name: str) -> None:
    """Refuse a file that says it is something else than a scan.

    Raises:
        NotCt: ``E-INTENT``.
    """
    if code in LABEL_INTENTS:
        raise NotCt(
            f"{name}: header intent_code {code} declares labels or vectors; expected a CT; give the scan itself",
            code="E-INTENT",
        )


def settle_hu(values: Hu, name: str, offset: float | None) -> tuple[str, ...]:
    """Turn stored values into Hounsfield units of at least -1024, in place.

    Args:
        values: (X, Y, Z) float32, scaled as the header says; modified.
        name: The file's name for messages.
        offset: Added to every value; None looks for a stored offset and removes it.

    Returns:
        What was odd and what was done; empty for a clean CT.

    Raises:
        NotCt: Too many voxels without a number (``E-NAN``), one value everywhere (``E-EMPTY``), a label map
            (``E-INTENT``), or a range no CT has (``E-HU``).
    """
    n_missing = _mark_missing(values, name)
    low, high = _range(values)
    sample = _sample(values)
    warnings = []
    _refuse_other_pictures(sample, low, high, name)
    if offset is None:
        offset = _stored_offset(sample)
        if offset:
            warnings.append(
                f"{name}: values look like HU + {-offset:g} (air lies near 0); {-offset:g} was subtracted; "
                "give hu_offset=0 if that is wrong"
            )
    if offset:
        for piece in pieces(values):
            values[piece] += np.float32(offset)
        sample += np.float32(offset)
    warnings += _clamp(values, low + (offset or 0), name)
    if n_missing:
        _fill_missing(values)
        warnings.append(f"{name}: {n_missing:,} voxels without a number (NaN or infinite) were set to {AIR_HU:g} HU")
    if not _has_air_or_fat(sample):
        warnings.append(
            f"{name}: has neither air nor fat (almost nothing below -50 HU); if this is MR or PET, the masks mean "
            "nothing; if a constant was added, give hu_offset"
        )
    return tuple(warnings)


def _mark_missing(values: Hu, name: str) -> int:
    """Number of voxels that are NaN or infinite; all become NaN, which no range or share below counts."""
    count = 0
    for piece in pieces(values):
        slab = values[piece]
        bad = ~np.isfinite(slab)
        count += int(np.count_nonzero(bad))
        slab[bad] = np.nan
    share = count / values.size
    if share > MAX_NAN_SHARE:
        raise NotCt(
            f"{name}: {share:.1%} of the voxels have no number (NaN or infinite); expected at most "
            f"{MAX_NAN_SHARE:.0%}; convert the scan again",
            code="E-NAN",
        )
    return count


def _range(values: Hu) -> tuple[float, float]:
    """The lowest and the highest number; NaN where there is none."""
    ends = [(np.fmin.reduce(values[p], axis=None), np.fmax.reduce(values[p], axis=None)) for p in pieces(values)]
    return float(np.fmin.reduce([low for low, _ in ends])), float(np.fmax.reduce([high for _, high in ends]))


def _fill_missing(values: Hu) -> None:
    for piece in pieces(values):
        slab = values[piece]
        slab[np.isnan(slab)] = AIR_HU


def _sample(values: Hu) -> Hu:
    """Every n-th voxel along each axis that has a number, about a million in all; a copy."""
    step = max(1, math.ceil((values.size / _SAMPLE_VOXELS) ** (1 / 3)))
    sample = values[::step, ::step, ::step].ravel()
    release(values)
    return sample[~np.isnan(sample)]


def _refuse_other_pictures(sample: Hu, low: float, high: float, name: str) -> None:
    found = f"{name}: values range from {low:g} to {high:g}"
    if low == high:
        raise NotCt(
            f"{name}: every voxel has the value {low:g}; expected a picture; export the scan again", code="E-EMPTY"
        )
    if low >= 0 and _looks_like_labels(sample):
        raise NotCt(
            f"{found} in few whole numbers: looks like a label map; expected a CT; give the scan itself",
            code="E-INTENT",
        )
    if (low >= 0 and high <= GRAY_LEVELS) or max(-low, high) <= NORMALIZED_LIMIT:
        raise NotCt(
            f"{found}: not Hounsfield units (air is -1000, water 0); expected the CT as the scanner gave it; "
            "give the file from before normalization or conversion to gray levels",
            code="E-HU",
        )


def _looks_like_labels(sample: Hu) -> bool:
    if (sample != np.rint(sample)).any():
        return False
    return len(np.unique(sample)) <= MAX_LABELS


def _share(sample: NDArray[Any], low: float, high: float) -> float:
    return float(np.count_nonzero((sample >= low) & (sample <= high)) / sample.size)


def _has_air_or_fat(sample: Hu) -> bool:
    # Padding (-2000, -3024) was clamped to air in the volume but not in the sample, and says nothing.
    return _share(sample, -1500, -50) > 1e-3


def _stored_offset(sample: Hu) -> float:
    """-1024 when the histogram is that of a CT moved up by 1024; 0 when it is not.

    Such a CT has its air peak near 0, its soft tissue near 1024, few voxels between (only lung edges lie
    there), and nothing where the air, lung and fat of a CT in HU would be.
    """
    if _has_air_or_fat(sample):
        return 0.0
    air = _share(sample, 0, 124)
    tissue = _share(sample, 874, 1224)
    between = _share(sample, 424, 774)
    return -STORED_OFFSET_HU if air > 0.01 and tissue > max(0.1, 2 * between) else 0.0


def _clamp(values: Hu, low: float, name: str) -> list[str]:
    if low >= AIR_HU:
        return []
    count = 0
    for piece in pieces(values):
        slab = values[piece]
        count += int(np.count_nonzero(slab < AIR_HU))
        np.maximum(slab, np.float32(AIR_HU), out=slab)
    return [
        f"{name}: {count:,} voxels lie below {AIR_HU:g} HU (lowest {low:g}: padding or rounding); set to {AIR_HU:g}"
    ]
