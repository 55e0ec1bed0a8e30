"""The front door: ``voxicon.load()`` gives a `Segmenter`, which turns a scan and words into masks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from voxicon.core.clock import Clock
from voxicon.core.components import Box
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet, word_count
from voxicon.core.storage import keep_in_memory_below, resident_bytes
from voxicon.core.volume import Volume
from voxicon.errors import CheckpointError, ConfigError, UnknownClass
from voxicon.infer.cleanup import Mode, clean
from voxicon.infer.device import pick_device, windows_at_once
from voxicon.infer.engine import EngineName, Precision, pick_engine
from voxicon.infer.features import Embedding, Features, FeatureType, embedding, features
from voxicon.infer.inside import SecondLook
from voxicon.infer.known import known_levels
from voxicon.infer.locate import boxes_of, is_locatable
from voxicon.infer.looks import Looks
from voxicon.infer.memory import Demand, MemoryPlan, model_grid_bytes, plan_memory
from voxicon.infer.precision import PrecisionUsed
from voxicon.infer.predictor import Predictor, Progress
from voxicon.infer.settings import classes_of, inference_config, vocabulary_of
from voxicon.infer.windows import Size
from voxicon.io.nifti import ReadOptions, peek, read_volume
from voxicon.model.checkpoint import Checkpoint, load_checkpoint
from voxicon.prep.pipeline import PreparationConfig, Prepared, model_grid, prepare
from voxicon.result import Result
from voxicon.weights.store import engines_folder, resolve


def load(
    weights: str | Path = "starter",
    *,
    device: str = "auto",
    engine: EngineName = "auto",
    overlap: float | None = None,
    max_memory_gb: float | None = None,
    precision: Precision = "fp32",
    locate: bool = False,
) -> Segmenter:
    """A segmenter ready to run.

    Args:
        weights: ``starter``, the name of installed weights, or the path of a ``.safetensors`` file.
        device: ``auto`` (CUDA, then Apple MPS, then CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        engine: ``auto`` (OpenVINO on a CPU where it is installed, else torch), ``torch``, ``openvino``.
        overlap: Share of a window that its neighbor covers too; what the weights say when left out. Less is faster
            where a scan takes many windows, and less exact.
        max_memory_gb: What a scan may take, the program included: arrays go to temporary files to stay below, and a
            scan that cannot is refused before it is read. Without a limit only large ones do.
        precision: ``fp32``, or ``bf16``, which each scan is computed in only where its own first windows get the masks
            of fp32 (`voxicon.infer.precision`); it takes OpenVINO or a GPU.
        locate: Find organs with the starter weights first and compute only windows near them. For weights that take
            many windows, where few organs are asked for (`voxicon.infer.locate`).

    Raises:
        CheckpointError: The weights are missing, damaged or of another kind.
        ConfigError: The device, the engine or the precision does not exist here, the overlap is not in [0, 1), or the
            memory is not above 0.
    """
    path = resolve(weights)
    chosen = pick_device(device)
    locator = load(device=device, engine=engine) if locate else None
    return Segmenter(
        load_checkpoint(path), chosen, name=path.stem, engine=engine, overlap=overlap, max_memory_gb=max_memory_gb,
        precision=precision, locator=locator,
    )  # fmt: skip


class Segmenter:
    """Turns scans into masks with one set of weights, loaded once.

    Args:
        checkpoint: Network and settings.
        device: Where to compute.
        name: What the weights are called in results.
        engine: What computes the network, see `voxicon.infer.engine`.
        overlap: As of `load`.
        max_memory_gb: As of `load`.
        precision: As of `load`.
        locator: Finds organs coarsely first, see `voxicon.infer.locate`.

    Attributes:
        vocabulary: The shipped words and those the weights bring along.
        classes: Canonical names this segmenter can find, in id order: with the first network, or with one that looks
            into organs that it found (`voxicon.infer.inside`).
        first_classes: Those of them that the first network finds; the second finds what both know.
        inside: Takes the second look; None where the weights hold one network alone.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        name: str = "weights",
        engine: EngineName = "torch",
        overlap: float | None = None,
        max_memory_gb: float | None = None,
        precision: Precision = "fp32",
        locator: Segmenter | None = None,
    ) -> None:
        if max_memory_gb is not None and not 0 < max_memory_gb < math.inf:
            raise ConfigError(f"max memory {max_memory_gb:g} GB: expected a number above 0, such as 4")
        self.max_memory_gb, self.precision, self.locator = max_memory_gb, precision, locator
        self.checkpoint, self.device, self.name = checkpoint, device, name
        metadata = checkpoint.metadata
        if checkpoint.network.inputs != 1:
            raise CheckpointError(
                f"{name}: looks into organs that other weights find; join them with 'voxicon weights join'"
            )
        self.preparation = PreparationConfig.from_dict(metadata.preparation)
        self.inference = inference_config(metadata.inference)
        if overlap is not None:
            if not 0 <= overlap < 1:
                raise ConfigError(f"overlap {overlap:g} is no share of a window; use 0 up to, but not, 1, such as 0.25")
            self.inference = replace(self.inference, overlap=overlap)
        self.vocabulary = vocabulary_of(metadata.card, name)
        self.classes = classes_of(metadata, self.vocabulary)
        if not self.classes:
            raise CheckpointError(f"{name}: these weights know none of the classes of the vocabulary")
        self.inside = None if checkpoint.inside is None else SecondLook(checkpoint, self.vocabulary, device, overlap)
        self.first_classes = tuple(c for c in self.classes if self.inside is None or c not in self.inside.classes)
        network = checkpoint.network.to(device).eval()
        if "batch" not in metadata.inference:
            together = windows_at_once(device, network.window_bytes(self.inference.window))
            self.inference = replace(self.inference, batch=together)
        self.engine = pick_engine(engine, network, self.inference.window, device, engines_folder(), precision)
        self.predictor = Predictor(network, self.inference, device, self.engine.encode, self.engine.bf16)
        self.looks = Looks(self.predictor, self.inside)

    def resolve_classes(self, words: Iterable[str] | None) -> tuple[str, ...]:
        """Canonical names of words, each once, in the order given; all classes when there are none.

        Raises:
            UnknownClass: A word means nothing, or a class these weights were not trained for.
        """
        if words is None:
            return self.classes
        names = tuple(dict.fromkeys(self.vocabulary.resolve(word).name for word in words))
        untrained = [name for name in names if name not in self.classes]
        if untrained:
            raise UnknownClass(
                f"weights {self.name!r} were not trained for {', '.join(untrained)}; "
                f"they find: {', '.join(self.classes)}"
            )
        return names

    def with_probabilities(
        self, classes: Iterable[str] | None, probabilities: Iterable[str] | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Canonical names of the classes that get a mask, and of those among them that get a probability map.

        A class of which only the probabilities are asked for gets a mask too, after the others: a map without
        its mask would leave open what the threshold and cleanup made of it.

        Raises:
            UnknownClass: As `resolve_classes`.
        """
        maps = self.resolve_classes(() if probabilities is None else probabilities)
        return tuple(dict.fromkeys([*self.resolve_classes(classes), *maps])), maps

    def plan(
        self,
        scan: str | Path | Volume,
        classes: Iterable[str] | None = None,
        *,
        read: ReadOptions | None = None,
        probabilities: Iterable[str] | None = None,
    ) -> MemoryPlan:
        """What `segment` would take of memory; of a file only the header is read.

        Args:
            scan: As of `segment`.
            classes: As of `segment`.
            read: As of `segment`.
            probabilities: As of `segment`.

        Raises:
            InputError: The scan cannot be used, or does not fit into `max_memory_gb` (``E-MEMORY``).
            UnknownClass: A class is not known.
        """
        asked, maps = self.with_probabilities(classes, probabilities)
        is_there = isinstance(scan, Volume)
        name = scan.source.name if isinstance(scan, Volume) else Path(scan).name
        grid, unpacked = (scan.geometry, 0) if isinstance(scan, Volume) else peek(scan, read or ReadOptions())
        model, voxels = model_grid(grid, self.preparation.spacing_mm).shape, math.prod(grid.shape)
        demand = Demand(
            process=resident_bytes(),
            window=self.looks.memory_bytes(model, asked, len(maps)),
            model_grid=model_grid_bytes(model, len(self._with_neighbors(asked)), len(maps)),
            unpacked=unpacked,
            hu=0 if is_there else 4 * voxels,  # part of the process by now
            smoothed=0 if grid.is_aligned or not self.preparation.antialias else 4 * voxels,
            masks=4 * voxels * word_count(len(asked)),
            maps=(voxels,) * len(maps),
        )
        most = None if self.max_memory_gb is None else round(self.max_memory_gb * 1e9)
        return plan_memory(demand, most, name)

    @staticmethod
    def read(scan: str | Path, options: ReadOptions | None, plan: MemoryPlan) -> Volume:
        """The scan in a file, just as `segment` reads it; for reading ahead.

        Args:
            scan: A NIfTI file of a CT.
            options: What to do about an odd file.
            plan: Of this scan: what of it lies in a file.

        Raises:
            InputError: The scan cannot be used.
        """
        keep_in_memory_below(plan.in_memory_below)
        return read_volume(Path(scan), options or ReadOptions())

    def segment(
        self,
        scan: str | Path | Volume,
        classes: Iterable[str] | None = None,
        *,
        cleanup: Mode = "default",
        read: ReadOptions | None = None,
        progress: Progress = lambda done, total: None,
        probabilities: Iterable[str] | None = None,
        organs: MaskSet | None = None,
    ) -> Result:
        """Masks of some classes of a scan, on the scan's own grid, and probabilities where asked for.

        Args:
            scan: A NIfTI file of a CT, or a `Volume` in Hounsfield units.
            classes: Names, aliases or ids; everything the weights can find by default.
            cleanup: ``default`` (each class's rule in the vocabulary), ``original`` (the authors' rules, and their
                way back to the scan's grid: the nearest voxel) or ``none``.
            read: What to do about an odd file.
            progress: Called with windows done and windows in all.
            probabilities: Names, aliases or ids of classes whose probabilities are wanted, one byte per voxel
                each; none by default. They get masks too, whether `classes` has them or not.
            organs: Masks on the scan's grid that count as they are: not searched for, but looked into for lesions.

        Returns:
            A result whose masks may be empty where a class is absent. Its probabilities are the network's
            answer, which no cleanup has touched.

        Raises:
            InputError: The scan cannot be used or does not fit into `max_memory_gb`, or `organs` have another grid.
            UnknownClass: A class is not known.
        """
        asked, maps = self.with_probabilities(classes, probabilities)
        plan = self.plan(scan, classes, read=read, probabilities=probabilities)
        keep_in_memory_below(plan.in_memory_below)
        clock = Clock()
        volume = scan if isinstance(scan, Volume) else self.read(scan, read, plan)
        clock.lap("read")
        prepared = prepare(volume, self.preparation)
        clock.lap("prepare")
        wanted = asked if cleanup == "none" else self._with_neighbors(asked)
        first, model = self.looks.shares(wanted).first, prepared.trace.model
        known = known_levels(organs, first, volume.geometry, model)
        within, located = self._located(volume, tuple(n for n in first if n not in known), model)
        if self.locator is not None:
            clock.lap("locate")
        raw = self.looks.predict(prepared.image, model, wanted, progress, maps, within, clock, known)
        cleaned, notes = clean(raw.masks, self.vocabulary, cleanup)
        clock.lap("cleanup")
        masks = prepared.trace.restore(_select(cleaned, asked), nearest=cleanup == "original")
        masks = masks if organs is None else _with_given(masks, organs, tuple(known))
        levels = prepared.trace.restore_probabilities(raw.probabilities)
        clock.lap("restore")
        window = self.predictor.window_for(prepared.image.shape)
        settings = self._settings(cleanup, window, raw.precision)
        warnings = (*volume.source.warnings, *self._odd(), *located, *raw.warnings)
        return Result(
            masks, volume, self.provenance(), settings, clock.seconds, warnings, notes, levels,
            self.vocabulary, plan.to_dict(),
        )  # fmt: skip

    def _with_neighbors(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        """The classes asked for and those that their cleanup rules look at, as far as these weights know them."""
        neighbors = [n for name in asked for n in self.vocabulary[name].cleanup.of if n in self.classes]
        return tuple(dict.fromkeys([*asked, *neighbors]))

    def _located(
        self, volume: Volume, wanted: tuple[str, ...], grid: Geometry
    ) -> tuple[tuple[Box, ...] | None, tuple[str, ...]]:
        """Boxes to compute windows in, None for everywhere, and a line about why everywhere."""
        if self.locator is None:
            return None, ()
        lost = [n for n in wanted if n not in self.locator.classes or not is_locatable(self.vocabulary[n])]
        if lost:
            return None, (f"locating: not done, as {', '.join(lost)} cannot be located by {self.locator.name!r}",)
        masks = self.locator.find(volume, wanted)
        boxes = boxes_of(masks, grid)
        if boxes is None:
            missed = [name for name in wanted if not masks.count(name)]
            return None, (f"locating: everywhere, as {self.locator.name!r} did not find {', '.join(missed)}",)
        return boxes, ()

    def find(self, volume: Volume, classes: tuple[str, ...]) -> MaskSet:
        """Cleaned masks on the model's grid: where classes are, without the way back to the scan's.

        Args:
            volume: A scan.
            classes: Canonical names that these weights know.

        Raises:
            NotCt: There is no body in the scan.
        """
        return self._found(prepare(volume, self.preparation), classes)

    def _found(self, prepared: Prepared, classes: tuple[str, ...]) -> MaskSet:
        raw = self.looks.predict(prepared.image, prepared.trace.model, self._with_neighbors(classes))
        return _select(clean(raw.masks, self.vocabulary)[0], classes)

    def features(
        self, scan: str | Path | Volume, *, dtype: FeatureType = "float16", read: ReadOptions | None = None
    ) -> Features:
        """What the network saw: its decoder map (C, X, Y, Z) of the whole scan, and a vector for each window.

        Everything is on the model grid, see `voxicon.infer.features`, which says what it costs. torch computes it.

        Args:
            scan: As of `segment`.
            dtype: Of the decoder map: ``float16`` or ``float32``.
            read: As of `segment`.

        Raises:
            InputError: The scan cannot be used.
            ConfigError: No such type.
        """
        prepared = self._prepared(scan, read)
        return features(self.predictor, prepared.image, prepared.trace.model, dtype)

    def embed(
        self, scan: str | Path | Volume, classes: Iterable[str] | None = None, *, read: ReadOptions | None = None
    ) -> Embedding:
        """A scan as one vector, and as one for each of some classes; of a class without a voxel they are zeros.

        Args:
            scan: As of `segment`.
            classes: Names, aliases or ids whose masks are found and looked into; none where left out.
            read: As of `segment`.

        Raises:
            InputError: The scan cannot be used.
            UnknownClass: A class is not known.
        """
        asked = () if classes is None else self.resolve_classes(classes)
        prepared = self._prepared(scan, read)
        return embedding(self.predictor, prepared.image, self._found(prepared, asked))

    def _prepared(self, scan: str | Path | Volume, read: ReadOptions | None) -> Prepared:
        plan = self.plan(scan, (), read=read)
        volume = scan if isinstance(scan, Volume) else self.read(scan, read, plan)
        return prepare(volume, self.preparation)

    def provenance(self) -> dict[str, object]:
        """What the weights are called, the hash of their file, their title, and the license they state."""
        card = self.checkpoint.metadata.card
        return {
            "name": self.name,
            "sha256": self.checkpoint.sha256,
            "title": card.get("title", ""),
            "license": card.get("license", "not stated"),
        }

    def _odd(self) -> tuple[str, ...]:
        return (f"engine: {self.engine.note}",) if self.engine.note else ()

    def _settings(self, cleanup: str, window: Size, precision: PrecisionUsed) -> dict[str, object]:
        return {
            "preparation": self.preparation.to_dict(),
            "inference": {**self.inference.to_dict(), "window": list(window)},
            "inside": None if self.inside is None else self.inside.settings(),
            "cleanup": cleanup,
            "device": str(self.predictor.ladder.computing),
            # What was converted and proven is for the usual window.
            "engine": self.engine.name if window == self.inference.window else "torch",
            "precision": {"asked": self.precision, **precision.to_dict()},
            "located_by": None if self.locator is None else self.locator.name,
        }


def _with_given(masks: MaskSet, organs: MaskSet, given: tuple[str, ...]) -> MaskSet:
    """Masks in the order they were, those that are given as they were given."""
    parts = {name: organs if name in given else masks for name in masks}
    return MaskSet.gathered(parts, masks.geometry, masks.source)


def _select(masks: MaskSet, names: tuple[str, ...]) -> MaskSet:
    """Some classes of a mask set, in the order given."""
    if names == masks.names:
        return masks
    return MaskSet.gathered(dict.fromkeys(names, masks), masks.geometry, masks.source)
