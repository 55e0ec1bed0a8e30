"""Whole documents, as a scan with findings and as one without anything give them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.answering.findings import POINT
from tests.answering.phantom import VOCABULARY, masks, scene, volume
from voxicon.answering.document import Document
from voxicon.answering.language import language
from voxicon.answering.needs import needs_of
from voxicon.asking import parse
from voxicon.core.masks import MaskSet
from voxicon.finder import Finder
from voxicon.inquiry import _answered, _Joined
from voxicon.result import Result

PROVENANCE = {"name": "small", "sha256": "a" * 64, "title": "noise", "license": "Apache-2.0"}


def _no_network() -> None:
    raise AssertionError("the network was loaded")


def finder(classes: tuple[str, ...] = (), **card: object) -> Finder:
    """Weights that must not be run."""
    return Finder("small", VOCABULARY, classes, card, _no_network)  # type: ignore[arg-type]


def document(*texts: str, found: MaskSet | None = None, levels: dict[str, NDArray[np.uint8]] | None = None) -> Document:
    """Answers to requests about the belly, as though weights had found it."""
    here = masks() if found is None else found
    requests = [(text, parse(text, VOCABULARY)) for text in texts]
    needs = needs_of([request for _, request in requests], VOCABULARY, here.names, "weights 'small'")
    settings = {"inference": {"threshold": 0.5, "thresholds": {"liver_tumor": 0.4}}}
    result = Result(
        here, volume(), PROVENANCE, settings, warnings=("odd",), notes=("liver: removed",),
        probabilities=levels or {}, vocabulary=VOCABULARY,
    )  # fmt: skip
    joined = _Joined(here, result, None, None)
    card = {"operating_points": {"liver_tumor": POINT.to_dict()}}
    return _answered(requests, finder(**card), needs, joined, language("en")).document


def rich() -> Document:
    """Every kind of answer, every kind of lesion, a verdict with a measured threshold."""
    levels = np.where(scene().masks["liver_tumor"], 230, 3).astype(np.uint8)
    return document(
        "Measure the volume and density of the liver tumors in the upper third of the liver, if any. Mark them.",
        "compare the kidneys", "count the tumors", "segment the panceas, the liver without the vessels", "report",
        levels={"liver_tumor": levels},
    )  # fmt: skip


def poor() -> Document:
    """One organ that is not there."""
    empty = MaskSet.empty(("spleen",), scene().geometry)
    return document("measure the spleen", found=empty)
