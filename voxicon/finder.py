"""Before a scan is read: what weights can find, and what has to be found to answer requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxicon.answering.detection import operating_points
from voxicon.answering.needs import Needs, needs_of
from voxicon.asking import Request
from voxicon.core.concepts import Vocabulary
from voxicon.io.masks import mask_files

if TYPE_CHECKING:
    from voxicon.segmenter import Segmenter


@dataclass(frozen=True)
class Finder:
    """What weights can find, before they are loaded.

    Attributes:
        name: Of the weights.
        vocabulary: The shipped words and those the weights bring along.
        classes: What they find.
        card: Of their checkpoint.
        load: Makes them ready to run.
    """

    name: str
    vocabulary: Vocabulary
    classes: tuple[str, ...]
    card: Mapping[str, Any]
    load: Callable[[], Segmenter]


def finder_of(weights: str | Path, **options: Any) -> Finder:
    """What weights can find; the network is not loaded yet.

    Args:
        weights: As of `voxicon.load`.
        options: Likewise.

    Raises:
        CheckpointError: The weights are missing or damaged, or what their card says of thresholds is.
    """
    from voxicon.infer.settings import classes_of, vocabulary_of
    from voxicon.model.checkpoint import read_metadata
    from voxicon.segmenter import load
    from voxicon.weights.store import resolve

    path = resolve(weights)
    metadata = read_metadata(path)
    vocabulary = vocabulary_of(metadata.card, path.stem)
    classes = classes_of(metadata, vocabulary)
    operating_points(metadata.card, path.stem)  # refused now, not after all has been computed
    return Finder(path.stem, vocabulary, classes, metadata.card, lambda: load(path, **options))


def needed(
    requests: Sequence[tuple[str, Request]],
    finder: Finder | None,
    *,
    masks: str | Path | None = None,
    vocabulary: Vocabulary | None = None,
) -> Needs:
    """What has to be found to answer requests. Neither scan nor masks nor the network are read.

    Args:
        requests: As of `voxicon.inquiry.answer`.
        finder: Likewise.
        masks: Likewise; names of files suffice.
        vocabulary: Where there is no finder; the package's own by default.

    Raises:
        UnknownClass: Something that is asked for is neither among the masks nor known to the weights.
        UsageError: A part of an organ that cannot be told from its mask.
        InputError: There is no mask in the folder.
    """
    known = finder.vocabulary if finder else vocabulary or Vocabulary.default()
    given = mask_files(Path(masks), known) if masks is not None else ()
    by = [f"weights {finder.name!r}"] if finder else []
    by += [f"the masks in {masks}"] if masks is not None else []
    able = {*given, *(finder.classes if finder else ())}
    return needs_of([request for _, request in requests], known, able, " and ".join(by))
