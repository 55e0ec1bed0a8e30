"""Lesions planted into patches: what is labelled is what was planted, and only where all is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from voxicon.errors import ConfigError
from voxicon.train.planting import ROSE, Planter, PlantingConfig

CLASSES = ("liver", "kidney_right", "kidney_left", "liver_tumor", "hepatic_vessel_tumor", "kidney_cyst", "spleen")
INDEX = {name: i for i, name in enumerate(CLASSES)}
SIDE = 32
SPACING_MM = 3.0


def patch(*organs: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Organs as boxes of 120 HU in fat, one below the other."""
    hu = np.full((SIDE,) * 3, -90, dtype=np.float32)
    target = np.zeros((len(CLASSES), SIDE, SIDE, SIDE), dtype=bool)
    for number, name in enumerate(organs):
        box = (slice(2, 30), slice(2, 30), slice(2 + 15 * number, 15 + 15 * number))
        hu[box] = 120
        target[(INDEX[name], *box)] = True
    return hu, target


def all_known() -> NDArray[np.bool_]:
    return np.ones(len(CLASSES), dtype=bool)


def planter(share: float = 1.0, classes: tuple[str, ...] = CLASSES, **config: object) -> Planter:
    return Planter(PlantingConfig.model_validate({"share": share, **config}), classes)


def test_what_changes_is_labelled_and_part_of_its_organ() -> None:
    hu, target = patch("liver", "kidney_left")
    before, organs = hu.copy(), target.copy()
    found = planter().plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(0))
    assert found
    lesions = target[[INDEX["liver_tumor"], INDEX["kidney_cyst"]]].any(axis=0)
    assert lesions.any()
    inside = target[[INDEX["liver"], INDEX["kidney_left"]]].any(axis=0)
    assert not (lesions & ~inside).any()
    # Organs keep every voxel they had, and grow by lesions alone.
    assert not (organs & ~target).any()
    assert not (inside & ~organs.any(axis=0) & ~lesions).any()
    assert (hu[lesions] != before[lesions]).mean() > 0.95
    assert set(found) <= {"liver_tumor", "hepatic_vessel_tumor", "kidney_cyst"}


def test_a_lesion_is_of_all_its_classes() -> None:
    for seed in range(6):
        hu, target = patch("liver")
        one = planter(kinds=("hepatic_vessel_tumor",))
        found = one.plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(seed))
        assert set(found) == {"hepatic_vessel_tumor"}
        np.testing.assert_array_equal(target[INDEX["hepatic_vessel_tumor"]], target[INDEX["liver_tumor"]])


@pytest.mark.parametrize("unknown", ["liver_tumor", "hepatic_vessel_tumor", "liver"])
def test_nothing_is_planted_where_its_class_or_organ_is_unknown(unknown: str) -> None:
    known = all_known()
    known[INDEX[unknown]] = False
    one = planter(kinds=("hepatic_vessel_tumor",))
    hu, target = patch("liver")
    before = hu.copy()
    assert one.plantable(known, target.any(axis=(1, 2, 3))) == ()
    assert one.plant(hu, target, known, SPACING_MM, np.random.default_rng(0)) == []
    np.testing.assert_array_equal(hu, before)
    assert not target[INDEX["liver_tumor"]].any()


def test_an_organ_must_be_in_sight() -> None:
    hu, target = patch("spleen")
    before = hu.copy()
    # 50 voxels of kidney are a corner of it.
    target[INDEX["kidney_right"], 0, :5, :10] = True
    assert planter().plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(0)) == []
    np.testing.assert_array_equal(hu, before)
    there = np.zeros(len(CLASSES), dtype=bool)
    assert planter().plantable(all_known(), there) == ()
    there[INDEX["kidney_left"]] = True
    assert [kind.name for kind in planter().plantable(all_known(), there)] == ["kidney_cyst"]


def test_share_is_the_share_of_patches() -> None:
    planted = 0
    for seed in range(60):
        hu, target = patch("liver")
        planted += bool(planter(0.3).plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(seed)))
    # 60 draws at 0.3: 18 with a deviation of 3.5.
    assert 8 <= planted <= 28
    hu, target = patch("liver")
    assert planter(0.0).plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(0)) == []


def test_at_most_as_many_as_configured() -> None:
    counts = set()
    for seed in range(20):
        hu, target = patch("liver")
        counts.add(len(planter(most=2).plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(seed))))
    assert counts <= {0, 1, 2}
    assert 2 in counts


def test_lesions_that_nobody_can_see_are_not_planted() -> None:
    ratios: dict[float, list[float]] = {0.0: [], 1.5: []}
    for visible, found in ratios.items():
        for seed in range(12):
            hu, target = patch("liver")
            hu[target[0]] += np.random.default_rng(seed).normal(0, 25, int(target[0].sum()))
            one = planter(kinds=("liver_tumor",), most=1, visible=visible)
            one.plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(seed))
            lesion = target[INDEX["liver_tumor"]]
            if lesion.any():
                around = hu[target[INDEX["liver"]] & ~lesion]
                found.append(abs(hu[lesion].mean() - around.mean()) / around.std())
    assert min(ratios[0.0]) < 1
    # Judged in a box around the lesion, here in the whole organ: hence not exactly 1.5.
    assert min(ratios[1.5]) > 1.2
    assert 3 <= len(ratios[1.5]) < len(ratios[0.0])


def test_the_smaller_a_lesion_the_clearer_it_must_be() -> None:
    clear = []
    for seed in range(40):
        hu, target = patch("liver")
        hu[target[0]] += np.random.default_rng(seed).normal(0, 20, int(target[0].sum()))
        one = planter(kinds=("liver_tumor",), most=1, visible=0.1)
        one.plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(seed))
        lesion = target[INDEX["liver_tumor"]]
        if lesion.any():
            around = hu[target[INDEX["liver"]] & ~lesion]
            clear.append(abs(hu[lesion].mean() - around.mean()) / around.std() * np.sqrt(lesion.sum()))
    # Judged in a box around the lesion, here in the whole organ: hence not exactly 5.
    assert len(clear) > 5
    assert min(clear) > ROSE - 1


@pytest.mark.parametrize("room", [0.05, 0.2])
def test_much_of_an_organ_stays_healthy(room: float) -> None:
    shares, sizes = [], []
    for seed in range(8):
        hu, target = patch("liver")
        found = planter(most=40, room=room).plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(seed))
        lesion = target[INDEX["liver_tumor"]]
        shares.append(lesion.sum() / target[INDEX["liver"]].sum())
        sizes.append(len(found))
    # A lesion on a grid may be a little larger than the ball it was planned as.
    assert max(shares) < 1.3 * room
    assert max(shares) > 0.7 * room, "the room is used"
    assert max(sizes) > 3


def test_a_room_that_is_taken_gets_no_lesion() -> None:
    hu, target = patch("liver")
    target[INDEX["liver_tumor"]][2:12] = target[INDEX["liver"]][2:12]
    before = hu.copy()
    assert planter(room=0.2).plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(0)) == []
    np.testing.assert_array_equal(hu, before)


def test_lesions_that_were_there_stay_as_they_are() -> None:
    hu, target = patch("liver")
    old = np.zeros((SIDE,) * 3, dtype=bool)
    old[8:14, 8:14, 5:11] = True
    target[INDEX["liver_tumor"]], hu[old] = old, 60
    for seed in range(5):
        after, labels = hu.copy(), target.copy()
        planter().plant(after, labels, all_known(), SPACING_MM, np.random.default_rng(seed))
        np.testing.assert_array_equal(after[old], hu[old])
        assert labels[INDEX["liver_tumor"]][old].all()
        assert not labels[INDEX["hepatic_vessel_tumor"]][old].any()


def test_the_same_chance_gives_the_same_patch() -> None:
    outcomes = []
    for _ in range(2):
        hu, target = patch("liver", "kidney_right")
        planter().plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(3))
        outcomes.append((hu, target))
    np.testing.assert_array_equal(outcomes[0][0], outcomes[1][0])
    np.testing.assert_array_equal(outcomes[0][1], outcomes[1][1])


def test_kinds_without_a_class_in_the_run_are_left_out() -> None:
    assert [kind.name for kind in planter(classes=("liver", "liver_tumor", "kidney_cyst")).kinds] == ["liver_tumor"]
    one = planter(classes=("liver", "hepatic_vessel_tumor"))
    hu, target = patch("liver")
    names = (target[[0, 4]]).copy()
    found = one.plant(hu, names, np.ones(2, dtype=bool), SPACING_MM, np.random.default_rng(1))
    assert set(found) == {"hepatic_vessel_tumor"}
    assert names[1].any()


def test_a_kind_that_cannot_be_planted_is_refused() -> None:
    with pytest.raises(ValidationError, match="'spleen_tumor' cannot be planted; known: liver_tumor"):
        PlantingConfig(kinds=("liver_tumor", "spleen_tumor"))
    with pytest.raises(ValidationError):
        PlantingConfig(share=1.5)
    with pytest.raises(ValidationError):
        PlantingConfig(most=0)


def test_of_two_kinds_that_look_alike_the_one_that_is_both_is_planted() -> None:
    there = np.ones(len(CLASSES), dtype=bool)
    names = [kind.name for kind in planter().plantable(all_known(), there)]
    assert names == ["hepatic_vessel_tumor", "kidney_cyst"]
    known = all_known()
    known[INDEX["hepatic_vessel_tumor"]] = False
    assert [kind.name for kind in planter().plantable(known, there)] == ["liver_tumor", "kidney_cyst"]


def test_a_lesion_that_grows_out_of_its_organ_leaves_the_next_one_alone() -> None:
    for seed in range(8):
        hu, target = patch("kidney_left")
        beside = np.zeros((SIDE,) * 3, dtype=bool)
        beside[2:30, 2:30, 15:28] = True
        target[INDEX["spleen"]], hu[beside] = beside, 90
        planter(kinds=("kidney_cyst",), most=3).plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(seed))
        assert not (target[INDEX["kidney_cyst"]] & beside).any()
        assert (hu[beside] == 90).all()
        np.testing.assert_array_equal(target[INDEX["spleen"]], beside)


# --- another look ------------------------------------------------------------------------------------------------


def test_a_look_of_its_own() -> None:
    for seed in range(8):
        hu, target = patch("liver")
        looks = {"liver_tumor": {"contrast_hu": [[-50, -40]], "diameter_mm": [10, 12]}}
        one = planter(kinds=("liver_tumor",), most=1, looks=looks)
        assert one.plant(hu, target, all_known(), SPACING_MM, np.random.default_rng(seed)) == ["liver_tumor"]
        lesion = target[INDEX["liver_tumor"]]
        assert hu[lesion].mean() < 100, "darker than a liver of 120 HU, never brighter"
        assert 10 <= (6 / np.pi * lesion.sum() * SPACING_MM**3) ** (1 / 3) <= 14


@pytest.mark.parametrize(
    "looks",
    [{"spleen_tumor": {}}, {"liver_tumor": {"diameter_mm": [12, 10]}}, {"liver_tumor": {"diameter_mm": [0, 10]}},
     {"liver_tumor": {"contrast_hu": [[-20, -40]]}}, {"liver_tumor": {"color": 3}}],
)  # fmt: skip
def test_looks_that_make_no_sense(looks: dict[str, object]) -> None:
    with pytest.raises((ValidationError, ConfigError)):
        PlantingConfig.model_validate({"looks": looks})


def test_a_contrast_for_a_cyst_is_refused() -> None:
    with pytest.raises(ConfigError, match="value of its own"):
        planter(looks={"kidney_cyst": {"contrast_hu": [[-20, -10]]}})
