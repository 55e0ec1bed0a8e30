"""A grid of trainings that differ in a field or two, and the table that compares them.

The grid is YAML: a base recipe and, for each variant, what differs. Every variant is trained in a folder of its
own, all on the same prepared scans; a grid that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxicon.errors import ConfigError
from voxicon.io.atomic import write_text
from voxicon.plan import plan_training
from voxicon.recipe import Recipe, load_recipe
from voxicon.training import build_trainer

Told = Callable[[str, int, int], None]


class Grid(BaseModel):
    """What to compare.

    Attributes:
        base: A recipe; relative to the grid's file. The command line may name another.
        changes: ``FIELD=VALUE`` for every variant.
        variants: Name → ``FIELD=VALUE`` of that variant; an empty list is the base itself. Or
        grid: field → values, every combination being a variant.
        seeds: Every variant is trained once with each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Path
    changes: tuple[str, ...] = ()
    variants: Mapping[str, tuple[str, ...]] = {}
    grid: Mapping[str, tuple[Any, ...]] = {}
    seeds: tuple[int, ...] = Field((0,), min_length=1)

    def all_variants(self) -> dict[str, tuple[str, ...]]:
        """Name → changes, of the listed variants and of the combinations."""
        found = dict(self.variants)
        if self.grid:
            for values in product(*self.grid.values()):
                changes = tuple(f"{field}={json.dumps(v)}" for field, v in zip(self.grid, values, strict=True))
                found["-".join(str(value) for value in values)] = changes
        return found


@dataclass(frozen=True)
class Outcome:
    """One variant.

    Attributes:
        variant: Its name.
        dice: Class → mean Dice over held-out scans, for each seed; None where no scan can tell.
        parameters: Trainable numbers of its network.
        seconds: Wall time of training, all seeds together.
    """

    variant: str
    dice: tuple[Mapping[str, float | None], ...]
    parameters: int
    seconds: float


def load_grid(path: Path) -> Grid:
    """Read a grid.

    Raises:
        ConfigError: Missing, not YAML, a field is wrong, or nothing to compare.
    """
    try:
        grid = Grid.model_validate(yaml.safe_load(path.read_text(encoding="utf8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a grid") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "grid"
        raise ConfigError(f"{path}: {field}: {first['msg']}") from error
    names = [_slug(name) for name in grid.all_variants()]
    if not names or not all(names) or len(set(names)) < len(names):
        raise ConfigError(
            f"{path}: needs variants, or a grid of fields and values, whose names differ in more than punctuation"
        )
    return grid


def run_grid(
    grid: Grid,
    recipe_path: Path,
    out: Path,
    device: torch.device,
    *,
    data: Path | None = None,
    told: Told = lambda what, done, total: None,
) -> list[Outcome]:
    """Train and judge every variant that is not there yet.

    Each is judged on the recipe's validation scans by whole-scan inference with the averaged weights.

    Args:
        grid: What to compare.
        recipe_path: The base recipe.
        out: One folder per variant and seed, and the prepared scans they share.
        device: Where to compute.
        data: As for `voxicon.training.plan_training`.
        told: Hears of the progress.

    Raises:
        ConfigError: No scan is held out for validation, or a change does not fit the recipe.
    """
    variants = grid.all_variants()
    # All recipes are read before the first is trained: a misspelled field must not cost hours.
    recipes = {
        (name, seed): load_recipe(recipe_path, (*grid.changes, *changes, f"optimize.seed={seed}"))
        for name, changes in variants.items()
        for seed in grid.seeds
    }
    outcomes = []
    for name in variants:
        rows = []
        for seed in grid.seeds:
            folder = out / f"{_slug(name)}-seed{seed}"
            rows.append(_run(recipes[name, seed], recipe_path.parent, folder, device, data, out / "prepared", told))
        outcomes.append(
            Outcome(name, tuple(r["dice"] for r in rows), rows[0]["parameters"], sum(r["seconds"] for r in rows))
        )
    return outcomes


def _run(
    recipe: Recipe, base: Path, folder: Path, device: torch.device, data: Path | None, cache: Path, told: Told
) -> dict[str, Any]:
    done, key = folder / "outcome.json", recipe.model_dump_json()
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf8"))
        if found["recipe"] == key:
            return found
        raise ConfigError(f"{folder}: holds a run of another recipe; remove it, or give another output folder")
    plan = plan_training(recipe, base, data)
    if not plan.val:
        raise ConfigError(
            f"recipe {recipe.name}: no scan is held out for validation, so variants cannot be compared; "
            "give a manifest with val scans, or set fold"
        )
    trainer = build_trainer(plan, folder, device, cache=cache, told=told)
    label = folder.name
    trainer.run(lambda row: told(label, row["step"], row["steps"]))
    if trainer.validate is None:
        raise ConfigError(f"recipe {recipe.name}: nothing to validate on")
    outcome = {
        "recipe": key,
        "dice": dict(trainer.validate(trainer.averaged)),
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "seconds": round(trainer.seconds, 1),
    }
    write_text(done, json.dumps(outcome, indent=1))
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown in the shape of the paper's ablation tables: a row per variant, a column per class, the mean last.

    Dice in percent; with several seeds their mean and, for the mean over classes, the standard deviation.
    """
    classes = list(outcomes[0].dice[0])
    lines = ["| variant | " + " | ".join(classes) + " | mean | parameters |", "|---" * (len(classes) + 3) + "|"]
    for outcome in outcomes:
        cells = [_percent(_mean([dice[name] for dice in outcome.dice])) for name in classes]
        means = [mean for dice in outcome.dice if (mean := _mean(list(dice.values()))) is not None]
        spread = f" ± {100 * _deviation(means):.1f}" if len(means) > 1 else ""
        lines.append(
            f"| {outcome.variant} | {' | '.join(cells)} | {_percent(_mean(means))}{spread} | {outcome.parameters:,} |"
        )
    return "\n".join(lines)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return float((sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
