"""``measurements.csv``: one line for each lesion and each organ, for spreadsheets."""

from __future__ import annotations

import csv
import io
from typing import Any

from voxicon.answering.document import Document
from voxicon.findings.lesions import LesionFinding
from voxicon.findings.organs import OrganFinding

MEASUREMENTS_FILE = "measurements.csv"

_COLUMNS = (
    "scan", "class", "kind", "number", "organ", "side", "third", "volume_ml", "volume_without_lesions_ml",
    "longest_axial_mm", "perpendicular_mm", "longest_3d_mm", "extent_rl_mm", "extent_ap_mm", "extent_si_mm",
    "hu_mean", "hu_sd", "hu_difference", "attenuation", "center_r_mm", "center_a_mm", "center_s_mm",
    "box_x", "box_y", "box_z", "touches_border", "components", "flags", "mean_probability", "stability",
)  # fmt: skip


def measurements_csv(document: Document) -> str:
    """Lesions, then organs, as CSV text with a header; a field is empty where it does not apply or is not known.

    Boxes are ``first:end`` in voxels of the scan, the end not included; flags are joined by ``;``.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in (*map(_lesion, document.lesions), *map(_organ, document.organs)):
        writer.writerow({"scan": document.scan.name, **{key: _field(value) for key, value in row.items()}})
    return text.getvalue()


def _lesion(one: LesionFinding) -> dict[str, Any]:
    (x0, y0, z0), (x1, y1, z1) = one.box_mm
    return {
        "class": one.name, "kind": "lesion", "number": one.number,
        "organ": one.organ, "side": one.side, "third": one.third,
        "volume_ml": one.volume_ml,
        "longest_axial_mm": one.axial.longest_mm, "perpendicular_mm": one.axial.perpendicular_mm,
        "longest_3d_mm": one.longest_diameter_mm,
        "extent_rl_mm": x1 - x0, "extent_ap_mm": y1 - y0, "extent_si_mm": z1 - z0,
        "hu_mean": one.hu_mean, "hu_sd": one.hu_sd,
        "hu_difference": one.hu_difference, "attenuation": one.attenuation,
        **_center(one.center_mm),
        **{f"box_{axis}": f"{low}:{high}" for axis, (low, high) in zip("xyz", one.box_voxels, strict=True)},
        "touches_border": one.touches_border,
        "mean_probability": one.confidence and one.confidence.mean,
        "stability": one.confidence and one.confidence.stability,
    }  # fmt: skip


def _organ(one: OrganFinding) -> dict[str, Any]:
    extent = one.extent_mm or (None, None, None)
    return {
        "class": one.name, "kind": "organ",
        "volume_ml": one.volume_ml, "volume_without_lesions_ml": one.volume_without_lesions_ml,
        **dict(zip(("extent_rl_mm", "extent_ap_mm", "extent_si_mm"), extent, strict=True)),
        "hu_mean": one.hu_mean, "hu_sd": one.hu_sd,
        **_center(one.center_mm),
        "touches_border": one.touches_border, "components": one.components, "flags": ";".join(one.flags),
    }  # fmt: skip


def _center(point: tuple[float, float, float] | None) -> dict[str, float | None]:
    return dict(zip(("center_r_mm", "center_a_mm", "center_s_mm"), point or (None, None, None), strict=True))


def _field(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value
