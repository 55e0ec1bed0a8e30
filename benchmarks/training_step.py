"""Seconds of a training step of a recipe, and where they go, against those of a plain U-Net of equal channels.

The product's own trainer takes the steps: a second thread cuts and alters the patches of the next step (warp, repaint,
planted lesions, noise) while this one computes, and both share the processor's cores. So three things take turns:

- ``as trained``: the loop as it is. Waiting is the time it stands still until patches are there; a step is starved when
  they were not there as it asked for them. The other parts are the forward pass with the loss, the backward pass with
  clipping, the optimizer, and the running average (EMA). Cutting happens beside them and does not add to the step.
- ``computing alone``: the same step on patches cut before, with nothing beside it.
- ``plain U-Net``: MONAI's UNet of the recipe's channels with 32 outputs, sigmoid cross-entropy and soft Dice, AdamW, on
  the same patch in the same precision, with nothing beside it.

Cutting is timed with nothing beside it too. The first step of every round is not counted: nothing was cut ahead for it.

    python benchmarks/training_step.py --out runs/training_step

takes recipes/starter.yaml with random weights on bodies made of nothing (voxicon.bodies), so that no data are needed;
writes OUT/training_step.json, prints a table of medians. With ``--data runs/starter_data`` it reads what the recipe
names, as ``voxicon train`` does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from itertools import count, cycle
from pathlib import Path
from statistics import median
from typing import Any

import torch
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measure import flops_of, interleave, machine, medians, seconds_of, table, write
from voxicon.bodies import CARD, Wish, phantoms
from voxicon.plan import plan_training
from voxicon.recipe import load_recipe
from voxicon.train.loop import Trainer
from voxicon.train.patches import PatchBatch
from voxicon.training import build_trainer

RECIPE = Path(__file__).parents[1] / "recipes" / "starter.yaml"
OUTPUTS = 32
PARTS = {"waiting": "_take_batches", "forward and loss": "loss_of", "EMA": "_average"}
"""What a step consists of, and the trainer's method for it; backward pass and clipping are what is left."""

CPU = torch.device("cpu")

_READY = 8
"""Steps whose patches are cut before: how many classes they know, and so what a step costs, differs."""

Row = dict[str, float]


@dataclass
class Watch:
    """Seconds by part since it was last asked; methods are watched by wrapping them."""

    seconds: dict[str, float] = field(default_factory=dict)

    def over(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, and its time on the part's account."""

        @wraps(method)
        def watched(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began

        return watched

    def told(self) -> Row:
        """All parts, which begin at zero again."""
        found, self.seconds = self.seconds, {}
        return found


class Steps:
    """Steps of the product's trainer, one at a time, with the time of each part."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.watch, self.cutting = trainer, Watch(), Watch()
        self.cut = trainer._cut
        self.numbers = count(trainer.step)
        for part, name in PARTS.items():
            setattr(trainer, name, self.watch.over(part, getattr(trainer, name)))
        trainer.optimizer.step = self.watch.over("optimizer", trainer.optimizer.step)  # type: ignore[method-assign]
        self.take_watched = trainer._take_batches
        trainer._cut = self.cutting.over("cutting", self.cut)  # type: ignore[method-assign]
        self.ready = [self.cut(next(self.numbers)) for _ in range(_READY)]
        self.given = cycle(self.ready)

    def as_trained(self) -> Row:
        """A step of the loop as it is."""
        ahead = self.trainer._ahead
        starved = ahead is None or not ahead[1].done()
        return {**self._step(), "starved": float(starved), "cutting": 0.0, **self.cutting.told()}

    def alone(self) -> Row:
        """A step on patches that are there."""
        self.trainer._take_batches = partial(next, self.given)  # type: ignore[method-assign]
        try:
            return self._step()
        finally:
            self.trainer._take_batches = self.take_watched  # type: ignore[method-assign]

    def _step(self) -> Row:
        self.watch.told()
        began = time.perf_counter()
        self.trainer._one_step()
        seconds = time.perf_counter() - began
        self.trainer.step += 1
        parts = {**dict.fromkeys((*PARTS, "optimizer"), 0.0), **self.watch.told()}
        return {"step": seconds, **parts, "backward and clipping": seconds - sum(parts.values())}

    def rest(self) -> None:
        """Wait until nothing is cut any more; then what is measured next has the machine to itself."""
        ahead, self.trainer._ahead = self.trainer._ahead, None
        if ahead is not None:
            ahead[1].result()
        self.cutting.told()

    def cutting_alone(self) -> Row:
        """Patches of another step, with nothing beside it."""
        return {"cutting": seconds_of(lambda: self.cut(next(self.numbers)), 0)}


class Plain:
    """Steps of MONAI's U-Net on one batch."""

    def __init__(self, trainer: Trainer, batch: PatchBatch, res_units: int) -> None:
        channels = trainer.metadata.network.options["channels"]
        strides = [2] * (len(channels) - 1)
        self.network = UNet(3, 1, OUTPUTS, channels, strides, num_res_units=res_units).to(trainer.device).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.dice = DiceLoss(sigmoid=True)
        low, high = trainer.preparation.window_hu
        self.image = ((batch.hu_B1XYZ - low) / (high - low)).clamp(0, 1)
        given = batch.target_BNXYZ.float()[:, :OUTPUTS]
        self.target = functional.pad(given, (0, 0, 0, 0, 0, 0, 0, OUTPUTS - given.shape[1]))
        self.is_bf16 = trainer.config.precision == "bf16"

    def loss(self) -> Tensor:
        """Sigmoid cross-entropy and soft Dice of all outputs."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.is_bf16):
            logits = self.network(self.image)
        logits = logits.float()
        entropy = functional.binary_cross_entropy_with_logits(logits, self.target)
        found: Tensor = entropy + self.dice(logits, self.target)
        return found

    def step(self) -> Row:
        """One step of the optimizer."""
        began = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return {"step": time.perf_counter() - began}


def trainer_of(options: argparse.Namespace, folder: Path) -> Trainer:
    """The recipe's trainer, on its own data or on bodies made here."""
    changes = ["start=null", *options.changes]
    data = options.data
    if data is None:
        data = folder / "bodies"
        phantoms("torso", data, Wish(count=options.bodies, seed=1))
        changes.append(f"datasets=[{{card: {CARD}, folder: .}}]")
    recipe = load_recipe(options.recipe, changes)
    return build_trainer(plan_training(recipe, options.recipe.parent, data), folder / "run", CPU)


def several(step: Callable[[], Row], n: int, before: Callable[[], None] = lambda: None) -> list[Row]:
    """Steps in a row, less the first."""
    before()
    return [step() for _ in range(n + 1)][1:]


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--set", dest="changes", nargs="+", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--data", type=Path, help="What the recipe's datasets are relative to.")
    parser.add_argument("--bodies", type=int, default=4, help="Bodies made where there are no data.")
    parser.add_argument("--res-units", type=int, default=0, help="Residual units of each block of the plain U-Net.")
    parser.add_argument("--steps", type=int, default=10, help="Counted steps of each kind in a round.")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(trainer_of(options, Path(folder)))
        trainer = steps.trainer
        first = steps.ready[0][0]
        plain = Plain(trainer, first, options.res_units)
        tasks: dict[str, Callable[[], list[Row]]] = {
            "as trained": partial(several, steps.as_trained, options.steps, steps.rest),
            "computing alone": partial(several, steps.alone, options.steps, steps.rest),
            "plain U-Net": partial(several, plain.step, options.steps),
            "cutting alone": partial(several, steps.cutting_alone, options.steps),
        }
        rounds = interleave(tasks, options.rounds)
        gflop = {
            "computing alone": flops_of(lambda: trainer.loss_of(first)) / 1e9,
            "plain U-Net": flops_of(plain.loss) / 1e9,
        }
        trainer._cutter.shutdown()
    rows = {name: [row for few in found for row in few] for name, found in rounds.items()}
    size = {"patch": trainer.config.patch, "batch": trainer.config.batch, "precision": trainer.config.precision}
    write(options.out / "training_step.json", about, {**size, "forward_gflop": gflop, "steps": rows})
    tell(rows, gflop)


def tell(rows: dict[str, list[Row]], gflop: dict[str, float]) -> None:
    """Print the medians, and how often the loop waited for patches."""
    middle = {name: medians(several) for name, several in rows.items()}
    starved = [row["waiting"] for row in rows["as trained"] if row["starved"]]
    columns = [name for name in middle["as trained"] if name not in {"starved", "cutting"}]
    found = [
        [name, *(of.get(column, "–") for column in columns), gflop.get(name, "–")]
        for name, of in middle.items()
        if "step" in of
    ]
    print(table(["s", *columns, "forward GFLOP"], found))
    share = 100 * len(starved) / len(rows["as trained"])
    beside, alone = (middle[name]["cutting"] for name in ("as trained", "cutting alone"))
    print(f"cutting: {beside:.3g} s a step beside computing, {alone:.3g} s alone")
    print(f"starved: {share:.0f} % of {len(rows['as trained'])} steps" + (
        f", waiting {median(starved):.3g} s each" if starved else ""))  # fmt: skip
    for name in ("as trained", "computing alone"):
        print(f"{name} / plain U-Net: {middle[name]['step'] / middle['plain U-Net']['step']:.2f}")


if __name__ == "__main__":
    main()
