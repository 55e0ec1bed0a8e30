"""How well a network finds what held-out scans show: Dice by class, whole scans, on the model's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.infer.predictor import InferenceConfig, Predictor
from voxicon.model.network import UniversalNetwork
from voxicon.plan import Plan
from voxicon.prep.pipeline import window
from voxicon.train.cases import TrainingCase
from voxicon.train.loop import Validate
from voxicon.train.processes import Processes


def case_dice(
    network: UniversalNetwork, case: TrainingCase, plan: Plan, device: torch.device, classes: tuple[str, ...] = ()
) -> dict[str, float]:
    """Dice of every class that is known in a scan and is there or found; no cleanup touches the masks.

    Args:
        network: In evaluation mode, on `device`.
        case: Prepared for the classes of the plan.
        plan: Says how windows are laid and cut.
        device: Where to compute.
        classes: Look only at these; at all known ones where left out.
    """
    predictor = Predictor(network, InferenceConfig(**plan.recipe.inference.model_dump()), device)
    x, y, z = case.hu_XYZ.shape
    grid = Geometry((x, y, z), np.diag([*plan.preparation.spacing_mm, 1.0]))
    known = tuple(name for name, is_known in zip(plan.classes, case.known_N, strict=True) if is_known)
    known = tuple(name for name in known if not classes or name in classes)
    truth = MaskSet(case.words_WXYZ[:], plan.classes, grid)
    image = window(case.hu_XYZ[:].astype(np.float32), plan.preparation.window_hu)
    predicted = predictor.predict(image, grid, known).masks
    found = {}
    for name in known:
        mask, true = predicted[name], truth[name]
        total = int(mask.sum()) + int(true.sum())
        if total:
            found[name] = 2 * int((mask & true).sum()) / total
    return found


def validation(cases: Sequence[TrainingCase], plan: Plan, device: torch.device, processes: Processes) -> Validate:
    """Whole-scan inference on held-out scans: mean Dice of each class over the scans that can tell.

    A scan can tell where the class is known and either there or found. Each process takes its share of the scans.
    """

    def validate(network: UniversalNetwork) -> Mapping[str, float | None]:
        sums, counts = dict.fromkeys(plan.classes, 0.0), dict.fromkeys(plan.classes, 0.0)
        for case in cases[processes.rank :: processes.count]:
            for name, dice in case_dice(network, case, plan, device).items():
                sums[name] += dice
                counts[name] += 1
        totals = processes.totals([*sums.values(), *counts.values()], device)
        pairs = zip(totals[: len(sums)], totals[len(sums) :], strict=True)
        return {name: dice / n if n else None for name, (dice, n) in zip(plan.classes, pairs, strict=True)}

    return validate
