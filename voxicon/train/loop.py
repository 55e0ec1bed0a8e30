"""The training loop, top to bottom: build, resume, step, log, validate, save.

A run lives in a folder: ``metrics.jsonl`` (the record of truth), ``tensorboard/``, ``resume.pt``
(everything needed to go on), ``weights.safetensors`` (the averaged weights, ready to use) and, where the
run validates, ``best.safetensors``. Step *n* always sees the same patches and learning rate, so a run that
was killed and resumed is the run that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxicon.errors import CheckpointError, ConfigError
from voxicon.io.atomic import TEMPORARY_PREFIX, open_atomic
from voxicon.model.checkpoint import Metadata, save_checkpoint
from voxicon.model.host import against_host
from voxicon.model.network import UniversalNetwork, build_network
from voxicon.prep.pipeline import PreparationConfig
from voxicon.train.config import OptimizeConfig, learning_rate
from voxicon.train.log import RunLog
from voxicon.train.loss import partial_label_loss
from voxicon.train.patches import PatchBatch, PatchSampler
from voxicon.train.processes import Processes

Report = Callable[[Mapping[str, Any]], None]

Validate = Callable[[UniversalNetwork], Mapping[str, float | None]]
"""Mean Dice per class of a network on held-out scans; None where no scan can tell."""

_FREE = {"batch", "accumulate", "recompute", "log_every", "save_every", "validate_every", "patience"}
"""Settings that may change when a run goes on. How patches are dealt to batches and processes is free too, as long as
a step reads as many."""


class Trainer:
    """A run: network, averaged network, optimizer, and the folder they live in.

    Args:
        network: Trained in place.
        sampler: Cuts the patches to learn from.
        config: How.
        metadata: Written beside the weights; its card grows with what happened. An earlier run is only resumed if its
            network, preparation, words and ``card["data_sha256"]`` were the same.
        folder: The run's folder; an earlier run in it is resumed.
        device: Where to compute.
        processes: Who else works on this run.
        validate: Called every `validate_every` steps with the averaged network, in every process, and must give the
            same in all of them; the run never validates without it.

    Attributes:
        teacher: An earlier network on the same device, in evaluation mode, whose answers for classes that a patch does
            not know are learned too, as far as ``config.distill`` says; none at first.

    Raises:
        CheckpointError: The folder holds a run with other settings, or a damaged one.
    """

    def __init__(
        self,
        network: UniversalNetwork,
        sampler: PatchSampler,
        config: OptimizeConfig,
        metadata: Metadata,
        folder: Path,
        device: torch.device,
        processes: Processes = Processes(),  # noqa: B008  frozen
        validate: Validate | None = None,
    ) -> None:
        self.teacher: UniversalNetwork | None = None
        self.config, self.metadata, self.folder, self.device = config, metadata, folder, device
        self.processes, self.validate, self.sampler = processes, validate, sampler
        self.preparation = PreparationConfig.from_dict(metadata.preparation)
        self.network = network.to(device).train()
        self.network.recompute = config.recompute
        self.averaged = build_network(metadata.network, network.text_vectors).to(device).eval()
        self.averaged.load_state_dict(network.state_dict())
        self.learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.learning, lr=config.learning_rate, weight_decay=config.weight_decay)
        organ, lesion = (size or math.inf for size in (config.false_voxels.organ, config.false_voxels.lesion))
        lesion_N = torch.from_numpy(sampler.lesion_N)
        # In voxels of a patch: of those the loss looks at there are fewer.
        self.false_voxels_N = torch.where(lesion_N, lesion, organ).to(device) / config.loss_every**3
        self.balanced_N = lesion_N.to(device) if config.balanced_lesions else None
        self.each_N = (config.each_lesion * lesion_N).to(device)
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, float] = {}
        """Step and mean Dice of the best validation so far, and validations since."""
        self._untold = (0.0, 0)
        """Sum and number of losses since the last row of the log: this process's part."""
        self._cutter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="patches")
        self._ahead: tuple[int, Future[list[PatchBatch]]] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if self._state_path.is_file():
            self._resume()
        if len(set(processes.gather(self.step))) > 1:
            raise CheckpointError(
                f"{self._state_path}: not all processes see this file; give a run folder that all machines share"
            )
        self.shared = processes.share(self.network, device)

    @property
    def _state_path(self) -> Path:
        return self.folder / "resume.pt"

    @property
    def has_given_up(self) -> bool:
        """True when validation has not got better for as long as the run is patient."""
        return 0 < self.config.patience <= self.best.get("since", 0)

    def run(self, report: Report = lambda _: None) -> Path:
        """Train to the last step; returns the path of the weights.

        A run that is already there is not trained again, but its weights are written anew, so that
        their card says what the recipe says now.

        Raises:
            ConfigError: The loss is no number any more (``E-DIVERGED``). What was saved before stays.
            OutputError: The folder cannot be written.
        """
        began = time.monotonic() - self.seconds
        if self.processes.is_first:
            _sweep(self.folder)
        with self._cutter, RunLog(self.folder, self.step) if self.processes.is_first else nullcontext() as log:
            while self.step < self.config.steps and not self.has_given_up:
                self._one_step()
                self.step += 1
                self.seconds = time.monotonic() - began
                if self._is_due(self.config.log_every):
                    self._tell(log, report)
                if self._is_due(self.config.validate_every):
                    self._validate(log, report)
                if self._is_due(self.config.save_every) and self.step < self.config.steps:
                    self.save()
        self.save()
        return self.folder / "weights.safetensors"

    def _is_due(self, every: int) -> bool:
        return every > 0 and (self.step % every == 0 or self.step == self.config.steps)

    def _tell(self, log: RunLog | None, report: Report) -> None:
        total, count = self._untold
        (loss,) = self.processes.totals([total / count], self.device)
        self._untold = (0.0, 0)
        row = {
            "step": self.step,
            "loss": round(loss, 5),
            "learning_rate": learning_rate(self.config, self.step - 1),
            "seconds": round(self.seconds, 1),
        }
        self._write_row(row, log, report)

    def _write_row(self, row: dict[str, Any], log: RunLog | None, report: Report) -> None:
        if log is not None:
            log.write(row)
            report({**row, "steps": self.config.steps})

    def _one_step(self) -> None:
        """One step of the optimizer."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        batches = self._take_batches()
        (pairs,) = self.processes.totals([sum(int(batch.known_BN.sum()) for batch in batches)], self.device)
        self.optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for index, batch in enumerate(batches):
            is_last = index == len(batches) - 1
            wait = nullcontext() if is_last or self.processes.count == 1 else self.shared.no_sync()  # type: ignore[operator]
            with wait:
                part = self.loss_of(batch, max(1.0, pairs))
                # Processes average their gradients; the step wants their sum.
                (part * self.processes.count).backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        norm = nn.utils.clip_grad_norm_(self.learning, self.config.clip)
        if not bool(norm.isfinite()):
            raise ConfigError(
                f"{self.folder}: step {self.step + 1} has a loss of {loss:g} and gradients that are no numbers; the "
                "last saved state is as it was; start over with a lower optimize.learning_rate, or with precision fp32",
                code="E-DIVERGED",
            )
        self.optimizer.step()
        self._average()
        self._untold = (self._untold[0] + loss, self._untold[1] + 1)

    def _take_batches(self) -> list[PatchBatch]:
        """The patches of this step; a second thread then cuts the next ones while this step computes."""
        ahead, self._ahead = self._ahead, None
        batches = ahead[1].result() if ahead is not None and ahead[0] == self.step else self._cut(self.step)
        following = self.step + 1
        if following < self.config.steps:
            self._ahead = (following, self._cutter.submit(self._cut, following))
        return batches

    def _cut(self, step: int) -> list[PatchBatch]:
        """This process's share of a step's patches, batch by batch."""
        size = self.config.batch
        firsts = [(k * self.processes.count + self.processes.rank) * size for k in range(self.config.accumulate)]
        return [self.sampler.batch(step, range(first, first + size)) for first in firsts]

    def loss_of(self, batch: PatchBatch, pairs: float | None = None) -> Tensor:
        """The loss of a batch under the run's precision; `pairs` as in `partial_label_loss`."""
        image, at = self._image(batch), self._looked_at()
        # Classes that no patch knows would cost as much as the others and change nothing.
        taught_BN = self._taught(batch.known_BN)
        rows = (batch.known_BN | taught_BN).any(0).nonzero()[:, 0]
        classes = tuple(self.network.classes[int(row)] for row in rows)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits = self.shared(image, classes, at)
        target, known = batch.target_BNXYZ[(slice(None), rows, *at)], batch.known_BN[:, rows]
        target, known = target.to(self.device), known.to(self.device)
        of_rows = rows.to(self.device)
        balanced_N = None if self.balanced_N is None else self.balanced_N[of_rows]
        loss = partial_label_loss(
            logits, target, known, pairs, self.false_voxels_N[of_rows], balanced_N,
            self.each_N[of_rows], self.config.cross_entropy,
        )  # fmt: skip
        return loss + self._distilled(image, logits, classes, taught_BN[:, rows].to(self.device), at)

    def _looked_at(self) -> tuple[slice, slice, slice]:
        """Voxels of a patch that this step's loss looks at."""
        every = self.config.loss_every
        # Of negative seeds, which patches take too, NumPy makes nothing.
        chance = np.random.default_rng((self.config.seed & (2**64 - 1), self.step))
        x, y, z = chance.integers(0, every, 3).tolist()
        return slice(x, None, every), slice(y, None, every), slice(z, None, every)

    def _image(self, batch: PatchBatch) -> Tensor:
        """What the network reads of a batch: gray values from 0 to 1, or the scan against the organ looked into."""
        hu_B1XYZ = batch.hu_B1XYZ.to(self.device)
        low, high = self.preparation.window_hu
        if batch.host_B1XYZ is None:
            return ((hu_B1XYZ - low) / (high - low)).clamp(0, 1)
        host_B1XYZ = batch.host_B1XYZ.to(self.device)
        # As a prepared scan has them.
        pairs = zip(hu_B1XYZ.clamp(low, high), host_B1XYZ, strict=True)
        return torch.stack([against_host(hu[0], host[0]) for hu, host in pairs])

    def _taught(self, known_BN: Tensor) -> Tensor:
        """(B, N) bool: where the teacher stands in for labels."""
        if self.teacher is None or self.config.distill <= 0:
            return torch.zeros_like(known_BN)
        taught_N = torch.tensor([name in self.teacher.classes for name in self.network.classes])
        return taught_N & ~known_BN

    def _distilled(
        self, image: Tensor, logits: Tensor, classes: tuple[str, ...], taught_BN: Tensor, at: tuple[slice, slice, slice]
    ) -> Tensor | float:
        """This batch's part of the step's mean cross-entropy with what the teacher answers, times its weight.

        Source: Li and Hoiem, Learning without Forgetting, ECCV 2016, with a sigmoid per class.
        """
        if self.teacher is None or not taught_BN.any():
            return 0.0
        names = tuple(name for name, taught in zip(classes, taught_BN.any(0).tolist(), strict=True) if taught)
        rows = [classes.index(name) for name in names]
        with torch.no_grad():
            soft = self.teacher(image, names, at).float().sigmoid()
        chosen_BN = taught_BN[:, rows]
        weight = self.config.distill / (self.config.accumulate * self.processes.count)
        return weight * functional.binary_cross_entropy_with_logits(logits[:, rows][chosen_BN].float(), soft[chosen_BN])

    @torch.no_grad()
    def _average(self) -> None:
        # A short memory at first, so that the random start is soon forgotten.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)

    def _validate(self, log: RunLog | None, report: Report) -> None:
        """Score the averaged weights on held-out scans; keep them if they are the best so far."""
        if self.validate is None:
            return
        began = time.monotonic()
        dice = self.validate(self.averaged)
        scored = [value for value in dice.values() if value is not None]
        mean = sum(scored) / len(scored) if scored else None
        row = {
            "step": self.step,
            "mean_dice": None if mean is None else round(mean, 5),
            "dice": {name: None if value is None else round(value, 5) for name, value in dice.items()},
            "validation_seconds": round(time.monotonic() - began, 1),
        }
        self._write_row(row, log, report)
        if mean is None:
            return
        if mean > self.best.get("dice", -1.0):
            self.best = {"step": self.step, "dice": mean, "since": 0}
            if self.processes.is_first:
                self._write_weights("best.safetensors")
        else:
            self.best["since"] += 1

    def save(self) -> None:
        """Write the state to resume from and the averaged weights, each atomically, in the first process.

        Raises:
            OutputError: The folder cannot be written.
        """
        # From here on the first process holds the sum, here as after a resumption.
        total, count = self._untold
        (total,) = self.processes.totals([total], self.device)
        self._untold = (total if self.processes.is_first else 0.0, count)
        if self.processes.is_first:
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best,
                "untold": [total, count],
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "settings": json.dumps(self._settings()),
            }
            with open_atomic(self._state_path) as file:
                torch.save(state, file)
            self._write_weights("weights.safetensors")
        self.processes.wait()

    def _write_weights(self, name: str) -> None:
        done: dict[str, Any] = {"steps": self.step, "wall_seconds": round(self.seconds), "seed": self.config.seed}
        if self.best:
            done["best_validation"] = {"step": self.best["step"], "mean_dice": round(self.best["dice"], 4)}
        if self.processes.count > 1:
            done["processes"] = self.processes.count
        metadata = Metadata(**{**self.metadata.__dict__, "card": {**self.metadata.card, **done}})
        save_checkpoint(self.folder / name, self.averaged, metadata, dtype=torch.float16)

    def _settings(self) -> dict[str, Any]:
        """What two runs must have in common for one to go on where the other stopped."""
        found: dict[str, Any] = {
            f"optimize.{name}": value for name, value in self.config.model_dump(mode="json", exclude=_FREE).items()
        }
        found["patches per step"] = self.config.patches_per_step * self.processes.count
        found |= {f"network.{name}": value for name, value in self.metadata.network.to_dict().items()}
        found["preparation"] = self.preparation.to_dict()
        found["words"] = dict(self.metadata.text_bank)
        found["training scans or cards"] = self.metadata.card.get("data_sha256")
        return found

    def _resume(self) -> None:
        try:
            state = torch.load(self._state_path, map_location=self.device, weights_only=True)
            settings = json.loads(state["settings"])
        except (RuntimeError, UnpicklingError, EOFError, OSError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{self._state_path}: cannot be resumed, the file is damaged or of another version; remove it to "
                "start over, or train into a new folder"
            ) from error
        # A setting that came later than the run: it ran as if it had had the default.
        defaults = OptimizeConfig(steps=1).model_dump(mode="json", exclude=_FREE)
        settings = {**{f"optimize.{name}": value for name, value in defaults.items()}, **settings}
        own = json.loads(json.dumps(self._settings()))
        other = sorted(name for name in own.keys() | settings.keys() if own.get(name) != settings.get(name))
        if other:
            raise CheckpointError(
                f"{self._state_path}: this run was started with other settings ({', '.join(other)}); "
                "restore them, or train into a new folder"
            )
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.best = int(state["step"]), float(state["seconds"]), dict(state["best"])
        total, count = state["untold"]
        self._untold = (float(total) if self.processes.is_first else 0.0, int(count))


def _sweep(folder: Path) -> None:
    """Remove what a killed run had not finished writing."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)
    for path in folder.glob(".*.safetensors.*.tmp"):
        path.unlink(missing_ok=True)
