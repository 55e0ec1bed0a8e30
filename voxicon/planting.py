"""Lesions planted into one scan: the scan with them, their masks, and what is known of each.

Nothing but the boxes of the lesions is computed on, so a scan of full resolution takes hardly longer than
its files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.ball import ball_diameter_mm, ball_mm3
from voxicon.core.components import Box, Mask, components, crop, joint_box, put
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import BITS_PER_WORD, MaskSet
from voxicon.core.volume import AIR_HU, Volume
from voxicon.errors import InputError, UsageError
from voxicon.synthesis.lesions.plant import KINDS, LesionKind, Planted, largest_diameter_mm, plant

VESSELS: Final = ("hepatic_vessel", "portal_vein_and_splenic_vein", "inferior_vena_cava", "aorta")
"""Classes that lesions keep away from, as far as their masks are there."""

_TRIES = 8
"""Plans made for one lesion before the best of them has to do."""

_CLOSE_ENOUGH, _LEAST = 0.15, 0.5
"""A plan is taken at once when its volume misses by no more than the first, and not at all below the second."""

_BRIGHT_SD = 2.5
"""Voxels of the liver that are brighter than its mean by so many standard deviations are taken for vessels."""

_SPECK_MM3 = 30.0
"""Bright spots smaller than a ball of 4 mm are noise."""

_AROUND = np.ones((3, 3, 3), dtype=bool)

Range = tuple[float, float]


@dataclass(frozen=True)
class Request:
    """One lesion to plant.

    Attributes:
        kind: What.
        diameter_mm: Of the ball of its volume, drawn evenly on a log scale from a range; None leaves it to the kind.
        contrast_hu: Difference to the host beside it, drawn from a range; None leaves it to the kind.

    Raises:
        UsageError: A diameter is not positive, or a range runs backwards.
    """

    kind: LesionKind
    diameter_mm: Range | None = None
    contrast_hu: Range | None = None

    def __post_init__(self) -> None:
        for name, given in (("diameter", self.diameter_mm), ("contrast", self.contrast_hu)):
            if given is not None and not (all(map(math.isfinite, given)) and given[0] <= given[1]):
                raise UsageError(
                    f"{name} of {self.kind.name}: {given[0]:g} to {given[1]:g} is no range; expected LOW-HIGH"
                )
        if self.diameter_mm is not None and self.diameter_mm[0] <= 0:
            raise UsageError(f"diameter of {self.kind.name}: {self.diameter_mm[0]:g} mm; expected more than 0")


@dataclass(frozen=True, eq=False)
class PlantedScan:
    """A scan with lesions in it.

    Attributes:
        volume: The scan, on the grid and with the source of the one it was made from.
        masks: One mask per class of lesion, on the same grid; none overlaps another lesion.
        lesions: One entry per lesion, plain data for JSON: ``id`` (from 1), ``class``, ``also``, ``host``, ``side``,
            ``center_voxel`` and ``center_mm`` (RAS) of its mask, ``box_voxel`` (first and last voxel of each axis, the
            last not included), ``diameter_mm`` (planned), ``equivalent_diameter_mm`` and ``volume_ml`` (of its mask),
            ``contrast_hu`` (mean, weighted by share, less ``host_hu`` beside it), ``texture_hu``, ``rim_hu``,
            ``core_hu``, ``own``, ``edge_mm``, ``push_mm`` and ``touches`` (classes whose masks are next to it).
        missing: One line per lesion there was no place for.
    """

    volume: Volume
    masks: MaskSet
    lesions: tuple[Mapping[str, Any], ...]
    missing: tuple[str, ...] = ()


def plant_lesions(
    volume: Volume,
    organs: Mapping[str, Mask],
    requests: Sequence[Request],
    seed: int,
    *,
    mass_effect: bool = True,
) -> PlantedScan:
    """Plant lesions into a scan; the scan handed in is left as it is.

    Lesions neither overlap nor touch one another, spare vessels and lesions that have a mask, and what grows out of
    its host spares all other organs that have one. Lesion *i* of a seed is planned from its own source of chance.

    Args:
        volume: HU on any grid.
        organs: Class → mask on the grid of the scan; a `MaskSet` is read box by box.
        requests: One per lesion, in the order in which they find a place: large ones first leave room for small ones.
        seed: Decides everything.
        mass_effect: Let some lesions push away what is around them. Outlines of organs stay where they are.

    Raises:
        UsageError: No request, or a lesion too large for every host that is there.
        InputError: ``E-ORGAN``, no host of a lesion has a mask with a voxel; ``E-NOPLACE``, no lesion found a place.
        BadGeometry: A mask does not fit the grid.
    """
    if not requests:
        raise UsageError("no lesion asked for; give at least one")
    body = _Body(volume, organs)
    hosts = [_hosts_for(body, request) for request in requests]
    names = dict.fromkeys(name for request in requests for name in (request.kind.name, *request.kind.also))
    masks = MaskSet.empty(names, volume.geometry, volume.source)
    lesions: list[dict[str, Any]] = []
    missing: list[str] = []
    for index, (request, fitting) in enumerate(zip(requests, hosts, strict=True)):
        found = _best(body, request, fitting, np.random.default_rng([seed, index]), mass_effect=mass_effect)
        if found is None:
            missing.append(f"{request.kind.name}: no place for lesion {index + 1} in {' or '.join(fitting)}")
            continue
        lesions.append(_facts(found, len(lesions) + 1, body, volume.geometry))
        body.put(found)
        for name in (request.kind.name, *request.kind.also):
            put(masks, name, found.box, crop(masks, name, found.box) | found.mask)
    if not lesions:
        raise InputError(
            f"{volume.source.name}: none of {len(requests)} lesions found a place ({missing[0]}); "
            "ask for smaller or fewer ones",
            code="E-NOPLACE",
        )
    return PlantedScan(Volume(body.hu, volume.geometry, volume.source), masks, tuple(lesions), tuple(missing))


@dataclass(frozen=True, eq=False)
class _Site:
    """A host cut to its surroundings; masks belong into the box."""

    box: Box
    own: Mask
    avoid: Mask
    still: Mask


@dataclass(eq=False)
class _Body:
    """A scan that is being planted, and what is known of it."""

    volume: Volume
    organs: Mapping[str, Mask]
    hu: NDArray[np.float32] = field(init=False)
    taken: Mask = field(init=False)
    """Lesions planted, lesions that have a mask, and one voxel around them."""

    def __post_init__(self) -> None:
        self.hu = np.array(self.volume.hu, dtype=np.float32, order="K")
        self._bright: dict[str, tuple[Box, Mask]] = {}
        self._boxes: dict[str, Box] = {}
        if isinstance(self.organs, MaskSet):
            self._boxes = self.organs.bounds()
        self.taken = np.zeros_like(self.hu, dtype=bool)
        for name in KINDS:
            box = self.box(name)
            if box is not None:
                self._take(box, self.cut(box, name))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return self.volume.geometry.spacing_mm

    def cut(self, box: Box, *names: str) -> Mask:
        """The union of some masks in a box, a fresh array; classes without a mask are empty."""
        found = np.zeros([side.stop - side.start for side in box], dtype=bool)
        there = [name for name in names if name in self.organs]
        if not isinstance(self.organs, MaskSet):
            for name in there:
                found |= self.organs[name][box]
            return found
        # All classes of a word at once: reading the words is what takes time.
        for number, word in enumerate(self.organs.words):
            index = [self.organs.names.index(name) - number * BITS_PER_WORD for name in there]
            bits = sum(1 << i for i in index if 0 <= i < BITS_PER_WORD)
            if bits:
                found |= (word[box] & np.uint32(bits)) != 0
        return found

    def box(self, name: str) -> Box | None:
        """The box of a mask; None where it has no voxel."""
        if name in self.organs and name not in self._boxes and not isinstance(self.organs, MaskSet):
            found = ndimage.find_objects(self.organs[name].view(np.uint8))
            if found:
                self._boxes[name] = found[0]
        return self._boxes.get(name)

    def volume_mm3(self, name: str) -> float:
        box = self.box(name)
        return 0.0 if box is None else float(np.count_nonzero(self.cut(box, name))) * self.voxel_mm3

    @property
    def voxel_mm3(self) -> float:
        return 1000 * self.volume.geometry.voxel_ml

    def site(self, host: str, request: Request) -> _Site:
        """A host cut to where a lesion of it may be; it has a voxel."""
        most_mm = request.kind.diameter_mm[1] if request.diameter_mm is None else request.diameter_mm[1]
        # A lesion that stays inside still looks at the tissue around it, to tell noise from structure.
        room_mm = 1.5 * most_mm if request.kind.outward is not None else 0.25 * most_mm + 5
        box = joint_box([self._boxes[host]], [math.ceil(room_mm / step) for step in self.spacing_mm], self.hu.shape)
        own = self.cut(box, host)
        return _Site(box, own, self.avoid(host, own, request.kind, box), self.taken[box])

    def avoid(self, host: str, own: Mask, kind: LesionKind, box: Box) -> Mask:
        """What a lesion of a host may not cover in a box: vessels, lesions and one voxel around them, other organs."""
        others = [name for name in self.organs if name not in KINDS and name != host]
        outside = self.cut(box, *others) & ~own if kind.outward is not None else False
        taken: Mask = self.taken[box] | self.cut(box, *VESSELS) | outside
        if host == "liver":
            inner, bright = self._bright_in(host)
            taken[_within(inner, box)] |= bright
        return taken

    def _bright_in(self, host: str) -> tuple[Box, Mask]:
        """Vessels of a host told by their contrast, in its box."""
        if host not in self._bright:
            box = self._boxes[host]
            mask = self.cut(box, host)
            smooth = ndimage.uniform_filter(np.asarray(self.volume.hu[box], dtype=np.float32), 3)
            some = smooth[mask]
            bright = mask & (smooth > some.mean(dtype=np.float64) + _BRIGHT_SD * some.std(dtype=np.float64))
            pieces = components(bright)
            self._bright[host] = box, pieces.pick(np.flatnonzero(pieces.sizes * self.voxel_mm3 >= _SPECK_MM3))
        return self._bright[host]

    def put(self, found: Planted) -> None:
        self.hu[found.box] = np.maximum(found.hu, np.float32(AIR_HU))
        self._take(found.box, found.mask)

    def _take(self, box: Box, mask: Mask) -> None:
        wide = joint_box([box], (1, 1, 1), self.hu.shape)
        near = np.zeros([side.stop - side.start for side in wide], dtype=bool)
        near[_within(box, wide)] = mask
        self.taken[wide] |= ndimage.binary_dilation(near, _AROUND)


def _hosts_for(body: _Body, request: Request) -> list[str]:
    """Hosts that are there and large enough."""
    kind, name = request.kind, body.volume.source.name
    there = {host: body.volume_mm3(host) for host in kind.hosts}
    if not any(there.values()):
        known = [host for host in kind.hosts if host in body.organs]
        found = f"{' and '.join(known)} without a voxel" if known else "no mask of it"
        raise InputError(
            f"{name}: {kind.name} grows in {' or '.join(kind.hosts)}, found {found}; "
            "give organ masks that have it, or plant something else",
            code="E-ORGAN",
        )
    if request.diameter_mm is None:
        return [host for host, mm3 in there.items() if mm3]
    largest = {host: largest_diameter_mm(kind, mm3) for host, mm3 in there.items() if mm3}
    fitting = [host for host, most in largest.items() if request.diameter_mm[1] <= most]
    if not fitting:
        most = max(largest.values())
        raise UsageError(
            f"{kind.name} of {request.diameter_mm[1]:g} mm is too large for {' or '.join(largest)} of {name}; "
            f"the largest that fits has {math.floor(10 * most) / 10:g} mm"
        )
    return fitting


def _best(
    body: _Body, request: Request, hosts: Sequence[str], rng: np.random.Generator, *, mass_effect: bool
) -> Planted | None:
    """Of a few plans the first that has its volume, else the one that misses it least; None for none that will do."""
    best, miss = None, _LEAST
    sites: dict[str, _Site] = {}
    for _ in range(_TRIES):
        host = hosts[int(rng.integers(len(hosts)))]
        if host not in sites:
            sites[host] = body.site(host, request)
        site = sites[host]
        diameter_mm = None if request.diameter_mm is None else float(np.exp(rng.uniform(*np.log(request.diameter_mm))))
        contrast_hu = None if request.contrast_hu is None else float(rng.uniform(*request.contrast_hu))
        found = plant(
            body.hu[site.box], site.own, body.spacing_mm, request.kind, rng,
            diameter_mm=diameter_mm, contrast_hu=contrast_hu,
            avoid_XYZ=site.avoid, host=host, still_XYZ=site.still if mass_effect else None,
        )  # fmt: skip
        if found is None:
            continue
        planned_mm3 = ball_mm3(found.facts["diameter_mm"])
        off_mm3 = abs(float(np.count_nonzero(found.mask)) * body.voxel_mm3 - planned_mm3)
        # Small lesions cannot have their volume more exactly than to a voxel.
        wrong = max(0.0, off_mm3 - body.voxel_mm3) / planned_mm3
        if wrong < miss:
            best, miss = replace(found, box=_placed(found.box, site.box)), wrong
        if wrong <= _CLOSE_ENOUGH:
            break
    return best


def _facts(found: Planted, number: int, body: _Body, geometry: Geometry) -> dict[str, Any]:
    """The record of one lesion, before it is put into the body."""
    tight = _placed(ndimage.find_objects(found.mask.view(np.uint8))[0], found.box)
    center = [float(np.mean(i)) + o.start for i, o in zip(np.nonzero(found.mask), found.box, strict=True)]
    volume_ml = float(np.count_nonzero(found.mask)) * geometry.voxel_ml
    drawn = {name: value for name, value in found.facts.items() if name not in ("center_voxel", "volume_ml")}
    return {
        "id": number,
        "class": found.kind,
        "also": list(KINDS[found.kind].also),
        "host": found.host,
        "side": Vocabulary.default()[found.host].side,
        "center_voxel": [round(c, 2) for c in center],
        "center_mm": [round(float(c), 2) for c in geometry.to_world(center)],
        "box_voxel": [[side.start, side.stop] for side in tight],
        "volume_ml": round(volume_ml, 6),
        "equivalent_diameter_mm": round(ball_diameter_mm(1000 * volume_ml), 2),
        **drawn,
        "touches": _touches(found, tight, body),
    }


def _touches(found: Planted, tight: Box, body: _Body) -> list[str]:
    """Classes whose masks lie within a voxel of a lesion; its host is not among them."""
    wide = joint_box([tight], (1, 1, 1), body.hu.shape)
    near = np.zeros([side.stop - side.start for side in wide], dtype=bool)
    near[_within(tight, wide)] = found.mask[_within(tight, found.box)]
    near = ndimage.binary_dilation(near, _AROUND)
    return [name for name in body.organs if name != found.host and bool((body.cut(wide, name) & near).any())]


def _placed(inner: Box, outer: Box) -> Box:
    """A box within a box, as a box of the scan."""
    x, y, z = (slice(int(i.start + o.start), int(i.stop + o.start)) for i, o in zip(inner, outer, strict=True))
    return x, y, z


def _within(inner: Box, outer: Box) -> Box:
    """A box of the scan as a box within another."""
    x, y, z = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
    return x, y, z
