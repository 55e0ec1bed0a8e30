"""Vessel trees: inside the liver, in one piece, as much as there is in people, the same for the same seed."""

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxicon.synthesis.painting.vessels import HEPATIC, PORTAL, grow_vessels


def liver(spacing_mm: float = 3.0) -> np.ndarray:
    """A wedge like a liver: thick on the right, thin on the left, 1.2 liters."""
    n = round(230 / spacing_mm)
    x, y, z = np.meshgrid(*([(np.arange(n) - n / 2 + 0.5) * spacing_mm] * 3), indexing="ij")
    thick = np.clip((x + 100) / 200, 0.02, 1)
    return (x / 100) ** 2 + (y / (95 * thick**0.4)) ** 2 + (z / (88 * thick**0.7)) ** 2 < 1


@settings(max_examples=6)
@given(seed=st.integers(0, 1000))
def test_trees_lie_in_the_liver_in_one_piece_and_fill_a_plausible_share(seed: int) -> None:
    mask = liver()
    tree = grow_vessels(mask, (3.0, 3.0, 3.0), np.random.default_rng(seed))
    assert not tree[~mask].any()
    assert set(np.unique(tree)) == {0, PORTAL, HEPATIC}
    assert 0.02 < np.count_nonzero(tree) / np.count_nonzero(mask) < 0.09
    portal = cc3d.connected_components((tree == PORTAL).astype(np.uint8), connectivity=26)
    assert portal.max() == 1


def test_the_same_seed_grows_the_same_trees_and_another_one_others() -> None:
    mask = liver(5.0)
    first, same, other = (grow_vessels(mask, (5.0,) * 3, np.random.default_rng(s)) for s in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


def test_branches_reach_every_part_of_the_liver() -> None:
    mask = liver()
    tree = grow_vessels(mask, (3.0,) * 3, np.random.default_rng(0)) != 0
    for part in np.array_split(np.argwhere(mask)[np.argsort(np.argwhere(mask)[:, 0], kind="stable")], 5):
        assert tree[tuple(part.T)].mean() > 0.01


def test_roots_are_where_they_are_told_to_be() -> None:
    mask = liver()
    roots = {"portal": (20, 38, 30), "hepatic": (50, 30, 50)}
    tree = grow_vessels(mask, (3.0,) * 3, np.random.default_rng(0), roots)
    for kind, name in ((PORTAL, "portal"), (HEPATIC, "hepatic")):
        away = np.linalg.norm(np.argwhere(tree == kind) - np.array(roots[name]), axis=1)
        assert away.min() <= 2
    # A root outside the liver means the nearest voxel of the liver.
    far = grow_vessels(mask, (3.0,) * 3, np.random.default_rng(0), {"portal": (0, 38, 38)})
    edge = np.argwhere(mask)[:, 0].min()
    assert np.argwhere(far == PORTAL)[:, 0].min() <= edge + 4


def test_a_tree_that_has_to_jump_a_hollow_is_still_in_one_piece() -> None:
    mask = np.zeros((70, 50, 40), dtype=bool)
    mask[5:65, 5:45, 5:35] = True
    mask[25:45, :38, :] = False
    for seed in range(4):
        tree = grow_vessels(mask, (3.0,) * 3, np.random.default_rng(seed), {"portal": (10, 10, 20)})
        assert cc3d.connected_components((tree == PORTAL).astype(np.uint8), connectivity=26).max() == 1


def test_the_trunk_is_as_thick_as_a_portal_vein() -> None:
    mask = np.ones((60, 60, 60), dtype=bool)
    tree = grow_vessels(mask, (3.0,) * 3, np.random.default_rng(0), {"portal": (30, 30, 0)}) == PORTAL
    # Radius 5 to 7 mm, times 1.2 in so large a liver, a twentieth less at the end of a branch: a section of
    # π 5.8² / 3² = 12 to π 8.4² / 3² = 25 voxels, more where it is cut askew.
    assert 10 <= np.count_nonzero(tree[:, :, 4]) <= 40


def test_without_liver_no_vessels_and_on_a_coarse_grid_no_failure() -> None:
    assert not grow_vessels(np.zeros((4, 5, 6), dtype=bool), (3.0,) * 3, np.random.default_rng(0)).any()
    one = np.zeros((4, 5, 6), dtype=bool)
    one[2, 2, 2] = True
    assert not grow_vessels(one, (3.0,) * 3, np.random.default_rng(0))[~one].any()
    coarse = liver(10.0)
    assert not grow_vessels(coarse, (10.0,) * 3, np.random.default_rng(0))[~coarse].any()


def test_the_liver_may_lie_anywhere_in_the_grid() -> None:
    mask = liver(5.0)
    padded = np.pad(mask, ((3, 1), (2, 4), (5, 0)))
    tree = grow_vessels(mask, (5.0,) * 3, np.random.default_rng(3))
    moved = grow_vessels(padded, (5.0,) * 3, np.random.default_rng(3))
    assert (moved[3:-1, 2:-4, 5:] == tree).all()
    assert not moved[:3].any()


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 5.0), (2.0, 4.0, 3.0)])
def test_voxels_need_not_be_cubes(spacing: tuple[float, float, float]) -> None:
    mask = np.ones((50, 40, 40), dtype=bool)
    tree = grow_vessels(mask, spacing, np.random.default_rng(0))
    assert 0.005 < np.count_nonzero(tree) / mask.size < 0.12
