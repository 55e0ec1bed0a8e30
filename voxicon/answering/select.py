"""Which pieces a target means: its classes, its side, its place, its sizes, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from voxicon.answering.scene import Piece, Scene
from voxicon.asking.request import Condition, Place, Target
from voxicon.core.components import Mask
from voxicon.findings.place import Part, part_of
from voxicon.findings.shape import cropped

NEAR_MM: Final = 10.0
"""Surfaces that are no farther apart are near each other. Own choice: a finger's breadth."""

_ROUNDING: Final = 1e-6
"""Sizes and distances that differ by no more, as a share of the limit, are equal: five voxels of 0.016 ml must be "at
least 0.08 ml", however the grid's numbers round and whichever way it is turned."""

_RANKS = ("largest", "smallest")


def select(target: Target, without: Iterable[str], scene: Scene) -> tuple[Piece, ...]:
    """The pieces that a target means, in the order of its classes, a class's lesions largest first.

    A lesion belongs to a place when the organ that it lies in, or is told by where it touches none
    (`voxicon.findings.lesions`), is one of the place's; to a part of it, when its center of mass does. Organs are cut:
    of "the upper third of the liver" only that is meant, of "veins in the liver" what lies inside of it. Sizes in mm
    are the longest axial diameter, those in ml volumes; the largest is that of most volume.

    Args:
        target: What is meant.
        without: Classes whose voxels do not count.
        scene: Where it is looked for; classes that are not in it have no pieces.
    """
    pieces = [piece for name in target.classes for piece in scene.pieces(name)]
    if target.side:
        pieces = [piece for piece in pieces if _side(piece, scene) == target.side]
    if target.place is not None:
        pieces = [kept for piece in pieces if (kept := _placed(piece, target.place, scene))]
    gone = [name for name in without if name in scene.boxes]
    pieces = [kept for piece in pieces if (kept := _spared(piece, gone, scene))]
    for condition in target.conditions:
        if condition.kind not in _RANKS:
            pieces = [piece for piece in pieces if _holds(piece, condition, scene)]
    for condition in target.conditions:
        if condition.kind in _RANKS:
            sign = -1 if condition.kind == "largest" else 1
            volumes = [piece.mask.sum() for piece in pieces]
            order = sorted(range(len(pieces)), key=lambda at: sign * volumes[at])
            pieces = [pieces[at] for at in order[: int(condition.value or 1)]]
    return tuple(pieces)


def is_narrowed(target: Target, without: Iterable[str], scene: Scene) -> bool:
    """Whether a target can mean less than all voxels of its classes."""
    return bool(target.side or target.place or target.conditions or any(name in scene.boxes for name in without))


def _side(piece: Piece, scene: Scene) -> str | None:
    return piece.lesion.side if piece.lesion else scene.vocabulary[piece.name].side


def _placed(piece: Piece, place: Place, scene: Scene) -> Piece | None:
    if piece.lesion is not None:
        organ = piece.lesion.organ or piece.lesion.beside
        if organ not in place.classes or organ is None:
            return None
        if not place.part:
            return piece
        part = _part(organ, place.part, scene)
        return piece if part is not None and part.holds(np.asarray(piece.lesion.center_mm)) else None
    kept: Mask = np.zeros_like(piece.mask)
    for name in place.classes:
        if name not in scene.boxes:
            continue
        area = scene.within(piece.box, name)
        if place.part:
            part = _part(name, place.part, scene)
            if part is None:
                continue
            area = part.cut(area & piece.mask, cropped(scene.geometry, piece.box))
        kept |= area
    return scene.trimmed(piece, kept)


def _part(organ: str, part: str, scene: Scene) -> Part | None:
    whole = scene.whole(organ)
    return None if whole is None else part_of(organ, part, whole.whole, cropped(scene.geometry, whole.box))


def _spared(piece: Piece, gone: Iterable[str], scene: Scene) -> Piece | None:
    for name in gone:
        left = scene.trimmed(piece, ~scene.within(piece.box, name))
        if left is None:
            return None
        piece = left
    return piece


def _holds(piece: Piece, condition: Condition, scene: Scene) -> bool:
    value = condition.value or 0.0
    if condition.kind in ("near", "touching", "within"):
        limit = {"near": NEAR_MM, "touching": 0.0, "within": value}[condition.kind]
        distances = [scene.distance_mm(piece, name) for name in condition.classes if name in scene.masks]
        return any(distance is not None and distance <= limit * (1 + _ROUNDING) for distance in distances)
    measured = scene.measure(piece)
    size = measured.longest_mm if condition.unit == "mm" else measured.volume_ml
    above, below = size > value * (1 + _ROUNDING), size < value * (1 - _ROUNDING)
    return {"larger": above, "smaller": below, "at_least": not below, "at_most": not above}[condition.kind]
