"""A belly of boxes whose every answer can be worked out by hand: organs, vessels, and lesions at known places."""

from __future__ import annotations

import numpy as np

from tests.phantoms import oriented
from voxicon.answering.answers import Answerer, ClauseAnswer
from voxicon.answering.scene import Piece, Scene
from voxicon.answering.select import select
from voxicon.asking import parse
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Source, Volume

VOCABULARY = Vocabulary.default()

SPACING_MM = (2.0, 2.0, 4.0)
VOXEL_ML = 0.016
SHAPE = (48, 32, 30)
ORIGIN_MM = (-47.0, -30.0, 100.0)

LIVER = ((28, 46), (6, 28), (8, 26))
LIVER_TUMORS = (
    ((34, 40), (8, 12), (20, 23)),  # 1: 72 voxels, in the upper third
    ((30, 35), (24, 25), (10, 11)),  # 2: a row of 5, in the lower third
    ((29, 31), (23, 25), (18, 19)),  # 3: 4 voxels, in the middle third, 10 mm from the portal vein
    ((42, 44), (18, 20), (16, 17)),  # 4: 4 voxels, in the middle third, touches the hepatic vessel
    ((19, 21), (28, 29), (24, 25)),  # 5: 2 voxels, in no organ
)
"""In the order of their numbers: by size, then by first voxel."""

BOXES = {
    "liver": (LIVER,),
    "hepatic_vessel": (((28, 46), (16, 18), (16, 18)),),
    "portal_vein_and_splenic_vein": (((14, 32), (18, 20), (14, 16)),),
    "aorta": (((22, 25), (6, 9), (0, 30)),),
    "kidney_right": (((32, 42), (1, 5), (2, 12)),),
    "kidney_left": (((4, 14), (1, 5), (2, 12)),),
    # From the head (right, caudal) to the tail (left, cranial): two columns to the left are one slice up.
    "pancreas": tuple(((25 - 2 * n, 27 - 2 * n), (20, 23), (6 + n, 8 + n)) for n in range(9)),
    "liver_tumor": LIVER_TUMORS,
    "kidney_tumor": (((6, 9), (2, 4), (8, 10)), ((34, 36), (2, 4), (4, 5))),  # 12 voxels left, 4 right
    "pancreas_tumor": (((9, 11), (20, 22), (14, 16)), ((25, 27), (21, 22), (6, 7))),  # 8 in the tail, 2 in the head
    "kidney_cyst": (),
}
"""Voxels along R, A and S, first and the one after the last."""

HU = {
    "liver": 110, "hepatic_vessel": 160, "portal_vein_and_splenic_vein": 170, "aorta": 200, "kidney_right": 140,
    "kidney_left": 140, "pancreas": 90, "liver_tumor": 60, "kidney_tumor": 145, "pancreas_tumor": 120,
}  # fmt: skip
"""In this order, each over those before."""


def box(*sides: tuple[int, int], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def drawn(name: str) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    for sides in BOXES[name]:
        mask |= box(*sides)
    return mask


def geometry(turn: np.ndarray | None = None, spacing_mm: tuple[float, float, float] = SPACING_MM) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(spacing_mm)
    affine[:3, 3] = ORIGIN_MM
    return Geometry(SHAPE, affine)


def volume(turn: np.ndarray | None = None) -> Volume:
    """Fat that flickers by 1 HU, so that no slice looks like padding; organs of even numbers of voxels keep their
    mean."""
    hu = np.full(SHAPE, -90.0, dtype=np.float32)
    for name, value in HU.items():
        hu[drawn(name)] = value
    hu += np.where(np.indices(SHAPE).sum(axis=0) % 2, 1, -1)
    return Volume(hu, geometry(turn), Source(name="belly", path="belly.nii.gz", sha256="0" * 64))


def masks(turn: np.ndarray | None = None) -> MaskSet:
    return MaskSet.from_masks({name: drawn(name) for name in BOXES}, geometry(turn), volume().source)


def scene(*without: str, turn: np.ndarray | None = None, **drawings: np.ndarray) -> Scene:
    """The belly, some classes left out and some drawn otherwise."""
    kept = {name: drawn(name) for name in BOXES if name not in without} | drawings
    return Scene(MaskSet.from_masks(kept, geometry(turn)), volume(turn).hu, VOCABULARY)


def stored(order: tuple[int, int, int], signs: tuple[int, int, int]) -> Scene:
    """The same belly, stored another way."""
    turned = {name: oriented(Volume(drawn(name), geometry()), order, signs) for name in BOXES}
    grid = turned["liver"].geometry
    again = MaskSet.from_masks({name: one.hu for name, one in turned.items()}, grid)
    return Scene(again, oriented(volume(), order, signs).hu, VOCABULARY)


def pieces(text: str, where: Scene) -> tuple[Piece, ...]:
    """What the first target of a request means."""
    (clause,) = parse(text, VOCABULARY).clauses
    without = [name for target in clause.without for name in target.classes]
    return select(clause.targets[0], without, where)


def numbers(text: str, where: Scene) -> list[int | None]:
    return [piece.number for piece in pieces(text, where)]


def full(piece: Piece, where: Scene) -> np.ndarray:
    """A piece's mask on the whole grid."""
    mask = np.zeros(where.geometry.shape, dtype=bool)
    mask[piece.box] = piece.mask
    return mask


def clauses(text: str, where: Scene) -> tuple[ClauseAnswer, ...]:
    """Answers to a request."""
    return Answerer(where, "segmentations").answer(text, parse(text, VOCABULARY)).clauses
