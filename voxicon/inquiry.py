"""Requests about one scan, answered: what is needed is found, or taken from masks at hand; then all is measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxicon.answering.answers import Answerer, Cutting
from voxicon.answering.detection import Detection, OperatingPoint, operating_points
from voxicon.answering.document import FINDINGS_FILE, FORMAT, Document, Makers, Scan
from voxicon.answering.language import Language
from voxicon.answering.language import language as language_of
from voxicon.answering.needs import Needs
from voxicon.answering.scene import Scene
from voxicon.answering.table import MEASUREMENTS_FILE, measurements_csv
from voxicon.answering.telling import impression
from voxicon.asking import Request, understood
from voxicon.core.clock import Clock
from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.evaluate.predictions import read_case_file
from voxicon.evaluate.tumors import CANDIDATE
from voxicon.finder import Finder, finder_of, needed
from voxicon.infer.cleanup import candidates
from voxicon.io.atomic import write_bytes, write_text
from voxicon.io.masks import SEGMENTATIONS, read_masks
from voxicon.io.nifti import read_volume, write_mask
from voxicon.result import DISCLAIMER, Result
from voxicon.version import __version__

if TYPE_CHECKING:
    from voxicon.report.palette import Colors
    from voxicon.segmenter import Segmenter

REPORT_FILE = "report.html"
PDF_FILE = "report.pdf"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Inquiry:
    """Answers about one scan.

    Attributes:
        result: All masks that were looked at, on the scan's grid.
        document: Everything that was asked, found and measured.
        cuttings: Masks that are a part of what a class's own file holds.
        language: Of the document's sentences.
        scene: The same masks with the scan's values.
    """

    result: Result
    document: Document
    cuttings: tuple[Cutting, ...]
    language: Language
    scene: Scene = field(repr=False)

    def save(
        self,
        folder: str | Path,
        *,
        preview: bool = True,
        page: bool = True,
        pdf: bool = False,
        colors: Colors = "vocabulary",
    ) -> list[Path]:
        """Write what `Result.save` does, and ``findings.json``, ``measurements.csv``, ``answers/`` and ``report.html``.

        Args:
            folder: Made if missing.
            preview: Whether to write ``preview.png``.
            page: Whether to write ``report.html``.
            pdf: Whether to write ``report.pdf``, the same page as it prints.
            colors: Of all pictures: the ``vocabulary``'s own, or ``safe`` for color-blind readers.

        Returns:
            Paths of the files written, ``case.json`` last.

        Raises:
            OutputError: The folder cannot be written.
            ConfigError: A PDF is wanted, and what prints it is not there.
        """

        def also(out: Path) -> list[Path]:
            return self._write(out, colors, page=page, pdf=pdf)

        return self.result.save(folder, preview=preview, colors=colors, also=also)

    def _write(self, out: Path, colors: Colors, *, page: bool, pdf: bool) -> list[Path]:
        header = self.result.volume.source.header
        paths = [out / cutting.path for cutting in self.cuttings]
        for path, cutting in zip(paths, self.cuttings, strict=True):
            write_mask(path, cutting.mask, self.scene.geometry, header, cutting.box)
        findings, table = out / FINDINGS_FILE, out / MEASUREMENTS_FILE
        write_text(findings, json.dumps(self.document.to_dict(), indent=2, ensure_ascii=False) + "\n")
        write_text(table, measurements_csv(self.document))
        paths += [findings, table]
        html = self.page(colors) if page or pdf else ""
        if page:
            write_text(out / REPORT_FILE, html)
            paths.append(out / REPORT_FILE)
        if pdf:
            from voxicon.report.pdf import to_pdf

            write_bytes(out / PDF_FILE, to_pdf(html))
            paths.append(out / PDF_FILE)
        return paths

    def page(self, colors: Colors = "vocabulary") -> str:
        """The report as one HTML file."""
        from voxicon.report.findings import draw_pictures, findings_page
        from voxicon.report.palette import Palette

        palette = Palette(self.result.vocabulary, colors)
        pictures = draw_pictures(self.document, self.result.volume, self.result.masks, palette)
        return findings_page(self.document, pictures, palette, self.language)


def ask(
    scan: str | Path | Volume,
    *requests: str,
    weights: str | Path = "starter",
    masks: str | Path | None = None,
    language: str = "en",
    **options: Any,
) -> Inquiry:
    """Answer requests in plain English about one CT.

    >>> inquiry = voxicon.ask("ct.nii.gz", "How big is the spleen?", "Compare the kidneys.")
    >>> inquiry.document.organs[0].volume_ml
    >>> inquiry.save("out/ct")

    Args:
        scan: A NIfTI file, or a `Volume` in Hounsfield units.
        requests: Such as "segment pancreatic tumors, if any".
        weights: As of `voxicon.load`.
        masks: A folder of masks of this scan, which count as they are; what is not there is found by the weights.
        language: Of the report's sentences.
        options: More for `voxicon.load`, such as ``device``.

    Raises:
        UsageError: A request cannot be understood, or not be answered from these weights and masks.
        InputError: The scan or a mask cannot be used.
        CheckpointError: The weights cannot be used.
    """
    finder = finder_of(weights, **options)
    pairs = understood(requests, finder.vocabulary)
    say = language_of(language, finder.vocabulary)
    needed(pairs, finder, masks=masks)
    volume = scan if isinstance(scan, Volume) else read_volume(scan)
    return answer(volume, pairs, finder, masks=masks, language=say)


def answer(
    volume: Volume,
    requests: Sequence[tuple[str, Request]],
    finder: Finder | None,
    *,
    masks: str | Path | None = None,
    language: Language,
    progress: Progress = lambda done, total: None,
    planned: Callable[[Segmenter], None] = lambda segmenter: None,
) -> Inquiry:
    """Answer requests about a scan.

    Args:
        volume: The scan.
        requests: As `voxicon.asking.understood` gives them.
        finder: What finds classes of which no mask is given; None takes all from `masks`.
        masks: A folder of masks of this scan, which count as they are.
        language: Of the sentences.
        progress: Called with windows done and windows in all.
        planned: Called with the weights, once they are loaded and before they run.

    Raises:
        UnknownClass: Something that is asked for is neither among the masks nor known to the weights.
        UsageError: A part of an organ that cannot be told from its mask.
        InputError: The scan or a mask cannot be used.
    """
    vocabulary = finder.vocabulary if finder else language.vocabulary
    needs = needed(requests, finder, masks=masks, vocabulary=vocabulary)
    clock = Clock()
    given = read_masks(Path(masks), volume.geometry, vocabulary) if masks is not None else None
    clock.lap("masks")
    to_find = tuple(name for name in needs.classes if given is None or name not in given)
    if to_find and finder is not None:
        segmenter = finder.load()
        planned(segmenter)
        maps = tuple(name for name in to_find if vocabulary[name].kind == "lesion")
        found = segmenter.segment(volume, to_find, probabilities=maps, progress=progress, organs=given)
    else:
        found = _nothing_found(volume, vocabulary)
    clock.lap("segment")
    del clock.seconds["segment"]  # told stage by stage
    of = {name: given if given is not None and name in given else found.masks for name in needs.classes}
    joined = MaskSet.gathered(of, volume.geometry, volume.source)
    inquiry = _answered(requests, finder, needs, _Joined(joined, found, given, masks), language)
    clock.lap("measure")
    inquiry.result.seconds.update({**found.seconds, **clock.seconds})
    return inquiry


@dataclass(frozen=True)
class _Joined:
    """Masks of all classes, and where they are from."""

    masks: MaskSet
    found: Result
    given: MaskSet | None
    folder: str | Path | None

    @property
    def is_given(self) -> tuple[str, ...]:
        return tuple(name for name in self.masks if self.given is not None and name in self.given)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of the scan and its computation, and one where given masks tell that they were made from another file."""
        told = read_case_file(Path(self.folder)).get("input") if self.folder is not None else None
        made_from, own = (told.get("sha256") if isinstance(told, dict) else None), self.found.volume.source.sha256
        if not self.is_given or not made_from or not own or made_from == own:
            return self.found.warnings
        other = f"{self.folder}: its masks were made from another file than this scan; they are taken as they are"
        return (*self.found.warnings, other)


def _nothing_found(volume: Volume, vocabulary: Vocabulary) -> Result:
    nothing = MaskSet.empty((), volume.geometry, volume.source)
    provenance = {"name": "none", "sha256": "", "title": "all masks were given", "license": "not stated"}
    return Result(nothing, volume, provenance, {}, warnings=volume.source.warnings, vocabulary=vocabulary)


def _answered(
    requests: Sequence[tuple[str, Request]], finder: Finder | None, needs: Needs, joined: _Joined, language: Language
) -> Inquiry:
    found, volume = joined.found, joined.found.volume
    cuts = {name: _inference_of(name, found.settings) for name in found.masks}
    decisions = {name: float(cut["thresholds"].get(name, cut["threshold"])) for name, cut in cuts.items()}
    scene = Scene(joined.masks, volume.hu, found.vocabulary, found.probabilities, decisions)
    answerer = Answerer(scene, SEGMENTATIONS)
    answers = tuple(answerer.answer(text, request) for text, request in requests)
    # Lesions that an organ was measured without were looked for too, and whoever asked for the organ is told.
    kinds = tuple(name for name in needs.classes if scene.is_lesion(name))
    points = operating_points(finder.card, finder.name) if finder else {}
    detection = _detected(kinds, scene, joined, points)
    lesions = tuple(lesion for name in kinds for lesion in scene.lesions(name))
    organs = tuple(scene.organ(name) for name in needs.asked if not scene.is_lesion(name))
    weights = found.weights if found.masks.names else None
    document = Document(
        format=FORMAT,
        voxicon=__version__,
        notice=DISCLAIMER,
        scan=_scan(volume),
        masks_by=Makers(
            weights=None if weights is None else str(weights["name"]),
            title=None if weights is None else str(weights["title"]),
            sha256=None if weights is None else str(weights["sha256"]),
            license=None if weights is None else str(weights["license"]),
            given=joined.is_given,
            given_from=None if joined.folder is None else Path(joined.folder).name,
        ),
        requests=answers,
        detection=detection,
        lesions=lesions,
        organs=organs,
        not_looked_for=needs.unknown,
        impression=tuple(impression(detection, lesions, organs, needs.unknown, language)),
        language=language.code,
        warnings=joined.warnings,
        notes=found.notes,
    )
    settings = {**found.settings, "requests": [text for text, _ in requests], "given": list(joined.is_given)}
    result = Result(
        joined.masks, volume, found.weights, settings, {}, joined.warnings, found.notes, found.probabilities,
        found.vocabulary, found.memory,
    )  # fmt: skip
    return Inquiry(result, document, tuple(answerer.cuttings), language, scene)


def _detected(
    names: Sequence[str], scene: Scene, joined: _Joined, points: Mapping[str, OperatingPoint]
) -> tuple[Detection, ...]:
    maps = {name: joined.found.probabilities[name] for name in names if name in joined.found.probabilities}
    counted = candidates(maps, joined.masks, scene.vocabulary, CANDIDATE) if maps else None
    verdicts = []
    for name in names:
        lesions = scene.lesions(name)
        there, point = bool(lesions), points.get(name) if name in maps else None
        score = threshold = None
        if counted is not None and name in maps:
            score = float(np.where(counted[name], maps[name], 0).max()) / 255
            # Without a threshold of its own, a patient has what the mask shows.
            peak = float(_inference_of(name, joined.found.settings).get("peaks", {}).get(name, 0))
            threshold = point.threshold if point else max(scene.decisions[name], peak)
            there = score >= threshold if point else there
        verdicts.append(
            Detection(
                name=name, detected=there, score=score, threshold=threshold, measured=point, lesions=len(lesions),
                volume_ml=joined.masks.volume_ml(name), by="weights" if name in maps else "masks",
            )
        )  # fmt: skip
    return tuple(verdicts)


def _inference_of(name: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the network that finds a class was run: the one that looks into organs, or the other."""
    inside = settings.get("inside") or {}
    found: Mapping[str, Any] = inside if name in inside.get("classes", ()) else settings.get("inference", {})
    return found


def _scan(volume: Volume) -> Scan:
    geometry, source = volume.geometry, volume.source
    return Scan(
        source.name, Path(source.path).name, source.sha256, geometry.shape, geometry.spacing_mm, geometry.orientation
    )
