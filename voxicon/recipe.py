"""A training recipe: YAML in, a trainer ready to run out.

The recipe names dataset cards, the network, the words, and how to train; the data folder comes from
the command line, because it differs from machine to machine. Everything that decided the weights is
written into their card.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxicon.core.concepts import Vocabulary
from voxicon.data.card import DatasetCard, load_card
from voxicon.data.harmonise import harmonise
from voxicon.errors import CardError, ConfigError
from voxicon.io.nifti import read_labels, read_volume
from voxicon.model.checkpoint import Metadata, file_sha256
from voxicon.model.network import NetworkConfig, build_network
from voxicon.model.text import TextBank, make_bank
from voxicon.prep.pipeline import PreparationConfig
from voxicon.train.loop import OptimizeConfig, Trainer
from voxicon.train.patches import TrainingCase, build_case


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkSection(_Section):
    """Which backbone, with which arguments."""

    backbone: str
    options: Mapping[str, Any] = {}


class TextSection(_Section):
    """How words become vectors; see `voxicon.model.text.make_bank`."""

    encoder: str = "minilm"
    template: str = "V1"
    center: bool = True


class InferenceSection(_Section):
    """What is written into the checkpoint for inference."""

    window: tuple[int, int, int]
    overlap: float = Field(0.5, ge=0, lt=1)
    threshold: float = Field(0.5, gt=0, lt=1)
    padding: Literal["air", "edge"] = "air"


class Recipe(_Section):
    """A whole training run, as written in YAML.

    Attributes:
        name: Of the weights.
        cards: Ids of shipped dataset cards, or paths of others.
        classes: Canonical names to learn; all that the cards annotate when left out.
        network: The network's shape.
        text: How words become vectors.
        preparation: Spacing, HU window and crop, as at inference.
        inference: Window, overlap and threshold written into the checkpoint.
        optimize: Steps, learning rate, augmentation, seed.
        repaint_hu: Raw structure name, or the start of one → range of mean HU it may be repainted to.
        card: Free text for the training card: title, license, what the weights cannot do.
    """

    name: str
    cards: tuple[str, ...] = Field(min_length=1)
    classes: tuple[str, ...] | None = None
    network: NetworkSection
    text: TextSection = TextSection()
    preparation: Mapping[str, Any]
    inference: InferenceSection
    optimize: OptimizeConfig
    repaint_hu: Mapping[str, tuple[float, float]] = {}
    card: Mapping[str, Any] = {}


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: Missing, not YAML, or a field is missing, unknown or wrong; names file and field.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf8"))
        return Recipe.model_validate(values)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a recipe") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise ConfigError(f"{path}: {field}: {first['msg']}") from error


def build_trainer(recipe: Recipe, data: Path, folder: Path, device: torch.device) -> Trainer:
    """Read the data, make the words' vectors, and build (or resume) a run in `folder`.

    Raises:
        CardError: A dataset's files are not where its card says.
        ConfigError: Cards and classes do not fit each other.
        InputError: A scan cannot be read.
    """
    vocabulary = Vocabulary.default()
    cards = [load_card(card) for card in recipe.cards]
    annotated = {name for card in cards for name in card.annotates}
    wanted = recipe.classes if recipe.classes is not None else tuple(annotated)
    classes = tuple(name for name in vocabulary.names if name in {vocabulary[w].name for w in wanted})
    never = [name for name in classes if name not in annotated]
    if never:
        raise ConfigError(f"recipe {recipe.name}: no card annotates {', '.join(never)}; leave them out or add a card")
    preparation = PreparationConfig.from_dict(recipe.preparation)
    if len(set(preparation.spacing_mm)) != 1:
        raise ConfigError(
            f"recipe {recipe.name}: training needs one spacing for all axes, got {preparation.spacing_mm}"
        )
    cases = [_read_case(card, data, classes, preparation.spacing_mm[0], recipe.repaint_hu) for card in cards]
    bank = make_bank({name: vocabulary[name].display_name for name in classes}, **recipe.text.model_dump())
    shape = NetworkConfig(
        backbone=recipe.network.backbone,
        classes=classes,
        embedding_size=bank.vectors.shape[1],
        options=recipe.network.options,
    )
    torch.manual_seed(recipe.optimize.seed)
    network = build_network(shape, torch.from_numpy(bank.vectors))
    metadata = _metadata(recipe, shape, bank, preparation, _provenance(cards, data))
    return Trainer(network, cases, recipe.optimize, metadata, folder, device)


def _read_case(
    card: DatasetCard,
    data: Path,
    classes: tuple[str, ...],
    spacing_mm: float,
    repaint_hu: Mapping[str, tuple[float, float]],
) -> TrainingCase:
    for name in (card.image, card.label):
        if not (data / name).is_file():
            raise CardError(f"{card.id}: {data / name} is missing; its card expects it there, see {card.source!r}")
    volume = read_volume(data / card.image)
    raw, grid = read_labels(data / card.label)
    return build_case(volume, (raw, grid), card, harmonise(raw, grid, card, classes), spacing_mm, repaint_hu)


def _provenance(cards: list[DatasetCard], data: Path) -> list[dict[str, str]]:
    return [
        {
            "dataset": card.id,
            "title": card.title,
            "terms": card.terms,
            "labels_by": card.labels_by,
            "phase": card.phase,
            "image_sha256": file_sha256(data / card.image),
            "label_sha256": file_sha256(data / card.label),
        }
        for card in cards
    ]


def _metadata(
    recipe: Recipe,
    shape: NetworkConfig,
    bank: TextBank,
    preparation: PreparationConfig,
    provenance: list[dict[str, str]],
) -> Metadata:
    return Metadata(
        network=shape,
        preparation=preparation.to_dict(),
        inference=recipe.inference.model_dump(mode="json"),
        text_bank=bank.to_dict(),
        trained=shape.classes,
        card={**recipe.card, "recipe": recipe.model_dump(mode="json"), "data": provenance},
    )
