"""``voxicon extend`` and ``voxicon transfer`` as they are typed: what is told, what is refused, what is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.test_main import Run, run
from tests.test_training import built
from tests.train.phantoms import recipe_values, write_dataset
from tests.weights_on_disk import write_small_weights
from voxicon.model.checkpoint import read_metadata

__all__ = ["run"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path, "a", ("liver", "liver_tumor"))
    write_dataset(tmp_path, "b", ("spleen", "liver"), seed=4, n_cases=3, splits={"test": ["c2"]})
    built(tmp_path, "a", run="old").run()
    values = recipe_values("b")
    (tmp_path / "b_recipe.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def test_a_word_is_added_and_what_became_of_the_others_is_told(run: Run, folder: Path) -> None:
    old, new = folder / "old" / "weights.safetensors", folder / "new.safetensors"
    recipe = folder / "b_recipe.yaml"
    done = run(
        "extend", str(old), "-c", "Spleen", "--data", str(recipe), "--steps", "2", "-o", str(new), "--device", "cpu"
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(new)), done.stderr
    assert "added spleen: " in done.stderr
    assert "logits of the old words: as before, bit by bit" in done.stderr
    assert "spleen" in done.stderr.split("bit by bit")[1]
    assert read_metadata(new).card["extensions"][0]["recipe"]["optimize"]["steps"] == 2
    again = run("extend", str(old), "-c", "spleen", "--data", str(recipe), "-o", str(new))
    assert again.returncode == 2
    assert "is already there; use --overwrite" in again.stderr


def test_words_go_and_change_their_names(run: Run, tmp_path: Path) -> None:
    old = write_small_weights(tmp_path / "old.safetensors")
    for words, left in [
        (("--remove", "liver", "--remove", "spleen"), ("kidney_right", "pancreas", "liver_tumor")),
        (("--rename", "spleen=stomach"), ("stomach", "kidney_right", "liver", "pancreas", "liver_tumor")),
        (("--controllers", "per-class"), ("spleen", "kidney_right", "liver", "pancreas", "liver_tumor")),
    ]:
        new = tmp_path / "new.safetensors"
        done = run("extend", str(old), *words, "-o", str(new), "--overwrite")
        assert done.returncode == 0, done.stderr
        assert read_metadata(new).trained == left


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say one thing"),
        (("--remove", "liver", "--rename", "spleen=stomach"), "say one thing"),
        (("-c", "stomach"), "--class needs --data"),
        (("--rename", "spleen"), "--rename 'spleen': expected OLD=NEW"),
        (("-c", "stomach", "--data", "nothing.yaml"), "nothing.yaml: cannot be read"),
        (("--remove", "gizzard"), "unknown class 'gizzard'"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    run: Run, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    old = write_small_weights(tmp_path / "old.safetensors")
    done = run("extend", str(old), *words, "-o", str(tmp_path / "new.safetensors"))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "new.safetensors").exists()


def test_a_study_leaves_a_table_a_picture_and_its_runs(run: Run, folder: Path) -> None:
    old, out = folder / "old" / "weights.safetensors", folder / "study"
    words = ["transfer", str(folder / "b_recipe.yaml"), "--from", str(old), "-o", str(out), "--device", "cpu"]
    done = run(*words, "--ways", "scratch,head", "--scans", "1,2", "--set", "optimize.steps=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "| training scans | scratch | head |"
    assert (out / "table.md").read_text() == done.stdout
    assert len(json.loads((out / "points.json").read_text())) == 4
    assert (out / "curves.svg").read_text().startswith("<svg")
    wrong = run(*words, "--scans", "few")
    assert wrong.returncode == 2
    assert "--scans 'few': expected whole numbers" in wrong.stderr


def test_training_starts_from_weights_by_name(run: Run, folder: Path) -> None:
    old, recipe = folder / "old" / "weights.safetensors", str(folder / "b_recipe.yaml")
    done = run("train", recipe, "--from", str(old), "--strategy", "head", "-o", str(folder / "run"), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    card = read_metadata(folder / "run" / "weights.safetensors").card
    assert card["start"]["file"] == "weights.safetensors"
    assert card["recipe"]["strategy"] == "head"
    wrong = run("train", recipe, "--strategy", "head")
    assert wrong.returncode == 2
    assert "--strategy head needs --from" in wrong.stderr
