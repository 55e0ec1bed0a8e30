"""The page of one scan's findings: impression, answers, tables and pictures in one file, in one language.

It takes a `voxicon.answering.document.Document` and pictures drawn before, and says nothing that is not in them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voxicon.answering.answers import RequestAnswer
from voxicon.answering.detection import Detection
from voxicon.answering.document import Document
from voxicon.answering.language import Language, sentence
from voxicon.answering.telling import Lesions, answer_lines, attenuation_words, place_of, worth
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.findings.lesions import LesionFinding
from voxicon.findings.organs import IN_PIECES, OrganFinding
from voxicon.findings.vessels import VesselContact
from voxicon.report.key_slices import KeySlice, key_slices
from voxicon.report.mosaic import lesion_mosaic
from voxicon.report.page import Figure, render
from voxicon.report.palette import Palette
from voxicon.report.solid import solid_picture

PICTURED: Final = 12
"""Lesions that get a picture and a table of their own; more would make the page heavy and nobody would look."""


@dataclass(frozen=True)
class Pictures:
    """PNG files of one scan.

    Attributes:
        slices: Key slices and what they show.
        mosaics: By class and number of a lesion.
        solid: All masks as bodies; None without any.
    """

    slices: Sequence[tuple[bytes, KeySlice]] = ()
    mosaics: Mapping[tuple[str, int], bytes] | None = None
    solid: bytes | None = None


def draw_pictures(document: Document, volume: Volume, masks: MaskSet, palette: Palette) -> Pictures:
    """All pictures of a page.

    Args:
        document: What was measured on `masks`.
        volume: The scan.
        masks: On its grid.
        palette: Colors, and the vocabulary of `masks`.
    """
    vocabulary, lesions = palette.vocabulary, document.lesions
    return Pictures(
        slices=key_slices(volume, masks, vocabulary, lesions, palette),
        mosaics={
            (one.name, one.number): lesion_mosaic(volume, masks, vocabulary, one, palette) for one in lesions[:PICTURED]
        },
        solid=solid_picture(masks, vocabulary, palette) if masks.bounds() else None,
    )


def findings_page(document: Document, pictures: Pictures, palette: Palette, say: Language) -> str:
    """One HTML file: complete, printable, and without a script.

    Args:
        document: What was asked, found and measured.
        pictures: Those that are left out are not on the page.
        palette: Colors of organs, as in the pictures.
        say: The language of the page.
    """
    scan = document.scan
    lesions: Lesions = {(one.name, one.number): one for one in document.lesions}
    mosaics = pictures.mosaics or {}
    shown, more = document.lesions[:PICTURED], document.lesions[PICTURED:]
    return render(
        "findings.html",
        say.say("page.title", scan=scan.name),
        t=say.say,
        say=say,
        document=document,
        scan=scan,
        spacing=" × ".join(say.number(length, 2) for length in scan.spacing_mm),
        figures=_figures(document, say),
        requests=[_request(one, lesions, say) for one in document.requests],
        detection=[_detection(one, say) for one in document.detection],
        lesions=[_lesion(one, mosaics.get((one.name, one.number)), palette, say) for one in shown],
        more_lesions=[_brief(one, say) for one in more],
        organs=[_organ(one, palette, say) for one in document.organs],
        slices=[_slice(png, shown, say) for png, shown in pictures.slices],
        solid=_source(pictures.solid),
        origin=_origin(document, say),
        method=say.lines("page.method"),
    )


def _figures(document: Document, say: Language) -> list[Figure]:
    """Numbers to see first: kinds found, the amount of each, and organs."""

    def share(found: int, looked_for: int, label: str) -> Figure:
        return Figure(say.number(found), label, say.say("page.of_looked_for", n=looked_for))

    kinds = [one for one in document.detection if one.detected]
    figures = [share(len(kinds), len(document.detection), say.say("page.figure_kinds"))] if document.detection else []
    for one in kinds:
        volume = say.say("answers.volume", value=say.amount(one.volume_ml))
        figures.append(Figure(say.number(one.lesions), say.name(one.name), volume, "bad"))
    if document.organs:
        there = sum(one.volume_ml > 0 for one in document.organs)
        figures.append(share(there, len(document.organs), say.say("page.figure_organs")))
    return figures


def _request(answer: RequestAnswer, lesions: Lesions, say: Language) -> dict[str, Any]:
    told = {key: getattr(answer, key) for key in ("text", "understood", "ignored", "corrected")}
    lines = [line for clause in answer.clauses for line in answer_lines(clause, lesions, say)]
    files = [path for clause in answer.clauses for target in clause.targets for path in target.masks]
    return {**told, "lines": lines, "files": list(dict.fromkeys(files))}


def _detection(one: Detection, say: Language) -> dict[str, Any]:
    known = say.say("page.known_given" if one.by == "masks" else "page.known_nothing")
    return {
        "name": say.name(one.name),
        "detected": one.detected,
        "score": say.number(one.score, 2),
        "threshold": say.number(one.threshold, 2),
        "lesions": one.lesions,
        "volume": say.say("answers.volume", value=say.amount(one.volume_ml)),
        "known": " ".join(worth(one.measured, say)) if one.measured else known,
    }


def _lesion(one: LesionFinding, mosaic: bytes | None, palette: Palette, say: Language) -> dict[str, Any]:
    brief = _brief(one, say)
    x, y, z = map(say.number, one.center_mm)
    rows = {
        say.say("page.where"): brief["where"],
        say.say("page.size"): brief["size"],
        say.say("page.diameter_3d"): say.say("answers.length", value=say.number(one.longest_diameter_mm, 1)),
        say.say("page.density"): brief["density"],
        say.say("page.against"): attenuation_words(one, say),
        say.say("page.center"): say.say("page.center_told", x=x, y=y, z=z),
        say.say("page.box"): " × ".join(f"{low}:{high}" for low, high in one.box_voxels),
        say.say("page.vessels"): "; ".join(_vessel(vessel, say) for vessel in one.vessels),
        say.say("page.border"): say.say("page.border_cut") if one.touches_border else "",
    }
    if one.confidence is not None:
        mean, highest = say.number(one.confidence.mean, 2), say.number(one.confidence.highest, 2)
        rows[say.say("page.confidence")] = say.say("page.confidence_told", mean=mean, highest=highest)
        rows[say.say("page.stability")] = say.number(one.confidence.stability, 2)
    told = [(label, value) for label, value in rows.items() if value]
    return {**brief, "color": _color(one.name, palette), "picture": _source(mosaic), "rows": told}


def _brief(one: LesionFinding, say: Language) -> dict[str, Any]:
    longest, perpendicular = say.number(one.axial.longest_mm, 1), say.number(one.axial.perpendicular_mm, 1)
    size = say.say("answers.axial", longest=longest, perpendicular=perpendicular)
    return {
        "name": sentence(say.name(one.name)),
        "number": one.number,
        "where": place_of(one, say) or say.say("page.no_organ"),
        "size": f"{size}, {say.say('answers.volume', value=say.amount(one.volume_ml))}",
        "density": say.say("answers.density", mean=say.number(one.hu_mean), sd=say.number(one.hu_sd)),
    }


def _vessel(vessel: VesselContact, say: Language) -> str:
    name = say.name(vessel.name)
    if vessel.distance_mm is None:
        return say.say("page.vessel_absent", name=name)
    if vessel.distance_mm > 0:
        return say.say("page.vessel_distance", name=name, value=say.number(vessel.distance_mm, 1))
    if not vessel.contact_deg:
        return say.say("page.vessel_met", name=name)
    return say.say("page.vessel_touched", name=name, degrees=say.number(vessel.contact_deg))


def _organ(one: OrganFinding, palette: Palette, say: Language) -> dict[str, Any]:
    normal = one.normal_volume
    spared = one.volume_without_lesions_ml
    there = one.volume_ml > 0
    remarks = [(say.say(f"page.flags.{flag}", n=one.components), "warn") for flag in one.flags if flag != IN_PIECES]
    remarks += [(say.say(f"page.flags.{flag}", n=one.components), "") for flag in one.flags if flag == IN_PIECES]
    return {
        "name": say.name(one.name),
        "color": _color(one.name, palette),
        "volume": say.say("answers.volume", value=say.amount(one.volume_ml)) if there else "–",
        "without": say.say("answers.volume", value=say.amount(spared)) if spared != one.volume_ml else "",
        "normal": say.say("answers.range", low=say.number(normal.low_ml), high=say.number(normal.high_ml))
        if normal
        else "",
        "density": say.say("answers.density", mean=say.number(one.hu_mean), sd=say.number(one.hu_sd)) if there else "",
        "extent": " × ".join(say.number(length) for length in one.extent_mm or ()),
        "remarks": remarks if there else [(say.say("page.flags.absent"), "")],
    }


def _slice(png: bytes, shown: KeySlice, say: Language) -> dict[str, Any]:
    return {
        "picture": _source(png),
        "number": shown.number,
        "z": say.number(shown.z_mm, 1),
        "names": say.names(shown.classes),
    }


def _origin(document: Document, say: Language) -> list[str]:
    makers, scan = document.masks_by, document.scan
    lines = [say.say("page.scan_hash", file=scan.file, sha256=scan.sha256)]
    if makers.weights is not None:
        told: dict[str, Any] = {
            "name": makers.weights,
            "title": makers.title,
            "sha256": makers.sha256,
            "license": makers.license,
        }
        lines.append(say.say("page.made_by", **told))
    if makers.given:
        lines.append(say.say("page.given", folder=makers.given_from, names=say.names(makers.given)))
    sources: dict[tuple[str, str, str], list[str]] = {}
    for organ in document.organs:
        if organ.normal_volume is not None:
            normal = organ.normal_volume
            told_by = say.number(normal.low_ml), say.number(normal.high_ml), normal.source
            sources.setdefault(told_by, []).append(organ.name)
    for (low, high, source), names in sources.items():
        lines.append(say.say("page.normal_source", names=say.names(names), low=low, high=high, source=source))
    return lines


def _color(name: str, palette: Palette) -> str:
    red, green, blue = palette[name].color
    return f"#{red:02x}{green:02x}{blue:02x}"


def _source(png: bytes | None) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}" if png else ""
