"""The table of brightness: complete, and found by name."""

from __future__ import annotations

import pytest

from voxicon.core.concepts import Vocabulary
from voxicon.data.card import load_card
from voxicon.synthesis.label_map import TISSUES
from voxicon.synthesis.painting.tissues import PHASES, find_tissue, tissue_table

SOFT = tissue_table()["soft_tissue"]


@pytest.mark.parametrize("card", ["chest_abdomen", "abdomen_pelvis"])
def test_every_structure_of_the_two_labelled_scans_is_known(card):
    assert [name for name in load_card(card).raw.values() if find_tissue(name) is SOFT] == []


def test_every_tissue_and_class_is_known():
    names = {*TISSUES.values(), *Vocabulary.default().names} - {"soft_tissue", "soft_tissue_sarcoma"}
    assert sorted(name for name in names if find_tissue(name) is SOFT) == []


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("rib_left_5", "rib"),
        ("lung_upper_lobe_left", "lung"),
        ("lung_tumor", "lung_tumor"),
        ("kidney_cyst_left", "kidney_cyst"),
        ("postcava", "inferior_vena_cava"),
        ("prostate_uterus", "prostate"),
        ("right kidney", "kidney"),
        ("Liver", "liver"),
        ("ribbon", "soft_tissue"),
        ("", "soft_tissue"),
    ],
)
def test_a_name_finds_its_line(name, key):
    assert find_tissue(name) is tissue_table()[key]


def test_every_line_holds_values_that_occur():
    for key, tissue in tissue_table().items():
        for phase in PHASES:
            mean, deviation = getattr(tissue, phase)
            assert -1024 <= mean <= 3071, key
            assert 0 <= deviation <= 300, key
        amplitude, correlation_mm = tissue.texture
        assert 0 <= amplitude <= 100, key
        assert correlation_mm > 0, key
        assert tissue.cortex == (0, 0) or tissue.cortex[0] > tissue.plain[0], key


def test_a_phase_that_is_not_given_is_like_the_one_before():
    cyst, cord = tissue_table()["kidney_cyst"], tissue_table()["spinal_cord"]
    assert cyst.plain == cyst.arterial == cyst.venous
    assert cord.plain != cord.arterial == cord.venous
