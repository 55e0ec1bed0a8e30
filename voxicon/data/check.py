"""What is there and what is wrong: every scan and label of a dataset read once, before anything is trained on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.volume import Volume
from voxicon.data.annotation import Annotation
from voxicon.data.card import DatasetCard
from voxicon.data.cases import read_case
from voxicon.data.content import ContentHashes
from voxicon.data.fingerprint import Fingerprint, fingerprint
from voxicon.data.harmonise import Targets
from voxicon.data.layout import Case
from voxicon.errors import VoxiconError

VERSION = 1
"""Raised whenever the same files would be reported differently, so that remembered reports are made again."""

PLAUSIBLE_HU = {"lung": (-1000.0, -300.0), "other": (-150.0, 700.0)}
"""Median HU of a structure that is where its label says. Wide on purpose: labels that are mirrored, shifted or of
another scan put organs into air or lungs into the liver, and that is what this is to catch. Source: means of
named structures in three CTs (the test data's ``hu_stats.json``) lie between -870 and -700 for lung, and between
0 and 420 for all else."""

_FEW_ML = 0.5
_MOST_AIR_SHARE = 0.98


@dataclass(frozen=True)
class CaseReport:
    """One scan and its labels.

    Attributes:
        id: ``dataset/case``.
        error: Why the case cannot be used; empty when it can.
        warnings: What is odd.
        shape: Voxels of the scan.
        spacing_mm: Voxel size of the scan.
        orientation: Such as ``LPS``.
        hu_range: 0.1st and 99.9th percentile.
        volume_ml: Annotated class → its volume; 0 where it is annotated and absent.
        median_hu: Annotated class with voxels → the median HU inside.
        image_sha256: Of the scan's bytes.
        labels_sha256: Of the labels' bytes.
        fingerprint: What the scan is recognized by; None when it cannot be read.
    """

    id: str
    error: str = ""
    warnings: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    orientation: str = ""
    hu_range: tuple[float, ...] = ()
    volume_ml: Mapping[str, float] = field(default_factory=dict)
    median_hu: Mapping[str, float] = field(default_factory=dict)
    image_sha256: str = ""
    labels_sha256: str = ""
    fingerprint: Fingerprint | None = None

    def to_json(self) -> str:
        """One line."""
        values = asdict(self)
        values["fingerprint"] = self.fingerprint.to_dict() if self.fingerprint else None
        return json.dumps({"version": VERSION, **values})

    @classmethod
    def from_json(cls, line: str) -> CaseReport | None:
        """Undo `to_json`; None for a line of another version or one cut off by a kill."""
        try:
            values = json.loads(line)
            if values.pop("version") != VERSION:
                return None
            print_ = values.pop("fingerprint")
            lists: dict[str, Any] = {
                key: tuple(values.pop(key)) for key in ("warnings", "shape", "spacing_mm", "hu_range")
            }
            return cls(**values, **lists, fingerprint=Fingerprint.from_dict(print_) if print_ else None)
        except (ValueError, TypeError, KeyError, AttributeError, VoxiconError):
            return None


def check_case(case: Case, hashes: ContentHashes) -> CaseReport:
    """Read a case whole and say what is wrong with it. Never raises for a bad file: that is what it reports."""
    image, labels = "", ""
    try:
        image, labels = hashes.of(case.image), hashes.of_labels(case)
        volume, annotation, targets = read_case(case, tuple(sorted(case.annotates)))
        report = _report(case, volume, annotation, targets)
    except (VoxiconError, OSError) as error:
        report = CaseReport(case.id, error=str(error))
    return replace(report, image_sha256=image, labels_sha256=labels)


def _report(case: Case, volume: Volume, annotation: Annotation, targets: Targets) -> CaseReport:
    known = sorted(targets.known)
    inside = {name: targets.masks[name] for name in known}
    volumes = {name: round(float(mask.sum()) * volume.geometry.voxel_ml, 3) for name, mask in inside.items()}
    medians = {name: round(float(np.median(volume.hu[mask])), 1) for name, mask in inside.items() if mask.any()}
    sample = volume.hu[:: max(1, volume.hu.shape[0] // 128), :: max(1, volume.hu.shape[1] // 128)]
    warnings = [
        *volume.source.warnings,
        *_strange_values(annotation, case.card),
        *_implausible(medians),
        *_odd_volumes(volumes),
    ]
    if float((sample < PLAUSIBLE_HU["lung"][1]).mean()) > _MOST_AIR_SHARE:
        warnings.append("nearly all of the scan is air")
    return CaseReport(
        case.id,
        warnings=tuple(warnings),
        shape=volume.geometry.shape,
        spacing_mm=tuple(round(s, 3) for s in volume.geometry.spacing_mm),
        orientation=volume.geometry.orientation,
        hu_range=tuple(round(float(v), 1) for v in np.percentile(sample, (0.1, 99.9))),
        volume_ml=volumes,
        median_hu=medians,
        fingerprint=fingerprint(volume),
    )


def _strange_values(annotation: Annotation, card: DatasetCard) -> list[str]:
    if annotation.raw is None:
        return []
    raw: NDArray[Any] = annotation.raw
    strange = sorted(set(np.unique(raw).tolist()) - {0} - set(card.raw))
    if not strange:
        return []
    counts = ", ".join(f"{value} ({int((raw == value).sum())} voxels)" for value in strange[:5])
    return [f"label values that the card does not list, taken for background: {counts}"]


def _implausible(medians: Mapping[str, float]) -> list[str]:
    found = []
    for name, median in medians.items():
        low, high = PLAUSIBLE_HU["lung" if name.startswith("lung_") and not name.endswith("tumor") else "other"]
        if not low <= median <= high:
            found.append(
                f"{name} has a median of {median:g} HU, expected {low:g} to {high:g}: "
                "the labels may be mirrored, shifted, or of another scan"
            )
    return found


def _odd_volumes(volumes: Mapping[str, float]) -> list[str]:
    if volumes and not any(volumes.values()):
        return ["no annotated class has a voxel"]
    small = [name for name, ml in volumes.items() if 0 < ml < _FEW_ML and not name.endswith(("tumor", "cyst"))]
    return [f"less than {_FEW_ML} ml of {', '.join(small)}"] if small else []
