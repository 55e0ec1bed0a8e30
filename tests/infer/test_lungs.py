"""The lungs rule: two lungs, one, touching, overlapping, swapped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings

from tests.infer.phantoms import LEFT, LUNGS, RIGHT, VOCABULARY, boxes, cleaned, cleaned_lungs, grid, random_masks
from voxicon.core.components import components
from voxicon.core.geometry import Geometry
from voxicon.infer.cleanup import clean
from voxicon.infer.lungs import separate_lungs


def test_two_good_lungs_stay_and_nothing_is_said():
    right, left, notes = cleaned_lungs(RIGHT, LEFT)
    assert (right == RIGHT).all()
    assert (left == LEFT).all()
    assert notes == ()


def test_touching_lungs_both_stay():
    """The original erases both here (one component)."""
    right_in, left_in = boxes(((18, 36), (1, 11), (1, 13))), boxes(((4, 18), (1, 11), (1, 13)))
    right, left, notes = cleaned_lungs(right_in, left_in)
    assert (right == right_in).all()
    assert (left == left_in).all()
    assert notes == ()
    right, left, notes = cleaned_lungs(right_in, left_in, mode="original")
    assert not right.any()
    assert not left.any()
    assert any("both erased" in note for note in notes)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_single_lung_keeps_what_is_sizable(side):
    crumb = boxes(((20, 21), (0, 1), (0, 1)))
    lung = RIGHT | crumb
    right, left, notes = cleaned_lungs(*((lung, boxes()) if side == "right" else (boxes(), lung)))
    assert ((right if side == "right" else left) == RIGHT).all()
    assert not (left if side == "right" else right).any()
    assert len(notes) == 1
    assert "removed 1 of 1441 voxels" in notes[0]
    result, _ = cleaned({f"lung_{side}": lung})
    assert (result[f"lung_{side}"] == RIGHT).all()


def test_a_single_lung_without_a_name_for_the_other():
    crumb = boxes(((20, 21), (0, 1), (0, 1)))
    for order in (1, -1):
        lung, nothing = separate_lungs(*(RIGHT | crumb, boxes())[::order], grid())[::order]
        assert (lung == RIGHT).all()
        assert not nothing.any()


def test_a_lung_cut_in_two_keeps_both_pieces_and_loses_crumbs():
    upper, lower, crumb = ((24, 36), (1, 11), (1, 7)), ((24, 36), (1, 11), (8, 13)), ((38, 39), (1, 2), (1, 2))
    right, left, notes = cleaned_lungs(boxes(upper, lower, crumb), LEFT)
    assert (right == boxes(upper, lower)).all()
    assert (left == LEFT).all()
    assert notes == (
        "lung_right, lung_left: removed 1 voxels in small components, moved 0 to the other lung, "
        "shared out 0 claimed by both",
    )


@pytest.mark.parametrize("lobe", [((4, 16), (1, 11), (8, 13)), ((4, 5), (1, 2), (1, 2))])
def test_a_lobe_or_crumb_on_the_other_side_changes_its_name(lobe):
    """On the patient's left, touching the left lung, called right: it is left lung."""
    right, left, notes = cleaned_lungs(RIGHT | boxes(lobe), LEFT & ~boxes(lobe))
    assert (right == RIGHT).all()
    assert (left == LEFT).all()
    assert f"moved {np.count_nonzero(boxes(lobe))} to the other lung" in notes[0]
    # The same with the patient's right at index 0.
    flipped = grid(flip=(0,))
    left, right, _ = cleaned_lungs(LEFT & ~boxes(lobe), RIGHT | boxes(lobe), flipped)
    assert (right == RIGHT).all()
    assert (left == LEFT).all()


def test_swapped_pieces_find_home_in_several_steps():
    """The outer left slab, called right, touches the left lung only through a slab that must move first."""
    slabs = [boxes(((4, 7), (1, 11), (1, 13))), boxes(((7, 8), (1, 11), (1, 13)))]
    gap = boxes(((7, 8), (1, 11), (5, 6)))  # keeps the two slabs from being one component of the right
    right_in = RIGHT | slabs[0]
    left_in = boxes(((8, 16), (1, 11), (1, 13))) | (slabs[1] & ~gap)
    right, left, _ = cleaned_lungs(right_in, left_in)
    assert (right == RIGHT).all()
    assert (left == (LEFT & ~gap)).all()


def test_a_piece_on_the_other_side_that_touches_nothing_is_judged_by_size():
    apart = boxes(((0, 2), (0, 12), (0, 12)))  # 288 of 1440 voxels: sizable
    far = boxes(((0, 1), (0, 1), (0, 1)))
    assert (cleaned_lungs(RIGHT | apart, LEFT)[0] == (RIGHT | apart)).all()
    assert (cleaned_lungs(RIGHT | far, LEFT)[0] == RIGHT).all()


@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_piece_on_its_own_side_does_not_change_its_name(mirror, overlap):
    """A lobe behind the mid-line that touches the other lung stays what it is."""
    # Mid-line at 19.5; a right piece around x = 21 that touches a left lung reaching over to 20.
    rod, piece = boxes(((16, 20), (5, 6), (5, 6))), boxes(((20, 22), (1, 11), (1, 9)))
    claimed_too = boxes(((34, 34 + overlap), (5, 6), (5, 6)))
    wanted = [RIGHT | piece, LEFT | rod]
    given_masks = [RIGHT | piece, LEFT | rod | claimed_too]
    if mirror:
        wanted, given_masks = ([np.flip(mask, axis=0) for mask in pair[::-1]] for pair in (wanted, given_masks))
    right, left, _ = cleaned_lungs(*given_masks)
    assert (right == wanted[0]).all()
    assert (left == wanted[1]).all()


def _points(*points):
    return boxes(*[tuple((i, i + 1) for i in point) for point in points])


def test_nearness_is_in_millimeters():
    """3 voxels of 1 mm to the right lung are nearer than 1 voxel of 8 mm to the left."""
    geometry = Geometry((40, 12, 14), np.diag([1.0, 1.0, 8.0, 1.0]))
    asked, own_right, own_left = (10, 5, 5), (13, 5, 5), (10, 5, 6)
    right, left, _ = cleaned_lungs(_points(asked, own_right), _points(asked, own_left), geometry)
    assert (right == _points(asked, own_right)).all()
    assert (left == _points(own_left)).all()


@pytest.mark.parametrize(
    ("own_right", "own_left"),
    [
        ((5, 8, 5), (7, 7, 7)),  # 24 mm against 27.7 mm; the first is farther than 10 mm along one axis
        ((7, 5, 5), (30, 5, 5)),
    ],
)
def test_nearness_looks_as_far_as_it_must(own_right, own_left):
    asked = (5, 5, 5)
    right, left, _ = cleaned_lungs(_points(asked, own_right), _points(asked, own_left), grid(spacing=8.0))
    assert (right == _points(asked, own_right)).all()
    assert (left == _points(own_left)).all()


def test_pieces_of_mirrored_lungs_do_not_change_their_names():
    right_in = LEFT | boxes(((17, 19), (1, 5), (1, 13)))  # 96 of 1440 voxels, a crumb, touching the rod
    left_in = RIGHT | boxes(((18, 24), (5, 6), (5, 6)))
    right, left, _ = cleaned_lungs(right_in, left_in)
    assert (right == LEFT).all()
    assert (left == left_in).all()


def test_voxels_claimed_by_both_go_to_the_nearer_lung():
    right_in, left_in = boxes(((16, 36), (1, 11), (1, 13))), boxes(((4, 24), (1, 11), (1, 13)))
    right, left, notes = cleaned_lungs(right_in, left_in)
    # Own voxels end at 15 (left) and begin at 24 (right): 16-19 are nearer to the left, 20-23 to the right.
    assert (left == boxes(((4, 20), (1, 11), (1, 13)))).all()
    assert (right == boxes(((20, 36), (1, 11), (1, 13)))).all()
    assert "shared out 960 claimed by both" in notes[0]


def test_a_tie_between_the_lungs_goes_to_the_right_and_spacing_counts():
    right_in, left_in = boxes(((10, 36), (1, 11), (1, 13))), boxes(((4, 19), (1, 11), (1, 13)))
    # 10-18 are claimed by both: 14 is 5 voxels from 9 and from 19.
    right, left, _ = cleaned_lungs(right_in, left_in, grid(spacing=8.0))
    assert (right == boxes(((14, 36), (1, 11), (1, 13)))).all()
    assert (left == boxes(((4, 14), (1, 11), (1, 13)))).all()


@pytest.mark.parametrize(("right_in", "left_in"), [(RIGHT, RIGHT | LEFT), (RIGHT | LEFT, LEFT)])
def test_a_lung_that_claims_both_sides_gives_the_other_one_back(right_in, left_in):
    """One class covers both lungs (issue 100 of the original)."""
    right, left, _ = cleaned_lungs(right_in, left_in)
    assert (right == RIGHT).all()
    assert (left == LEFT).all()


def test_two_claims_on_everything_are_told_apart_by_side():
    right, left, _ = cleaned_lungs(RIGHT | LEFT, RIGHT | LEFT)
    assert (right == RIGHT).all()
    assert (left == LEFT).all()
    left, right, _ = cleaned_lungs(RIGHT | LEFT, RIGHT | LEFT, grid(flip=(0,)))
    assert (right == RIGHT).all()
    assert (left == LEFT).all()


def test_two_claims_on_one_piece_are_left_as_they_are():
    right, left, notes = cleaned_lungs(LEFT, LEFT)
    assert (right == LEFT).all()
    assert (left == LEFT).all()
    assert "nothing tells the lungs apart" in notes[0]
    # Two pieces above each other are the halves of one lung, not two lungs.
    halves = boxes(((4, 16), (1, 11), (1, 6)), ((4, 16), (1, 11), (8, 13)))
    right, left, _ = cleaned_lungs(halves, halves)
    assert (right == halves).all()
    assert (left == halves).all()


def test_a_speck_within_the_other_lung_does_not_cost_that_lung_more_than_itself():
    speck = boxes(((8, 10), (5, 7), (5, 7)))
    right, left, _ = cleaned_lungs(speck, LEFT)
    assert (right == speck).all()
    assert (left == (LEFT & ~speck)).all()


def test_mirrored_lungs_keep_their_names():
    right, left, notes = cleaned_lungs(LEFT, RIGHT)
    assert (right == LEFT).all()
    assert (left == RIGHT).all()
    assert notes == ()


@settings(max_examples=100, deadline=None)
@given(random_masks(names=LUNGS))
def test_lungs_end_up_disjoint_without_crumbs_or_untouched(masks):
    assume(all(name in masks for name in LUNGS))
    result, notes = clean(masks, VOCABULARY)
    right, left = (result[name] for name in LUNGS)
    if (right & left).any():
        assert all((result[name] == masks[name]).all() for name in LUNGS)
        assert any("nothing tells the lungs apart" in note for note in notes)
        return
    for lung in (right, left):
        sizes = components(lung).sizes[1:]
        assert (sizes >= 0.1 * sizes.max()).all()
