"""Thirds of organs of known shape."""

from __future__ import annotations

import numpy as np
import pytest

from tests.findings.test_shape import block, grid
from tests.phantoms import rotation
from voxicon.core.geometry import Geometry
from voxicon.findings.place import thirds_of

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
    assert thirds.length_mm == pytest.approx(2 * np.hypot(36, 15), abs=2)


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
