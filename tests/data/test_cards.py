"""What the shipped cards say, compared with tables written by hand from the datasets' own documents.

Classes are written as the original system numbers them (the vocabulary's ids): ``6 27`` is liver and liver
tumor, ``2/3`` is a raw value that holds both sides, right and left of the mid-plane.
"""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from voxicon.core.concepts import Vocabulary
from voxicon.data.card import FOREGROUND, DatasetCard, Part, Sampling, card_ids, load_card

Sided = frozenset[tuple[str, str | None]]

FOR_TESTS = {"abdomen_pelvis", "chest_abdomen", "liver_slab"}
DATASETS = tuple(name for name in card_ids() if name not in FOR_TESTS)

# Raw value -> our class ids, as the original system's label tables have them.
BTCV_13 = {value: str(value) for value in range(1, 14)}
EIGHT = (1, 3, 4, 5, 6, 7, 11, 14)
LIVER_AND_TUMOR = {1: "6", 2: "6 27"}
KITS = {1: "2/3", 2: "2/3 26", 3: "2/3 32"}
ATLAS_9 = {1: "8", 2: "4", 3: "3", 4: "2", 5: "6", 6: "11", 7: "9", 8: "1", 9: "7"}
IDS: dict[str, dict[int, str]] = {
    "btcv": BTCV_13,
    "btcv_zenodo": BTCV_13 | {14: "14"},
    "pancreas_ct": {value: str(value) for value in EIGHT},
    "pancreas_ct_tcia": {1: "11"},
    "chaos": {1: "6"},
    "lits": LIVER_AND_TUMOR,
    "kits21": KITS,
    "kits23": KITS,
    "abdomenct_1k": {1: "6", 2: "2/3", 3: "1", 4: "11"},
    # The original drops 5 and 6; here 5 is bone (33). 6 is brain (see test_ct_org_keeps_bone_and_brain).
    "ct_org": {1: "6", 2: "21", 3: "16/17", 4: "2/3", 5: "33", 6: "brain"},
    "abdomenct_12organ": {
        **{1: "6", 2: "2/3", 3: "1", 4: "11", 5: "8", 6: "9", 7: "7"},
        **{8: "4", 9: "5", 10: "12", 11: "13", 12: "25"},
    },
    "flare22": {
        **{1: "6", 2: "2", 3: "1", 4: "11", 5: "8", 6: "9", 7: "12"},
        **{8: "13", 9: "4", 10: "5", 11: "7", 12: "14", 13: "3"},
    },
    "amos22_ct": {
        **{value: str(value) for value in range(1, 10)},
        **{10: "11", 11: "12", 12: "13", 13: "14", 14: "21", 15: "22"},
    },
    "word": {
        **{1: "6", 2: "1", 3: "3", 4: "2", 5: "7", 6: "4", 7: "5", 8: "11"},
        **{9: "14", 10: "18", 11: "19", 12: "12/13", 13: "20", 14: "21", 15: "23", 16: "24"},
    },
    "msd_liver": LIVER_AND_TUMOR,
    "msd_lung": {1: "30"},
    "msd_pancreas": {1: "11", 2: "11 28"},
    "msd_hepatic_vessel": {1: "15", 2: "29"},
    "msd_spleen": {1: "1"},
    "msd_colon": {1: "31"},
    "ircadb": {
        **{1: "1", 2: "2", 3: "3", 4: "", 5: "4", 6: "6", 7: "27", 8: "", 9: "7", 10: "11", 11: "16", 12: "17"},
        **{13: "", 14: "33"},
        **dict.fromkeys(range(15, 41), ""),
    },
    "abdomenatlas_1_0_mini": ATLAS_9,
    "abdomenatlas_1_1": {
        **ATLAS_9,
        **{10: "13", 11: "12", 12: "21", 13: "25", 14: "18", 15: "14", 16: "5", 17: "23", 18: "24"},
        **{19: "15", 20: "19", 21: "17", 22: "16", 23: "10", 24: "22", 25: "20"},
    },
    "jhh_template": {1: "11", 2: "11", 3: "11 28", 4: "11 28", 5: "11 28"},
    "sarcoma": {1: "soft_tissue_sarcoma"},
    "lung_tumor": {1: "30"},
}

BOTH = ("left", "right")
TOTALSEGMENTATOR = [
    *["spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "pancreas"],
    *["adrenal_gland_right", "adrenal_gland_left", "lung_upper_lobe_left", "lung_lower_lobe_left"],
    *["lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right", "esophagus", "trachea"],
    *["thyroid_gland", "small_bowel", "duodenum", "colon", "urinary_bladder", "prostate"],
    *["kidney_cyst_left", "kidney_cyst_right", "sacrum", "vertebrae_S1"],
    *[f"vertebrae_L{n}" for n in range(5, 0, -1)],
    *[f"vertebrae_T{n}" for n in range(12, 0, -1)],
    *[f"vertebrae_C{n}" for n in range(7, 0, -1)],
    *["heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk"],
    *[f"{artery}_{side}" for artery in ("subclavian_artery", "common_carotid_artery") for side in ("right", "left")],
    *["brachiocephalic_vein_left", "brachiocephalic_vein_right", "atrial_appendage_left", "superior_vena_cava"],
    *["inferior_vena_cava", "portal_vein_and_splenic_vein"],
    *[f"{part}_{side}" for part in ("iliac_artery", "iliac_vena", "humerus", "scapula", "clavicula") for side in BOTH],
    *[f"{part}_{side}" for part in ("femur", "hip") for side in BOTH],
    "spinal_cord",
    *[f"gluteus_{part}_{side}" for part in ("maximus", "medius", "minimus") for side in BOTH],
    *[f"{part}_{side}" for part in ("autochthon", "iliopsoas") for side in BOTH],
    *["brain", "skull"],
    *[f"rib_{side}_{n}" for side in BOTH for n in range(1, 13)],
    *["sternum", "costal_cartilages"],
]
"""TotalSegmentator v2's structures in the order of its class map."""

PART_OF = {
    **{f"lung_{lobe}_lobe_right": ["lung_right"] for lobe in ("upper", "middle", "lower")},
    **{f"lung_{lobe}_lobe_left": ["lung_left"] for lobe in ("upper", "lower")},
    **{f"kidney_cyst_{side}": [f"kidney_{side}", "kidney_cyst"] for side in BOTH},
    "vertebrae_S1": ["sacrum"],
    "atrial_appendage_left": ["heart"],
}
"""What else a structure of TotalSegmentator counts as."""

LAYOUT: dict[str, list[str]] = {
    "btcv": ["RawData/Training/img/img0001.nii.gz", "RawData/Training/label/label0001.nii.gz"],
    "btcv_zenodo": ["RawData/Testing/img/img0061.nii.gz", "label_btcv_multiorgan/label0061.nii.gz"],
    "pancreas_ct": [
        "Pancreas-CT/PANCREAS_0001/11-24-2015-PANCREAS0001-Pancreas-18957/Pancreas-63502/",
        "label_tcia_multiorgan/label0001.nii.gz",
    ],
    "pancreas_ct_tcia": [
        "Pancreas-CT/PANCREAS_0082/11-24-2015/1.2.826.0.1.3680043.2.1125.1/",
        "TCIA_pancreas_labels-02-05-2017/label0082.nii.gz",
    ],
    "chaos": ["Train_Sets/CT/1/DICOM_anon/", "Train_Sets/CT/1/Ground/"],
    "lits": ["Training Batch 1/volume-0.nii", "Training Batch 1/segmentation-0.nii"],
    "kits21": ["data/case_00299/imaging.nii.gz", "data/case_00299/aggregated_OR_seg.nii.gz"],
    "kits23": ["dataset/case_00000/imaging.nii.gz", "dataset/case_00000/segmentation.nii.gz"],
    "abdomenct_1k": ["AbdomenCT-1K-ImagePart1/Case_00001_0000.nii.gz", "Mask/Case_00001.nii.gz"],
    "ct_org": ["OrganSegmentations/volume-20.nii.gz", "OrganSegmentations/labels-20.nii.gz"],
    "abdomenct_12organ": ["Image/Organ12_0001_0000.nii.gz", "Mask/Organ12_0001.nii.gz"],
    "flare22": ["images/FLARE22_Tr_0001_0000.nii.gz", "labels/FLARE22_Tr_0001.nii.gz"],
    "amos22_ct": ["imagesVa/amos_0008.nii.gz", "labelsVa/amos_0008.nii.gz"],
    "word": ["imagesVal/word_0001.nii.gz", "labelsVal/word_0001.nii.gz"],
    "msd_liver": ["imagesTr/liver_0.nii.gz", "labelsTr/liver_0.nii.gz"],
    "msd_lung": ["imagesTr/lung_001.nii.gz", "labelsTr/lung_001.nii.gz"],
    "msd_pancreas": ["imagesTr/pancreas_001.nii.gz", "labelsTr/pancreas_001.nii.gz"],
    "msd_hepatic_vessel": ["imagesTr/hepaticvessel_001.nii.gz", "labelsTr/hepaticvessel_001.nii.gz"],
    "msd_spleen": ["imagesTr/spleen_2.nii.gz", "labelsTr/spleen_2.nii.gz"],
    "msd_colon": ["imagesTr/colon_001.nii.gz", "labelsTr/colon_001.nii.gz"],
    "ircadb": ["3Dircadb1.1/PATIENT_DICOM/", "3Dircadb1.1/MASKS_DICOM/livertumor01/"],
    "totalsegmentator_v2": ["s0000/ct.nii.gz", "s0000/segmentations/lung_upper_lobe_left.nii.gz"],
    "abdomenatlas_1_0_mini": ["BDMAP_00000001/ct.nii.gz", "BDMAP_00000001/segmentations/gall_bladder.nii.gz"],
    "abdomenatlas_1_1": ["BDMAP_00005195/ct.nii.gz", "BDMAP_00005195/segmentations/celiac_trunk.nii.gz"],
    "jhh_template": ["images/JHH_0001_venous.nii.gz", "labels/JHH_0001_venous.nii.gz"],
    "sarcoma": ["STS_001_ct.nii.gz", "STS_001_gtv.nii.gz"],
    "lung_tumor": ["lung_tumour/ct.nii.gz", "lung_tumour/labels.nii.gz"],
}
"""Card -> an image and a label of one case, as the dataset unpacks. Folders end in a slash."""

STRANGERS = {
    "btcv_zenodo": "label_btcv_multiorgan/label0061.txt",
    "amos22_ct": "imagesTr/amos_0507.nii.gz",
    "ct_org": "OrganSegmentations/volume-140.nii.gz",
    "msd_liver": "imagesTr/._liver_0.nii.gz",
    "lits": "Training Batch 1/test-volume-0.nii",
    "abdomenct_12organ": "images/FLARE22_Tr_0001_0000.nii.gz",
    "totalsegmentator_v2": "Thumbs/ct.nii.gz",
}
"""Files that may lie beside a dataset's own and must not be taken for them."""

RARE = Sampling(background=1, organ=1, lesion=5)


def test_every_dataset_of_the_assembly_has_a_card() -> None:
    assert set(DATASETS) == set(IDS) | {"totalsegmentator_v2"} == set(LAYOUT)


@pytest.mark.parametrize("name", DATASETS)
def test_a_card_says_where_its_dataset_comes_from(name: str) -> None:
    card = load_card(name)
    assert card.id == name
    assert all(text.strip() for text in (card.title, card.citation, card.source, card.terms, card.phase))
    assert card.pitfalls
    assert all(pitfall.strip() for pitfall in card.pitfalls)
    assert all(part.example for part in card.parts)


@pytest.mark.parametrize("name", sorted(IDS))
def test_raw_values_mean_what_the_hand_written_table_says(name: str) -> None:
    card = load_card(name)
    assert {value: _classes(card, value) for value in card.raw} == {v: _expected(t) for v, t in IDS[name].items()}


def test_all_structures_of_totalsegmentator_are_classes() -> None:
    card = load_card("totalsegmentator_v2")
    assert len(TOTALSEGMENTATOR) == 117
    assert list(card.raw.values()) == TOTALSEGMENTATOR
    assert list(card.raw) == list(range(1, 118))
    for value, name in card.raw.items():
        assert _classes(card, value) == {(n, None) for n in (name, *PART_OF.get(name, []))}, name
    assert not {"femoral_head_left", "femoral_head_right", "bone", "rectum"} & set(card.annotates)
    assert (card.splits.file, card.splits.delimiter, card.splits.case) == ("meta.csv", ";", "image_id")


@pytest.mark.parametrize("name", DATASETS)
def test_a_side_is_only_asked_of_the_class_of_that_side(name: str) -> None:
    card = load_card(name)
    for word, labels in card.annotates.items():
        if labels.side is not None:
            assert Vocabulary.default()[word].side == labels.side
            other = word.replace(labels.side, "left" if labels.side == "right" else "right")
            assert card.annotates[other].union == labels.union


def test_repair_both_sides_come_from_the_mid_plane_and_none_is_the_default() -> None:
    # The original labels the larger components, so one kidney or touching lungs were always "right" (its bug B6).
    merged = {
        **{name: ["kidney"] for name in ("kits21", "kits23", "abdomenct_1k", "abdomenct_12organ")},
        **{"ct_org": ["kidney", "lung"], "word": ["adrenal_gland"]},
    }
    for name in DATASETS:
        asked = {word for word, labels in load_card(name).annotates.items() if labels.side is not None}
        assert asked == {f"{organ}_{side}" for organ in merged.get(name, []) for side in BOTH}, name


def test_repair_btcv_cases_of_60_and_above_know_eight_classes_only() -> None:
    # The original stored the six others as empty masks, hence as absent (its bug B3).
    card = load_card("btcv_zenodo")
    below, above = card.parts
    assert (below.numbers, above.numbers) == ((1, 59), (60, 99))
    assert below.annotates is None
    assert len(card.annotates) == 14
    assert set(above.annotates or ()) == {_name(number) for number in EIGHT}
    assert set(load_card("pancreas_ct").annotates) == {_name(number) for number in EIGHT}


def test_repair_a_hepatic_vessel_tumor_is_no_vessel() -> None:
    card = load_card("msd_hepatic_vessel")
    assert card.structures_of(card.annotates["hepatic_vessel"]) == {"Vessel"}
    assert card.structures_of(card.annotates["hepatic_vessel_tumor"]) == {"Tumour"}
    assert "liver_tumor" not in card.annotates


@pytest.mark.parametrize("name", ["kits21", "kits23"])
def test_repair_left_kidney_and_cyst_do_not_collide(name: str) -> None:
    # One of the original's merge-back tables gives both the number 3.
    card = load_card(name)
    value_of = {structure: value for value, structure in card.raw.items()}
    assert (value_of["kidney"], value_of["tumor"], value_of["cyst"]) == (1, 2, 3)
    assert card.structures_of(card.annotates["kidney_cyst"]) == {"cyst"}
    assert card.structures_of(card.annotates["kidney_left"]) == {"kidney", "tumor", "cyst"}


def test_repair_tumors_are_part_of_their_organ() -> None:
    pairs = {
        **dict.fromkeys(("lits", "msd_liver"), ("liver", "liver_tumor")),
        **dict.fromkeys(("msd_pancreas", "jhh_template"), ("pancreas", "pancreas_tumor")),
        **dict.fromkeys(("kits21", "kits23"), ("kidney_right", "kidney_tumor")),
    }
    for name, (organ, tumor) in pairs.items():
        card = load_card(name)
        assert card.structures_of(card.annotates[tumor]) < card.structures_of(card.annotates[organ]), name


def test_repair_twelve_and_thirteen_organs_are_told_apart() -> None:
    # The place that is linked to for 12 organs holds 13 with other numbers; neither card finds the other's files.
    for one, other in (("abdomenct_12organ", "flare22"), ("flare22", "abdomenct_12organ")):
        card = load_card(one)
        assert not any(_fits(path, part, card) for path in LAYOUT[other] for part in card.parts)
        assert any(other in pitfall for pitfall in card.pitfalls)


def test_ct_org_keeps_bone_and_brain_which_the_original_drops() -> None:
    card = load_card("ct_org")
    assert (card.raw[5], card.raw[6]) == ("bone", "brain")
    assert {part.split: part.numbers for part in card.parts} == {"test": (0, 20), "train": (21, 139)}


def test_amos_warns_of_the_uterus_under_prostate() -> None:
    card = load_card("amos22_ct")
    assert card.annotates["prostate"].union == ("prostate/uterus",)
    assert any("uterus" in pitfall for pitfall in card.pitfalls)


def test_ircadb_takes_every_liver_tumor_and_no_other() -> None:
    card = load_card("ircadb")
    globs = [re.compile(name.replace("*", ".*")) for name in card.names["livertumor"]]
    found = {
        name
        for name in (
            "livertumor",
            "livertumors",
            "livertumor1",
            "livertumor07",
            "tumor",
            "rightsurretumor",
            "livercyst",
        )
        if any(glob.fullmatch(name) for glob in globs)
    }
    assert found == {"livertumor", "livertumors", "livertumor1", "livertumor07"}
    assert card.missing == "unknown"


@pytest.mark.parametrize("name", ["lits", "chaos", "pancreas_ct", "pancreas_ct_tcia"])
def test_labels_whose_header_cannot_be_trusted_say_how_they_lie(name: str) -> None:
    axes = {"lits": "image", "chaos": "image", "pancreas_ct": "LPS", "pancreas_ct_tcia": "LPS"}
    assert load_card(name).label_axes == axes[name]


@pytest.mark.parametrize("name", DATASETS)
def test_patches_are_chosen_as_in_the_original(name: str) -> None:
    rare = {"lits", "msd_liver", "msd_pancreas", "msd_hepatic_vessel", "kits21", "kits23", "jhh_template"}
    card = load_card(name)
    assert card.sampling == (RARE if name in rare else FOREGROUND)
    zoom = card.zoom and (card.zoom.chance, card.zoom.low, card.zoom.high)
    assert zoom == ((0.3, 1.3, 1.5) if name.startswith("msd_") else None)


def test_the_sarcoma_split_is_every_fourth_patient() -> None:
    numbers = [1, 3, 4, 5, 6, 10, 12, 14, 15, 16, 19, 22, 23, 24, 26, 28, 32, 41, 42, 43]
    card = load_card("sarcoma")
    assert card.splits.test == tuple(f"STS_{n:03d}" for n in numbers[3::4])
    assert len(numbers) - len(card.splits.test) == 15
    assert [part.split for part in card.parts] == ["train"]


@pytest.mark.parametrize("name", DATASETS)
def test_patterns_find_the_files_as_distributed(name: str) -> None:
    card = load_card(name)
    image, label = LAYOUT[name]
    hits = [part for part in card.parts if _fits(image, part, card, "image") and _fits(label, part, card, "label")]
    assert len(hits) == 1, "exactly one part holds the example"
    assert _fits(image, hits[0], card, "image") == _fits(label, hits[0], card, "label"), "of the same case"


@pytest.mark.parametrize("name", sorted(STRANGERS))
def test_patterns_leave_other_files_alone(name: str) -> None:
    card = load_card(name)
    labeled = [part for part in card.parts if part.label or part.masks]
    assert not any(_fits(STRANGERS[name], part, card) for part in labeled)


@pytest.mark.parametrize("name", DATASETS)
def test_no_scan_belongs_to_two_parts(name: str) -> None:
    card = load_card(name)
    for one, other in combinations(card.parts, 2):
        overlap = one.image == other.image and (one.numbers is None or other.numbers is None)
        assert not overlap
        if one.image == other.image and one.numbers and other.numbers:
            assert one.numbers[1] < other.numbers[0] or other.numbers[1] < one.numbers[0]


def _name(number: int) -> str:
    return next(concept.name for concept in Vocabulary.default() if concept.id == number)


def _expected(text: str) -> Sided:
    """``6 27`` or ``2/3`` as class names with sides; classes beyond the original's may be written out."""
    wanted: set[tuple[str, str | None]] = set()
    for word in text.split():
        if "/" in word:
            right, left = word.split("/")
            wanted |= {(_name(int(right)), "right"), (_name(int(left)), "left")}
        else:
            wanted.add((_name(int(word)) if word.isdigit() else word, None))
    return frozenset(wanted)


def _classes(card: DatasetCard, value: int) -> Sided:
    return frozenset(
        (name, labels.side) for name, labels in card.annotates.items() if card.raw[value] in card.structures_of(labels)
    )


def _fits(path: str, part: Part, card: DatasetCard, kind: str = "any") -> str | None:
    """Case id of a path under a part's patterns; None where it fits none."""
    patterns = [part.image] if kind == "image" else [part.label or part.masks]
    for pattern in [part.image, part.label, part.masks] if kind == "any" else patterns:
        found = re.fullmatch(_expression(pattern, part, card), path) if pattern else None
        if found and _is_in_range(found["case"], part):
            return found["case"]
    return None


def _expression(pattern: str, part: Part, card: DatasetCard) -> str:
    structures = [name for s in card.raw.values() for name in card.names.get(s, (s,))]
    either = "|".join(re.escape(name).replace(r"\*", "[^/]*") for name in structures)
    expression = re.escape(pattern).replace(r"\{case\}", f"(?P<case>{part.case})")
    return expression.replace(r"\*", "[^/]*").replace(r"\{structure\}", f"(?:{either})")


def _is_in_range(case: str, part: Part) -> bool:
    return part.numbers is None or part.numbers[0] <= int(re.findall(r"\d+", case)[-1]) <= part.numbers[1]
