"""The vocabulary: complete, unambiguous, and helpful with words it does not know."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxicon.core.concepts import Cleanup, Concept, Vocabulary
from voxicon.errors import UnknownClass

VOCABULARY = Vocabulary.default()


_TOTAL = """
    spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
    lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right
    esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left
    kidney_cyst_right sacrum vertebrae_S1 vertebrae_L5 vertebrae_L4 vertebrae_L3 vertebrae_L2 vertebrae_L1
    vertebrae_T12 vertebrae_T11 vertebrae_T10 vertebrae_T9 vertebrae_T8 vertebrae_T7 vertebrae_T6 vertebrae_T5
    vertebrae_T4 vertebrae_T3 vertebrae_T2 vertebrae_T1 vertebrae_C7 vertebrae_C6 vertebrae_C5 vertebrae_C4
    vertebrae_C3 vertebrae_C2 vertebrae_C1 heart aorta pulmonary_vein brachiocephalic_trunk
    subclavian_artery_right subclavian_artery_left common_carotid_artery_right common_carotid_artery_left
    brachiocephalic_vein_left brachiocephalic_vein_right atrial_appendage_left superior_vena_cava
    inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left iliac_artery_right iliac_vena_left
    iliac_vena_right humerus_left humerus_right scapula_left scapula_right clavicula_left clavicula_right
    femur_left femur_right hip_left hip_right spinal_cord gluteus_maximus_left gluteus_maximus_right
    gluteus_medius_left gluteus_medius_right gluteus_minimus_left gluteus_minimus_right autochthon_left
    autochthon_right iliopsoas_left iliopsoas_right brain skull rib_left_1 rib_left_2 rib_left_3 rib_left_4
    rib_left_5 rib_left_6 rib_left_7 rib_left_8 rib_left_9 rib_left_10 rib_left_11 rib_left_12 rib_right_1
    rib_right_2 rib_right_3 rib_right_4 rib_right_5 rib_right_6 rib_right_7 rib_right_8 rib_right_9 rib_right_10
    rib_right_11 rib_right_12 sternum costal_cartilages
"""
TOTALSEGMENTATOR_V2 = _TOTAL.split()
"""The 117 classes of its `total` task, in its order. Source: class map of TotalSegmentator 2."""


def a_concept(number: int = 1000, name: str = "spleen_tumor", **changes) -> Concept:
    fields = {
        "id": number, "name": name, "kind": "organ", "snomed": ("1", "x"), "color": (0, 0, 0),
        "cleanup": Cleanup("none"), **changes,
    }  # fmt: skip
    return Concept(**fields)


def test_the_first_thirty_two_are_numbered_as_the_original() -> None:
    # Spot checks against the original's table, femurs included, where left comes first.
    expected = {1: "spleen", 2: "kidney_right", 9: "inferior_vena_cava", 23: "femoral_head_left", 27: "liver_tumor"}
    assert {i: VOCABULARY.names[i - 1] for i in expected} == expected
    assert [c.id for c in VOCABULARY if c.original] == list(range(1, 33))
    assert sum(c.kind == "lesion" for c in VOCABULARY if c.original) == 7


def test_ids_have_no_gaps_and_leave_room_for_users() -> None:
    assert [c.id for c in VOCABULARY] == list(range(1, len(VOCABULARY) + 1))
    assert len(VOCABULARY) < 1000


def test_every_class_of_totalsegmentator_is_known_by_its_name() -> None:
    assert len(set(TOTALSEGMENTATOR_V2)) == 117
    assert [name for name in TOTALSEGMENTATOR_V2 if name not in VOCABULARY] == []
    # 117 less the 18 that are among the original's 32; those of bone, sarcoma and the whole spine are not its.
    new = [c.name for c in VOCABULARY if c.id > 32]
    assert [name for name in new if name in TOTALSEGMENTATOR_V2] == [
        name for name in TOTALSEGMENTATOR_V2 if VOCABULARY[name].id > 32
    ]
    assert set(new) - set(TOTALSEGMENTATOR_V2) == {"bone", "soft_tissue_sarcoma", "vertebral_column"}
    assert len(new) == 102


def test_every_reference_leads_somewhere() -> None:
    for concept in VOCABULARY:
        assert all(parent in VOCABULARY for parent in (*concept.parents, *concept.cleanup.of))
        assert concept.name not in concept.parents
        # A lesion lies somewhere: in classes, or in a region that is none.
        assert bool(concept.parents or concept.region) or concept.kind != "lesion"
        assert concept.side == next((w for w in concept.name.split("_") if w in ("left", "right")), None)
        # A part of a pair lies on its own side, where its whole has sides.
        assert {VOCABULARY[p].side for p in concept.parents} <= {concept.side, None} or concept.side is None


def test_left_and_right_differ_in_nothing_but_their_side() -> None:
    # The left lung has no middle lobe; TotalSegmentator draws no right appendage.
    alone = {"lung_middle_lobe_right", "atrial_appendage_left"}
    turn = {"left": "right", "right": "left"}
    for one in VOCABULARY:
        if one.side is None or one.name in alone:
            continue
        other = VOCABULARY["_".join(turn.get(word, word) for word in one.name.split("_"))]
        assert (one.kind, one.snomed, one.region) == (other.kind, other.snomed, other.region)
        assert one.cleanup.rule == other.cleanup.rule
        if one.id > 32:
            mirrored = [" ".join(turn.get(w, w) for w in alias.split()) for alias in one.aliases if len(alias) > 3]
            assert mirrored == [alias for alias in other.aliases if len(alias) > 3]


def test_colors_can_be_told_apart() -> None:
    assert all(0 <= part <= 255 for concept in VOCABULARY for part in concept.color)
    pairs = itertools.combinations(VOCABULARY, 2)
    assert [(a.name, b.name) for a, b in pairs if math.dist(a.color, b.color) < 9] == []
    # Neighbors along the spine and the chest are seen side by side.
    spine = [f"vertebrae_{v}" for v in (*(f"C{i}" for i in range(1, 8)), *(f"T{i}" for i in range(1, 13)))]
    spine += [f"vertebrae_{v}" for v in ("L1", "L2", "L3", "L4", "L5", "S1")]
    chests = [[f"rib_{side}_{i}" for i in range(1, 13)] for side in ("left", "right")]
    for chain in (spine, *chests):
        for one, other in itertools.pairwise(chain):
            assert math.dist(VOCABULARY[one].color, VOCABULARY[other].color) > 30, (one, other)


def verhoeff_is_valid(code: str) -> bool:
    """SNOMED CT check digit. Source: Verhoeff's dihedral-group scheme, as SNOMED CT uses it."""
    table = [[(i + j) % 5 if i < 5 and j < 5 else 0 for j in range(10)] for i in range(10)]
    for i in range(10):
        for j in range(10):
            flip_i, flip_j = i >= 5, j >= 5
            a, b = i % 5, j % 5
            rotated = (a - b) % 5 if flip_i else (a + b) % 5
            table[i][j] = rotated + (5 if flip_i != flip_j else 0)
    base = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    permutations = [list(range(10))]
    for _ in range(7):
        permutations.append([base[p] for p in permutations[-1]])
    check = 0
    for i, digit in enumerate(reversed(code)):
        check = table[check][permutations[i % 8][int(digit)]]
    return check == 0


def test_snomed_codes_carry_valid_check_digits() -> None:
    codes = {c.snomed[0] for c in VOCABULARY} | {c.region[0] for c in VOCABULARY if c.region}
    assert not verhoeff_is_valid("10200005"), "the check must be able to fail"
    assert [code for code in codes if not verhoeff_is_valid(code)] == []


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("liver", "liver"),
        ("Left Kidney", "kidney_left"),
        ("kidney-left", "kidney_left"),
        ("POSTCAVA", "inferior_vena_cava"),
        ("Celiac Truck", "celiac_trunk"),
        ("Arota", "aorta"),
        ("pancreatic  tumour", "pancreas_tumor"),
        ("28", "pancreas_tumor"),
        ("gall_bladder", "gallbladder"),
        ("femur_left", "femur_left"),
        ("left head of femur", "femoral_head_left"),
        ("L1", "vertebrae_L1"),
        ("133", "soft_tissue_sarcoma"),
        ("left psoas", "iliopsoas_left"),
        ("right third rib", "rib_right_3"),
        ("left iliac vein", "iliac_vena_left"),
        ("portal vein", "portal_vein_and_splenic_vein"),
    ],
)
def test_words_resolve(word: str, name: str) -> None:
    assert VOCABULARY.resolve(word).name == name


@given(st.sampled_from(list(VOCABULARY)), st.sampled_from([str.upper, str.title, lambda s: f"  {s} "]))
def test_every_name_resolves_in_any_dress(concept: Concept, dress) -> None:
    for word in (concept.name, concept.display_name, concept.original or str(concept.id), *concept.aliases):
        assert VOCABULARY.resolve(dress(word)) is concept


@pytest.mark.parametrize(
    ("name", "display"),
    [
        ("liver", "liver"),
        ("adrenal_gland_left", "left adrenal gland"),
        ("kidney_cyst_right", "right kidney cyst"),
        ("rib_left_11", "left rib 11"),
        ("vertebrae_T12", "T12 vertebra"),
        ("iliac_vena_right", "right iliac vein"),
        ("hip_left", "left hip bone"),
        ("lung_middle_lobe_right", "right middle lung lobe"),
        ("portal_vein_and_splenic_vein", "portal vein and splenic vein"),
    ],
)
def test_display_names_are_what_people_say(name: str, display: str) -> None:
    assert VOCABULARY[name].display_name == display


def test_display_names_begin_with_the_side() -> None:
    for concept in VOCABULARY:
        assert "_" not in concept.display_name
        if concept.side:
            assert concept.display_name.startswith(f"{concept.side} ")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("livr", "did you mean liver"),
        ("kidney", "kidney_right, kidney_left"),
        ("zzzz", "voxicon classes"),
        ("999", "voxicon classes"),
        ("0", "voxicon classes"),
        ("²", "voxicon classes"),
        ("", "voxicon classes"),
    ],
)
def test_unknown_words_are_refused_with_a_hint(word: str, hint: str) -> None:
    with pytest.raises(UnknownClass, match=hint):
        VOCABULARY.resolve(word)
    with pytest.raises(UnknownClass):
        VOCABULARY[word]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": 6}, "liver and spleen_tumor both have id 6"),
        ({"number": 0}, "id 0; expected 1 to 65535"),
        ({"number": 65536}, "id 65536; expected 1 to 65535"),
        ({"name": "liver"}, "'liver' names both liver and liver"),
        ({"name": "Hepar"}, "'Hepar' names both liver and Hepar"),
        ({"display": "Left  Kidney"}, "names both kidney_left and spleen_tumor"),
        ({"original": "Arota"}, "'Arota' names both aorta and spleen_tumor"),
        ({"aliases": ("mass", "FOOD-PIPE")}, "'FOOD-PIPE' names both esophagus and spleen_tumor"),
        ({"aliases": ("12",)}, "also called '12'; expected words"),
        ({"aliases": (" ",)}, "also called ' '; expected words"),
        ({"name": "../spleen"}, "'../spleen' cannot name a file"),
        ({"name": "spleen/tumor"}, "'spleen/tumor' cannot name a file"),
        ({"name": ""}, "'' cannot name a file"),
        ({"name": "7"}, "'7' cannot name a file"),
        ({"parents": ("spleen", "spline")}, "spleen_tumor refers to spline, which is no class"),
        ({"cleanup": Cleanup("inside", ("milt",))}, "spleen_tumor refers to milt, which is no class"),
    ],
)
def test_what_a_vocabulary_cannot_be_extended_by(changes: dict, message: str) -> None:
    with pytest.raises(UnknownClass, match=message):
        VOCABULARY.extended(iter([a_concept(**changes)]))


def test_new_concepts_may_not_clash_with_each_other() -> None:
    with pytest.raises(UnknownClass, match="names both a and b"):
        VOCABULARY.extended([a_concept(1000, "a", aliases=("same",)), a_concept(1001, "b", aliases=("same",))])
    with pytest.raises(UnknownClass, match="both have id 1000"):
        VOCABULARY.extended([a_concept(1000, "a"), a_concept(1000, "b")])


def test_an_extended_vocabulary_knows_old_and_new_words() -> None:
    # Each may refer to the other, and to old classes.
    tumor = a_concept(
        1000, parents=("spleen", "hilum"), aliases=("splenic mass",), cleanup=Cleanup("inside", ("hilum",))
    )
    hilum = a_concept(65535, "hilum")
    larger = VOCABULARY.extended(iter([tumor, hilum]))
    assert larger.names == (*VOCABULARY.names, "spleen_tumor", "hilum")
    assert larger.resolve("Splenic Mass") is larger.resolve("1000") is tumor
    assert larger.resolve("65535") is hilum
    assert larger.resolve("lien") is VOCABULARY["spleen"]
    assert "spleen_tumor" in larger.suggest("spleen tumour")
    assert "spleen_tumor" not in VOCABULARY
    with pytest.raises(UnknownClass):
        VOCABULARY.resolve("splenic mass")
    assert VOCABULARY.extended([]).names == VOCABULARY.names


def test_a_vocabulary_may_be_a_part_of_another() -> None:
    few = Vocabulary([VOCABULARY["liver_tumor"], dataclasses.replace(VOCABULARY["colon"], parents=("body",))])
    assert few.names == ("liver_tumor", "colon")


def test_json_form_holds_what_programs_need() -> None:
    entry = VOCABULARY["kidney_tumor"].to_dict()
    assert entry["id"] == 26
    assert entry["snomed"] == ["108369006", "Neoplasm"]
    assert entry["parents"] == ["kidney_right", "kidney_left"]
    assert entry["cleanup"]["rule"] == "inside"
