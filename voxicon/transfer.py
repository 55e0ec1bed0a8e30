"""Does a start from earlier weights help, and with how many labeled scans? Learning curves, measured.

For every strategy, number of training scans and seed one run is trained and judged on the same held-out scans, scan by
scan. ``scratch`` is the same network, preparation and schedule with new numbers: only the start differs. A study that
was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from voxicon.errors import ConfigError
from voxicon.evaluate.statistics import Estimate, cluster_bootstrap
from voxicon.io.atomic import write_text
from voxicon.plan import Plan, for_training, plan_training
from voxicon.preparing import prepare_cases
from voxicon.recipe import Recipe
from voxicon.report.learning import Line, learning_curves
from voxicon.student import starting_from
from voxicon.training import build_trainer
from voxicon.validation import case_dice

Way = Literal["scratch", "full", "head", "adapters"]

Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Point:
    """One run.

    Attributes:
        way: How it started and what of it learned.
        take: Training scans.
        seed: Of the run: which scans, which patches, which new numbers.
        scans: Held-out scan → class → Dice, where the scan can tell.
        learned: Numbers that were trained.
        seconds: Wall time of training.
    """

    way: Way
    take: int
    seed: int
    scans: Mapping[str, Mapping[str, float]]
    learned: int
    seconds: float

    @property
    def dice(self) -> list[tuple[str, float]]:
        """Held-out scan and mean Dice over its classes; scans that can tell of none are left out."""
        return [(scan, sum(of.values()) / len(of)) for scan, of in self.scans.items() if of]


@dataclass(frozen=True)
class Design:
    """What a study compares.

    Attributes:
        ways: Of starting and learning.
        budgets: Numbers of training scans; 1, 2, 5, 10 and all of them, as far as there are so many, when left out.
        seeds: Every combination is run once with each.

    Raises:
        ConfigError: A way does not exist, there is none, or a number of scans is below one.
    """

    ways: Sequence[Way] = ("scratch", "full")
    budgets: Sequence[int] = ()
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        strange = [way for way in self.ways if way not in get_args(Way)]
        if strange or not self.ways:
            raise ConfigError(f"way {', '.join(strange) or 'missing'}: expected {', '.join(get_args(Way))}")
        if any(n < 1 for n in self.budgets):
            raise ConfigError(f"training scans {min(self.budgets)}: expected 1 or more")


def run_study(
    recipe: Recipe,
    base: Path,
    weights: str | Path,
    out: Path,
    device: torch.device,
    *,
    design: Design = Design(),
    data: Path | None = None,
    told: Told = lambda what, done, total: None,
) -> list[Point]:
    """Train and judge every combination that is not there yet.

    Judged are the averaged weights of the last step on the test scans, or on those for validation where there are none
    for testing; nothing is chosen by them.

    Args:
        recipe: Datasets, classes and schedule. Network, words, preparation and windows are those of the weights.
        base: Folder that the recipe's paths are relative to.
        weights: What to start from.
        out: One folder per run, and the prepared scans they share.
        device: Where to compute.
        design: What to compare.
        data: As of `voxicon.plan.plan_training`.
        told: Hears of the progress.

    Raises:
        ConfigError: Nothing is held out, or a budget is larger than there are scans.
        CheckpointError: The weights are missing or damaged, or a folder holds another run.
    """
    started = starting_from(recipe, weights)
    plan = plan_training(started, base, data)
    held_out = plan.test or plan.val
    if not held_out:
        raise ConfigError(
            f"recipe {recipe.name}: no scan is held out; a card's splits or a manifest with 'test' says which"
        )
    most = len(for_training(replace(plan, val=())).train)
    budgets = design.budgets or sorted({n for n in (1, 2, 5, 10, most) if n <= most})
    points = []
    for seed in design.seeds:
        for take in budgets:
            for way in design.ways:
                folder = out / f"{way}-{take}-seed{seed}"
                planned = replace(plan, recipe=_variant(started, way, take, seed), val=held_out)
                if way == "scratch":
                    planned = replace(planned, start=None)
                points.append(_run(planned, folder, (way, take, seed), device, out / "prepared", told))
    return points


def _variant(recipe: Recipe, way: Way, take: int, seed: int) -> Recipe:
    optimize = recipe.optimize.model_copy(update={"seed": seed, "validate_every": 0, "patience": 0})
    changes: dict[str, Any] = {"optimize": optimize, "take": take, "strategy": "full" if way == "scratch" else way}
    if way == "scratch":
        changes["start"] = None
    return recipe.model_copy(update=changes)


def _run(plan: Plan, folder: Path, name: tuple[Way, int, int], device: torch.device, cache: Path, told: Told) -> Point:
    done, key = folder / "point.json", plan.recipe.model_dump_json()
    if done.is_file():
        found = json.loads(done.read_text(encoding="utf8"))
        if found.pop("recipe") == key:
            return Point(**found)
        raise ConfigError(f"{folder}: holds a run of another recipe; remove it, or give another output folder")
    trainer = build_trainer(plan, folder, device, cache=cache, told=told)
    trainer.run(lambda row: told(folder.name, row["step"], row["steps"]))
    ready = for_training(plan)
    cases, _ = prepare_cases(replace(ready, train=()), cache, told=told)
    scans = {
        case.id: case_dice(trainer.averaged, prepared, ready, device)
        for case, prepared in zip(ready.val, cases, strict=True)
    }
    point = Point(*name, scans, sum(p.numel() for p in trainer.learning), round(trainer.seconds, 1))
    write_text(done, json.dumps({**asdict(point), "recipe": key}, indent=1))
    return point


def estimates(points: Sequence[Point]) -> dict[tuple[Way, int], Estimate]:
    """Mean Dice of every way and number of scans, with an interval from resampling held-out scans."""
    found: dict[tuple[Way, int], list[tuple[str, float]]] = {}
    for point in points:
        found.setdefault((point.way, point.take), []).extend(point.dice)
    return {
        key: cluster_bootstrap([dice for _, dice in pairs], [scan for scan, _ in pairs]) for key, pairs in found.items()
    }


def table(points: Sequence[Point]) -> str:
    """Markdown: a row per number of training scans, a column per way; mean Dice in percent and its interval."""
    of, ways = estimates(points), list(dict.fromkeys(point.way for point in points))
    lines = ["| training scans | " + " | ".join(ways) + " |", "|---" * (len(ways) + 1) + "|"]
    for take in sorted({point.take for point in points}):
        cells = [_written(of[way, take]) if (way, take) in of else "–" for way in ways]
        lines.append(f"| {take} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _written(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def curves(points: Sequence[Point]) -> str:
    """The table as a picture: SVG text."""
    of = estimates(points)
    lines = []
    for way in dict.fromkeys(point.way for point in points):
        known = [(take, e) for (w, take), e in sorted(of.items()) if w == way and e.value is not None]
        lines.append(Line(way, tuple((take, e.value or 0.0, e.low, e.high) for take, e in known)))
    return learning_curves("Dice on held-out scans by number of training scans", lines)
