"""The same scan found in several datasets, by what it shows and never by its name or header.

A fingerprint holds two things, and neither looks at the affine:

* **Digests of slices**, along all three voxel axes: one number for the multiset of tissue values in a slice.
  It does not change when the scan is flipped or its axes are permuted, when it gets another affine or number
  type, when air is padded, cut away or given another value, or when values above 1000 HU are clipped. A crop
  along one axis leaves the slices across that axis as they were. The noise in a slice is unlike that of any
  other, so slices in common are proof: ``same``.
* **A thumbnail** of the body, compared by correlation over all 48 ways to turn and mirror it, for copies whose
  values are new: resampled, noisy, quantized, shifted by a constant, cropped by a slice or two. It cannot
  prove anything: ``suspected``.

Not found: a copy that was both cut to a smaller region and given new values; one cut through tissue along two
axes; one clipped to a soft-tissue window, where lung and air become one; one turned by a few degrees.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import permutations, product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxicon.core.volume import AIR_HU, Volume
from voxicon.data.splits import join
from voxicon.errors import UnreadableFile

VERSION = 1
"""Raised whenever a fingerprint of the same scan would change, so that stored ones are made again."""

TISSUE_HU = (-500, 1000)
"""Values that a digest counts, upper end excluded. Below lies air, which copies pad and clip in their own ways."""

MIN_VALUES = 32
"""A slice with fewer different values (modulo 64) says nothing: air, padding, or a phantom without noise."""

MIN_COMMON = 3
"""Slices in common that make two scans the same; fewer suffice only when one of them has no more."""

MIN_CORRELATION = 0.98
"""Thumbnails alike from here on. Among 24 real CTs, different patients reach 0.94 and resampled copies
at least 0.997 (the tests repeat it)."""

THUMBNAIL = 16
"""Cells along each axis of a thumbnail."""

_COARSE = 128
"""Cells along each axis of the grid on which the body is found."""

_BODY_HU = (400.0, 600.0)
"""Above the lowest value: where a cell begins to count as body, and where it counts in full."""

_CONTRAST_HU = (700.0, 1300.0)
"""Above the lowest value: what the thumbnail shows, fat to bone. Relative, so a shifted scan shows the same."""

_OUTSIDE = 0.01
"""Share of the body left out at either end of each axis: table, tubes and noise do not move the box."""

_SLAB_VOXELS = 1 << 20

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Fingerprint:
    """What a scan is recognized by; about 20 kB as JSON.

    Attributes:
        slices: For each voxel axis, the different digests of its informative slices: little-endian uint64,
            ascending. Empty where every slice is air or without noise.
        thumbnail: int8, (16, 16, 16) in C order: the body box, mean 0. All zero for a scan without contrast.
    """

    slices: tuple[bytes, bytes, bytes]
    thumbnail: bytes

    def digests(self, axis: int) -> Words:
        """Sorted digests of the informative slices along one voxel axis, (n,)."""
        return np.frombuffer(self.slices[axis], dtype="<u8")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "version": VERSION,
            "slices": [base64.b64encode(digests).decode() for digests in self.slices],
            "thumbnail": base64.b64encode(self.thumbnail).decode(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fingerprint:
        """Undo `to_dict`.

        Raises:
            UnreadableFile: Made by another version, or damaged.
        """
        if values.get("version") != VERSION:
            raise UnreadableFile(
                f"fingerprint of version {values.get('version')!r}, expected {VERSION}; compute it again from the scan"
            )
        try:
            slices = tuple(base64.b64decode(text, validate=True) for text in values["slices"])
            thumbnail = base64.b64decode(values["thumbnail"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise UnreadableFile(f"fingerprint is damaged ({error}); compute it again from the scan") from error
        if len(slices) != 3 or any(len(digests) % 8 for digests in slices) or len(thumbnail) != THUMBNAIL**3:
            raise UnreadableFile(
                f"fingerprint is damaged: digests of {[len(digests) for digests in slices]} bytes and a thumbnail of "
                f"{len(thumbnail)}; expected three multiples of 8 and {THUMBNAIL**3}; compute it again from the scan"
            )
        return cls(slices, thumbnail)


@dataclass(frozen=True)
class Match:
    """Why two scans are taken for one.

    Attributes:
        kind: ``same``: they have slices in common, voxel for voxel. ``suspected``: they look alike.
        common_slices: Slices in common along the axes that agree best; 0 when suspected.
        common_share: The same as a share of the informative slices of the scan that has fewer.
        correlation: Of the thumbnails, over the best of 48 orientations; -1 to 1.
    """

    kind: Literal["same", "suspected"]
    common_slices: int
    common_share: float
    correlation: float


def fingerprint(volume: Volume) -> Fingerprint:
    """What a scan is recognized by, from finite HU as `voxicon.io.nifti.read_volume` gives them.

    One pass over the volume in slabs: memory does not grow with it.
    """
    # The largest stride first: whichever axis the file stores last, slabs are read in storage order.
    order = np.argsort(np.abs(volume.hu.strides))[::-1]
    hu = volume.hu.transpose(order)
    weights = [_pool(n, 0, n, min(n, _COARSE)) for n in hu.shape]
    coarse = np.zeros([len(w) for w in weights], dtype=np.float32)
    sums = [np.zeros(n, dtype=np.uint64) for n in hu.shape]
    bits = [np.zeros(n, dtype=np.uint64) for n in hu.shape]
    lowest = np.inf
    depth = max(1, _SLAB_VOXELS // (hu.shape[1] * hu.shape[2]))
    for start in range(0, hu.shape[0], depth):
        slab = slice(start, start + depth)
        values = np.maximum(hu[slab], np.float32(AIR_HU), dtype=np.float32)
        lowest = min(lowest, float(values.min()))
        coarse += np.einsum("ax,xyz,by,cz->abc", weights[0][:, slab], values, *weights[1:], optimize=True)
        low, high = TISSUE_HU
        places = (np.clip(np.rint(values), low - 1, high) - (low - 1)).astype(np.intp)
        _add_slab(sums, slab, np.add, _codes()[0][places])
        _add_slab(bits, slab, np.bitwise_or, _codes()[1][places])
    found = [np.unique(s[np.bitwise_count(b) >= MIN_VALUES]) for s, b in zip(sums, bits, strict=True)]
    x, y, z = (found[k].astype("<u8").tobytes() for k in np.argsort(order))
    return Fingerprint((x, y, z), _thumbnail(coarse.transpose(np.argsort(order)) - np.float32(lowest)))


def compare(a: Fingerprint, b: Fingerprint) -> Match | None:
    """Whether two scans are one, with the evidence; None when nothing speaks for it."""
    correlation = round(float((_turned(_unit(a.thumbnail)) @ _unit(b.thumbnail)).max()), 4)
    best = (0.0, 0)
    for i, j in product(range(3), repeat=2):
        one, other = a.digests(i), b.digests(j)
        fewer = min(len(one), len(other))
        common = len(np.intersect1d(one, other, assume_unique=True))
        if fewer and common >= min(MIN_COMMON, fewer):
            best = max(best, (common / fewer, common))
    if best[1]:
        return Match("same", best[1], round(best[0], 4), correlation)
    return Match("suspected", 0, 0.0, correlation) if correlation >= MIN_CORRELATION else None


def find_duplicates(fingerprints: Mapping[str, Fingerprint]) -> dict[tuple[str, str], Match]:
    """Every pair of scans that `compare` finds a match for, without comparing all pairs.

    Args:
        fingerprints: Scan id → fingerprint, any number.

    Returns:
        (smaller id, larger id) → match, in order of the ids.
    """
    names = sorted(fingerprints)
    prints = [fingerprints[name] for name in names]
    pairs = sorted(_pairs_with_common_slices(prints) | _pairs_that_look_alike(prints))
    matches = {(names[i], names[j]): compare(prints[i], prints[j]) for i, j in pairs}
    return {pair: match for pair, match in matches.items() if match is not None}


def duplicate_groups(
    matches: Mapping[tuple[str, str], Match], *, include_suspected: bool = True
) -> list[frozenset[str]]:
    """Sets of two or more scans that are tied by matches, over any number of steps.

    Args:
        matches: As `find_duplicates` gives them.
        include_suspected: Suspects keep together too. For splits that is the safe side: a wrong suspicion
            costs nothing but choice, a missed one leaks.
    """
    return join({a, b} for (a, b), match in matches.items() if include_suspected or match.kind == "same")


@cache
def _codes() -> tuple[Words, Words]:
    """For air, each tissue value and what lies above: a random number, and one of 64 bits; 0 outside.

    The sum of the random numbers modulo 2⁶⁴ is a hash of a multiset.
    Source: M. Bellare and D. Micciancio, A new paradigm for collision-free hashing, EUROCRYPT 1997 (AdHash).
    """
    values = range(*TISSUE_HU)
    numbers = [int.from_bytes(blake2b(str(hu).encode(), digest_size=8).digest(), "big") for hu in values]
    bits = [1 << (hu % 64) for hu in values]
    return np.array([0, *numbers, 0], dtype=np.uint64), np.array([0, *bits, 0], dtype=np.uint64)


def _add_slab(totals: list[Words], slab: slice, fold: np.ufunc, codes: Words) -> None:
    """Fold the codes of one slab into the totals of the slices along each axis, in place."""
    plane = fold.reduce(codes, axis=0)
    totals[0][slab] = fold.reduce(fold.reduce(codes, axis=2), axis=1)
    fold(totals[1], fold.reduce(plane, axis=1), out=totals[1])
    fold(totals[2], fold.reduce(plane, axis=0), out=totals[2])


def _pool(n: int, start: float, stop: float, cells: int) -> Floats:
    """(cells, n) weights that average n voxels over equal cells between two edges; voxel i covers [i, i + 1]."""
    edges = np.linspace(start, stop, cells + 1)
    index = np.arange(n)
    overlap = np.minimum(edges[1:, None], index + 1) - np.maximum(edges[:-1, None], index)
    overlap = np.maximum(overlap, 0)
    weights: Floats = (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def _thumbnail(above: Floats) -> bytes:
    """The body box of a scan, from values above its lowest one on the coarse grid."""
    start, full = _BODY_HU
    body = np.clip((above - start) / (full - start), 0, 1).astype(np.float64)
    shown = np.clip(above, *_CONTRAST_HU)
    weights = []
    for axis in range(3):
        profile = body.sum(axis=tuple(other for other in range(3) if other != axis))
        if not profile.any():
            profile = np.ones_like(profile)
        reached = np.concatenate([[0], np.cumsum(profile)]) / profile.sum()
        ends = np.interp([_OUTSIDE, 1 - _OUTSIDE], reached, np.arange(len(reached)))
        weights.append(_pool(len(profile), ends[0], ends[1], THUMBNAIL))
    cells = np.einsum("ax,xyz,by,cz->abc", weights[0], shown, *weights[1:], optimize=True).astype(np.float64)
    cells -= cells.mean()
    largest = np.abs(cells).max()
    # Less than a hundredth of a HU is rounding, not contrast.
    scaled = cells * (127 / largest) if largest > 0.01 else np.zeros_like(cells)
    return bytes(np.rint(scaled).astype(np.int8).tobytes())


def _unit(thumbnail: bytes) -> Floats:
    """Mean 0 and length 1, (4096,); all zero for a scan without contrast."""
    cells = np.frombuffer(thumbnail, dtype=np.int8).astype(np.float32)
    cells -= cells.mean()
    length = float(np.linalg.norm(cells))
    return cells / np.float32(length or 1)


@cache
def _turns() -> NDArray[np.intp]:
    """(48, 4096) cells in the order in which each way to permute and flip the axes reads them."""
    cells = np.arange(THUMBNAIL**3).reshape((THUMBNAIL,) * 3)
    flips = [tuple(slice(None, None, step) for step in steps) for steps in product((1, -1), repeat=3)]
    return np.stack([cells.transpose(axes)[flip].ravel() for axes in permutations(range(3)) for flip in flips])


def _turned(unit: Floats) -> Floats:
    return unit[_turns()]


def _pairs_with_common_slices(prints: list[Fingerprint]) -> set[tuple[int, int]]:
    """Pairs with at least one digest in common, from one sort of all digests."""
    own = [np.unique(np.concatenate([one.digests(axis) for axis in range(3)])) for one in prints]
    digests = np.concatenate([np.zeros(0, dtype=np.uint64), *own])
    owners = np.repeat(np.arange(len(prints)), [len(mine) for mine in own])
    order = np.lexsort((owners, digests))
    digests, owners = digests[order], owners[order]
    pairs: set[tuple[int, int]] = set()
    step = 1
    while (equal := digests[step:] == digests[:-step]).any():
        found = np.unique(np.stack([owners[:-step][equal], owners[step:][equal]], axis=1), axis=0)
        pairs.update((int(i), int(j)) for i, j in found)
        step += 1
    return pairs


def _pairs_that_look_alike(prints: list[Fingerprint]) -> set[tuple[int, int]]:
    """Pairs whose thumbnails correlate, found through what no turn changes.

    The mean over each orbit of cells is the same for all 48 orientations, and is a projection, which never
    lengthens: if any orientation of a lies within d of b, then so do their projections. So nothing is lost.
    """
    units = np.stack([_unit(one.thumbnail) for one in prints]) if prints else np.zeros((0, THUMBNAIL**3), np.float32)
    orbits, sizes = np.unique(_turns().min(axis=0), return_inverse=True, return_counts=True)[1:]
    projection = np.zeros((THUMBNAIL**3, len(sizes)), dtype=np.float32)
    projection[np.arange(THUMBNAIL**3), orbits] = 1 / np.sqrt(sizes[orbits])
    fixed = units @ projection
    lengths = (fixed**2).sum(axis=1)
    pairs: set[tuple[int, int]] = set()
    for i in range(len(prints)):
        apart = lengths[i] + lengths[i + 1 :] - 2 * (fixed[i + 1 :] @ fixed[i])
        # |a - b|² = 2 - 2 correlation for vectors of length 1; the rest is room for rounding.
        near = i + 1 + np.flatnonzero(apart <= 2 - 2 * MIN_CORRELATION + 1e-3)
        alike = (_turned(units[i]) @ units[near].T).max(axis=0) >= MIN_CORRELATION - 1e-3
        pairs.update((i, int(j)) for j in near[alike])
    return pairs
