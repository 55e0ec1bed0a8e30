"""Safe colors stay apart for every kind of color vision, and a class keeps its own whatever else is shown."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnknownClass
from voxicon.report.palette import Color, Palette

VOCABULARY = Vocabulary.default()

# Source: Machado, Oliveira and Fernandes, IEEE TVCG 2009, severity 1.0, for linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}

TOUCHING = {
    "liver": "kidney_right stomach gallbladder duodenum colon lung_right inferior_vena_cava esophagus hepatic_vessel "
    "adrenal_gland_right portal_vein_and_splenic_vein",
    "pancreas": "duodenum stomach portal_vein_and_splenic_vein spleen small_bowel",
    "spleen": "kidney_left stomach colon lung_left",
    "stomach": "colon esophagus small_bowel lung_left",
    "aorta": "inferior_vena_cava esophagus lung_left",
    "kidney_left": "adrenal_gland_left",
    "kidney_right": "adrenal_gland_right duodenum colon",
    "small_bowel": "colon duodenum",
    "lung_left": "lung_right",
    "heart": "lung_left lung_right aorta",
    "prostate": "urinary_bladder rectum",
    "urinary_bladder": "rectum",
    "gallbladder": "duodenum colon",
}

LEAST_DELTA_E = 25.0
"""CIE76; about 2.3 is just noticeable. Source: Mahy et al., Color Research and Application 1994."""


def lab(color: Color, vision: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB (D65) of an sRGB color as a reader sees it."""
    srgb = np.array(color) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = to_xyz @ np.clip(vision @ linear, 0, 1) / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def delta_e(a: Color, b: Color, vision: str) -> float:
    return float(np.linalg.norm(lab(a, VISION[vision]) - lab(b, VISION[vision])))


def test_delta_e_is_worked_right() -> None:
    assert lab((255, 255, 255), VISION["normal"]) == pytest.approx([100, 0, 0], abs=0.02)
    assert lab((255, 0, 0), VISION["normal"]) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    # To a deuteranope, this red and this green are one.
    assert delta_e((160, 110, 0), (110, 126, 0), "deuteranopia") < 10 < delta_e((160, 110, 0), (110, 126, 0), "normal")


@pytest.mark.parametrize("vision", VISION)
def test_organs_that_touch_stay_apart(vision: str) -> None:
    palette = Palette(VOCABULARY, "safe")
    pairs = [(a, b) for a, others in TOUCHING.items() for b in others.split()]
    near = {(a, b): delta_e(palette[a].color, palette[b].color, vision) for a, b in pairs}
    assert len(near) == 42
    assert {pair: d for pair, d in near.items() if d < LEAST_DELTA_E} == {}


@pytest.mark.parametrize("vision", VISION)
def test_lesions_stay_apart_from_their_organs_and_have_a_color_of_their_own(vision: str) -> None:
    palette = Palette(VOCABULARY, "safe")
    lesions = [concept for concept in VOCABULARY if concept.kind == "lesion"]
    assert len(lesions) == 10
    [color] = {palette[lesion.name].color for lesion in lesions}
    assert color not in {palette[concept.name].color for concept in VOCABULARY if concept.kind != "lesion"}
    for lesion in lesions:
        for parent in lesion.parents:
            assert delta_e(color, palette[parent].color, vision) > LEAST_DELTA_E


def test_a_style_does_not_depend_on_other_classes() -> None:
    few = Vocabulary(concept for concept in VOCABULARY if concept.name in ("aorta", "bone"))
    assert Palette(few, "safe")["aorta"] == Palette(VOCABULARY, "safe")["aorta"]
    assert Palette(few, "safe")["bone"] == Palette(VOCABULARY, "safe")["bone"]


def test_thirty_six_organs_in_a_row_look_different() -> None:
    organs = [concept for concept in VOCABULARY if concept.kind != "lesion"]
    row = {concept.id % 36: Palette(VOCABULARY, "safe")[concept.name] for concept in organs}
    assert len(row) == len(set(row.values())) == 36
    assert {style.dashed for style in row.values()} == {True, False}


def test_tumor_and_cyst_of_a_kidney_differ_by_their_outlines() -> None:
    palette = Palette(VOCABULARY, "safe")
    assert palette["kidney_tumor"].dashed != palette["kidney_cyst"].dashed


def test_the_vocabulary_has_its_own_colors() -> None:
    palette = Palette(VOCABULARY)
    assert palette["liver"].color == VOCABULARY["liver"].color
    assert not any(palette[name].dashed for name in VOCABULARY.names)
    with pytest.raises(UnknownClass):
        palette["livr"]
