"""Masks that were made earlier, by us or by anybody: one folder per scan, one file per class."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.volume import Volume
from voxicon.data.layout import Case
from voxicon.errors import BadGeometry, InputError, UnreadableFile
from voxicon.evaluate.pair import Mask
from voxicon.io.masks import SEGMENTATIONS
from voxicon.io.nifti import case_name, read_labels
from voxicon.io.probabilities import PROBABILITIES

_CASE_FILE: Final = "case.json"
_ENDINGS = (".nii.gz", ".nii")
_ROUNDING = 1e-3
"""How far beyond 0 and 1 a stored probability may lie by rounding of its scale."""


class ResultFolder:
    """The masks and probability maps in one folder, each read when asked for.

    Args:
        folder: Holds ``segmentations/<class>.nii.gz`` and, where there are any, ``probabilities/<class>.nii.gz``. One
            that does not exist holds nothing.
        geometry: The scan's grid, which every file must be on.
    """

    def __init__(self, folder: Path, geometry: Geometry) -> None:
        self.folder, self.geometry = folder, geometry

    def mask(self, name: str) -> Mask | None:
        """(X, Y, Z) bool; None for a class without a file, which nobody predicted. An empty mask is an answer.

        Raises:
            BadGeometry: The file is on another grid.
            UnreadableFile: It is damaged.
        """
        path = self._path(SEGMENTATIONS, name)
        if path is None:
            return None
        values, grid = read_labels(path)
        self._check(path, grid)
        mask: Mask = values != 0
        return mask

    def probability(self, name: str) -> NDArray[np.float32] | None:
        """(X, Y, Z) in [0, 1]; None for a class without a map.

        Raises:
            BadGeometry: The file is on another grid.
            UnreadableFile: It is damaged, or holds numbers that are no probabilities.
        """
        path = self._path(PROBABILITIES, name)
        if path is None:
            return None
        try:
            image: Any = nib.load(path)
            values: NDArray[np.float32] = image.get_fdata(dtype=np.float32, caching="unchanged")
        except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
            raise UnreadableFile(f"{path}: cannot be read ({error}); make the prediction again") from error
        if values.ndim != 3:
            raise BadGeometry(f"{path}: has {values.ndim} axes, expected the 3 of the scan")
        x, y, z = values.shape
        self._check(path, Geometry((x, y, z), image.affine))
        # Written so that NaN fails too.
        if not bool(values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING):
            raise UnreadableFile(f"{path}: holds {values.min():g} to {values.max():g}; expected probabilities, 0 to 1")
        return values

    @property
    def weights(self) -> dict[str, str] | None:
        """Name and hash of the weights that made it; None where no ``case.json`` tells."""
        told = read_case_file(self.folder).get("weights")
        return {"name": str(told.get("name")), "sha256": str(told.get("sha256"))} if isinstance(told, dict) else None

    def check_scan(self, volume: Volume) -> None:
        """Refuse masks whose ``case.json`` names another scan; without one there is nothing to check.

        Raises:
            InputError: They were made from other bytes.
        """
        told = read_case_file(self.folder).get("input")
        made_from = told.get("sha256") if isinstance(told, dict) else None
        if made_from and volume.source.sha256 and made_from != volume.source.sha256:
            raise InputError(
                f"{self.folder}: was made from another scan than {volume.source.path} (their hashes differ); "
                "segment this scan again"
            )

    def _path(self, kind: str, name: str) -> Path | None:
        paths = (self.folder / kind / f"{name}{ending}" for ending in _ENDINGS)
        return next((path for path in paths if path.is_file()), None)

    def _check(self, path: Path, grid: Geometry) -> None:
        if not grid.same_grid(self.geometry):
            raise BadGeometry(
                f"{path}: its grid {grid.shape}, {grid.orientation}, at {_mm(grid)} mm is not the scan's "
                f"{self.geometry.shape}, {self.geometry.orientation}, at {_mm(self.geometry)} mm or lies elsewhere; "
                "put the mask on the scan's own grid",
                code="E-GRID",
            )


def read_case_file(folder: Path) -> dict[str, Any]:
    """The ``case.json`` of a result folder; empty where there is no sound one."""
    try:
        values = json.loads((folder / _CASE_FILE).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def folder_of(root: Path, case: Case) -> Path:
    """Where the result of a case belongs under a folder: ``<dataset>/<case>``.

    Raises:
        InputError: The case id leads out of that folder.
    """
    if case.name in {"", ".", ".."} or "/" in case.name or "\0" in case.name:
        raise InputError(f"{case.id!r}: such a case id cannot name a folder; rename the scan's file")
    return root / case.card.id / case.name


def find_folder(root: Path, case: Case, others: Iterable[Case]) -> Path:
    """Where the masks of a case lie under a folder of predictions.

    ``<dataset>/<case>/``, or ``<case>/`` where no other case has that name, or a folder that ``voxicon segment``
    named after the scan's file.

    Raises:
        InputError: There is none, or the case id cannot name a folder.
    """
    places = [folder_of(root, case)]
    if sum(other.name == case.name for other in others) < 2:
        places.append(root / case.name)
    stem = case_name(case.image)
    own = [root / stem, root / f"{case.image.parent.name}_{stem}"]
    places += [place for place in own if (place / _CASE_FILE).is_file()]
    found = next((place for place in places if (place / SEGMENTATIONS).is_dir()), None)
    if found is None:
        raise InputError(
            f"{case.id}: no prediction; expected {places[0]}/{SEGMENTATIONS}/<class>.nii.gz; segment this scan first"
        )
    return found


def _mm(grid: Geometry) -> tuple[float, ...]:
    return tuple(round(size, 3) for size in grid.spacing_mm)
