"""A grid of trainings: every variant trained and judged once, one table, nothing done twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml

from voxicon import ablation
from voxicon.ablation import Grid, Outcome, load_grid, run_grid, table
from voxicon.data.card import load_card
from voxicon.data.example import write_example
from voxicon.errors import ConfigError

SHIPPED = sorted((Path(__file__).parent.parent / "recipes" / "ablations").glob("*.yaml"))
CPU = torch.device("cpu")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Three made-up kidney scans: two to learn from, one to judge on."""
    write_example(load_card("kits23"), tmp_path / "kits23", n_cases=3)
    (tmp_path / "manifest.csv").write_text(
        "id,split\nkits23/case_00000,train\nkits23/case_00001,train\nkits23/case_00002,val\n"
    )
    values = {
        "name": "base", "preset": "laptop", "datasets": [{"card": "kits23", "folder": "kits23"}],
        "manifest": "manifest.csv", "network": {"options": {"channels": [16, 16]}},
        "text": {"encoder": "onehot", "center": False}, "preparation": {"spacing_mm": [12, 12, 12]},
        "inference": {"window": [16, 16, 16]},
        "optimize": {"steps": 1, "warmup": 0, "patch": [16, 16, 16], "precision": "fp32", "validate_every": 0},
    }  # fmt: skip
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def write_grid(folder: Path, **values: object) -> Path:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({"base": "base.yaml", **values}))
    return path


def test_every_variant_is_trained_once(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = load_grid(
        write_grid(tmp_path, variants={"one-hot": [], "per class": ["network.controller=per_class"]}, seeds=[0, 1])
    )
    outcomes = run_grid(grid, recipe, tmp_path / "out", CPU)
    assert [outcome.variant for outcome in outcomes] == ["one-hot", "per class"]
    assert all(len(outcome.dice) == 2 for outcome in outcomes)
    assert outcomes[1].parameters > outcomes[0].parameters
    assert set(outcomes[0].dice[0]) == {"kidney_right", "kidney_left", "kidney_tumor", "kidney_cyst"}
    monkeypatch.setattr(ablation, "build_trainer", lambda *_, **__: pytest.fail("trained again"))
    assert run_grid(grid, recipe, tmp_path / "out", CPU) == outcomes


def test_a_folder_of_another_grid_is_not_overwritten(recipe: Path, tmp_path: Path) -> None:
    run_grid(Grid(base=recipe, variants={"a": ()}), recipe, tmp_path / "out", CPU)
    other = Grid(base=recipe, variants={"a": ("optimize.learning_rate=0.5",)})
    with pytest.raises(ConfigError, match="holds a run of another recipe"):
        run_grid(other, recipe, tmp_path / "out", CPU)


def test_combinations_are_variants() -> None:
    grid = Grid(base=Path("r.yaml"), grid={"text.encoder": ("onehot", "random"), "text.template": ("V1", "V2")})
    assert grid.all_variants()["random-V2"] == ('text.encoder="random"', 'text.template="V2"')
    assert len(grid.all_variants()) == 4


def test_a_misspelled_field_costs_no_training(recipe: Path, tmp_path: Path) -> None:
    grid = Grid(base=recipe, variants={"good": (), "bad": ("optimize.stepps=3",)})
    with pytest.raises(ConfigError, match="stepps"):
        run_grid(grid, recipe, tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_nothing_held_out_is_refused(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("id,split\n" + "".join(f"kits23/case_0000{n},train\n" for n in range(3)))
    with pytest.raises(ConfigError, match="no scan is held out"):
        run_grid(Grid(base=recipe, variants={"a": ()}), recipe, tmp_path / "out", CPU)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variants": {}}, "needs variants"),
        ({"variants": {"a b": [], "a-b": []}}, "differ in more than punctuation"),
        ({"colour": 1}, "colour"),
        ({"variants": {"a": []}, "seeds": []}, "seeds"),
    ],
)
def test_grids_that_make_no_sense(tmp_path: Path, values: Mapping[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_grid(write_grid(tmp_path, **values))


def test_grids_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_grid(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_grid(tmp_path / "bad.yaml")


def test_the_table_by_hand() -> None:
    outcomes = [
        Outcome("one", ({"liver": 0.5, "spleen": None}, {"liver": 0.7, "spleen": None}), 1000, 1.0),
        Outcome("two", ({"liver": 0.9, "spleen": 0.7},), 2000, 1.0),
    ]
    # One: (50 + 70) / 2 = 60, deviation of 50 and 70 is 14.1. Two: (90 + 70) / 2 = 80, one seed has no deviation.
    assert table(outcomes).splitlines() == [
        "| variant | liver | spleen | mean | parameters |",
        "|---|---|---|---|---|",
        "| one | 60.0 | – | 60.0 ± 14.1 | 1,000 |",
        "| two | 90.0 | 70.0 | 80.0 | 2,000 |",
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_grids_fit_their_base(path: Path) -> None:
    grid = load_grid(path)
    assert len(grid.all_variants()) >= 2
    for changes in grid.all_variants().values():
        ablation.load_recipe(path.parent / grid.base, (*grid.changes, *changes))
