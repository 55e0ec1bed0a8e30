"""Where the masks to be judged come from: weights, which make them now, or a folder of earlier results."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from voxicon.core.volume import Volume
from voxicon.data.layout import Case
from voxicon.errors import ConfigError, OutputError
from voxicon.evaluate.predictions import ResultFolder, find_folder, folder_of, read_case_file
from voxicon.result import listed_files

if TYPE_CHECKING:
    from voxicon.segmenter import Segmenter


class Predictions(Protocol):
    """Where masks come from.

    Attributes:
        trained_on: Hashes, among them those of the scans that the weights learned from, as far as they tell.
    """

    trained_on: frozenset[str]

    def of(self, case: Case, volume: Volume, classes: Sequence[str]) -> ResultFolder:
        """The masks of one scan, with those of `classes` that can be had.

        Raises:
            VoxiconError: There are none.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Where masks came from, so far: ``weights`` (name and hash, None if unknown) and ``predictions``."""
        ...


class ByWeights:
    """Masks made by weights and kept as results under a folder; what is there already is not made again.

    Args:
        segmenter: The weights.
        folder: Results go to ``<folder>/<dataset>/<case>/``.

    Raises:
        OutputError: The folder holds results of other weights.
    """

    def __init__(self, segmenter: Segmenter, folder: Path) -> None:
        self.segmenter, self.folder = segmenter, folder
        self.trained_on = frozenset(re.findall(r"\b[0-9a-f]{64}\b", json.dumps(segmenter.checkpoint.metadata.cards)))
        for path in sorted(folder.glob("*/*/case.json")):
            made_by = read_case_file(path.parent).get("weights", {}).get("sha256")
            if made_by != segmenter.checkpoint.sha256:
                raise OutputError(
                    f"{path.parent}: holds a result of other weights than {segmenter.name}; give another output folder"
                )

    def of(self, case: Case, volume: Volume, classes: Sequence[str]) -> ResultFolder:
        """The masks of one scan, and probabilities of its lesions; made now unless they are there.

        Raises:
            InputError: The scan cannot be used, or its id cannot name a folder.
            OutputError: The result cannot be written.
        """
        folder = folder_of(self.folder, case)
        vocabulary, able = self.segmenter.vocabulary, self.segmenter.classes
        wanted = tuple(name for name in classes if name in able)
        if not wanted:
            return ResultFolder(folder, volume.geometry)
        maps = tuple(name for name in wanted if vocabulary[name].kind == "lesion")
        # Candidates are confined like the masks are, by the masks of the organs around them.
        around = (organ for name in maps for organ in vocabulary[name].cleanup.of if organ in able)
        wanted = tuple(dict.fromkeys((*wanted, *around)))
        if not self._holds(folder, volume, wanted, maps):
            self.segmenter.segment(volume, wanted, probabilities=maps).save(folder)
        return ResultFolder(folder, volume.geometry)

    def _holds(self, folder: Path, volume: Volume, wanted: Sequence[str], maps: Sequence[str]) -> bool:
        files = listed_files(folder)
        if not files or not all(path.is_file() for path in files):
            return False
        told = read_case_file(folder)
        return (
            told["input"]["sha256"] == volume.source.sha256
            and told["settings"]["cleanup"] == "default"
            and set(wanted) <= set(told["volumes_ml"])
            and set(maps) <= set(told["probabilities"])
        )

    def describe(self) -> dict[str, Any]:
        """See `Predictions`."""
        weights = {"name": self.segmenter.name, "sha256": self.segmenter.checkpoint.sha256}
        return {"weights": weights, "predictions": str(self.folder)}


class FromFolder:
    """Masks that lie in a folder of earlier results; see `voxicon.evaluate.predictions.find_folder`.

    Args:
        root: The folder.
        cases: All cases of the assembly, so that a name shared by two of them is not taken for either.

    Raises:
        ConfigError: There is no such folder.
    """

    def __init__(self, root: Path, cases: Sequence[Case]) -> None:
        if not root.is_dir():
            raise ConfigError(f"{root}: no such folder; --predictions takes a folder of earlier results")
        self.root, self.cases = root, cases
        self.trained_on: frozenset[str] = frozenset()
        self._made_by: list[dict[str, str] | None] = []

    def of(self, case: Case, volume: Volume, classes: Sequence[str]) -> ResultFolder:
        """What lies there; a class without a file is not predicted."""
        found = ResultFolder(find_folder(self.root, case, self.cases), volume.geometry)
        found.check_scan(volume)
        if found.weights not in self._made_by:
            self._made_by.append(found.weights)
        return found

    def describe(self) -> dict[str, Any]:
        """See `Predictions`; the weights only where all results name the same."""
        weights = self._made_by[0] if len(self._made_by) == 1 else None
        return {"weights": weights, "predictions": str(self.root)}
