"""Synthetic scans as a dataset: other patients made of a labelled one, or bodies made of nothing.

What comes out is a folder like any downloaded dataset, with a card of its own, so that everything that works on
datasets works on it: check, train, evaluate.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from voxicon.core.orientation import to_ras_order
from voxicon.core.volume import AIR_HU
from voxicon.data.card import DatasetCard, LabelSet, Part, load_card
from voxicon.errors import BadGeometry, CardError, OutputError, UsageError
from voxicon.io.atomic import file_sha256, write_text
from voxicon.io.nifti import read_labels, read_volume, write_labels, write_volume
from voxicon.prep.resample import resample_values
from voxicon.synthesis.anatomy.complete import complete, resampled
from voxicon.synthesis.anatomy.deform import deform
from voxicon.synthesis.label_map import OUTSIDE, TISSUES, LabelMap
from voxicon.synthesis.lesions.plant import KINDS
from voxicon.synthesis.painting.paint import PHASES, paint
from voxicon.synthesis.painting.scanner import scan
from voxicon.synthesis.painting.vessels import grow_vessels
from voxicon.synthesis.phantom.body import draw_body
from voxicon.synthesis.phantom.frame import structure_names

Told = Callable[[int, int], None]
"""Bodies made, and how many there will be."""

CARD = "card.yaml"
_RECORD = "synthesized.json"

_VESSEL = next(value for value, name in TISSUES.items() if name == "hepatic_vessel")
_HIGHEST_HU = 3071


@dataclass(frozen=True)
class Wish:
    """What to make.

    Attributes:
        count: How many bodies.
        seed: Body *i* of a seed is always the same, however many are made.
        spacing_mm: Of the scans made, along all axes.
        strength: How far anatomy strays from the source; 0 leaves it as it is.
        real: Share of bodies that keep the source's own HU, warped, where the source has a CT.
        phase: Contrast phase to paint; drawn for each body when left out.
        variety: How far painted HU stray; 1 stays within what patients have.
    """

    count: int = 1
    seed: int = 0
    spacing_mm: float = 3.0
    strength: float = 1.0
    real: float = 0.5
    phase: Literal["plain", "arterial", "venous"] | None = None
    variety: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 1 or self.spacing_mm <= 0 or self.strength < 0 or not 0 <= self.real <= 1 or self.variety < 0:
            raise UsageError(
                f"cannot make {self.count} bodies at {self.spacing_mm} mm, strength {self.strength}, real {self.real}, "
                f"variety {self.variety}; count and spacing are above 0, strength and variety at least 0, real in 0..1"
            )
        if self.phase is not None and self.phase not in PHASES:
            raise UsageError(f"no phase {self.phase!r}; known: {', '.join(PHASES)}")


def bodies_like(
    labels: Path, card: DatasetCard, out: Path, wish: Wish, ct: Path | None = None, told: Told | None = None
) -> Path:
    """Other patients with the structures of one label map; returns the path of the card.

    Args:
        labels: A label map whose values the card explains.
        card: Of the dataset it is from.
        out: Folder of the new dataset.
        wish: What to make.
        ct: The scan the labels were drawn on: then some bodies keep its HU, and what the labels leave out is
            told from it. Without it the rest of the body is invented.
        told: Hears of every body made.

    Raises:
        InputError: A file cannot be read, or scan and labels lie on different grids.
        OutputError: The folder holds something already, or cannot be written.
        CardError: The card annotates nothing of what the label map holds.
    """
    source, hu = _read_source(labels, card, wish.spacing_mm, ct)
    there = {name for name, ml in source.volumes_ml().items() if ml > 0}
    known = {name: labels_ for name, labels_ in card.annotates.items() if labels_.side is None}
    if not there & {s for labels_ in known.values() for s in labels_.union}:
        raise CardError(f"{labels}: holds none of the structures that the card {card.id} annotates; give its own card")
    source, known = _in_our_names(source, known)
    first = complete(source, hu, np.random.default_rng([wish.seed, 1 << 20]))
    names = {**source.names, **first.names, **TISSUES}

    def draw(rng: np.random.Generator) -> tuple[LabelMap, NDArray[np.float32], bool]:
        # What is invented is invented anew for every body; what a CT shows is the same every time.
        whole = first if hu is not None else complete(source, None, rng)
        body, warped = deform(whole, hu, rng, wish.strength)
        if warped is not None and rng.random() < wish.real:
            return body, warped, True
        body = with_vessels(body, rng)
        return body, paint(body, rng, wish.phase, wish.variety), False

    new = _card_of(
        card.id,
        f"Synthetic patients after {card.title}",
        card,
        known,
        names,
        origin=f" from {card.source}",
        has_real=hu is not None,
    )
    facts = {"made_from": labels.name, "sha256": file_sha256(labels), "ct": ct.name if ct else None}
    return _write(out, wish, new, draw, facts, told)


def phantoms(region: str, out: Path, wish: Wish, told: Told | None = None) -> Path:
    """Bodies made of nothing; returns the path of the card.

    Args:
        region: torso, chest, abdomen or pelvis.
        out: Folder of the new dataset.
        wish: What to make; strength and real say nothing here.
        told: Hears of every body made.

    Raises:
        ConfigError: No such region.
        OutputError: The folder holds something already, or cannot be written.
    """
    base = load_card("totalsegmentator_v2")
    names = {**structure_names(), **TISSUES}
    drawn = set(names.values())
    known = {name: labels for name, labels in base.annotates.items() if drawn.issuperset(labels.union)}

    def draw(rng: np.random.Generator) -> tuple[LabelMap, NDArray[np.float32], bool]:
        body = draw_body(rng, wish.spacing_mm, region)
        return body, paint(body, rng, wish.phase, wish.variety), False

    new = _card_of(f"phantom_{region}", f"Synthetic bodies ({region})", base, known, names)
    return _write(out, wish, new, draw, {"made_from": region}, told)


def with_vessels(body: LabelMap, rng: np.random.Generator) -> LabelMap:
    """A body whose liver has vessels: those it has, or grown ones."""
    liver = body.mask(["liver"])
    if not liver.any() or body.mask(["hepatic_vessel"]).any():
        return body
    roots = {}
    portal = np.argwhere(body.mask(["portal_vein_and_splenic_vein"]))
    if len(portal):
        middle = np.argwhere(liver).mean(axis=0)
        nearest = portal[int(((portal - middle) ** 2).sum(axis=1).argmin())]
        roots["portal"] = (int(nearest[0]), int(nearest[1]), int(nearest[2]))
    tree = grow_vessels(liver, body.geometry.spacing_mm, rng, roots)
    values = body.values.copy()
    values[liver & (tree != 0)] = _VESSEL
    return LabelMap(values, {**body.names, _VESSEL: "hepatic_vessel"}, body.geometry)


def _read_source(
    labels: Path, card: DatasetCard, spacing_mm: float, ct: Path | None
) -> tuple[LabelMap, NDArray[np.float32] | None]:
    """Labels, and the scan if there is one, on one RAS grid of the spacing asked for."""
    raw, grid = read_labels(labels)
    if not ct:
        turned, ras = to_ras_order(raw.astype(np.int16), grid)
        return resampled(LabelMap(np.ascontiguousarray(turned), dict(card.raw), ras), spacing_mm), None
    volume = read_volume(ct)
    if not volume.geometry.same_grid(grid):
        raise BadGeometry(
            f"{labels}: lies on another grid than {ct}; give the labels drawn on this scan", code="E-GRID"
        )
    turned, ras = to_ras_order(raw.astype(np.int16), grid)
    source = resampled(LabelMap(np.ascontiguousarray(turned), dict(card.raw), ras), spacing_mm)
    return source, resample_values(volume.hu, volume.geometry, source.geometry, antialias=True, outside=AIR_HU)


def _in_our_names(source: LabelMap, known: Mapping[str, LabelSet]) -> tuple[LabelMap, dict[str, LabelSet]]:
    """Structures that make up one class of ours and no other become that class: tissue tables know its name."""
    users = Counter(s for labels in known.values() for s in {*labels.union, *labels.minus})
    ours = {s: name for name, labels in known.items() if not labels.minus for s in labels.union if users[s] == 1}
    names = {value: ours.get(name, name) for value, name in source.names.items()}
    first: dict[str, int] = {}
    merged = {value: first.setdefault(name, value) for value, name in sorted(names.items())}
    table = np.arange(max([0, *names]) + 1, dtype=np.int16)
    for value, kept in merged.items():
        table[value] = kept
    renamed = {
        name: LabelSet(
            union=tuple(dict.fromkeys(ours.get(s, s) for s in labels.union)),
            minus=tuple(dict.fromkeys(ours.get(s, s) for s in labels.minus)),
        )
        for name, labels in known.items()
    }
    values = table[np.where(np.isin(source.values, list(names)), source.values, 0)]
    return LabelMap(values, {value: name for name, value in first.items()}, source.geometry), renamed


def _card_of(
    source: str,
    title: str,
    card: DatasetCard,
    known: Mapping[str, LabelSet],
    names: Mapping[int, str],
    *,
    origin: str = "",
    has_real: bool = False,
) -> DatasetCard:
    """The card of a synthetic dataset: what its source annotates, vessels where they were painted, and no lesions."""
    annotates = dict(known)
    if "liver" in annotates:
        union = tuple(dict.fromkeys([*annotates["liver"].union, "hepatic_vessel"]))
        annotates["liver"] = LabelSet(union=union, minus=annotates["liver"].minus)
        annotates["hepatic_vessel"] = LabelSet(union=("hepatic_vessel",))
    for kind in KINDS.values():
        if any(host in annotates for host in kind.hosts):
            annotates.setdefault(kind.name, LabelSet(union=()))
    parts = [_part("painted", None)]
    if has_real:
        # What was never looked for in the source is not known to be absent from its own HU.
        parts.append(_part("real", tuple(known)))
    return DatasetCard(
        id=f"synthetic_{source}",
        title=title,
        source=f"made by voxicon synthesize{origin}",
        terms=card.terms if origin else "generated; as the package",
        labels_by="machine",
        phase="several",
        parts=tuple(parts),
        raw=dict(sorted(names.items())),
        annotates=annotates,
        repaint_hu=card.repaint_hu,
        defines=card.defines,
    )


def _part(folder: str, annotates: tuple[str, ...] | None) -> Part:
    where = f"{folder}/{{case}}"
    return Part(image=f"{where}/ct.nii.gz", label=f"{where}/labels.nii.gz", case=r"\w+", annotates=annotates)


def _write(
    out: Path,
    wish: Wish,
    card: DatasetCard,
    draw: Callable[[np.random.Generator], tuple[LabelMap, NDArray[np.float32], bool]],
    facts: Mapping[str, Any],
    told: Told | None,
) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: is there already; give a new folder, or remove it first")
    for number in range(wish.count):
        rng = np.random.default_rng([wish.seed, number])
        body, hu, is_real = draw(rng)
        scanned, shown = scan(hu, body.geometry.spacing_mm, rng)
        name = f"{'real' if is_real else 'painted'}_{number:04d}"
        folder = out / ("real" if is_real else "painted") / name
        folder.mkdir(parents=True, exist_ok=True)
        whole = np.rint(scanned).clip(AIR_HU, _HIGHEST_HU).astype(np.int16)
        write_volume(folder / "ct.nii.gz", whole, body.geometry)
        # Outside of the field of view there is nothing to be found.
        write_labels(folder / "labels.nii.gz", np.where(shown, body.values, OUTSIDE), body.geometry)
        if told is not None:
            told(number + 1, wish.count)
    record = {**facts, **wish.__dict__}
    write_text(out / _RECORD, json.dumps(record, indent=1))
    text = yaml.safe_dump(card.model_dump(exclude_defaults=True), sort_keys=False, allow_unicode=True)
    write_text(out / CARD, text)
    return out / CARD
