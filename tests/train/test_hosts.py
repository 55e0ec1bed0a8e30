"""The organ that is told: near its label, never it, and only one whose lesions are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage

from voxicon.train.hosts import FEWEST_VOXELS, Group, HostConfig, Hosts, groups_of, told

CLASSES = ("liver", "kidney_right", "kidney_left", "liver_tumor", "hepatic_vessel_tumor", "kidney_cyst", "lung_tumor")
PARENTS = {
    "liver_tumor": ("liver",),
    "hepatic_vessel_tumor": ("liver",),
    "kidney_cyst": ("kidney_right", "kidney_left"),
    "lung_tumor": ("lung_right", "lung_left"),
}
GROUPS = groups_of(CLASSES, PARENTS)
EXACT = HostConfig(shift_mm=0, waves=(), balls=0, leaks=0, left_out=0, holes=0, soft_mm=(0.01, 0.02))
SIDE, SPACING_MM = 24, 3.0


def box(low: int = 4, high: int = 20) -> NDArray[np.bool_]:
    mask = np.zeros((SIDE,) * 3, dtype=bool)
    mask[low:high, low:high, low:high] = True
    return mask


def scan() -> NDArray[np.float32]:
    """The organ at 100 HU, a neighbor as bright on its upper side, and fat around both."""
    hu = np.full((SIDE,) * 3, -100, dtype=np.float32)
    hu[box()] = 100
    hu[4:20, 4:20, 20:] = 110
    return hu


def targets(*there: str) -> NDArray[np.bool_]:
    found = np.zeros((len(CLASSES), SIDE, SIDE, SIDE), dtype=bool)
    for name in there:
        found[CLASSES.index(name)] = box() if name in ("liver", "kidney_right") else box(9, 13)
    return found


def test_lesions_of_the_same_organs_are_looked_for_together() -> None:
    assert (Group((3, 4), (0,)), Group((5,), (1, 2))) == GROUPS, "lungs are no class of the run"
    assert groups_of(("liver",), PARENTS) == ()


def test_exactly_told_is_the_organ() -> None:
    host = told(scan(), box(), box(9, 13), SPACING_MM, EXACT, np.random.default_rng(0))
    np.testing.assert_array_equal(host > 0.5, box())
    assert host.dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_told_strays_but_not_far(seed: int) -> None:
    host = told(scan(), box(), box(9, 13), SPACING_MM, HostConfig(left_out=0), np.random.default_rng(seed))
    assert host.min() >= 0
    assert host.max() <= 1
    found = host > 0.5
    shared = 2 * (found & box()).sum() / (found.sum() + box().sum())
    assert shared > 0.6
    again = told(scan(), box(), box(9, 13), SPACING_MM, HostConfig(left_out=0), np.random.default_rng(seed))
    np.testing.assert_array_equal(host, again)


def test_every_way_to_stray_strays() -> None:
    for change in ({"shift_mm": 3.0}, {"waves": ((12.0, 6.0),)}, {"balls": 4}):
        config = EXACT.model_copy(update=change)
        hosts = [
            told(scan(), box(), box(9, 13), SPACING_MM, config, np.random.default_rng(seed)) > 0.5 for seed in range(8)
        ]
        assert any((host != box()).any() for host in hosts), change


def test_neighbors_as_bright_are_taken_for_it_and_fat_is_not() -> None:
    config = EXACT.model_copy(update={"leaks": 1.0})
    taken = [
        told(scan(), box(), box(9, 13), SPACING_MM, config, np.random.default_rng(seed)) > 0.5 for seed in range(8)
    ]
    fat = scan() < 0
    fat_near_edges = ndimage.binary_erosion(fat, iterations=2)
    assert any((found & ~box() & ~fat).sum() > 100 for found in taken)
    assert not any((found & fat_near_edges).any() for found in taken)
    assert all((found | ~box()).all() for found in taken), "the organ itself stays"


def test_lesions_are_left_out_where_the_config_says_so() -> None:
    config = EXACT.model_copy(update={"left_out": 1.0})
    host = told(scan(), box(), box(9, 13), SPACING_MM, config, np.random.default_rng(0))
    assert host[11, 11, 11] < 0.5
    assert host[5, 5, 5] > 0.5
    none = told(scan(), box(), np.zeros_like(box()), SPACING_MM, config, np.random.default_rng(0))
    np.testing.assert_array_equal(none > 0.5, box())


def test_healthy_pieces_are_left_out_as_well() -> None:
    config = EXACT.model_copy(update={"holes": 1.0})
    for seed in range(5):
        host = told(scan(), box(), box(9, 13), SPACING_MM, config, np.random.default_rng(seed)) > 0.5
        lost = box() & ~host
        assert lost.any()
        assert not (host & ~box()).any()
        # Three balls of 12 mm at most.
        assert lost.sum() <= 3 * (4 / 3 * np.pi * 12.5**3) / SPACING_MM**3
    nothing_healthy = told(scan(), box(), box(), SPACING_MM, config, np.random.default_rng(0))
    np.testing.assert_array_equal(nothing_healthy > 0.5, box())


def test_an_organ_that_fills_the_patch() -> None:
    full = np.ones((SIDE,) * 3, dtype=bool)
    leaky = EXACT.model_copy(update={"leaks": 1.0})
    assert (told(scan(), full, box(9, 13), SPACING_MM, leaky, np.random.default_rng(0)) > 0.5).all()
    assert (told(scan(), full, box(9, 13), SPACING_MM, EXACT, np.random.default_rng(0)) > 0.5).all()


def test_only_lesions_of_the_organ_that_is_told_count() -> None:
    known = np.ones(len(CLASSES), dtype=bool)
    hosts = Hosts(EXACT, GROUPS)
    host, counted = hosts.choose(scan(), targets("liver", "liver_tumor"), known, SPACING_MM, np.random.default_rng(0))
    np.testing.assert_array_equal(host > 0.5, box())
    assert [CLASSES[i] for i in np.flatnonzero(counted)] == ["liver_tumor", "hepatic_vessel_tumor"]
    known[CLASSES.index("hepatic_vessel_tumor")] = False
    _, counted = hosts.choose(scan(), targets("liver", "liver_tumor"), known, SPACING_MM, np.random.default_rng(0))
    assert [CLASSES[i] for i in np.flatnonzero(counted)] == ["liver_tumor"]


def test_any_organ_in_sight_may_be_chosen() -> None:
    hosts, known = Hosts(EXACT, GROUPS), np.ones(len(CLASSES), dtype=bool)
    both = targets("liver", "kidney_right")
    drawn = {
        tuple(np.flatnonzero(hosts.choose(scan(), both, known, SPACING_MM, np.random.default_rng(seed))[1]))
        for seed in range(20)
    }
    assert drawn == {(3, 4), (5,)}


@pytest.mark.parametrize("unknown", [("liver",), ("liver_tumor", "hepatic_vessel_tumor")])
def test_nothing_is_looked_into_where_organ_or_lesions_are_unknown(unknown: tuple[str, ...]) -> None:
    known = np.array([name not in unknown for name in CLASSES])
    host, counted = Hosts(EXACT, GROUPS).choose(scan(), targets("liver"), known, SPACING_MM, np.random.default_rng(0))
    assert not host.any()
    assert not counted.any()


def test_a_corner_of_an_organ_is_not_looked_into() -> None:
    known, small = np.ones(len(CLASSES), dtype=bool), targets()
    small[0].reshape(-1)[: FEWEST_VOXELS - 1] = True
    assert not Hosts(EXACT, GROUPS).choose(scan(), small, known, SPACING_MM, np.random.default_rng(0))[1].any()
    small[0].reshape(-1)[:FEWEST_VOXELS] = True
    assert Hosts(EXACT, GROUPS).choose(scan(), small, known, SPACING_MM, np.random.default_rng(0))[1].any()


@pytest.mark.parametrize(
    "values",
    [{"left_out": 1.5}, {"waves": [[0, 2]]}, {"waves": [[12, -1]]}, {"soft_mm": [0, 1]}, {"soft_mm": [3, 1]}],
)
def test_what_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HostConfig.model_validate(values)
