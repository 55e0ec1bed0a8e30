"""Small masks for the cleanup tests: boxes by hand and random sets by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage

from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Source
from voxicon.infer.cleanup import clean

VOCABULARY = Vocabulary.default()
SHAPE = (40, 12, 14)


def grid(shape=SHAPE, spacing=1.5, flip=()):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    for axis in flip:
        affine[axis, axis] *= -1
    return Geometry(shape, affine)


def boxes(*several, shape=SHAPE):
    """A mask of boxes, each given as three (start, stop) pairs."""
    mask = np.zeros(shape, dtype=bool)
    for box in several:
        mask[tuple(slice(*ends) for ends in box)] = True
    return mask


def pack(masks, geometry=None):
    shape = next(iter(masks.values())).shape
    return MaskSet.from_masks(masks, geometry or grid(shape), Source(name="case"))


def cleaned(masks, mode="default", geometry=None):
    result, notes = clean(pack(masks, geometry), VOCABULARY, mode)
    return result, notes


@st.composite
def random_masks(draw, names=VOCABULARY.names):
    shape = tuple(draw(st.integers(3, 12)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=5, unique=True))
    if draw(st.booleans()):
        chosen = list(dict.fromkeys([*chosen, "lung_right", "lung_left", "liver_tumor", "liver"]))
    smooth, quantile = draw(st.sampled_from([0.0, 0.7, 1.5])), draw(st.sampled_from([0.3, 0.7, 0.95]))
    spacing = draw(st.sampled_from([1.0, 1.5, 3.0]))
    masks = {}
    for name in chosen:
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), smooth)
        masks[name] = noise > np.quantile(noise, quantile)
    return pack(masks, grid(shape, spacing))


LUNGS = ("lung_right", "lung_left")

# Lungs: index 0 is far left, index 39 far right of the patient.
RIGHT_BOX, LEFT_BOX = ((24, 36), (1, 11), (1, 13)), ((4, 16), (1, 11), (1, 13))
RIGHT, LEFT = boxes(RIGHT_BOX), boxes(LEFT_BOX)


def cleaned_lungs(right, left, geometry=None, mode="default"):
    result, notes = cleaned({"lung_right": right, "lung_left": left}, mode, geometry)
    return result["lung_right"], result["lung_left"], notes
