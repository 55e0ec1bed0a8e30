"""What a segmentation gives: masks on the scan's grid, and a folder that holds them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.storage import most_resident_bytes
from voxicon.core.volume import Volume
from voxicon.errors import OutputError
from voxicon.io.atomic import file_sha256, write_bytes, write_text
from voxicon.io.masks import write_combined, write_masks
from voxicon.io.probabilities import write_probabilities
from voxicon.report.palette import Colors
from voxicon.version import __version__

CASE_FILE = "case.json"
"""Written last: a folder that has it is complete."""

DISCLAIMER = "Research software, not a medical device."


@dataclass(frozen=True)
class Result:
    """Masks of one scan.

    Attributes:
        masks: Reads like a mapping from class name to boolean array, on the scan's own grid.
        volume: The scan.
        weights: Name, hash and title of the weights that made the masks.
        settings: Everything else that decided the outcome.
        seconds: Wall time of each stage.
        warnings: One line each: what was odd about the scan.
        notes: One line each: what cleaning up took away.
        probabilities: By class, for those asked for: (X, Y, Z) uint8 on the scan's own grid, 255 times the
            probability; 0 where the network did not look. As the network answered: where cleaning up removed a
            component from the mask, its probabilities are still there.
        vocabulary: Knows every class of `masks`; weights may bring words of their own.
        memory: What was planned to be taken of memory and of temporary files, GB.
    """

    masks: MaskSet
    volume: Volume
    weights: Mapping[str, Any]
    settings: Mapping[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    probabilities: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    vocabulary: Vocabulary = field(default_factory=Vocabulary.default)
    memory: Mapping[str, float] = field(default_factory=dict)

    def save(
        self,
        folder: str | Path,
        *,
        preview: bool = True,
        colors: Colors = "vocabulary",
        also: Callable[[Path], list[Path]] | None = None,
    ) -> list[Path]:
        """Write ``segmentations/<class>.nii.gz``, ``combined_labels.nii.gz``, ``preview.png`` and ``case.json``.

        Where there are probabilities, ``probabilities/<class>.nii.gz`` too: uint8 with a scale in the header, so
        that viewers and nibabel show 0 to 1. They are not cleaned up, unlike the masks.

        Every file is written whole or not at all; ``case.json`` comes last and lists the others with
        their hashes. A ``case.json`` of an earlier run is removed first, so that a folder never claims
        to be complete while it is being rewritten; files that it listed and this run does not write go too.

        Args:
            folder: Made if missing.
            preview: Whether to draw ``preview.png``.
            colors: Of the preview: the ``vocabulary``'s own, or ``safe`` for color-blind readers.
            also: Writes more files into the folder and returns them; ``case.json`` lists them too.

        Returns:
            Paths of the files written, ``case.json`` last.

        Raises:
            OutputError: The folder cannot be written, or lies where a file is.
        """
        out = Path(folder)
        vocabulary = self.vocabulary
        began = time.monotonic()
        earlier = listed_files(out)
        remove_file(out / CASE_FILE)
        # Drawing is Python, packing is not: side by side they take about as long as the longer of the two.
        with ThreadPoolExecutor(max_workers=1) as aside:
            drawing = aside.submit(self._draw, out / "preview.png", colors) if preview else None
            written = write_masks(self.masks, out, vocabulary)
            written += write_combined(self.masks, out / "combined_labels.nii.gz", vocabulary)
            written += write_probabilities(self.probabilities, out, self.volume.geometry, self.volume.source.header)
            written += also(out) if also is not None else []
            written += drawing.result() if drawing is not None else []
        self.seconds["write"] = round(time.monotonic() - began, 2)
        for stale in set(earlier) - set(written):
            remove_file(stale)
        write_text(out / CASE_FILE, json.dumps(self.describe(out, written), indent=2) + "\n")
        return [*written, out / CASE_FILE]

    def _draw(self, path: Path, colors: Colors) -> list[Path]:
        from voxicon.report.preview import render_preview

        footer = f"{DISCLAIMER}  Weights: {self.weights['name']}"
        write_bytes(path, render_preview(self.volume, self.masks, self.vocabulary, footer, colors))
        return [path]

    def describe(self, folder: Path, files: list[Path]) -> dict[str, Any]:
        """The content of ``case.json``: inputs, weights, settings, volumes, timings, warnings, output hashes.

        ``memory.peak_gb`` is the most that the process ever had in memory, 0 where the system does not tell.
        ``probabilities`` names the classes that have a map under ``probabilities/``. ``settings.cleanup`` and
        ``notes`` are about the masks alone: maps hold what the network answered, so a component that cleaning
        up removed is gone from ``segmentations/`` and still there in ``probabilities/``.
        """
        source = self.volume.source
        return {
            "voxicon": __version__,
            "notice": DISCLAIMER,
            "case": source.name,
            "input": {
                "file": Path(source.path).name,
                "sha256": source.sha256,
                "geometry": self.volume.geometry.to_dict(),
            },
            "weights": dict(self.weights),
            "settings": dict(self.settings),
            "volumes_ml": {name: round(volume_ml, 3) for name, volume_ml in self.masks.volumes_ml().items()},
            "probabilities": list(self.probabilities),
            "seconds": dict(self.seconds),
            "memory": {**self.memory, "peak_gb": round(most_resident_bytes() / 1e9, 2)},
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "files": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
        }


def listed_files(folder: Path) -> list[Path]:
    """The files that a result folder's ``case.json`` lists; none where there is no sound one."""
    try:
        names = json.loads((folder / CASE_FILE).read_text(encoding="utf8"))["files"]
        paths = [folder / name for name in names]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    # A case.json from elsewhere must not name files outside of its folder.
    return [path for path in paths if folder.resolve() in path.resolve().parents]


def remove_file(path: Path) -> None:
    """Delete a file if it is there.

    Raises:
        OutputError: It is there and cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be replaced ({error.strerror}); check the folder's permissions") from error
