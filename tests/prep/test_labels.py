"""Labels on the model grid."""

from __future__ import annotations

import numpy as np

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.prep.labels import averaged_masks, nearest_labels


def test_masks_are_averaged_and_cut_at_one_half() -> None:
    fine, coarse = Geometry((9, 3, 3), np.eye(4)), Geometry((3, 1, 1), np.diag([4.0, 2.0, 2.0, 1.0]))
    mask = np.zeros(fine.shape, dtype=bool)
    mask[:3] = True  # of the triangle around 0 (weights 4, 3, 2, 1) the first three voxels hold 0.9
    found = averaged_masks(MaskSet.from_masks({"a": mask}, fine), coarse)
    assert found["a"].ravel().tolist() == [True, False, False]
    assert found.geometry is coarse


def test_structure_lookup_follows_the_grid() -> None:
    flipped = Geometry((4, 4, 4), np.array([[-1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    raw = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    model = Geometry((4, 4, 4), np.eye(4))
    assert (nearest_labels(raw, flipped, model) == raw[::-1]).all()
    tilted = flipped.affine.copy()
    tilted[1, 0] = 1e-3  # oblique by a hair: the general route must agree
    assert (nearest_labels(raw, Geometry((4, 4, 4), tilted), model) == raw[::-1]).all()
