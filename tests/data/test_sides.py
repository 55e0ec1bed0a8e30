"""One value for both sides becomes right and left: one organ, two, touching, merged, in pieces, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.phantoms import ORIENTATIONS, oriented, rotation
from voxicon.core.components import components
from voxicon.core.geometry import Geometry
from voxicon.core.volume import Volume
from voxicon.data.sides import split_sides
from voxicon.errors import BadGeometry

SHAPE = (60, 24, 32)
SPACING = 3.0


def grid(shape=SHAPE, spacing=SPACING, turn=None):
    """RAS, its middle at the origin: x of index i is (i - 29.5) * 3 mm, so no voxel lies on the plane x = 0."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


GRID = grid()
POINTS = GRID.to_world(np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1))


def ball(center, radii, points=POINTS):
    return (((points - center) / radii) ** 2).sum(axis=-1) < 1


def block(x, y=(-12, 12), z=(-12, 12)):
    """Voxels whose centers lie between bounds in mm."""
    bounds = np.array([x, y, z])
    return ((bounds[:, 0] < POINTS) & (bounds[:, 1] > POINTS)).all(axis=-1)


NOTHING = np.zeros(SHAPE, dtype=bool)
RIGHT_KIDNEY, LEFT_KIDNEY = ball((50, 0, -5), (18, 15, 30)), ball((-55, 0, 5), (18, 15, 30))
RIGHT_LUNG, LEFT_LUNG = ball((42, 0, 0), (38, 30, 42)), ball((-44, 0, 0), (32, 30, 42))


def check(mask, right, left=None, midline_mm=0.0, geometry=GRID):
    """Right and left as expected, to the voxel."""
    found_right, found_left = split_sides(mask, geometry, midline_mm)
    assert (found_right == right).all()
    assert (found_left == (mask & ~right if left is None else left)).all()


# --- one organ and two


@pytest.mark.parametrize("midline_mm", [0.0, 20.0, None])
def test_two_kidneys(midline_mm):
    check(RIGHT_KIDNEY | LEFT_KIDNEY, RIGHT_KIDNEY, LEFT_KIDNEY, midline_mm)


@pytest.mark.parametrize("midline_mm", [0.0, None])
def test_one_kidney_keeps_its_side(midline_mm):
    """The original calls a single piece right, always."""
    check(LEFT_KIDNEY, NOTHING, LEFT_KIDNEY, midline_mm)
    check(RIGHT_KIDNEY, RIGHT_KIDNEY, NOTHING, midline_mm)


@pytest.mark.parametrize("midline_mm", [0.0, None])
def test_nothing_has_no_sides(midline_mm):
    check(NOTHING, NOTHING, NOTHING, midline_mm)


def test_a_patient_off_center_needs_the_midline_only_for_a_single_organ():
    moved = Geometry(SHAPE, GRID.affine + np.array([[0, 0, 0, 400]] + [[0] * 4] * 3))
    check(RIGHT_KIDNEY | LEFT_KIDNEY, RIGHT_KIDNEY, geometry=moved, midline_mm=None)
    check(LEFT_KIDNEY, NOTHING, geometry=moved, midline_mm=400)
    # Without it the middle of the grid stands in, not x = 0 of a frame whose origin may lie anywhere.
    check(LEFT_KIDNEY, NOTHING, geometry=moved, midline_mm=None)


def test_a_voxel_on_the_midline_is_right():
    plate = block((-4, 4), (-20, 20), (-20, 20))
    # Columns at x = -1.5 and 1.5; a plane through 1.5 leaves half of the voxels right, one beyond it none.
    check(plate, POINTS[..., 0] * plate > 1, midline_mm=1.5)
    check(plate, POINTS[..., 0] * plate > 1, midline_mm=1.5 + 1e-9)
    check(plate, NOTHING, midline_mm=1.5 + 1e-3)
    # The same for whole pieces, by their center.
    column = block((0, 3))
    check(column, column, midline_mm=1.5)
    check(column, column, midline_mm=1.5 + 1e-9)
    check(column, NOTHING, midline_mm=1.5 + 1e-3)


def test_lungs_pushed_over_the_midline_stay_whole():
    """The right lung's center lies right, a fifth of it does not; a piece beside it says that it is one organ."""
    right, left = block((-14, 56)), block((-80, -40))
    assert 0.15 < (right & (POINTS[..., 0] < 0)).sum() / right.sum() < 0.25
    check(right | left, right, left)
    # Alone and without a neck it is cut: it may be a horseshoe.
    check(right, right & (POINTS[..., 0] > 0))


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize(("reach_mm", "is_cut"), [(-5, False), (-10, False), (-14, True), (-20, True)])
def test_a_little_over_the_midline_is_no_second_organ(reach_mm, is_cut, is_mirrored):
    # Right of the middle lie 20 columns, left of it 2 (9 %), 3 (13 %), 5 (20 %) or 7 (26 %).
    kidney = block((reach_mm, 60))
    right = kidney & (POINTS[..., 0] > 0) if is_cut else kidney
    if is_mirrored:
        check(kidney[::-1], NOTHING if not is_cut else (kidney & ~right)[::-1])
    else:
        check(kidney, right)


# --- two organs on one side of the midline


def test_two_kidneys_on_one_side_farther_right_is_right():
    check(RIGHT_KIDNEY | LEFT_KIDNEY, RIGHT_KIDNEY, LEFT_KIDNEY, midline_mm=-90.0)
    check(RIGHT_KIDNEY | LEFT_KIDNEY, RIGHT_KIDNEY, LEFT_KIDNEY, midline_mm=90.0)


def test_pieces_of_one_kidney_on_one_side_stay_together():
    above = block((-60, -30), z=(5, 40)) | block((-60, -30), z=(-40, -5))
    check(above, NOTHING)
    # A severed tip of 3 in 13 columns (below a third of the rest) lies beside the kidney, and is no kidney.
    tip = block((-60, -30)) | block((-20, -11))
    assert sorted(components(tip).sizes.tolist()) == [0, 3 * 64, 10 * 64]
    check(tip, NOTHING)
    check(tip, block((-20, -11)), midline_mm=None)


# --- touching and merged organs


@pytest.mark.parametrize("midline_mm", [0.0, 10.0, None])
def test_touching_lungs_are_parted_at_their_bridge_not_at_a_plane(midline_mm):
    """The bridge lies left of the middle; a plane there would cut a slice off the right lung."""
    right, left = block((-9, 80), (-24, 24), (-40, 40)), block((-80, -21), (-24, 24), (-40, 40))
    bridge = block((-22, -8), (-6, 6), (-3, 6))
    found_right, found_left = split_sides(right | left | bridge, GRID, midline_mm)
    # Bridge columns are centered at -19.5, -16.5, -13.5 and -10.5, two for each lung.
    assert (found_right == (right | (bridge & (POINTS[..., 0] > -15)))).all()
    assert (found_left == (left | (bridge & (POINTS[..., 0] < -15)))).all()


def test_the_seam_is_nearest_within_the_piece_not_through_the_air():
    """A thin tongue of the right lung hangs over the left one, 6 mm above it and 30 mm from its own."""
    tongue = block((-60, 20), (-6, 6), (37, 43)) | block((14, 20), (-6, 6), (15, 43))
    right, left = block((8, 80), (-24, 24), (-45, 20)) | tongue, block((-80, -12), (-24, 24), (-45, 32))
    bridge = block((-12, 8), (-6, 6), (-12, -6))
    found_right, found_left = split_sides(right | left | bridge, GRID, 0.0)
    assert not (found_right & left).any()
    assert not (found_left & right).any()


def test_touching_lungs_at_fine_resolution():
    """Voxels of 1 mm: lobes are found in cells of two voxels, the seam is drawn voxel by voxel."""
    shape = (81, 31, 33)
    fine = grid(shape, 1.0)
    points = fine.to_world(np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1))
    right, left = ball((20, 0, 0), (17, 14, 15), points), ball((-19, 0, 0), (17, 14, 15), points)
    bridge = (np.abs(points - (1, 0, 0)) < (5, 3, 3)).all(axis=-1)
    found_right, found_left = split_sides(right | left | bridge, fine, 0.0)
    assert not (found_right & left).any()
    assert not (found_left & right).any()
    # The bridge reaches from the left lung's end at -2 to the right lung's start at 3: halves meet near 0.5.
    x_mm = points[..., 0]
    assert x_mm[found_right].min() >= -1
    assert x_mm[found_left].max() <= 2


def test_lungs_a_voxel_apart_over_a_wide_face():
    """Cells of 2 mm would weld lungs 1 mm apart; only cells that lie wholly inside count as inside."""
    shape = (64, 24, 24)
    fine = grid(shape, 1.0)
    right, left = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    right[28:62, 2:22, 2:22], left[2:27, 2:22, 2:22] = True, True
    both = right | left
    both[27, 11, 11] = True
    found_right, found_left = split_sides(both, fine, 0.0)
    # One voxel joins them, midway between the lungs or nearly so: it may go to either.
    assert ((found_right ^ right).sum(), (found_left ^ left).sum()) in [(0, 1), (1, 0)]


def test_touching_lungs_in_a_single_slice():
    """Where the scan ends the lungs do not: a slice of 1 mm is not too thin to have an inside."""
    shape = (64, 24, 1)
    right, left = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    right[28:62, 2:22], left[2:26, 2:22] = True, True
    both = right | left
    both[26:28, 10:13] = True
    found_right, found_left = split_sides(both, grid(shape, 1.0), 0.0)
    assert not (found_right & left).any()
    assert not (found_left & right).any()


def test_touching_lungs_beside_a_severed_lobe():
    """A large piece within the width of the lungs is neither a second lung nor a reason not to part them."""
    right, left = block((8, 80), (-24, 24), (-30, 40)), block((-70, -8), (-24, 24), (-30, 40))
    bridge, lobe = block((-8, 8), (-6, 6), (0, 9)), block((20, 80), (-30, 30), (-48, -33))
    parts = components(right | left | bridge | lobe)
    assert parts.sizes[parts.ranked(2)[1]] > 0.1 * parts.sizes.max()
    found_right, found_left = split_sides(right | left | bridge | lobe, GRID, 0.0)
    assert not (found_right & left).any()
    assert not (found_left & (right | lobe)).any()


@pytest.mark.parametrize("midline_mm", [0.0, 6.0])
def test_a_horseshoe_without_a_neck_is_cut_by_the_plane(midline_mm):
    horseshoe = block((-60, 60), z=(-40, -16)) | block((-60, -36), z=(-40, 20)) | block((36, 60), z=(-40, 20))
    check(horseshoe, horseshoe & (POINTS[..., 0] > midline_mm), midline_mm=midline_mm)


def test_a_piece_between_the_arms_of_a_horseshoe_is_not_lost():
    horseshoe = block((-60, 60), z=(-40, -16)) | block((-60, -36), z=(-40, 40)) | block((36, 60), z=(-40, 40))
    between = block((4, 25), z=(-8, 30))
    assert between.sum() > 0.1 * horseshoe.sum()
    check(horseshoe | between, (horseshoe & (POINTS[..., 0] > 0)) | between)


def test_a_shallow_waist_is_no_neck():
    """A plate 7 voxels thick, a waist of 5 and a body of 11: depths of 12, 9 and 18 mm, and 12 is below 1.5 times 9."""
    plate, waist = block((-80, -30), (-12, 9), (-40, 38)), block((-30, -24), (-9, 6), (-40, 38))
    whole = plate | waist | block((-24, 40), (-18, 15), (-40, 38))
    check(whole, whole & (POINTS[..., 0] > 0))
    # A waist of 3 voxels, 6 mm deep, is one: 12 is more than 9.
    neck = block((-30, -24), (-6, 3), (-40, 38))
    whole ^= waist ^ neck
    check(whole, whole & (POINTS[..., 0] > -27))


def test_a_thin_piece_without_an_inside_is_cut_by_the_plane():
    thread = block((-60, 60), (-2, 2), (-2, 2))
    check(thread, thread & (POINTS[..., 0] > 0))
    shape = (20, 1, 1)
    check(np.ones(shape, bool), np.arange(20).reshape(shape) >= 10, geometry=grid(shape))


def test_a_lobe_on_one_side_of_the_midline_is_no_organ():
    """A kidney and a mass on a neck, both centered right of the middle, are not a right and a left kidney."""
    kidney, mass = block((40, 80), (-20, 20), (-30, 30)), block((-16, 32), (-20, 20), (-30, 30))
    both = kidney | mass | block((30, 42), (-3, 3), (-3, 3))
    check(both, both & (POINTS[..., 0] > 0))


# --- pieces and fragments


@pytest.mark.parametrize("midline_mm", [0.0, None])
def test_three_fragments(midline_mm):
    """A left kidney in two large pieces and a whole right one: the original calls the third piece right."""
    upper, lower = block((-70, -40), z=(8, 30)), block((-70, -40), z=(-30, -2))
    check(RIGHT_KIDNEY | upper | lower, RIGHT_KIDNEY, upper | lower, midline_mm)
    # Off center in a cut-out only the pieces themselves can tell.
    middle = block((-27, -4))
    check(middle | upper | lower, middle, upper | lower, None)
    # Four pieces of which the two largest are one kidney.
    small = block((40, 61), z=(8, 30)) | block((40, 61), z=(-30, -2))
    check(small | upper | lower, small, upper | lower, midline_mm)


def test_fragments_go_with_the_large_piece_beside_them_else_with_their_side():
    left, right = block((-70, 1), z=(-30, 0)), block((30, 70), z=(-30, 0))
    beside_left = block((4, 8), (-2, 2), (-2, 2))  # 5 mm off the left piece's edge, right of the middle
    far = block((10, 14), (-2, 2), (40, 44))
    check(left | right | beside_left | far, right | far)
    check(left | beside_left | far, far, midline_mm=0.0)


def test_a_shrunken_kidney_far_from_the_healthy_one_keeps_its_side():
    shrunken = block((45, 55), (-5, 5), (-8, 2))
    assert shrunken.sum() < 0.05 * LEFT_KIDNEY.sum()
    check(shrunken | LEFT_KIDNEY, shrunken, LEFT_KIDNEY)


# --- any grid


def mirrored(mask):
    return mask[::-1]


BODIES = {
    "kidneys": RIGHT_KIDNEY | LEFT_KIDNEY,
    "one kidney": RIGHT_KIDNEY,
    "touching": ball((34, 0, 0), (46, 30, 42)) | LEFT_LUNG | block((-15, 5), (-6, 6), (-3, 6)),
    "horseshoe": block((-60, 70), z=(-40, -16)) | block((-60, -36), z=(-40, 20)) | block((36, 60), z=(-40, 20)),
    "crumbs": RIGHT_KIDNEY
    | block((-70, -40))
    | block((24, 30), (-2, 2), (-2, 2))
    | block((-10, -4), (-2, 2), (30, 34)),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("midline_mm", [0.0, None])
def test_mirrored_body_swaps_sides(name, midline_mm):
    right, left = split_sides(BODIES[name], GRID, midline_mm)
    assert right.any()
    mirror_right, mirror_left = split_sides(mirrored(BODIES[name]), GRID, midline_mm)
    assert (mirror_right == mirrored(left)).all()
    assert (mirror_left == mirrored(right)).all()


@pytest.mark.parametrize("degrees", [20.0, -40.0])
@pytest.mark.parametrize("axis", [1, 2])
def test_oblique_grids(degrees, axis):
    """The same patient on a turned grid; sides are those of the patient, not of the voxel axes."""
    shape = (60, 60, 60)
    turned = grid(shape, 3.0, rotation(degrees, axis))
    points = turned.to_world(np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1))
    right, left = ball((34, 0, 0), (28, 24, 40), points), ball((-30, 0, 0), (26, 24, 40), points)
    bridge = (np.abs(points) < (12, 5, 5)).all(axis=-1)
    for mask in (right | left, right, left, right | left | bridge):
        for midline_mm in (0.0, None):
            found_right, found_left = split_sides(mask, turned, midline_mm)
            assert not (found_right & left).any()
            assert not (found_left & right).any()
    plate = (np.abs(points) < (40, 12, 12)).all(axis=-1)
    found_right, _ = split_sides(plate, turned, 4.0)
    assert (found_right == (plate & (points[..., 0] >= 4.0))).all()


@st.composite
def random_masks(draw):
    shape = tuple(draw(st.integers(1, 14)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), draw(st.sampled_from([0.0, 0.8, 1.5])))
    mask = noise > np.quantile(noise, draw(st.sampled_from([0.0, 0.3, 0.7, 0.95])))
    spacing = np.array([draw(st.sampled_from([0.7, 1.5, 5.0])) for _ in range(3)])
    affine = np.diag([*spacing, 1.0])
    affine[:3, :3] = rotation(draw(st.sampled_from([0.0, 0.0, 25.0])), draw(st.integers(0, 2))) @ affine[:3, :3]
    affine[:3, 3] = draw(st.sampled_from([0.0, 123.4567]))
    midline_mm = draw(st.none() | st.floats(-20, 80).map(lambda x: x + affine[0, 3]))
    return Volume(mask, Geometry(shape, affine)), midline_mm


@settings(max_examples=150)
@given(random_masks(), st.sampled_from(ORIENTATIONS))
def test_every_voxel_has_one_side_and_the_voxel_order_does_not_matter(case, orientation):
    volume, midline_mm = case
    right, left = split_sides(volume.hu, volume.geometry, midline_mm)
    assert right.dtype == left.dtype == bool
    assert not (right & left).any()
    assert ((right | left) == volume.hu).all()
    other = oriented(volume, *orientation)
    other_right, _ = split_sides(other.hu, other.geometry, midline_mm)
    assert (other_right == oriented(Volume(right, volume.geometry), *orientation).hu).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_ties_do_not_depend_on_rounding(orientation):
    """At an odd origin places differ by 1e-14 mm from one voxel order to another."""
    affine = np.diag([2.6, 2.6, 2.6, 1.0])
    affine[:3, 3] = 123.4567
    mask = np.zeros((11, 3, 3), dtype=bool)
    mask[:3] = mask[8:] = mask[5, 1, 1] = True  # a fragment as far from the right piece as from the left
    volume = oriented(Volume(mask, Geometry(mask.shape, affine)), *orientation)
    right, _ = split_sides(volume.hu, volume.geometry, 123.4567 + 5.1 * 2.6)
    assert right.sum() == 27
    mask = np.zeros((30, 3, 3), dtype=bool)
    mask[:3] = mask[4:7] = mask[8:11] = True  # the middle piece may go with either
    volume = oriented(Volume(mask, Geometry(mask.shape, affine)), *orientation)
    right, _ = split_sides(volume.hu, volume.geometry)
    assert right.sum() == 54


def test_a_mask_of_another_grid_is_refused():
    with pytest.raises(BadGeometry, match=r"mask of shape \(2, 2, 2\) does not fit a grid of shape \(60, 24, 32\)"):
        split_sides(np.ones((2, 2, 2), dtype=bool), GRID)
