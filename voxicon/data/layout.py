"""A dataset's folder as downloaded becomes a list of cases, by the patterns of its card."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxicon.data.card import DatasetCard, Part, SplitName, card_ids, load_card
from voxicon.errors import CardError

_DEPTH = 2
"""Folders below the one given that are searched for a dataset: an archive often unpacks into a folder of its own."""

_SAME_ENDING = {".nii.gz": ".nii", ".nii": ".nii.gz"}


@dataclass(frozen=True)
class Case:
    """One scan of a dataset and where its labels lie.

    Attributes:
        card: The dataset.
        name: Case id within the dataset.
        image: CT file, or the folder of a DICOM series.
        label: Label map, or a folder of PNG slices.
        masks: Structure → its files or DICOM folders; structures without a file are not listed.
        annotates: Classes annotated in this case, as far as files tell.
        split: Official split, where there is one.
    """

    card: DatasetCard
    name: str
    image: Path
    label: Path | None
    masks: Mapping[str, tuple[Path, ...]]
    annotates: frozenset[str]
    split: SplitName | None = None

    @property
    def id(self) -> str:
        """Unique among all datasets."""
        return f"{self.card.id}/{self.name}"

    @property
    def patient(self) -> str:
        """Whose scan it is, unique among all datasets as far as the card can tell."""
        found = re.match(self.card.patient, self.name) if self.card.patient else None
        return f"{self.card.id}/{found.group(1) if found else self.name}"


@dataclass(frozen=True)
class Dataset:
    """What was found of a dataset.

    Attributes:
        card: Its card.
        folder: The folder that the card's patterns are relative to.
        cases: Scans with labels, by case id.
        unlabeled: Scans without labels.
        orphans: Labels without a scan.
        origin: Path of the card where it is not one that ships.
    """

    card: DatasetCard
    folder: Path
    cases: tuple[Case, ...]
    unlabeled: tuple[Path, ...] = field(default=())
    orphans: tuple[Path, ...] = field(default=())
    origin: str = ""


def find_dataset(card: DatasetCard, folder: Path, origin: str = "") -> Dataset:
    """The dataset of a card in a folder, or up to two levels below it; `origin` is kept as it is.

    Raises:
        CardError: No labeled scan lies where the card expects one, a case id occurs twice, or the table of
            splits is damaged.
    """
    candidates = list(_candidates(folder))
    found = [_scan(card, root) for root in candidates if _has_image(card, root)]
    best = max(found, key=lambda dataset: len(dataset.cases), default=None)
    if best is None or not best.cases:
        labeled = [part for part in card.parts if part.label or part.masks]
        expected = " or ".join(f"{part.image} with {part.label or part.masks}" for part in labeled)
        raise CardError(
            f"{card.id}: no labeled scan in {folder}; its card expects {expected} there; "
            f"see {card.source}, or give the folder that holds them"
        )
    return replace(best, origin=origin)


def recognize(folder: Path) -> Dataset:
    """The dataset in a folder, told by which shipped card's patterns fit most cases and most of their labels.

    Raises:
        CardError: No card fits, or two fit equally well.
    """
    candidates = list(_candidates(folder))
    found: list[Dataset] = []
    for card in map(load_card, card_ids()):
        fits = [_scan(card, root) for root in candidates if _has_image(card, root)]
        found.extend(dataset for dataset in fits if dataset.cases)
    if not found:
        raise CardError(
            f"{folder}: no known dataset here; known are {', '.join(card_ids())}; "
            "name the card as CARD=FOLDER, where CARD may be a .yaml file of your own"
        )
    most = max(map(_fit, found))
    best = [dataset for dataset in found if _fit(dataset) == most]
    if len(best) > 1:
        names = ", ".join(f"{d.card.id} ({d.folder})" for d in best)
        raise CardError(f"{folder}: fits {names} equally well; name the one that is meant as CARD=FOLDER")
    return best[0]


def _fit(dataset: Dataset) -> tuple[int, int, int]:
    """Cases explained, classes found in them, and then rather the card that promises no more than that."""
    found = sum(len(case.annotates) for case in dataset.cases)
    return len(dataset.cases), found, -len(dataset.card.annotates)


def _candidates(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    if not folder.is_dir():
        raise CardError(f"{folder}: no such folder; give the folder a dataset was unpacked into")
    yield folder
    if depth:
        for child in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
            yield from _candidates(child, depth - 1)


def _has_image(card: DatasetCard, root: Path) -> bool:
    return any(next(_matches(part.image, part, root), None) is not None for part in card.parts)


def _scan(card: DatasetCard, root: Path) -> Dataset:
    official = _official_splits(card, root)
    cases: dict[str, Case] = {}
    unlabeled, orphans = [], []
    for part in card.parts:
        images: dict[str, Path] = {}
        for name, image in _matches(part.image, part, root):
            if images.setdefault(name, image) != image:
                raise CardError(f"{card.id}: case {name} lies twice, as {images[name]} and {image}; remove one")
        for name, image in images.items():
            case = _case(card, part, root, name, image, official)
            if case is None:
                unlabeled.append(image)
            elif cases.setdefault(name, case) != case:
                raise CardError(f"{card.id}: case {name} lies twice, as {cases[name].image} and {image}; remove one")
        if part.label is not None:
            orphans += [path for name, path in _matches(part.label, part, root) if name not in images]
    return Dataset(card, root, tuple(cases[name] for name in sorted(cases)), tuple(unlabeled), tuple(orphans))


def _case(
    card: DatasetCard, part: Part, root: Path, name: str, image: Path, official: Mapping[str, SplitName]
) -> Case | None:
    annotates = frozenset(part.annotates if part.annotates is not None else card.annotates)
    split = official.get(name, part.split)
    if part.label is not None:
        found = _expand(part.label, name, root)
        if len(found) > 1:
            raise CardError(f"{card.id}: labels of case {name} lie twice, as {found[0]} and {found[1]}; remove one")
        return Case(card, name, image, found[0], {}, annotates, split) if found else None
    if part.masks is None:
        return None
    masks = {}
    for structure in card.raw.values():
        patterns = [part.masks.replace("{structure}", n) for n in card.names.get(structure, (structure,))]
        files = tuple(dict.fromkeys(path for pattern in patterns for path in _expand(pattern, name, root)))
        if files:
            masks[structure] = files
    if not masks:
        return None
    if card.missing == "unknown":
        annotates = frozenset(
            c for c in annotates if {*card.annotates[c].union, *card.annotates[c].minus} <= set(masks)
        )
    return Case(card, name, image, None, masks, annotates, split)


def _matches(pattern: str, part: Part, root: Path) -> Iterator[tuple[str, Path]]:
    """Case ids and paths that fit a pattern with ``{case}`` in it, sorted; hidden files never do."""
    shape = re.compile(_to_regex(pattern, part.case))
    for path in _glob(pattern.replace("{case}", "*"), root):
        found = shape.fullmatch(path.relative_to(root).as_posix())
        if found and part.holds(found["case"]):
            yield found["case"], path


def _expand(pattern: str, name: str, root: Path) -> list[Path]:
    """Files of one case."""
    exact = pattern.replace("{case}", name)
    if "*" not in exact:
        return [path for path in _spellings(exact, root) if path.exists()][:1]
    return _glob(exact, root)


def _glob(pattern: str, root: Path) -> list[Path]:
    wants_folder = pattern.endswith("/")
    found = {path for spelled in _spelled(pattern.rstrip("/")) for path in root.glob(spelled)}
    visible = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    return sorted(path for path in visible if path.is_dir() == wants_folder)


def _spelled(pattern: str) -> tuple[str, ...]:
    for ending, other in _SAME_ENDING.items():
        if pattern.endswith(ending):
            return pattern, pattern.removesuffix(ending) + other
    return (pattern,)


def _spellings(path: str, root: Path) -> list[Path]:
    return [root / spelled for spelled in _spelled(path.rstrip("/"))]


def _to_regex(pattern: str, case: str) -> str:
    pieces, seen = [], False
    for piece in re.split(r"(\{case\}|\*)", pattern.rstrip("/")):
        if piece == "{case}":
            pieces.append("(?P=case)" if seen else f"(?P<case>{case})")
            seen = True
        else:
            pieces.append("[^/]*" if piece == "*" else re.escape(piece))
    return re.sub(r"(\\\.nii)(\\\.gz)?$", r"\1(\\.gz)?", "".join(pieces))


def _official_splits(card: DatasetCard, root: Path) -> dict[str, SplitName]:
    splits = card.splits
    official: dict[str, SplitName] = {}
    if splits.file is not None and (root / splits.file).is_file():
        with (root / splits.file).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=splits.delimiter)
            if rows.fieldnames is None or not {splits.case, splits.split} <= set(rows.fieldnames):
                raise CardError(
                    f"{root / splits.file}: has no columns {splits.case!r} and {splits.split!r}, "
                    f"found {rows.fieldnames}; the card {card.id} expects them"
                )
            for row in rows:
                given = row[splits.split]
                if given in ("train", "val", "test"):
                    official[row[splits.case]] = given  # type: ignore[assignment]
    if splits.val or splits.test:
        official |= dict.fromkeys(splits.val, "val")
        official |= dict.fromkeys(splits.test, "test")
    return official
