"""Masks as bits: one bit per class per voxel, so tumor and organ may overlap and memory stays flat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from voxicon.core.geometry import Geometry
from voxicon.core.storage import pieces, zeros
from voxicon.core.volume import Source
from voxicon.errors import BadGeometry, UnknownClass

BITS_PER_WORD = 32


class MaskSet(Mapping[str, NDArray[np.bool_]]):
    """Named binary masks on one grid; reads like a mapping from class name to boolean array.

    Thirty-two classes share one uint32 per voxel; a thirty-third opens a second word.

    Args:
        words: (W, X, Y, Z) uint32 with W = ceil(len(names) / 32). Class *i* is bit ``i % 32`` of word ``i // 32``.
        names: Class names in bit order, all different. May be empty (then W is 0).
        geometry: The grid of the masks.
        source: The scan the masks belong to.

    Raises:
        BadGeometry: Words, names and geometry do not fit each other.
    """

    def __init__(
        self,
        words: NDArray[np.uint32],
        names: Iterable[str],
        geometry: Geometry,
        source: Source = Source(name="masks"),  # noqa: B008  frozen, so sharing it is safe
    ) -> None:
        self.words = words
        self.names = tuple(names)
        self.geometry = geometry
        self.source = source
        if words.shape != (word_count(len(self.names)), *geometry.shape) or words.dtype != np.uint32:
            raise BadGeometry(
                f"words of shape {words.shape} and type {words.dtype} do not fit {len(self.names)} classes "
                f"on a grid of shape {geometry.shape}; expected uint32 with ceil(classes / 32) words first"
            )
        if len(set(self.names)) != len(self.names):
            raise BadGeometry(f"class names repeat: {', '.join(self.names)}; every mask needs its own name")

    @classmethod
    def empty(
        cls, names: Iterable[str], geometry: Geometry, source: Source | None = None, *, file_order: bool = False
    ) -> MaskSet:
        """All classes present as names, no voxel set.

        Args:
            names: Of the classes.
            geometry: Their grid.
            source: The scan they belong to.
            file_order: Voxels lie in memory as in a file, the first axis running fastest, and from some size on in a
                temporary file (`voxicon.core.storage`): for masks to be written.
        """
        names = tuple(names)
        words: NDArray[np.uint32]
        if file_order:
            words = np.moveaxis(zeros((*geometry.shape, word_count(len(names))), np.uint32, order="F"), 3, 0)
        else:
            words = np.zeros((word_count(len(names)), *geometry.shape), dtype=np.uint32)
        return cls(words, names, geometry, source or Source(name="masks"))

    @classmethod
    def from_masks(
        cls, masks: Mapping[str, NDArray[np.bool_]], geometry: Geometry, source: Source | None = None
    ) -> MaskSet:
        """Pack boolean arrays of shape (X, Y, Z), in the mapping's order."""
        packed = cls.empty(masks, geometry, source)
        for name, mask in masks.items():
            packed.set(name, mask)
        return packed

    @classmethod
    def gathered(cls, parts: Mapping[str, MaskSet], geometry: Geometry, source: Source | None = None) -> MaskSet:
        """Classes of other mask sets on the same grid, in the mapping's order; each is copied in its own box alone.

        Args:
            parts: Name → the set that has it.
            geometry: Of all of them.
            source: The scan they belong to.

        Raises:
            UnknownClass: A set has no class of that name.
            BadGeometry: A set has another shape.
        """
        packed = cls.empty(parts, geometry, source)
        boxes = {id(masks): masks.bounds() for masks in parts.values()}
        for name, masks in parts.items():
            if masks.geometry.shape != geometry.shape:
                raise BadGeometry(f"mask {name!r} has shape {masks.geometry.shape}, the grid has {geometry.shape}")
            (old, has), (new, bit) = masks._locate(name), packed._locate(name)
            box = boxes[id(masks)].get(name)
            if box is not None:
                packed.words[new][box] |= np.where(masks.words[old][box] & has, bit, np.uint32(0))
        return packed

    def _locate(self, name: str) -> tuple[int, np.uint32]:
        try:
            index = self.names.index(name)
        except ValueError:
            raise UnknownClass(f"no mask named {name!r} here; there are: {', '.join(self.names) or 'none'}") from None
        return index // BITS_PER_WORD, np.uint32(1 << (index % BITS_PER_WORD))

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        """A fresh (X, Y, Z) boolean array of one class.

        Raises:
            UnknownClass: No class of that name.
        """
        word, bit = self._locate(name)
        found: NDArray[np.bool_] = (self.words[word] & bit) != 0
        return found

    def set(self, name: str, mask: NDArray[np.bool_]) -> None:
        """Replace one class in place by a boolean array of the grid's shape."""
        word, bit = self._locate(name)
        if mask.shape != self.geometry.shape:
            raise BadGeometry(f"mask {name!r} has shape {mask.shape}, the grid has {self.geometry.shape}")
        target = self.words[word]
        np.bitwise_and(target, ~bit, out=target)
        np.bitwise_or(target, bit, out=target, where=mask.astype(bool, copy=False))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def count(self, name: str) -> int:
        """Number of voxels of one class."""
        return int(np.count_nonzero(self[name]))

    def volume_ml(self, name: str) -> float:
        """Volume of one class in millilitres; 0.0 when it is empty."""
        return self.count(name) * self.geometry.voxel_ml

    def volumes_ml(self) -> dict[str, float]:
        """Volume of every class in millilitres, in order: `volume_ml` of all, each counted in its own box alone."""
        boxes, counts = self.bounds(), dict.fromkeys(self.names, 0)
        for name, box in boxes.items():
            word, bit = self._locate(name)
            inside = self.words[word][box]
            counts[name] = sum(int(np.count_nonzero(inside[piece] & bit)) for piece in pieces(inside))
        return {name: count * self.geometry.voxel_ml for name, count in counts.items()}

    def bounds(self) -> dict[str, tuple[slice, slice, slice]]:
        """Smallest box of every class that has a voxel; absent classes are left out."""
        found: dict[str, tuple[slice, slice, slice]] = {}
        for word in range(self.words.shape[0]):
            folded = [np.zeros(n, dtype=np.uint32) for n in self.geometry.shape]
            for piece in pieces(self.words[word]):
                for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
                    folded[axis][piece[axis]] |= np.bitwise_or.reduce(self.words[word][piece], axis=others)
            for index in range(word * BITS_PER_WORD, min(len(self.names), (word + 1) * BITS_PER_WORD)):
                bit = np.uint32(1 << (index % BITS_PER_WORD))
                ends = [np.flatnonzero(axis & bit) for axis in folded]
                if len(ends[0]):
                    x, y, z = (slice(int(e[0]), int(e[-1]) + 1) for e in ends)
                    found[self.names[index]] = (x, y, z)
        return found

    def __repr__(self) -> str:
        return f"MaskSet({len(self.names)} classes on {self.geometry.shape}, {self.geometry.orientation})"


def word_count(n_classes: int) -> int:
    """Words of 32 bits needed for that many classes; 0 for none."""
    return -(-n_classes // BITS_PER_WORD)
