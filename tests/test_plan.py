"""What a recipe means: which scans train, which judge, which classes; and everything refused before a scan is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.train.phantoms import write_dataset, write_recipe
from voxicon.data.manifest import ManifestRow, write_manifest
from voxicon.errors import CardError, ConfigError, UnknownClass
from voxicon.plan import Plan, defined_classes, extended_vocabulary, for_training, plan_training
from voxicon.recipe import load_recipe

STONE = {"gall_stone": {"kind": "lesion", "parents": ["liver"]}}


def planned(folder: Path, *datasets: str, **changes: Any) -> Plan:
    return plan_training(load_recipe(write_recipe(folder, *datasets, **changes)), folder)


def names(cases: tuple[Any, ...]) -> list[str]:
    return [case.id for case in cases]


def manifest(folder: Path, **split_of: str) -> None:
    """``a_c0="train 1"`` puts scan ``a/c0`` into the split train and fold 1."""
    rows = []
    for name, words in split_of.items():
        case, (split, *fold) = name.replace("_", "/"), words.split()
        rows.append(ManifestRow(case, case, split, int(fold[0]) if fold else -1, case))
    write_manifest(folder / "m.csv", rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Dataset a: liver and tumor; dataset b: spleen and liver; two scans each."""
    write_dataset(tmp_path, "a", ("liver", "liver_tumor"))
    write_dataset(tmp_path, "b", ("spleen", "liver"), seed=4)
    return tmp_path


# --- scans ------------------------------------------------------------------------------------------------------


def test_without_a_manifest_all_scans_train_but_those_of_official_splits(folder: Path) -> None:
    write_dataset(folder, "c", n_cases=3, splits={"val": ["c1"], "test": ["c2"]})
    plan = planned(folder, "a", "c")
    assert names(plan.train) == ["a/c0", "a/c1", "c/c0"]
    assert (names(plan.val), names(plan.test)) == (["c/c1"], ["c/c2"])


def test_the_manifest_goes_over_official_splits(folder: Path) -> None:
    write_dataset(folder, "c", splits={"test": ["c1"]})
    manifest(folder, c_c0="val 0", c_c1="train 1", other_c7="train")
    plan = planned(folder, "c", manifest="m.csv")
    assert (names(plan.train), names(plan.val), names(plan.test)) == (["c/c1"], ["c/c0"], [])
    assert for_training(plan).train == plan.train, "scans of other datasets may be listed"


def test_excluded_scans_are_left_out(folder: Path) -> None:
    manifest(folder, a_c0="excluded", a_c1="train", b_c0="excluded", b_c1="test")
    plan = planned(folder, "a", "b", manifest="m.csv")
    assert (names(plan.train), names(plan.val), names(plan.test)) == (["a/c1"], [], ["b/c1"])


def test_a_fold_is_judged_on_and_the_others_train(folder: Path) -> None:
    manifest(folder, a_c0="train 0", a_c1="val 1", b_c0="train 1", b_c1="test")
    for fold, train, val in ((0, ["a/c1", "b/c0"], ["a/c0"]), (1, ["a/c0"], ["a/c1", "b/c0"])):
        plan = planned(folder, "a", "b", manifest="m.csv", fold=fold)
        assert (names(plan.train), names(plan.val), names(plan.test)) == (train, val, ["b/c1"])
    with pytest.raises(ConfigError, match=r"m.csv: no scan is in fold 2; there are: 0, 1"):
        for_training(planned(folder, "a", "b", manifest="m.csv", fold=2))


def test_a_scan_that_was_never_checked_is_refused(folder: Path) -> None:
    manifest(folder, a_c0="train")
    with pytest.raises(ConfigError, match=r"m.csv: does not list a/c1; run 'voxicon assembly check' again"):
        planned(folder, "a", manifest="m.csv")
    manifest(folder)
    with pytest.raises(ConfigError, match="does not list a/c0"):
        planned(folder, "a", manifest="m.csv")


def test_scans_that_went_away_are_refused_for_training(folder: Path) -> None:
    manifest(folder, a_c0="train", a_c1="train", a_c2="val", a_c3="train", a_c4="train", a_c5="train", a_c6="test")
    plan = planned(folder, "a", manifest="m.csv")
    with pytest.raises(ConfigError, match=r"m.csv: lists a/c2, a/c3, a/c4 and 1 more, but no such scan is there"):
        for_training(plan)


def test_data_may_lie_elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    recipe = load_recipe(write_recipe(elsewhere, "a"))
    (elsewhere / "a.yaml").write_text((folder / "a.yaml").read_text())
    with pytest.raises(CardError, match="no such folder"):
        plan_training(recipe, elsewhere)
    assert names(plan_training(recipe, elsewhere, folder).train) == ["a/c0", "a/c1"]


def test_data_that_is_not_there_is_refused(folder: Path) -> None:
    for path in (folder / "a").glob("*_labels*"):
        path.unlink()
    with pytest.raises(CardError, match=r"a: no labeled scan in .*; its card expects \{case\}_ct.nii.gz"):
        planned(folder, "a")


def test_a_dataset_given_twice_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="dataset a is listed more than once"):
        planned(folder, "a", "b", "a")


# --- classes ----------------------------------------------------------------------------------------------------


def test_all_annotated_classes_in_order_of_id(folder: Path) -> None:
    assert planned(folder, "b", "a").classes == ("spleen", "liver", "liver_tumor")


def test_classes_by_any_of_their_names(folder: Path) -> None:
    plan = planned(folder, "a", "b", classes=["Liver tumour", "6"])
    assert plan.classes == ("liver", "liver_tumor")
    with pytest.raises(UnknownClass, match="did you mean liver"):
        planned(folder, "a", classes=["livr"])


def test_scans_that_can_say_nothing_are_left_out(folder: Path) -> None:
    plan = for_training(planned(folder, "a", "b", classes=["liver tumor"]))
    assert names(plan.train) == ["a/c0", "a/c1"]
    # Taken for background, the tumor is "absent" in dataset b, so its scans would be used.
    mistaken = for_training(planned(folder, "a", "b", classes=["liver tumor"], missing="background"))
    assert names(mistaken.train) == ["a/c0", "a/c1", "b/c0", "b/c1"]


def test_classes_that_nobody_annotates_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no card annotates aorta in any of its scans; drop it, or add a card"):
        planned(folder, "a", classes=["liver", "aorta"])
    with pytest.raises(ConfigError, match="no scan has any class annotated"):
        planned(folder, "a", classes=[])


def test_classes_that_only_test_scans_annotate_are_not_learned(folder: Path) -> None:
    manifest(folder, a_c0="train", a_c1="train", b_c0="test", b_c1="test")
    plan = planned(folder, "a", "b", manifest="m.csv")
    assert plan.classes == ("spleen", "liver", "liver_tumor"), "weights from elsewhere may be judged on the spleen"
    assert for_training(plan).classes == ("liver", "liver_tumor")
    asked = planned(folder, "a", "b", manifest="m.csv", classes=["liver", "spleen"])
    with pytest.raises(ConfigError, match="spleen is annotated in no training scan"):
        for_training(asked)


def test_a_part_that_annotates_less(folder: Path) -> None:
    parts = [
        {"image": "{case}_ct.nii.gz", "label": "{case}_labels.nii.gz", "case": "c0", "annotates": ["liver"]},
        {"image": "{case}_ct.nii.gz", "label": "{case}_labels.nii.gz", "case": "c1"},
    ]
    write_dataset(folder, "d", ("liver", "liver_tumor"), parts=parts)
    assert [case.annotates for case in planned(folder, "d").train] == [{"liver"}, {"liver", "liver_tumor"}]


# --- plans that are only judged on ------------------------------------------------------------------------------


def test_an_assembly_of_test_scans_is_a_plan_but_not_for_training(folder: Path) -> None:
    manifest(folder, a_c0="test", a_c1="test")
    plan = planned(folder, "a", manifest="m.csv")
    assert (names(plan.test), plan.classes) == (["a/c0", "a/c1"], ("liver", "liver_tumor"))
    with pytest.raises(ConfigError, match="no scan is left to train on"):
        for_training(plan)


@pytest.mark.parametrize("missing", ["unknown", "background"])
def test_patience_needs_scans_to_judge_on(folder: Path, missing: str) -> None:
    patient = {"patience": 2, "validate_every": 1}
    with pytest.raises(ConfigError, match=r"optimize.patience waits for validations"):
        for_training(planned(folder, "a", optimize=patient, missing=missing))
    manifest(folder, a_c0="train", a_c1="val")
    assert for_training(planned(folder, "a", optimize=patient, missing=missing, manifest="m.csv")).val


def test_spacing_is_one_for_all_axes(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"one spacing for all axes, got \(3.0, 3.0, 5.0\)"):
        planned(folder, "a", preparation={"spacing_mm": [3, 3, 5]})


# --- classes of one's own ---------------------------------------------------------------------------------------


def test_cards_bring_classes_of_their_own(folder: Path) -> None:
    annotates = {"liver": {"union": ["liver", "lesion"]}, "gall_stone": {"union": ["lesion"]}}
    write_dataset(folder, "c", defines=STONE, annotates=annotates)
    plan = planned(folder, "a", "c")
    assert plan.classes == ("liver", "liver_tumor", "gall_stone")
    assert plan.vocabulary["gall_stone"].kind == "lesion"
    cards = [dataset.card for dataset in plan.datasets]
    assert defined_classes(cards) == {"gall_stone": {"kind": "lesion", "parents": ["liver"]}}
    assert len(extended_vocabulary(cards[:1])) == len(plan.vocabulary) - 1


def test_cards_that_define_one_class_differently_are_refused(folder: Path) -> None:
    annotates = {"gall_stone": {"union": ["lesion"]}}
    write_dataset(folder, "c", defines=STONE, annotates=annotates)
    write_dataset(folder, "d", defines={"gall_stone": {"kind": "organ"}}, annotates=annotates)
    with pytest.raises(ConfigError, match="d: defines 'gall_stone' otherwise than another card"):
        planned(folder, "c", "d")
    write_dataset(folder, "e", defines=STONE, annotates=annotates)
    assert planned(folder, "c", "e").classes == ("gall_stone",)


# --- cards that lie beside their scans ----------------------------------------------------------------------------


def test_a_card_is_looked_for_beside_the_recipe_and_then_in_its_datasets_folder(folder: Path) -> None:
    (folder / "a.yaml").rename(folder / "a" / "card.yaml")
    datasets = [{"card": "card.yaml", "folder": "a"}, {"card": "b.yaml", "folder": "b"}]
    plan = planned(folder, datasets=datasets)
    assert [dataset.card.id for dataset in plan.datasets] == ["a", "b"]
    (folder / "a" / "card.yaml").unlink()
    with pytest.raises(CardError, match=r"card.yaml: no such dataset card"):
        planned(folder, datasets=datasets)
