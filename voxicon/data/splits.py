"""Splits that cannot leak: scans of one patient, and copies of one scan, always land on the same side.

Public datasets reuse each other's scans: LiTS and MSD-Liver are the same CTs under other official splits, and
AbdomenCT-1K takes its scans from several others. The unit that is dealt is therefore the *group*: all scans
that are tied together, over any number of steps, by a patient or by a duplicate.

Every group has a rank, a hash of the seed and of its scans' ids. It depends neither on the order of the input
nor on any other group, so a dataset added later moves nothing in datasets that it shares no scan with.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from voxicon.errors import ConfigError

Split = Literal["train", "val", "test"]
Group = frozenset[str]

_MOST_HELD_OUT: tuple[Split, ...] = ("test", "val", "train")


@dataclass(frozen=True)
class Scan:
    """One scan of a dataset.

    Attributes:
        id: Unique over the whole assembly, such as ``lits/liver_10``.
        dataset: Id of the dataset's card.
        patient: Unique within its dataset only: patient 7 of two datasets is two people, until a duplicate
            scan says otherwise.
        official: The split its makers put it in, where there is one.
    """

    id: str
    dataset: str
    patient: str
    official: Split | None = None


@dataclass(frozen=True)
class Conflict:
    """A group whose official splits disagree, and where it went.

    Attributes:
        official: Scan id → official split, of the scans that have one.
        chosen: The most held-out of them, where the whole group went.
    """

    official: Mapping[str, Split]
    chosen: Split

    def __str__(self) -> str:
        members = ", ".join(f"{name} ({split})" for name, split in sorted(self.official.items()))
        return f"official splits disagree about the same scan or patient: {members}; all go to {self.chosen}"


@dataclass(frozen=True)
class Splits:
    """Where every scan belongs.

    Attributes:
        split: Scan id → train, val or test.
        fold: Scan id → 0 … n_folds - 1, for every scan that is not in test. To train on fold k, hold its
            scans out and take the other folds.
        conflicts: Groups whose official splits disagreed.
    """

    split: Mapping[str, Split]
    fold: Mapping[str, int]
    conflicts: tuple[Conflict, ...] = ()

    def members(self, split: Split) -> tuple[str, ...]:
        """Sorted ids of the scans in one split."""
        return tuple(sorted(name for name, side in self.split.items() if side == split))

    def check(self, scans: Sequence[Scan], groups: Iterable[Set[str]]) -> list[str]:
        """What is wrong with splits or folds, one line each (see `leaks`); empty when all is well."""
        development = [scan for scan in scans if self.split.get(scan.id) in {"train", "val"}]
        return leaks(self.split, scans, groups) + [f"fold: {line}" for line in leaks(self.fold, development, groups)]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, ids in order."""
        return {
            "split": dict(sorted(self.split.items())),
            "fold": dict(sorted(self.fold.items())),
            "conflicts": [
                {"official": dict(sorted(one.official.items())), "chosen": one.chosen} for one in self.conflicts
            ],
        }


def join(sets: Iterable[Set[str]]) -> list[Group]:
    """Sets that share a member become one, over any number of steps; sorted by their smallest member."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for names in sets:
        first = next(iter(names), "")
        for name in names:
            root[find(name)] = find(first)
    joined: dict[str, set[str]] = defaultdict(set)
    for name in root:
        joined[find(name)].add(name)
    return sorted((frozenset(names) for names in joined.values()), key=min)


def scan_groups(scans: Sequence[Scan], groups: Iterable[Set[str]]) -> list[Group]:
    """What must stay together: scans tied by a patient or a duplicate; every scan is in one group.

    Args:
        scans: All scans of the assembly.
        groups: Ids of scans that are the same (`voxicon.data.fingerprint.duplicate_groups`).

    Raises:
        ConfigError: Two scans have one id, or a group names a scan that is not there.
    """
    patients: dict[tuple[str, str], set[str]] = defaultdict(set)
    for scan in scans:
        patients[scan.dataset, scan.patient].add(scan.id)
    known = Counter(scan.id for scan in scans)
    repeated = sorted(name for name, count in known.items() if count > 1)
    if repeated:
        raise ConfigError(f"{len(repeated)} scan id(s) occur twice, such as {repeated[0]!r}; every scan needs its own")
    duplicates = [frozenset(group) for group in groups]
    strangers = sorted(frozenset().union(*duplicates) - set(known))
    if strangers:
        raise ConfigError(
            f"duplicate groups name {len(strangers)} scan(s) that are not among the scans, such as {strangers[0]!r}; "
            "find the duplicates again"
        )
    return join([*patients.values(), *duplicates])


def make_splits(
    scans: Sequence[Scan],
    groups: Iterable[Set[str]] = (),
    seed: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    n_folds: int = 5,
    keep_official: bool = True,
) -> Splits:
    """Train, val and test, and folds over what is not test, without one scan or patient on two sides.

    Official splits are kept; where they disagree within a group, the most held-out one wins and the conflict
    is reported. The other groups are dealt by their rank, dataset after dataset, the smallest first. In each
    dataset, fractions are of all its groups (patients, not scans), rounded half up, and groups that are held
    out already, by an official split or by a smaller dataset that shares them, count. One group that is
    left to deal always stays in train when train would be empty otherwise.

    Folds hold equally many groups of each dataset, give or take one, as long as a dataset has enough groups
    of its own to level what the groups it shares with others left uneven.

    Args:
        scans: All scans of the assembly, in any order. May be empty.
        groups: Ids of scans that are the same; may overlap.
        seed: Another number deals another hand.
        val_fraction: Share of each dataset's groups for val.
        test_fraction: Share of each dataset's groups for test.
        n_folds: At least 2.
        keep_official: False deals all groups anew.

    Raises:
        ConfigError: Two scans have one id, a group names a scan that is not there, fractions are not of
            [0, 1) with something left for train, or there are fewer than 2 folds.
    """
    if min(val_fraction, test_fraction) < 0 or not val_fraction + test_fraction < 1:
        raise ConfigError(
            f"val_fraction {val_fraction:g} and test_fraction {test_fraction:g}: expected shares of at least 0 "
            "that leave something for train; lower one of them"
        )
    if n_folds < 2:
        raise ConfigError(f"n_folds is {n_folds}; expected at least 2, so that something is held out")
    units = scan_groups(scans, groups)
    by_id = {scan.id: scan for scan in scans}
    chosen: dict[Group, Split] = {}
    conflicts: list[Conflict] = []
    for unit in units if keep_official else []:
        official = {name: side for name in unit if (side := by_id[name].official) is not None}
        if official:
            chosen[unit] = next(side for side in _MOST_HELD_OUT if side in official.values())
        if len(set(official.values())) > 1:
            conflicts.append(Conflict(official, chosen[unit]))

    datasets = {unit: frozenset(by_id[name].dataset for name in unit) for unit in units}
    ranked = sorted(units, key=lambda unit: _rank(seed, unit))
    _deal(ranked, datasets, chosen, {"test": test_fraction, "val": val_fraction})
    folds = _fold([unit for unit in ranked if chosen[unit] != "test"], datasets, n_folds, seed)
    return Splits(
        split={name: chosen[unit] for unit in units for name in sorted(unit)},
        fold={name: folds[unit] for unit in units if unit in folds for name in sorted(unit)},
        conflicts=tuple(conflicts),
    )


def leaks(assignment: Mapping[str, object], scans: Sequence[Scan], groups: Iterable[Set[str]]) -> list[str]:
    """What is wrong with an assignment of scans to splits or folds, one line each; empty when all is well.

    Wrong is a group (see `scan_groups`) on two sides, a scan without a side, and a side for an unknown scan.
    """
    known = {scan.id for scan in scans}
    problems = [f"{name} has no place" for name in sorted(known - set(assignment))]
    problems += [f"{name} has a place and is not among the scans" for name in sorted(set(assignment) - known)]
    present = [set(group) & known for group in groups]
    for unit in scan_groups(scans, present):
        places = {name: assignment[name] for name in sorted(unit) if name in assignment}
        if len(set(places.values())) > 1:
            members = ", ".join(f"{name} ({place})" for name, place in places.items())
            problems.append(f"one scan or patient on two sides: {members}")
    return problems


def _hash(seed: int, text: str) -> str:
    return sha256(f"{seed}\n{text}".encode()).hexdigest()


def _rank(seed: int, unit: Group) -> str:
    # The smallest hash, not the hash of all members: a copy that joins the group later seldom changes it.
    return min(_hash(seed, name) for name in unit)


def _deal(
    ranked: Sequence[Group],
    datasets: Mapping[Group, frozenset[str]],
    chosen: dict[Group, Split],
    fractions: Mapping[Split, float],
) -> None:
    """Give every group without a side one, in place; `ranked` is the order in which groups are held out."""
    units_of: dict[str, list[Group]] = defaultdict(list)
    for unit in ranked:
        for dataset in datasets[unit]:
            units_of[dataset].append(unit)
    # The smallest first: it has the least choice, and a larger one can make up for what it was dealt.
    for dataset in sorted(units_of, key=lambda name: (len(units_of[name]), name)):
        units = units_of[dataset]
        sides = Counter(chosen[unit] for unit in units if unit in chosen)
        open_units = [unit for unit in units if unit not in chosen]
        spare = len(open_units) - (0 if sides["train"] else 1)
        for side, fraction in fractions.items():
            missing = math.floor(fraction * len(units) + 0.5) - sides[side]
            n = max(0, min(missing, spare))
            spare -= n
            chosen.update(dict.fromkeys(open_units[:n], side))
            open_units = open_units[n:]
        chosen.update(dict.fromkeys(open_units, "train"))


def _fold(
    ranked: Sequence[Group], datasets: Mapping[Group, frozenset[str]], n_folds: int, seed: int
) -> dict[Group, int]:
    """A fold for every group: the one where its datasets have the fewest groups so far.

    Groups of several datasets come first, so that the others can level what these leave uneven.
    """
    held: Counter[tuple[str, int]] = Counter()
    folds: dict[Group, int] = {}
    for unit in sorted(ranked, key=lambda unit: len(datasets[unit]) == 1):
        mine = sorted(datasets[unit])
        # Among equals a hash decides: were it the number, every small dataset would sit in fold 0.
        fold = min(range(n_folds), key=lambda k: (sum(held[name, k] for name in mine), _hash(seed, f"{mine[0]} {k}")))
        folds[unit] = fold
        held.update((name, fold) for name in mine)
    return folds
