"""Recipes: what differs from a preset, in YAML and on the command line, and one line for what does not fit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train.phantoms import recipe_values, write_recipe
from voxicon.errors import ConfigError
from voxicon.infer.settings import inference_config
from voxicon.model.checkpoint import load_checkpoint
from voxicon.model.config import NetworkConfig
from voxicon.model.network import build_network
from voxicon.prep.pipeline import PreparationConfig
from voxicon.recipe import PRESETS, Recipe, load_recipe, make_recipe
from voxicon.train.augment import PAPER, AugmentConfig
from voxicon.train.patches import SamplingConfig
from voxicon.weights.store import starter_path

RECIPES = Path(__file__).parent.parent / "recipes"
STARTER = RECIPES / "starter.yaml"
LEAST: dict[str, Any] = {"name": "mine", "datasets": [{"card": "lits"}]}


def made(*changes: str, preset: str | None = None, **fields: Any) -> Recipe:
    return make_recipe({**LEAST, **fields}, "mine.yaml", changes, preset)


# --- presets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_whole_training(preset: str) -> None:
    recipe = made(preset=preset)
    PreparationConfig.from_dict(recipe.preparation)
    inference_config(recipe.inference.model_dump())
    if recipe.network.backbone == "compact":
        shape = NetworkConfig(backbone="compact", classes=("a",), embedding_size=4, options=recipe.network.options)
        multiple = build_network(shape).size_multiple
    else:
        multiple = 32
    assert all(n % multiple == 0 for n in (*recipe.optimize.patch, *recipe.inference.window))
    assert recipe.optimize.patch == recipe.inference.window, "the network is judged on what it was trained on"
    # What learns new words is judged once, at its end, old words too.
    assert (recipe.optimize.validate_every > 0) == (preset != "extend")


def test_the_paper_is_the_default() -> None:
    recipe = made()
    assert recipe == made(preset="paper")
    assert (recipe.network.backbone, recipe.optimize.patch) == ("swin_unetr", (96, 96, 96))
    assert recipe.preparation["spacing_mm"] == [1.5, 1.5, 1.5]
    assert recipe.preparation["window_hu"] == [-175, 250]
    assert recipe.preparation["antialias"] is False
    assert (recipe.optimize.learning_rate, recipe.optimize.weight_decay) == (1e-4, 1e-5)
    assert recipe.optimize.augment == PAPER
    assert recipe.optimize.sampling == SamplingConfig(datasets="uniform", centers="card", jitter=0)
    assert recipe.missing == "unknown"


def test_a_preset_by_file_or_by_option() -> None:
    assert made(preset="laptop") == make_recipe({**LEAST, "preset": "laptop"}, "mine.yaml")
    assert make_recipe({**LEAST, "preset": "paper"}, "mine.yaml", preset="laptop") == made(preset="laptop")
    with pytest.raises(ConfigError, match=r"mine.yaml: no preset 'mainframe'; known: paper, laptop"):
        make_recipe({**LEAST, "preset": "mainframe"}, "mine.yaml")


# --- layers -----------------------------------------------------------------------------------------------------


def test_the_file_goes_over_the_preset_and_options_go_over_the_file() -> None:
    recipe = made("optimize.steps=7", "optimize.sampling.jitter=0.1", optimize={"steps": 5, "batch": 3})
    assert (recipe.optimize.steps, recipe.optimize.batch, recipe.optimize.warmup) == (7, 3, 5000)
    assert recipe.optimize.sampling == SamplingConfig(datasets="uniform", centers="card", jitter=0.1)
    assert made("optimize.steps=7", "optimize.steps=8").optimize.steps == 8


def test_values_of_options_are_yaml() -> None:
    recipe = made("optimize.patch=[64, 64, 32]", "classes=[liver, spleen]", "missing=background", "text.center=false")
    assert recipe.optimize.patch == (64, 64, 32)
    assert recipe.classes == ("liver", "spleen")
    assert recipe.missing == "background"
    assert recipe.text.center is False


def test_another_backbone_does_not_inherit_options() -> None:
    assert "channels" in made(preset="laptop").network.options
    assert made("network.backbone=unet", preset="laptop").network.options == {}
    assert made(preset="laptop", network={"backbone": "unet"}).network.options == {}
    own = made(preset="laptop", network={"backbone": "swin_unetr", "options": {"feature_size": 24}})
    assert own.network.options == {"feature_size": 24}
    # The same backbone does, field by field.
    assert (
        made("network.controller=per_class", preset="laptop").network.options == made(preset="laptop").network.options
    )


def test_one_range_of_an_augmentation_can_be_changed() -> None:
    assert made("optimize.augment.noise_hu=5").optimize.augment == PAPER.model_copy(update={"noise_hu": 5.0})
    strong = made("optimize.augment.noise_hu=5", preset="laptop").optimize.augment
    assert strong == AugmentConfig(noise_hu=5)
    named = made("optimize.augment=strong", "optimize.augment.cut=0", optimize={"augment": {"noise_hu": 5}})
    assert named.optimize.augment == AugmentConfig(cut=0)
    assert made("optimize.augment=paper", preset="laptop").optimize.augment == PAPER


def test_what_is_recorded_reads_back() -> None:
    recipe = made("optimize.augment.noise_hu=5", repaint_hu={"liver": [0, 100]}, card={"license": "MIT"})
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimize": {"steps": 0}}, "optimize.steps"),
        ({"optimize": {"speed": 9}}, "optimize.speed"),
        ({"optimize": {"augment": "weak"}}, "optimize.augment: no such preset"),
        ({"optimize": {"patience": 3, "validate_every": 0}}, "optimize: patience counts validations"),
        ({"colour": "red"}, "colour"),
        ({"datasets": []}, "datasets"),
        ({"datasets": [{"folder": "x"}]}, "datasets.0.card: Field required"),
        ({"inference": {"window": [16, 16]}}, "inference.window"),
        *(
            ({"inference": {"window": [16] * 3, field: {"liver_tumor": odd}}}, rf"inference\.{field}\.liver_tumor")
            for field, odds in (
                ("thresholds", (0, 1)),
                ("smoothing_mm", (-1, 99)),
                ("depth_mm", (-1, 99)),
                ("peaks", (0, 1)),
            )
            for odd in odds
        ),
        ({"missing": "negative"}, "missing"),
        ({"name": "a/b"}, "name"),
        ({"fold": 1}, "recipe: fold needs a manifest"),
        ({"fold": -1, "manifest": "m.csv"}, "fold"),
        ({"network": {"controller": "one"}}, "network.controller"),
        ({"text": {"side_angle_deg": 180}}, "text.side_angle_deg"),
        ({"text": {"side_angle_deg": -1}}, "text.side_angle_deg"),
    ],
)
def test_wrong_fields_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="recipe.yaml: " + message):
        load_recipe(write_recipe(tmp_path, "livers", **changes))


@pytest.mark.parametrize("change", ["optimize.steps", "=5", "optimize..steps=5", ".steps=5"])
def test_options_that_are_no_field_are_refused(change: str) -> None:
    with pytest.raises(ConfigError, match=r"expected FIELD=VALUE, such as optimize\.steps=500"):
        made(change)


def test_options_that_are_wrong_are_refused() -> None:
    with pytest.raises(ConfigError, match="the value is not valid YAML"):
        made("optimize.patch=[1, 2")
    with pytest.raises(ConfigError, match=r"optimize\.stepz: Extra inputs"):
        made("optimize.stepz=5")


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_recipe(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="a recipe is a mapping of fields, found list"):
        load_recipe(tmp_path / "list.yaml")


# --- the recipe that ships --------------------------------------------------------------------------------------


def test_the_starter_recipe_made_the_weights_that_ship() -> None:
    told = dict(load_checkpoint(starter_path()).metadata.card["recipe"])
    # Where the first step's weights lay is not part of what was learned.
    made = make_recipe({**told, "start": None}, "card")
    assert made == load_recipe(STARTER).model_copy(update={"start": None})


def test_the_recipe_that_looks_into_the_liver_made_the_network_inside() -> None:
    inside = load_checkpoint(starter_path()).metadata.inside
    assert inside is not None
    made = make_recipe({**inside.card["recipe"], "start": None}, "card")
    assert made == load_recipe(RECIPES / "starter_inside.yaml").model_copy(update={"start": None})
    assert inside.inference == made.inference.model_dump(mode="json")


def test_the_recipe_that_looks_into_the_liver_fits_what_finds_it() -> None:
    organs, inside = (load_recipe(RECIPES / f"{name}.yaml") for name in ("starter", "starter_inside"))
    assert inside.looks_inside
    assert not organs.looks_inside
    assert inside.preparation == organs.preparation, "both read the same prepared scan"
    assert set(inside.classes or ()) <= set(organs.classes or ())
    assert (inside.text, inside.repaint_hu) == (organs.text, organs.repaint_hu)


ORGAN_STEPS = ("starter_coarse", "starter_fine", "starter_lesions", "starter")
INSIDE_STEPS = tuple(f"starter_inside{step}" for step in ("_first", "_second", "_third", ""))


@pytest.mark.parametrize("names", [ORGAN_STEPS, INSIDE_STEPS])
def test_every_step_goes_on_where_the_one_before_stops(names: tuple[str, ...]) -> None:
    steps = [load_recipe(RECIPES / f"{name}.yaml") for name in names]
    for before, after in pairwise(steps):
        assert after.start is not None
        assert after.start.parts[-2:] == (before.name, "weights.safetensors")
        for part in ("text", "classes", "datasets", "repaint_hu"):
            assert getattr(before, part) == getattr(after, part)
    # At another spacing the first seed shows other patches.
    assert len({step.optimize.seed for step in steps[1:]}) == 3, "the same seed would show the same patches again"


def test_the_steps_of_the_starter_differ_in_what_they_are_for() -> None:
    steps = [load_recipe(RECIPES / f"{name}.yaml") for name in ORGAN_STEPS]
    assert [step.preparation["spacing_mm"] for step in steps] == [[4, 4, 4]] + [[3, 3, 3]] * 3
    assert [step.optimize.lesions.share for step in steps] == [0.5, 0.6, 0.9, 0.9]
    assert ["contrast" in step.network.options for step in steps] == [False, False, True, True]


def test_the_steps_that_look_inside_train_one_network_alike() -> None:
    steps = [load_recipe(RECIPES / f"{name}.yaml") for name in INSIDE_STEPS]
    for step in steps[1:]:
        assert (step.network, step.preparation) == (steps[0].network, steps[0].preparation)
    assert len({step.optimize.seed for step in steps}) == 4, "here all are at one spacing"
    assert [step.optimize.augment.fat for step in steps] == [0, 0.7, 0.7, 0.7]


def test_phantom_recipes_are_recipes() -> None:
    values = yaml.safe_load(yaml.safe_dump(recipe_values("livers", optimize={"steps": 9})))
    assert make_recipe(values, "x").optimize.steps == 9


# --- recipes like others ------------------------------------------------------------------------------------------


def test_a_recipe_says_only_what_differs_from_the_one_it_is_like(tmp_path: Path) -> None:
    values = recipe_values("a")
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(values))
    second = {"like": "first.yaml", "name": "second", "optimize": {"steps": 77}}
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    first, other = (load_recipe(tmp_path / f"{name}.yaml") for name in ("first", "second"))
    assert (other.name, other.optimize.steps) == ("second", 77)
    assert other.optimize.model_copy(update={"steps": first.optimize.steps}) == first.optimize
    assert other.datasets == first.datasets
    assert load_recipe(tmp_path / "second.yaml", ["optimize.steps=5"]).optimize.steps == 5


@pytest.mark.parametrize(("like", "found"), [("me.yaml", "like this one"), ("none.yaml", "cannot be read")])
def test_a_recipe_like_itself_or_like_none_is_refused(tmp_path: Path, like: str, found: str) -> None:
    (tmp_path / "me.yaml").write_text(yaml.safe_dump({"like": like}))
    with pytest.raises(ConfigError, match=found):
        load_recipe(tmp_path / "me.yaml")


def test_recipes_that_are_like_one_another_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("like: b.yaml")
    (tmp_path / "b.yaml").write_text("like: a.yaml")
    with pytest.raises(ConfigError, match="like this one"):
        load_recipe(tmp_path / "a.yaml")
