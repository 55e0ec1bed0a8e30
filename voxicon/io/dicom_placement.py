"""Where the slices of a series are, told by their positions alone, and why they are no volume if they are none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry
from voxicon.io.dicom_headers import Header
from voxicon.io.nifti_placement import PLAUSIBLE_SPACING_MM

SAME_PLACE_MM = 0.01
"""Slices closer than this lie at one place: no CT is reconstructed that finely."""

POSITION_NOISE_MM = 0.1
"""A slice may lie this far from where equal spacing puts it: some scanners round positions to 0.1 mm."""

SAME_DIRECTION = 1e-4
"""Direction cosines may differ by this between slices: 0.05 mm over half a metre."""

SAME_PIXEL_MM = 1e-4
"""Pixel sizes may differ by this between slices: 0.05 mm over 512 pixels."""

CROOKED_COSINE = 1e-2
"""Directions further than this from unit length, or from a right angle, are no rounding."""

TILT_DEGREES = 0.5
"""A gantry is tilted by whole degrees; rounded positions and directions of an upright one make less of it."""

TILT_PIXELS = 0.25
"""Slices that drift by less than this over the whole scan are not refused; the affine follows them exactly."""

GAP_NOISE_SLICES = 0.1
"""A distance this close to several slices means missing files; any other, another spacing."""

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice in RAS millimetres.

    Attributes:
        origin: (3,) centre of the first pixel.
        cosines: (3, 2) unit directions in which column index and row index grow.
        pixel_mm: (2,) distances of pixel centres in these directions.
    """

    origin: _Floats
    cosines: _Floats
    pixel_mm: _Floats

    @property
    def normal(self) -> _Floats:
        """(3,) unit direction out of the plane."""
        cross = np.cross(self.cosines[:, 0], self.cosines[:, 1])
        normal: _Floats = cross / np.linalg.norm(cross)
        return normal


def plane_of(header: Header) -> Plane:
    """The plane that a header states. Source: DICOM PS3.3, C.7.6.2.1.1.

    Raises:
        BadGeometry: It states no position or direction (``E-ORIENT``) or no pixel size (``E-SPACING``).
    """
    position = header.numbers("ImagePositionPatient", 3)
    directions = header.numbers("ImageOrientationPatient", 6)
    if position is None or directions is None:
        element = "ImagePositionPatient" if position is None else "ImageOrientationPatient"
        raise BadGeometry(
            f"{header.name}: does not say where it lies (no usable {element}); expected the position and direction "
            "of every slice; export the series again as the scanner gave it",
            code="E-ORIENT",
        )
    spacing = header.numbers("PixelSpacing", 2)
    if spacing is None or min(spacing) < PLAUSIBLE_SPACING_MM[0] or max(spacing) > PLAUSIBLE_SPACING_MM[1]:
        raise BadGeometry(
            f"{header.name}: PixelSpacing is {header.text('PixelSpacing') or 'missing'}; expected two lengths of "
            f"{PLAUSIBLE_SPACING_MM[0]:g} to {PLAUSIBLE_SPACING_MM[1]:g} mm; export the series again",
            code="E-SPACING",
        )
    cosines = directions.reshape(2, 3).T * _LPS_TO_RAS[:, None]
    if np.abs(cosines.T @ cosines - np.eye(2)).max() > CROOKED_COSINE:
        raise BadGeometry(
            f"{header.name}: ImageOrientationPatient is {header.text('ImageOrientationPatient')}; expected two unit "
            "directions at a right angle; export the series again as the scanner gave it",
            code="E-ORIENT",
        )
    # PixelSpacing names the distance of rows first, which is the step of the row index: our second axis.
    return Plane(position * _LPS_TO_RAS, cosines / np.linalg.norm(cosines, axis=0), spacing[::-1])


def place(headers: list[Header], label: str) -> tuple[list[Header], Geometry]:
    """The slices in the order of the third voxel axis, and the grid they make.

    The third axis runs along row direction × column direction: toward the head for axial slices of a patient on
    the back. File order, instance numbers and SliceThickness are never looked at.

    Args:
        headers: One series.
        label: The folder for messages.

    Raises:
        BadGeometry: A slice has no place (``E-ORIENT``), one alone (``E-2D``), slices differ in size, pixels or
            direction (``E-MIXED``), two lie at one place (``E-DUP``), one is missing (``E-GAP``), they are not
            equally spaced (``E-SPACING``) or are stacked askew (``E-TILT``).
    """
    if len(headers) < 2:
        raise BadGeometry(
            f"{label}: holds a single slice ({headers[0].path.name}); expected at least two, which tell the distance "
            "of slices; give the folder of the whole series",
            code="E-2D",
        )
    planes = [plane_of(header) for header in headers]
    _refuse_mixture(headers, planes, label)
    normal = planes[0].normal
    order = np.argsort([float(plane.origin @ normal) for plane in planes], kind="stable")
    ordered = [headers[i] for i in order]
    origins = np.array([planes[i].origin for i in order])
    _refuse_duplicates(ordered, origins @ normal, label)
    _refuse_uneven(ordered, origins @ normal, label)
    step = (origins[-1] - origins[0]) / (len(origins) - 1)
    _refuse_askew(ordered, origins, step, planes[0], label)
    affine = np.eye(4)
    affine[:3, :2] = planes[0].cosines * planes[0].pixel_mm
    affine[:3, 2] = step
    affine[:3, 3] = origins[0]
    return ordered, Geometry((*ordered[0].columns_rows, len(ordered)), affine + 0.0)  # no -0 in messages


def _refuse_mixture(headers: list[Header], planes: list[Plane], label: str) -> None:
    first, plane = headers[0], planes[0]
    for header, other in zip(headers, planes, strict=True):
        pairs = (
            ("size", _text(first.columns_rows), _text(header.columns_rows), first.columns_rows == header.columns_rows),
            (
                *("direction", first.text("ImageOrientationPatient"), header.text("ImageOrientationPatient")),
                bool(np.abs(plane.cosines - other.cosines).max() <= SAME_DIRECTION),
            ),
            (
                *("pixel size", _text(plane.pixel_mm), _text(other.pixel_mm)),
                bool(np.abs(plane.pixel_mm - other.pixel_mm).max() <= SAME_PIXEL_MM),
            ),
        )
        for what, here, there, same in pairs:
            if not same:
                raise BadGeometry(
                    f"{label}: slices differ in {what}: {_file(first)} has {here}, {_file(header)} has {there}; "
                    "expected one for all; remove the files that do not belong to the scan",
                    code="E-MIXED",
                )


def _refuse_duplicates(ordered: list[Header], depths_mm: _Floats, label: str) -> None:
    twice = np.flatnonzero(np.diff(depths_mm) < SAME_PLACE_MM)
    if len(twice):
        k = twice[0]
        raise BadGeometry(
            f"{label}: {_file(ordered[k])} and {_file(ordered[k + 1])} lie at the same place ({depths_mm[k]:g} mm), "
            f"as do {len(twice) - 1} more pairs; expected one slice per place; keep one of the copies or of the phases",
            code="E-DUP",
        )


def _refuse_uneven(ordered: list[Header], depths_mm: _Floats, label: str) -> None:
    even = np.linspace(depths_mm[0], depths_mm[-1], len(depths_mm))
    if np.abs(depths_mm - even).max() <= POSITION_NOISE_MM:
        return
    steps = np.diff(depths_mm)
    usual = float(np.percentile(steps, 50, method="lower"))
    slices = steps / usual
    k = int(np.argmax(np.abs(slices - 1)))
    between = (
        f"between {_file(ordered[k])} ({depths_mm[k]:g} mm) and {_file(ordered[k + 1])} ({depths_mm[k + 1]:g} mm) "
        f"lie {steps[k]:g} mm, expected {usual:g}"
    )
    missing = int(np.rint(slices).sum()) - len(slices)
    if missing > 0 and np.abs(slices - np.rint(slices)).max() <= GAP_NOISE_SLICES:
        raise BadGeometry(f"{label}: {missing} slices are missing: {between}; copy the series again", code="E-GAP")
    raise BadGeometry(
        f"{label}: slices are not equally spaced ({min(steps):g} to {max(steps):g} mm): {between}; give a series "
        "reconstructed with one spacing",
        code="E-SPACING",
    )


def _refuse_askew(ordered: list[Header], origins: _Floats, step: _Floats, plane: Plane, label: str) -> None:
    straight = origins[0] + np.arange(len(origins))[:, None] * step
    aside = np.linalg.norm(origins - straight, axis=1)
    if aside.max() > POSITION_NOISE_MM:
        raise BadGeometry(
            f"{label}: {_file(ordered[int(aside.argmax())])} lies {aside.max():.3g} mm beside the line of the other "
            "slices; expected a straight stack; remove the files that do not belong to the scan",
            code="E-SPACING",
        )
    along = float(step @ plane.normal)
    drift = float(np.linalg.norm(step - along * plane.normal))
    degrees = math.degrees(math.atan2(drift, along))
    if degrees > TILT_DEGREES and drift * (len(origins) - 1) > TILT_PIXELS * min(plane.pixel_mm):
        raise BadGeometry(
            f"{label}: slices are stacked askew by {degrees:.1f} degrees (tilted gantry); expected a stack at a right "
            "angle to its slices; correct the tilt with a converter, or give an untilted reconstruction",
            code="E-TILT",
        )
    least, most = PLAUSIBLE_SPACING_MM
    if not least <= along <= most:
        raise BadGeometry(
            f"{label}: slices lie {along:g} mm apart; expected {least:g} to {most:g} mm; the positions are wrong, "
            "export the series again",
            code="E-SPACING",
        )


def _file(header: Header) -> str:
    """The file below the series' folder."""
    return header.name.partition("/")[2]


def _text(sizes: tuple[int, int] | _Floats) -> str:
    return " × ".join(f"{float(size):g}" for size in sizes)
