"""Windows far from the organs asked for are left out, and nothing near them changes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.infer.locate import boxes_of, is_locatable, touches
from voxicon.infer.predictor import InferenceConfig, Predictor
from voxicon.model.config import NetworkConfig
from voxicon.model.network import build_network

COARSE = Geometry((10, 10, 10), np.diag([4.0, 4.0, 4.0, 1]))
FINE = Geometry((40, 40, 40), np.array([[1.0, 0, 0, -1.5], [0, 1, 0, -1.5], [0, 0, 1, -1.5], [0, 0, 0, 1]]))
"""Four fine voxels to a coarse one."""


def found(**boxes: tuple[slice, slice, slice]) -> MaskSet:
    masks = MaskSet.empty(tuple(boxes), COARSE)
    for name, box in boxes.items():
        mask = np.zeros(COARSE.shape, dtype=bool)
        mask[box] = True
        masks.set(name, mask)
    return masks


def test_a_box_on_a_finer_grid_by_hand() -> None:
    masks = found(liver=(slice(2, 5), slice(0, 1), slice(4, 6)))
    assert boxes_of(masks, FINE, margin_mm=0) == ((slice(8, 20), slice(0, 4), slice(16, 24)),)
    # Three millimeters on every side, as far as the grid goes.
    assert boxes_of(masks, FINE, margin_mm=3) == ((slice(5, 23), slice(0, 7), slice(13, 27)),)


def test_every_class_has_a_box_or_none_has() -> None:
    masks = found(liver=(slice(2, 5),) * 3, spleen=(slice(6, 7),) * 3)
    assert boxes_of(masks, COARSE, margin_mm=0) == ((slice(2, 5),) * 3, (slice(6, 7),) * 3)
    nowhere = found(liver=(slice(2, 5),) * 3, spleen=(slice(0, 0),) * 3)
    assert boxes_of(nowhere, COARSE) is None
    assert boxes_of(MaskSet.empty((), COARSE), COARSE) == ()


def test_a_box_beyond_the_grid_is_empty() -> None:
    far = Geometry((5, 5, 5), np.array([[1.0, 0, 0, 500], [0, 1, 0, 500], [0, 0, 1, 500], [0, 0, 0, 1]]))
    (box,) = boxes_of(found(liver=(slice(2, 5),) * 3), far) or ()
    assert all(side.stop == side.start for side in box)
    assert not touches((0, 0, 0), (5, 5, 5), [box])


def test_only_organs_in_one_piece_are_located() -> None:
    vocabulary = Vocabulary.default()
    assert all(is_locatable(vocabulary[name]) for name in ("liver", "kidney_left", "lung_right", "urinary_bladder"))
    parts = ("colon", "esophagus", "aorta", "portal_vein_and_splenic_vein", "liver_tumor", "kidney_cyst")
    assert not any(is_locatable(vocabulary[name]) for name in parts)


def test_touching_by_hand() -> None:
    box = (slice(4, 6), slice(0, 10), slice(0, 10))
    assert touches((0, 0, 0), (5, 5, 5), [box])
    assert not touches((0, 0, 0), (4, 5, 5), [box])
    assert not touches((6, 0, 0), (4, 5, 5), [box])
    assert touches((6, 0, 0), (4, 5, 5), [box, (slice(9, 10),) * 3]) is False
    assert touches((6, 6, 6), (4, 5, 5), [box, (slice(9, 10),) * 3])
    assert not touches((0, 0, 0), (9, 9, 9), [])


NETWORK = build_network(
    NetworkConfig(backbone="compact", classes=("liver", "spleen"), embedding_size=4, options={"channels": [16, 16]}),
    torch.randn(2, 4, generator=torch.Generator().manual_seed(0)),
).eval()
with torch.no_grad():
    NETWORK.head.controller.weight.mul_(6)
    NETWORK.head.controller.bias[-1] = 0


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(5, 30)] * 3),
    start=st.tuples(*[st.integers(0, 25)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
    padding=st.sampled_from(["air", "edge"]),
)
def test_inside_of_the_boxes_nothing_changes(
    shape: tuple[int, int, int],
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    overlap: float,
    padding: str,
) -> None:
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    config = InferenceConfig(window=(8, 8, 8), overlap=overlap, padding=padding)  # type: ignore[arg-type]
    predictor = Predictor(NETWORK, config, torch.device("cpu"))
    grid = Geometry(shape, np.diag([2.0, 2, 2, 1]))
    box = tuple(slice(min(a, n - 1), min(a + b, n)) for a, b, n in zip(start, size, shape, strict=True))
    whole = predictor.predict(image, grid, NETWORK.classes, probabilities_of=("liver",))
    part = predictor.predict(image, grid, NETWORK.classes, probabilities_of=("liver",), within=(box,))  # type: ignore[arg-type]
    inside = (slice(None), *box)
    assert (part.masks.words[inside] == whole.masks.words[inside]).all()
    assert (part.probabilities["liver"][box] == whole.probabilities["liver"][box]).all()


def test_windows_elsewhere_are_not_computed() -> None:
    computed: list[int] = []

    def encode(image: torch.Tensor, rows: object) -> tuple[torch.Tensor, torch.Tensor]:
        computed.append(len(image))
        return NETWORK.encode(image, rows)  # type: ignore[arg-type]

    predictor = Predictor(NETWORK, InferenceConfig(window=(8, 8, 8), overlap=0), torch.device("cpu"), encode)
    image = np.ones((32, 8, 8), dtype=np.float32)
    told: list[tuple[int, int]] = []
    grid = Geometry(image.shape, np.diag([2.0, 2, 2, 1]))
    within = ((slice(7, 9), slice(0, 1), slice(0, 1)),)
    masks = predictor.predict(
        image, grid, NETWORK.classes, lambda *progress: told.append(progress), within=within
    ).masks
    assert sum(computed) == 2
    assert told[-1] == (4, 4)
    assert not masks.words[:, 16:].any()
    computed.clear()
    assert not predictor.predict(image, grid, NETWORK.classes, within=()).masks.words.any()
    assert computed == []


def test_a_turned_grid_is_reached_in_the_world() -> None:
    # The same places, axes 0 and 1 swapped and one of them reversed.
    turned = Geometry((10, 10, 10), np.array([[0, -4.0, 0, 36], [4.0, 0, 0, 0], [0, 0, 4.0, 0], [0, 0, 0, 1]]))
    mask = np.zeros(turned.shape, dtype=bool)
    mask[1, 2, 3] = True
    masks = MaskSet.from_masks({"liver": mask}, turned)
    # The voxel's middle is at 28, 4, 12 mm, so it reaches from 26 to 30 along the first axis, from index 28 to 32.
    assert boxes_of(masks, FINE, 0.0) == ((slice(28, 32), slice(4, 8), slice(12, 16)),)
    assert boxes_of(masks, FINE, 6.0) == ((slice(22, 38), slice(0, 14), slice(6, 22)),)
