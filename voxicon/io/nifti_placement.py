"""Where a NIfTI header places its voxels, and which of its claims to believe when they contradict."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.errors import BadGeometry, InputError, UnreadableFile
from voxicon.io.read_options import ReadOptions

FORMS_NOISE_VOXELS = 0.05
"""qform and sform closer than this agree: the quaternion of a qform is rounded to float32."""

FORMS_LIMIT_VOXELS = 1.0
"""qform and sform further apart than this need the user's word: masks would lie in another place."""

PLAUSIBLE_SPACING_MM = (0.01, 100.0)
"""Voxel sizes of any CT, from micro-CT to a scout; outside, the unit or the header is wrong."""

SPACING_NOISE = 0.01
"""pixdim and sform may differ by this share before it is worth a word."""

SHEAR_COSINE = 1e-4
"""Axes whose cosine exceeds this are not perpendicular: rounding leaves far less, viewers tolerate little more."""

_UNITS = {0: ("no unit", 1.0), 1: ("metres", 1000.0), 2: ("mm", 1.0), 3: ("micrometres", 0.001)}
"""Spatial part of xyzt_units: name and mm. Source: nifti1.h, NIFTI_UNITS_*."""

_Affine = NDArray[np.float64]
_Shape = tuple[int, int, int]


def place(header: Any, shape: _Shape, name: str, options: ReadOptions) -> tuple[Geometry, tuple[str, ...]]:
    """The grid of a header in RAS millimetres, and what was odd about it.

    Args:
        header: A nibabel NIfTI header, taken from the file unchecked; not modified.
        shape: Voxels along the three axes.
        name: The file's name for messages.
        options: `use`, `assume_orientation` and `spacing_mm` settle what the header leaves open.

    Raises:
        UnreadableFile: The unit of length is unknown (``E-HEADER``).
        BadGeometry: ``E-SPACING``, ``E-ORIENT``, ``E-FORMS`` or ``E-AFFINE``.
    """
    unit, mm = _unit(header, name)
    header, notes = _with_spacing(header, mm, name, options)
    forms = {form: _in_mm(affine, mm) for form, affine in _coded_forms(header, options).items()}
    if mm != 1:
        notes.append(f"{name}: header lengths are in {unit}; converted to mm")
    if forms:
        chosen = _believed(forms, name, options)
        affine = forms[chosen]
        if affine is None:
            raise _singular(name, f"its {chosen} is no rotation")
    else:
        affine = _assumed(header, mm, name, options)
        notes.append(f"{name}: header does not place the voxels; axes assumed to grow to {options.assume_orientation}")
    geometry = _geometry(shape, affine, name)
    if forms:
        notes += _compare_forms(forms, chosen, geometry, name, options)
    notes += _spacing_notes(forms, header, mm, geometry, name)
    return geometry, tuple(notes)


def places_alike(header: Any, geometry: Geometry) -> bool:
    """True when any reader that follows the sform-first rule finds this very geometry in a header, in mm."""
    form: Literal["sform"] | None = "sform" if int(header["sform_code"]) > 0 else None
    try:
        own, _ = place(header, geometry.shape, "header", ReadOptions(use=form))
        return own == geometry and _unit(header, "header")[1] == 1
    except InputError:
        return False


def is_sheared(affine: _Affine) -> bool:
    """True when two voxel axes are not perpendicular, so no qform can express the affine."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_COSINE)


def _unit(header: Any, name: str) -> tuple[str, float]:
    code = int(header["xyzt_units"]) & 7
    if code not in _UNITS:
        raise UnreadableFile(
            f"{name}: header xyzt_units names length unit {code}; expected metres, mm or micrometres (1 to 3); "
            "repair the header",
            code="E-HEADER",
        )
    return _UNITS[code]


def _with_spacing(header: Any, mm: float, name: str, options: ReadOptions) -> tuple[Any, list[str]]:
    """A copy whose pixdim can be computed with: checked, or overridden by the user."""
    header = header.copy()
    pixdim = header["pixdim"]
    pixdim[0] = -1 if pixdim[0] < 0 else 1  # qfac; any other value means 1 (nifti1.h)
    found = [float(p) for p in pixdim[1:4]]
    if options.spacing_mm is not None:
        pixdim[1:4] = np.array(options.spacing_mm) / mm
        return header, [f"{name}: voxel size {_text(options.spacing_mm)} mm used instead of pixdim {_text(found)}"]
    if not all(math.isfinite(p) and p > 0 for p in found):
        raise BadGeometry(
            f"{name}: header pixdim is {_text(found)}; expected three positive voxel sizes; give spacing_mm=X,Y,Z",
            code="E-SPACING",
        )
    return header, []


def _coded_forms(header: Any, options: ReadOptions) -> dict[str, _Affine | None]:
    """The placements that the header declares valid, sform first; None for one that cannot be computed."""
    forms: dict[str, _Affine | None] = {}
    if int(header["sform_code"]) > 0:
        sform = np.array(header.get_sform(), dtype=np.float64)
        if options.spacing_mm is not None:
            lengths = np.linalg.norm(sform[:3, :3], axis=0)
            sform[:3, :3] *= np.divide(header["pixdim"][1:4], lengths, out=np.zeros(3), where=lengths > 0)
        forms["sform"] = sform
    if int(header["qform_code"]) > 0:
        try:
            forms["qform"] = np.array(header.get_qform(), dtype=np.float64)
        except (HeaderDataError, ValueError):
            forms["qform"] = None
    return forms


def _in_mm(affine: _Affine | None, mm: float) -> _Affine | None:
    return affine if affine is None else np.diag([mm, mm, mm, 1.0]) @ affine


def _believed(forms: dict[str, _Affine | None], name: str, options: ReadOptions) -> str:
    if options.use is not None and options.use not in forms:
        raise BadGeometry(
            f"{name}: has no {options.use} (its code is 0); expected one, as use={options.use} asks for it; "
            f"leave use away to take the {next(iter(forms))}",
            code="E-FORMS",
        )
    return options.use or next(iter(forms))


def _assumed(header: Any, mm: float, name: str, options: ReadOptions) -> _Affine:
    if options.assume_orientation is None:
        raise BadGeometry(
            f"{name}: header does not say which side is left (qform_code and sform_code are 0); expected one of them "
            "above 0; export again, or give assume_orientation=RAS if you are sure",
            code="E-ORIENT",
        )
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(options.orientation_axes()):
        affine[world, axis] = sign * float(header["pixdim"][1 + axis]) * mm
    return affine


def _geometry(shape: _Shape, affine: _Affine, name: str) -> Geometry:
    try:
        geometry = Geometry(shape, affine)
    except BadGeometry as error:
        raise _singular(name, str(error)) from None
    least, most = PLAUSIBLE_SPACING_MM
    if not all(least <= s <= most for s in geometry.spacing_mm):
        raise BadGeometry(
            f"{name}: voxels measure {_text(geometry.spacing_mm)} mm; expected {least:g} to {most:g} mm; the unit "
            "or the header is wrong, give spacing_mm=X,Y,Z",
            code="E-SPACING",
        )
    return geometry


def _singular(name: str, found: str) -> BadGeometry:
    return BadGeometry(
        f"{name}: {found}; expected an affine that gives every voxel its own place; repair the header, or give "
        "use=qform or use=sform if the other one is right",
        code="E-AFFINE",
    )


def _compare_forms(
    forms: dict[str, _Affine | None], chosen: str, geometry: Geometry, name: str, options: ReadOptions
) -> list[str]:
    """Words about a second placement that contradicts the chosen one; a refusal where it matters."""
    for form, affine in forms.items():
        if form == chosen:
            continue
        apart = _voxels_apart(geometry, affine)
        if apart <= FORMS_NOISE_VOXELS:
            continue
        found = f"{name}: qform and sform place voxels up to {apart:.3g} voxels apart"
        if apart > FORMS_LIMIT_VOXELS and options.use is None:
            raise BadGeometry(
                f"{found}; expected one placement; look which one is right and give use=sform or use=qform",
                code="E-FORMS",
            )
        return [f"{found}; the {chosen} was used"]
    return []


def _voxels_apart(geometry: Geometry, affine: _Affine | None) -> float:
    """Largest distance between corners under both placements, in the chosen grid's smallest voxel size."""
    if affine is None or not np.isfinite(affine).all():
        return math.inf
    index = geometry.to_index(geometry.corners_mm())
    moved = index @ affine[:3, :3].T + affine[:3, 3] - geometry.corners_mm()
    return float(np.linalg.norm(moved, axis=1).max() / min(geometry.spacing_mm))


def _spacing_notes(
    forms: dict[str, _Affine | None], header: Any, mm: float, geometry: Geometry, name: str
) -> list[str]:
    notes = []
    stated = [float(p) * mm for p in header["pixdim"][1:4]]
    far = any(abs(p - s) > SPACING_NOISE * s for p, s in zip(stated, geometry.spacing_mm, strict=True))
    if far and "qform" not in forms:
        notes.append(f"{name}: pixdim says {_text(stated)} mm, the sform {_text(geometry.spacing_mm)} mm; sform used")
    if is_sheared(geometry.affine):
        notes.append(f"{name}: voxel axes are not perpendicular; used as they are, some viewers will refuse the file")
    return notes


def _text(sizes: Any) -> str:
    return " × ".join(f"{float(size):g}" for size in sizes)
