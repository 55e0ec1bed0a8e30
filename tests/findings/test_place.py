"""Thirds of organs of known shape."""

from __future__ import annotations

import numpy as np
import pytest

from tests.findings.test_shape import block, grid
from tests.phantoms import rotation
from voxicon.core.geometry import Geometry
from voxicon.findings.place import part_of, parts_known, thirds_of

ROW = block((30, 3, 3), (0, 30), (1, 2), (1, 2))


def pancreas(shape, first, last):
    """A straight pancreas of 2 mm voxels from one voxel to another."""
    mask = np.zeros(shape, dtype=bool)
    for t in np.linspace(0, 1, 200):
        mask[tuple(np.rint(np.array(first) + t * (np.array(last) - first)).astype(int))] = True
    return mask, grid(shape, spacing_mm=(2.0, 2.0, 2.0))


def test_a_pancreas_rising_to_the_left():
    mask, geometry = pancreas((40, 10, 20), (38, 5, 2), (2, 5, 17))
    thirds = thirds_of("pancreas", mask, geometry)
    places = [thirds.at(tuple(geometry.to_world(p))) for p in ((37, 5, 3), (20, 5, 10), (3, 5, 17))]
    assert places == ["head", "body", "tail"]
    assert thirds.at(tuple(geometry.to_world((60, 5, 0)))) == "head"  # beyond the end
    assert thirds.parts["tail"].length_mm == pytest.approx(2 * np.hypot(36, 15), abs=2)


def test_thirds_are_equal_lengths():
    geometry = grid(ROW.shape, spacing_mm=(1.0, 1.0, 1.0))
    thirds = thirds_of("pancreas", ROW, geometry)
    words = [thirds.at(tuple(geometry.to_world((x, 1, 1)))) for x in range(30)]
    assert [words.count(word) for word in ("tail", "body", "head")] == [10, 10, 10]
    assert words[0] == "tail"
    assert words[-1] == "head"


def test_the_stored_direction_does_not_matter():
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    thirds = thirds_of("pancreas", ROW, Geometry(ROW.shape, affine))
    assert (thirds.at((0, 0, 0)), thirds.at((-29, 0, 0))) == ("head", "tail")


def test_an_oblique_liver_is_cut_along_the_body():
    mask = np.ones((4, 4, 30), dtype=bool)
    geometry = grid(mask.shape, rotation(20, 0), spacing_mm=(1.0, 1.0, 1.0))
    thirds = thirds_of("liver", mask, geometry)
    words = [thirds.at(tuple(geometry.to_world((2, 2, z)))) for z in (2, 15, 28)]
    assert words == ["lower", "middle", "upper"]


def test_none():
    geometry = grid(ROW.shape)
    assert thirds_of("spleen", ROW, geometry) is None
    assert thirds_of("kidney_left", ROW, geometry) is None  # one slice: no length along S-I
    assert thirds_of("pancreas", block(ROW.shape, (1, 2), (1, 2), (1, 2)), geometry) is None


@pytest.mark.parametrize(
    ("part", "axis", "first", "last"),
    [
        ("upper third", 2, 20, 29),
        ("middle third", 2, 10, 19),
        ("lower third", 2, 0, 9),
        ("upper half", 2, 15, 29),
        ("lower half", 2, 0, 14),
        ("right half", 0, 15, 29),
        ("left half", 0, 0, 14),
        ("front half", 1, 15, 29),
        ("back half", 1, 0, 14),
        ("lower pole", 2, 0, 9),
    ],
)
def test_parts_of_a_cube(part, axis, first, last):
    cube = np.ones((30, 30, 30), dtype=bool)
    geometry = grid(cube.shape, spacing_mm=(1.0, 1.0, 1.0))
    cut = part_of("spleen", part, cube, geometry).cut(cube, geometry)
    lines = np.flatnonzero(cut.any(axis=tuple(a for a in range(3) if a != axis)))
    assert (lines[0], lines[-1]) == (first, last)
    assert cut.sum() == 900 * (last - first + 1)


def test_thirds_and_halves_leave_nothing_out():
    mask, geometry = pancreas((40, 10, 20), (38, 5, 2), (2, 5, 17))
    for parts in (
        ("head", "body", "tail"),
        ("upper third", "middle third", "lower third"),
        ("left half", "right half"),
    ):
        cuts = [part_of("pancreas", part, mask, geometry).cut(mask, geometry) for part in parts]
        assert (np.sum(cuts, axis=0) == mask).all()


def test_a_part_without_a_method():
    assert part_of("liver", "caudate lobe", ROW, grid(ROW.shape)) is None
    assert part_of("stomach", "body", ROW, grid(ROW.shape)) is None  # the word is the pancreas's too
    assert "tail" in parts_known("pancreas")
    assert "tail" not in parts_known("liver")
    assert "upper third" in parts_known("liver")
