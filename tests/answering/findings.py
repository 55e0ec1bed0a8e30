"""Findings with every field given, so that sentences about them can be written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from voxicon.answering.answers import Found
from voxicon.answering.detection import Detection, OperatingPoint, Share
from voxicon.findings.lesions import Confidence, LesionFinding
from voxicon.findings.organs import NORMAL_VOLUMES, OrganFinding
from voxicon.findings.shape import AxialDiameters
from voxicon.findings.vessels import VesselContact

_ENDS = ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))

LESION = LesionFinding(
    name="pancreas_tumor", number=1, organ="pancreas", beside=None, side=None, third="tail", volume_ml=3.14159,
    touches_border=False,
    axial=AxialDiameters(21.55, _ENDS, 14.25, _ENDS, 7), longest_diameter_mm=25.0, hu_mean=41.6, hu_sd=12.2,
    attenuation="hypo", hu_difference=-48.4, center_mm=(-30.5, 12.0, 140.0),
    box_voxels=((9, 11), (20, 22), (14, 16)), box_mm=((-41.0, 1.0, 130.0), (-20.0, 22.5, 151.0)),
    confidence=Confidence(0.874, 0.99, 0.49, 0.7), vessels=(VesselContact("aorta", 4.5, 0.0, None),),
)  # fmt: skip

ORGAN = OrganFinding(
    name="liver", volume_ml=1500.0, volume_without_lesions_ml=1490.0, hu_mean=105.0, hu_sd=15.0,
    extent_mm=(180.0, 150.0, 160.0), center_mm=(60.0, 10.0, 150.0), touches_border=False, components=1,
    normal_volume=NORMAL_VOLUMES["liver"], flags=(),
)  # fmt: skip

POINT = OperatingPoint(
    threshold=0.3,
    specificity=Share(0.95, 0.901, 0.98, 100),
    sensitivity={"10-20": Share(0.8, 0.7, 0.88, 50), "all": Share(0.874, 0.8, 0.92, 120)},
    data="220 scans of a hospital",
)


def lesion(**changes: Any) -> LesionFinding:
    return replace(LESION, **changes)


def organ(**changes: Any) -> OrganFinding:
    return replace(ORGAN, **changes)


def verdict(**changes: Any) -> Detection:
    found = Detection(
        name="pancreas_tumor", detected=True, score=0.99, threshold=0.5, measured=None, lesions=1, volume_ml=3.14159
    )
    return replace(found, **changes)


def found(**changes: Any) -> Found:
    one = Found(
        name="pancreas_tumor", number=1, volume_ml=3.14159, longest_mm=21.55, perpendicular_mm=14.25,
        extent_mm=(21.0, 21.5, 1234.5), hu_mean=41.6, hu_sd=12.2, center_mm=(-30.5, 12.0, 140.0),
        box_voxels=((9, 11), (20, 22), (14, 16)), box_mm=((-41.0, 1.0, 130.0), (-20.0, 22.4, 151.0)),
        touches_border=False,
    )  # fmt: skip
    return replace(one, **changes)
