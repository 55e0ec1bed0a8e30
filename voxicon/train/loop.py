"""The training loop, top to bottom: build, resume, step, log, save.

A run lives in a folder: ``metrics.jsonl`` (the record of truth), ``tensorboard/``, ``resume.pt``
(everything needed to go on) and ``weights.safetensors`` (the averaged weights, ready to use).
Step *n* always sees the same patches and learning rate, so a run that was killed and resumed is the
run that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from voxicon.errors import CheckpointError
from voxicon.model.checkpoint import Metadata, save_checkpoint
from voxicon.model.network import UniversalNetwork, build_network
from voxicon.prep.pipeline import PreparationConfig
from voxicon.train.augment import AugmentConfig
from voxicon.train.loss import partial_label_loss
from voxicon.train.patches import PatchBatch, PatchSampler, TrainingCase

Report = Callable[[Mapping[str, Any]], None]


class OptimizeConfig(BaseModel):
    """How the weights are found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    batch: int = Field(1, gt=0)
    patch: tuple[int, int, int] = (96, 96, 96)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-5, ge=0)
    warmup: int = Field(100, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    """Weight of the past in the running average of the weights that is saved."""
    clip: float = Field(5.0, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"
    class_share: float = Field(0.7, ge=0, le=1)
    seed: int = 0
    log_every: int = Field(20, gt=0)
    save_every: int = Field(200, gt=0)
    augment: AugmentConfig = AugmentConfig()


def learning_rate(config: OptimizeConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to zero at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Trainer:
    """A run: network, averaged network, optimizer, and the folder they live in.

    Args:
        network: Trained in place.
        cases: What to learn from.
        config: How.
        metadata: Written beside the weights; its card grows with what happened.
        folder: The run's folder; an earlier run in it is resumed.
        device: Where to compute.
    """

    def __init__(
        self,
        network: UniversalNetwork,
        cases: list[TrainingCase],
        config: OptimizeConfig,
        metadata: Metadata,
        folder: Path,
        device: torch.device,
    ) -> None:
        self.config, self.metadata, self.folder, self.device = config, metadata, folder, device
        self.preparation = PreparationConfig.from_dict(metadata.preparation)
        self.network = network.to(device).train()
        self.averaged = build_network(metadata.network, network.text_vectors).to(device)
        self.averaged.load_state_dict(network.state_dict())
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.sampler = PatchSampler(
            cases, config.patch, self.preparation.spacing_mm[0], config.augment, config.seed, config.class_share
        )
        self.step = 0
        self.seconds = 0.0
        self._cutter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="patches")
        self._ahead: tuple[int, Future[PatchBatch]] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if self._state_path.is_file():
            self._resume()

    @property
    def _state_path(self) -> Path:
        return self.folder / "resume.pt"

    def run(self, report: Report = lambda _: None) -> Path:
        """Train to the last step; returns the path of the weights.

        A run that is already there is not trained again, but its weights are written anew, so that
        their card says what the recipe says now.
        """
        losses: list[float] = []
        began = time.monotonic() - self.seconds
        with _Log(self.folder, self.step) as log:
            while self.step < self.config.steps:
                losses.append(self._one_step())
                self.step += 1
                self.seconds = time.monotonic() - began
                if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                    row = {
                        "step": self.step,
                        "loss": round(sum(losses) / len(losses), 5),
                        "learning_rate": learning_rate(self.config, self.step - 1),
                        "seconds": round(self.seconds, 1),
                    }
                    log.write(row)
                    report({**row, "steps": self.config.steps})
                    losses = []
                if self.step % self.config.save_every == 0:
                    self.save()
        self._cutter.shutdown()
        self.save()
        return self.folder / "weights.safetensors"

    def _one_step(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        loss = self.loss_of(self._take_batch())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        self._average()
        return float(loss.detach())

    def _take_batch(self) -> PatchBatch:
        """The patches of this step; a second thread then cuts the next ones while this step computes."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == self.step:
            batch = ahead[1].result()
        else:
            batch = self.sampler.batch(self.step, self.config.batch)
        following = self.step + 1
        if following < self.config.steps:
            self._ahead = (following, self._cutter.submit(self.sampler.batch, following, self.config.batch))
        return batch

    def loss_of(self, batch: PatchBatch) -> Tensor:
        """The loss of a batch under the run's precision."""
        low, high = self.preparation.window_hu
        image = ((batch.hu_B1XYZ.to(self.device) - low) / (high - low)).clamp(0, 1)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits = self.network(image)
        return partial_label_loss(logits, batch.target_BNXYZ.to(self.device), batch.known_BN.to(self.device))

    @torch.no_grad()
    def _average(self) -> None:
        # A short memory at first, so that the random start is soon forgotten.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)

    def save(self) -> None:
        """Write the state to resume from and the averaged weights, each atomically."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "config": self.config.model_dump_json(),
        }
        scratch = self._state_path.with_suffix(".tmp")
        torch.save(state, scratch)
        scratch.replace(self._state_path)
        card = {**self.metadata.card, "steps": self.step, "wall_seconds": round(self.seconds), "seed": self.config.seed}
        metadata = Metadata(**{**self.metadata.__dict__, "card": card})
        save_checkpoint(self.folder / "weights.safetensors", self.averaged, metadata, dtype=torch.float16)

    def _resume(self) -> None:
        try:
            state = torch.load(self._state_path, map_location=self.device, weights_only=True)
        except (RuntimeError, UnpicklingError, EOFError, OSError) as error:
            raise CheckpointError(
                f"{self._state_path}: cannot be resumed, the file is damaged; remove it to start over, "
                "or train into a new folder"
            ) from error
        if state["config"] != self.config.model_dump_json():
            raise CheckpointError(
                f"{self._state_path}: this run was started with other settings; "
                "restore them, or train into a new folder"
            )
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


class _Log:
    """``metrics.jsonl``, and TensorBoard where it is installed."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "metrics.jsonl"
        kept = []
        if self.path.is_file():
            # Rows after the last save belong to steps that will be done again.
            rows = self.path.read_text(encoding="utf8").splitlines()
            kept = [row for row in rows if json.loads(row)["step"] <= step]
        self.path.write_text("".join(f"{row}\n" for row in kept), encoding="utf8")
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()

    def write(self, row: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is not None:
            self.board.add_scalar("loss", row["loss"], row["step"])
            self.board.add_scalar("learning_rate", row["learning_rate"], row["step"])
