"""A training recipe: which datasets, which words, which network, and how to train, as YAML.

A recipe says what differs from a preset (``paper`` or ``laptop``); single fields can be overridden from the
command line. Everything that decided the weights is written into their card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from voxicon.errors import ConfigError
from voxicon.infer.depth import MOST_DEPTH_MM
from voxicon.infer.smoothing import MOST_SMOOTHING_MM
from voxicon.train import augment
from voxicon.train.config import OptimizeConfig

PRESETS = ("paper", "laptop", "extend")


Strategy = Literal["full", "head", "adapters"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetSection(_Section):
    """One dataset of the assembly."""

    card: str
    """Id of a shipped card, or a YAML file of one's own: relative to the recipe's file, or to the dataset's folder."""
    folder: Path = Path()
    """Where it was unpacked; relative to the recipe's file, or to ``--data``."""
    weight: float = Field(1.0, gt=0)
    """How often it is drawn, compared with the others, where sampling.datasets is ``uniform``."""


class NetworkSection(_Section):
    """Which backbone, with which arguments, and which head."""

    backbone: str
    options: Mapping[str, Any] = {}
    controller: Literal["shared", "per_class"] = "shared"
    """``shared``: one controller reads image and words (ICCV 2023); ``per_class``: one for each class (MedIA 2024)."""
    leak: float = Field(0.0, ge=0, lt=1)
    """Slope of the class networks' activation below zero. The original's ReLU (0) leaves most of their eight units of a
    rare class dead for good: nothing that the image says of it gets through, nor does a gradient."""


class TextSection(_Section):
    """How words become vectors; see `voxicon.model.text.make_bank`."""

    encoder: str = "minilm"
    template: str = "V1"
    center: bool = True
    side_angle_deg: float = Field(0.0, ge=0, lt=180)
    """Least angle between a left and a right word; 0 for none."""
    file: Path | None = None
    """A table of words, or a folder with CLIP's files; relative to the recipe's file."""


class InferenceSection(_Section):
    """What is written into the checkpoint for inference."""

    window: tuple[int, int, int]
    overlap: float = Field(0.5, ge=0, lt=1)
    threshold: float = Field(0.5, gt=0, lt=1)
    thresholds: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    """By class, where it is not `threshold`."""
    smoothing_mm: dict[str, Annotated[float, Field(ge=0, le=MOST_SMOOTHING_MM)]] = Field(default_factory=dict)
    """By class: standard deviation of a Gaussian over its logits."""
    depth_mm: dict[str, Annotated[float, Field(ge=0, le=MOST_DEPTH_MM)]] = Field(default_factory=dict)
    """By class that is looked for inside of organs: how deep in its organ a finding must reach to count."""
    peaks: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    """By class that is looked for inside of organs: the probability that a finding must reach somewhere to count."""
    padding: Literal["air", "edge"] = "air"


class Recipe(_Section):
    """A whole training run, as written in YAML.

    Attributes:
        name: Of the weights.
        datasets: What to learn from.
        manifest: CSV with split and fold of every scan, made by ``voxicon assembly check``; relative to the recipe's
            file. Without it the cards' official splits hold, and all other scans are for training.
        fold: Validate on this fold of the manifest and train on all others that are not for testing; by split when
            left out.
        classes: Canonical names to learn; all that the cards annotate when left out.
        missing: What an unannotated class means: ``unknown`` (the right answer), or ``background``, the usual
            mistake, which is here to be compared with.
        start: Weights whose numbers the run starts from, of the same network and text encoder; relative to the recipe's
            file. Words, spacing and windows may differ.
        strategy: What of a start learns: ``full``, everything; ``head``, all but the backbone; ``adapters``, a head and
            a few layers beside the backbone.
        take: Learn from this many of the training scans, drawn by the seed: fewer are always among more. All of them
            when left out.
        network: The network's shape.
        text: How words become vectors.
        preparation: Spacing, HU window and crop, as at inference.
        inference: Window, overlap and threshold written into the checkpoint.
        optimize: Steps, learning rate, augmentation, sampling, seed.
        repaint_hu: Raw structure name, or the start of one → range of mean HU it may be repainted to.
        card: Free text for the training card: title, license, what the weights cannot do.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    datasets: tuple[DatasetSection, ...] = Field(min_length=1)
    manifest: Path | None = None
    fold: int | None = Field(None, ge=0)
    classes: tuple[str, ...] | None = None
    missing: Literal["unknown", "background"] = "unknown"
    start: Path | None = None
    strategy: Strategy = "full"
    take: int | None = Field(None, gt=0)
    network: NetworkSection
    text: TextSection = TextSection()
    preparation: Mapping[str, Any]
    inference: InferenceSection
    optimize: OptimizeConfig
    repaint_hu: Mapping[str, tuple[float, float]] = {}
    card: Mapping[str, Any] = {}

    @property
    def looks_inside(self) -> bool:
        """Whether the network looks for lesions inside of an organ that it is told; see `voxicon.model.host`."""
        return self.network.options.get("host") is not None

    @model_validator(mode="after")
    def _is_sound(self) -> Recipe:
        if self.fold is not None and self.manifest is None:
            raise ValueError("fold needs a manifest, which says what fold every scan is in")
        if self.strategy != "full" and self.start is None:
            raise ValueError(f"strategy {self.strategy} needs a start: what has not learned yet must not be frozen")
        return self


def load_recipe(path: Path, changes: Iterable[str] = (), preset: str | None = None) -> Recipe:
    """Read a recipe on top of its preset.

    Args:
        path: YAML with the fields of `Recipe` and, if wanted, ``preset``; what it leaves out comes from there. With
            ``like`` it says only what differs from another recipe in the same folder.
        changes: Such as ``optimize.steps=500``; values are YAML. They win over the file.
        preset: Wins over the file's.

    Raises:
        ConfigError: Missing, not YAML, or a field is missing, unknown or wrong; names file and field.
    """
    return make_recipe(_read(path), str(path), changes, preset)


def _read(path: Path, asked: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a file, on top of those of the recipe it is like."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a recipe") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of fields, found {type(values).__name__}")
    if "like" not in values:
        return values
    like = path.parent / str(values.pop("like"))
    if like in asked or like == path:
        raise ConfigError(f"{path}: is like {like.name}, which is like this one; let one of them stand alone")
    return _merge(_spelled_out(_read(like, (*asked, path))), _spelled_out(values))


def make_recipe(values: Mapping[str, Any], name: str, changes: Iterable[str] = (), preset: str | None = None) -> Recipe:
    """A recipe from plain values; `name` stands for the file in messages.

    Raises:
        ConfigError: See `load_recipe`.
    """
    own = dict(values)
    stated = own.pop("preset", "paper")
    merged = _spelled_out(_preset(preset or stated, name))
    for layer in (own, *map(_nested, changes)):
        merged = _merge(merged, _spelled_out(layer))
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise ConfigError(f"{name}: {field}: {first['msg'].removeprefix('Value error, ')}") from error


def _preset(name: str, place: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise ConfigError(f"{place}: no preset {name!r}; known: {', '.join(PRESETS)}")
    text = resources.files("voxicon").joinpath("presets", f"{name}.yaml").read_text(encoding="utf8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def _spelled_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with the ranges of a named augmentation in place of its name, so that a layer above can change one."""
    optimize = values.get("optimize")
    named = optimize.get("augment") if isinstance(optimize, Mapping) else None
    if not isinstance(optimize, Mapping) or not isinstance(named, str) or named not in augment.PRESETS:
        return dict(values)
    return {**values, "optimize": {**optimize, "augment": augment.PRESETS[named].model_dump()}}


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged at every depth, except that another backbone does not inherit options."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if "backbone" in value and value["backbone"] != old.get("backbone"):
                old = {k: v for k, v in old.items() if k != "options"}
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _nested(change: str) -> dict[str, Any]:
    path, sign, text = change.partition("=")
    if not sign or not all(path.split(".")):
        raise ConfigError(f"--set {change!r}: expected FIELD=VALUE, such as optimize.steps=500")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change!r}: the value is not valid YAML") from error
    for part in reversed(path.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested
