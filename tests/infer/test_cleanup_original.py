"""The original's rules: its numbers, and its defects."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tests.infer.phantoms import LEFT, RIGHT, VOCABULARY, boxes, cleaned, cleaned_lungs, grid

VEIN = boxes(((2, 5), (2, 4), (1, 12)))


def test_original_reproduces_the_published_post_processing(reference_data: Path):
    stored = np.load(reference_data / "cleanup_seed0.npz")
    shape = tuple(int(n) for n in stored["shape"])
    given_masks, expected = (
        np.unpackbits(stored[key], axis=1)[:, : np.prod(shape)].reshape(32, *shape).astype(bool)
        for key in ("masks", "expected")
    )
    names = [concept.name for concept in VOCABULARY if concept.original]
    result, notes = cleaned(dict(zip(names, given_masks, strict=True)), "original")
    wrong = {
        name: n
        for name, mask in zip(names, expected, strict=True)
        if (n := int(np.count_nonzero(result[name] != mask)))
    }
    assert wrong == {}
    assert "lung_left: removed 27 of 30427 voxels (original rule)" in notes
    assert all(re.match(r"[a-z_]+: removed \d+ of \d+ voxels \(original rule\)$", note) for note in notes)


def test_original_takes_the_largest_even_of_tubes():
    result, _ = cleaned({"aorta": boxes(((0, 5), (0, 5), (0, 4)), ((10, 20), (0, 5), (0, 1)))}, "original")
    assert result.count("aorta") == 100


def test_original_lungs_are_two_components_by_mean_x():
    stray = boxes(((18, 20), (1, 3), (1, 3)))
    right, left, _ = cleaned_lungs(LEFT | stray, RIGHT, mode="original")
    assert (right == RIGHT).all()
    assert (left == LEFT).all()
    right, left, notes = cleaned_lungs(RIGHT, boxes(), mode="original")
    assert not right.any()
    assert not left.any()
    assert "lung_right, lung_left: both erased, they form one component (a defect of the original)" in notes


def test_original_keeps_what_refers_to_a_class_that_was_not_asked_for():
    tumor = boxes(((0, 2), (0, 2), (0, 2)))
    masks = {"liver_tumor": tumor, "kidney_tumor": tumor, "kidney_left": tumor, "lung_right": RIGHT}
    result, notes = cleaned({**masks, "portal_vein_and_splenic_vein": VEIN}, "original")
    assert all((result[name] == mask).all() for name, mask in masks.items())
    assert sorted(notes) == [
        "kidney_tumor: kept as it is, its organ was not asked for",
        "liver_tumor: kept as it is, its organ was not asked for",
        "lung_right: kept as it is, the other lung was not asked for",
        "portal_vein_and_splenic_vein: kept as it is, the pancreas was not asked for",
    ]


def test_original_with_empty_organs_erases_the_tumor_and_keeps_the_vein():
    tumor = boxes(((0, 2), (0, 2), (0, 2)))
    masks = {"liver_tumor": tumor, "liver": boxes(), "portal_vein_and_splenic_vein": VEIN, "pancreas": boxes()}
    result, notes = cleaned(masks, "original")
    assert not result["liver_tumor"].any()
    assert (result["portal_vein_and_splenic_vein"] == VEIN).all()
    assert "liver_tumor: erased, its organ is empty (a defect of the original)" in notes
    assert any("the pancreas is empty (the original stops here with an error)" in note for note in notes)


def test_original_uses_organs_as_predicted_in_voxels_whatever_the_spacing():
    kidneys = boxes(((4, 10), (2, 8), (2, 8)), ((14, 18), (2, 8), (2, 8)))  # both called left kidney
    rod = boxes(((0, 40), (5, 6), (5, 6)))
    masks = {"kidney_tumor": rod, "kidney_left": kidneys, "kidney_right": boxes(((30, 31), (5, 6), (5, 6)))}
    result, _ = cleaned(masks, "original", grid(spacing=3.0))
    # Two components count, 2 voxels around each; closing bridges the gap of 4 between them.
    assert (result["kidney_tumor"] == boxes(((2, 20), (5, 6), (5, 6)))).all()
