"""How the weights of a run are found."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from voxicon.train.augment import PRESETS, AugmentConfig
from voxicon.train.hosts import HostConfig
from voxicon.train.patches import SamplingConfig
from voxicon.train.planting import PlantingConfig


class FalseVoxels(BaseModel):
    """Sizes at which what is found of a class known to be absent costs half of what a missed one costs.

    In voxels of a patch; none leaves it at cross-entropy, which hardly notices small false findings. Small for lesions:
    it is specks that are mistaken for them. Too small for organs, and those that few scans show are never found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    organ: float | None = Field(None, gt=0)
    """Of all classes that are no lesions."""
    lesion: float | None = Field(None, gt=0)


class OptimizeConfig(BaseModel):
    """How the weights are found. One step reads ``batch × accumulate × processes`` patches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    batch: int = Field(1, gt=0)
    """Patches computed together by one process."""
    accumulate: int = Field(1, gt=0)
    """Batches whose gradients make up one step; for large steps on small devices."""
    patch: tuple[int, int, int] = (96, 96, 96)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-5, ge=0)
    warmup: int = Field(100, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    """Weight of the past in the running average of the weights that is saved."""
    clip: float = Field(5.0, gt=0)
    false_voxels: FalseVoxels = FalseVoxels()
    balanced_lesions: bool = False
    """Cross-entropy of lesions: what is missed and what is mistaken for one count alike, however small a share of a
    patch they are. Needs ``false_voxels.lesion``, below which a few mistaken voxels are forgiven."""
    cross_entropy: float = Field(1.0, gt=0)
    """Weight of the cross-entropy over a patch beside Dice. As a mean over all voxels it hardly counts for lesions,
    which are a hundredth of them at most."""
    each_lesion: float = Field(0.0, ge=0)
    """Weight of the cross-entropy inside lesions, a mean over lesions and not over voxels: Dice hardly notices a
    small one beside a large one."""
    loss_every: int = Field(1, ge=1, le=4)
    """The loss looks at every n-th voxel along each axis, from a first one that changes from step to step. Neighbors
    tell nearly the same, and class networks and loss are nearly half of a step on a CPU: at 2 they cost an eighth.
    `each_lesion` counts the pieces of lesions that are left then."""
    distill: float = Field(0.0, ge=0)
    """Weight of what an earlier network says of the classes that a scan does not annotate; see ``voxicon extend``."""
    precision: Literal["bf16", "fp32"] = "bf16"
    recompute: bool = False
    """Compute the backbone's inner maps again in the backward pass instead of keeping them: slower, far less memory."""
    seed: int = 0
    log_every: int = Field(20, gt=0)
    save_every: int = Field(200, gt=0)
    validate_every: int = Field(0, ge=0)
    """Steps between validations on whole scans; 0 never validates."""
    patience: int = Field(0, ge=0)
    """Validations without a better mean Dice after which the run stops; 0 never stops early."""
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = PRESETS["paper"]
    """``paper``, ``strong``, or ranges that differ from ``strong``; in a recipe, from what its preset has."""

    lesions: PlantingConfig = PlantingConfig()
    """Lesions planted into patches; none by default."""

    host: HostConfig = HostConfig()
    """For networks that look into an organ: how far what they are told of it may be from its label."""

    @property
    def patches_per_step(self) -> int:
        """Patches that one process reads for one step."""
        return self.batch * self.accumulate

    @model_validator(mode="after")
    def _is_sound(self) -> OptimizeConfig:
        if self.patience and not self.validate_every:
            raise ValueError("patience counts validations, but validate_every is 0; set it, or patience to 0")
        if self.balanced_lesions and self.false_voxels.lesion is None:
            raise ValueError("balanced_lesions needs false_voxels.lesion, the voxels that are forgiven; set both")
        if self.loss_every > min(self.patch):
            raise ValueError(
                f"loss_every is {self.loss_every}, of a patch of {list(self.patch)} voxels it may see none"
            )
        return self

    @field_validator("patch")
    @classmethod
    def _has_voxels(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(value) < 1:
            raise ValueError("a patch has at least one voxel along each axis")
        return value

    @field_validator("augment", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS:
            raise ValueError(f"no such preset; known: {', '.join(PRESETS)}, or a mapping of ranges")
        return PRESETS[value]


def learning_rate(config: OptimizeConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to zero at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
