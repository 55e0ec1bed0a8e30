"""Validation by known truth: lesions are planted into scans believed to have none, and weights are asked to find them.

A scan is looked at in rounds. Round 0 takes it as it is; every later one takes a *variation*: stretched or shrunk a
little along each axis, moved, brightened or darkened, and noisier. In a round the weights see it untouched, until
enough untouched scans were seen, and with as many of the lesions still wanted as there is room for, all kinds at once
and far enough apart that each is judged alone. Both looks are at the same variation, so that what tells them apart is
the lesions. Everything comes from one seed.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

import numpy as np

from voxicon.core.components import Mask
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.data.cases import read_case
from voxicon.data.layout import Case
from voxicon.errors import ConfigError, VoxiconError
from voxicon.evaluate.planted import BINS_MM, Look, PlantedLesion, bin_name, judge, lesions_csv, summarize_planted
from voxicon.evaluate.tumors import CANDIDATE, plain
from voxicon.infer.cleanup import candidates
from voxicon.io.atomic import write_text
from voxicon.result import DISCLAIMER
from voxicon.study import SPLITS, scans_of
from voxicon.synthesis.lesions.kinds import KINDS, kind_of
from voxicon.synthesis.trials import Trial, Wanted, fill, vary
from voxicon.version import __version__

if TYPE_CHECKING:
    from voxicon.plan import Plan
    from voxicon.segmenter import Segmenter

_PER_ROUND = 2
"""Lesions of one kind and bin in one round, so that a round has all sizes."""

_IDLE = 3
"""Rounds without any lesion after which no more is tried."""

_FEWEST_ROUNDS = 10
"""At which a scan may stop short of its share, where an organ has room for few lesions; twice the share if more."""

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class PlantedConfig:
    """What is asked.

    Attributes:
        lesions: Words for the lesions to plant; all that can be planted and that the weights find when empty.
        bins_mm: Diameters, each bin from its first up to, not including, its second.
        contrast_hu: Difference to the host, for kinds whose look depends on it; drawn for each lesion when None.
        per_bin: Lesions wanted of each kind in each bin, and untouched scans wanted, over all scans together.
        seed: Of everything random.
        split: Whose scans are used.
        organs: Found by the weights, or labelled: tells what is lost by not finding the organ that a lesion is in.

    Raises:
        ConfigError: A setting makes no sense.
    """

    lesions: tuple[str, ...] = ()
    bins_mm: tuple[tuple[float, float], ...] = BINS_MM
    contrast_hu: float | None = None
    per_bin: int = 20
    seed: int = 0
    split: str = "test"
    organs: Literal["weights", "labels"] = "weights"

    def __post_init__(self) -> None:
        edges = [edge for one in self.bins_mm for edge in one]
        ascending = all(low < high for low, high in self.bins_mm) and edges == sorted(edges)
        if not self.bins_mm or not ascending or edges[0] <= 0 or not math.isfinite(edges[-1]):
            raise ConfigError(
                f"--diameters {', '.join(f'{low:g}-{high:g}' for low, high in self.bins_mm)}: "
                "expected ascending ranges in mm that do not overlap, such as 3-5,5-10,10-20"
            )
        if self.contrast_hu is not None and not 0 < abs(self.contrast_hu) < float("inf"):
            raise ConfigError(f"--contrast-hu {self.contrast_hu}: expected a difference, such as -40 for darker")
        if self.per_bin < 1:
            raise ConfigError(f"--per-bin {self.per_bin}: expected at least 1 lesion")
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: expected 0 or more")
        if self.split not in SPLITS[:3]:
            raise ConfigError(f"--split {self.split!r}: lesions need organs to grow in; expected train, val or test")


@dataclass(kw_only=True)
class PlantedStudy:
    """Everything found so far.

    Attributes:
        plan: Datasets and splits.
        segmenter: The weights.
        config: What was asked.
        kinds: Classes planted.
        cases: The scans used.
        lesions: One per lesion planted.
        looks: One per look and class.
        failed: Case id → why it could not be used.
        rounds: Case id → rounds begun.
        seen: Ids of scans that the weights say they learned from.
        believed: Kinds of which a scan's card does not say that there is none.
        left_out: What a reader of the numbers should know about scans and kinds that were not used, each line once.
    """

    plan: Plan
    segmenter: Segmenter
    config: PlantedConfig
    kinds: tuple[str, ...]
    cases: tuple[Case, ...]
    lesions: list[PlantedLesion] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    believed: set[str] = field(default_factory=set)
    left_out: dict[str, None] = field(default_factory=dict)


def prepare_planted(plan: Plan, segmenter: Segmenter, config: PlantedConfig) -> PlantedStudy:
    """Everything that can be wrong before the first scan is read, checked.

    Args:
        plan: Its datasets annotate the organs that lesions are planted in.
        segmenter: The weights to be judged.
        config: What is asked.

    Raises:
        UnknownClass: A word means nothing, or a class that the weights do not find.
        ConfigError: A class cannot be planted, no scan is in the split, or none has an organ to plant in.
    """
    asked = segmenter.resolve_classes(config.lesions) if config.lesions else ()
    kinds = tuple(kind_of(name).name for name in asked) or tuple(k for k in KINDS if k in segmenter.classes)
    if not kinds:
        raise ConfigError(
            f"weights {segmenter.name!r} find no lesion that can be planted ({', '.join(KINDS)}); give others"
        )
    scans = scans_of(plan, config.split)
    if not scans:
        counts = ", ".join(f"{name} {len(scans_of(plan, name))}" for name in SPLITS[:3])
        raise ConfigError(
            f"{plan.recipe.name}: no scan in the split {config.split!r} (there are: {counts}); use --split"
        )
    homeless = [kind for kind in kinds if not any(set(KINDS[kind].hosts) & case.annotates for case in scans)]
    if homeless and (asked or len(homeless) == len(kinds)):
        hosts = " or ".join(KINDS[homeless[0]].hosts)
        raise ConfigError(
            f"{plan.recipe.name}: no scan of {config.split!r} has {hosts} annotated, where {homeless[0]} grows; "
            "give scans whose card annotates it, or other lesions by -c"
        )
    kinds = tuple(kind for kind in kinds if kind not in homeless)
    hosts_of_all = {host for kind in kinds for host in KINDS[kind].hosts}
    cases = tuple(case for case in scans if hosts_of_all & case.annotates)
    return PlantedStudy(
        plan=plan, segmenter=segmenter, config=config, kinds=kinds, cases=cases,
        left_out=dict.fromkeys(f"{kind}: no scan has an organ for it annotated" for kind in homeless),
    )  # fmt: skip


def run_planted(study: PlantedStudy, told: Told = lambda what, done, total: None) -> None:
    """Plant and look, scan after scan, into `study`. A scan that cannot be used is noted and the next one starts.

    Args:
        study: From `prepare_planted`.
        told: Hears of the progress.
    """
    _pass(study, study.cases, told)
    if _is_short(study):
        # What scans without room left undone is shared by those that had some.
        able = {(lesion.dataset, lesion.case) for lesion in study.lesions}
        _pass(study, [case for case in study.cases if (case.card.id, case.name) in able], told)


def _pass(study: PlantedStudy, cases: Sequence[Case], told: Told) -> None:
    for index, case in enumerate(cases):
        told(case.id, index, len(cases))
        try:
            _work(study, case, len(cases) - index)
        except (VoxiconError, OSError) as error:
            study.failed[case.id] = str(error)


def _is_short(study: PlantedStudy) -> bool:
    have = Counter((lesion.name, lesion.bin) for lesion in study.lesions)
    quiet = Counter(look.name for look in study.looks if not look.planted)
    wanted = [have[kind, bin_name(*one)] for kind in study.kinds for one in study.config.bins_mm]
    return min(*wanted, *(quiet[kind] for kind in study.kinds)) < study.config.per_bin


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan with the classes that may be planted into it, and their organs."""

    case: Case
    volume: Volume
    kinds: tuple[str, ...]
    hosts: Mapping[str, Mask]


def _work(study: PlantedStudy, case: Case, scans_left: int) -> None:
    """Round after round of one scan until it has given its share, or has no more room."""
    config, scan = study.config, _open(study, case)
    missing = _missing(study, scan, scans_left)
    quiet = Counter(look.name for look in study.looks if not look.planted)
    untouched = max((math.ceil((config.per_bin - quiet[kind]) / scans_left) for kind in scan.kinds), default=0)
    most = max([_FEWEST_ROUNDS, untouched, *(2 * n for n in missing.values())])
    idle, first = 0, study.rounds.get(case.id, 0)
    for number in range(first, first + most):
        wanted = [one for one, n in missing.items() for _ in range(min(n, _PER_ROUND))]
        if number >= first + untouched and (not wanted or idle >= _IDLE):
            return
        study.rounds[case.id] = number + 1
        rng = np.random.default_rng([config.seed, crc32(case.id.encode()), number])
        patient = vary(scan.volume, rng) if number else scan.volume
        if number < first + untouched:
            _look(study, scan, patient, number, ())
        filled, trials = fill(patient, scan.hosts, wanted, rng, config.contrast_hu)
        idle = 0 if trials else idle + 1
        if trials:
            _look(study, scan, filled, number, trials)
        for trial in trials:
            missing[trial.wanted] -= 1


def _missing(study: PlantedStudy, scan: _Scan, scans_left: int) -> dict[Wanted, int]:
    """A scan's share of the lesions that are still to be planted, large ones first."""
    have = Counter((lesion.name, lesion.bin) for lesion in study.lesions)
    return {
        Wanted(kind_of(kind), *one): math.ceil((study.config.per_bin - have[kind, bin_name(*one)]) / scans_left)
        for one in reversed(study.config.bins_mm)
        for kind in scan.kinds
    }


def _open(study: PlantedStudy, case: Case) -> _Scan:
    """A scan, without the kinds of which it has lesions of its own or no organ in view."""
    organs = tuple(dict.fromkeys(host for kind in study.kinds for host in KINDS[kind].hosts if host in case.annotates))
    volume, _, targets = read_case(case, (*organs, *(kind for kind in study.kinds if kind in case.annotates)))
    hosts = {name: targets.masks[name] for name in organs}
    hosts = {name: mask for name, mask in hosts.items() if mask.any()}
    kinds = []
    for kind in study.kinds:
        if not any(host in hosts for host in KINDS[kind].hosts):
            study.left_out[f"{case.id}: nothing of {' and '.join(KINDS[kind].hosts)} is known: no {kind}"] = None
        elif kind in case.annotates and targets.masks.count(kind):
            study.left_out[f"{case.id}: has a {kind} of its own, so none is planted"] = None
        else:
            kinds.append(kind)
            study.believed |= {kind} - case.annotates
    if volume.source.sha256 and volume.source.sha256 in json.dumps(study.segmenter.checkpoint.metadata.cards):
        study.seen.add(case.id)
    return _Scan(case, volume, tuple(kinds), hosts)


def _look(study: PlantedStudy, scan: _Scan, volume: Volume, number: int, trials: Sequence[Trial]) -> None:
    """Let the weights look once, and judge every class."""
    vocabulary, able = study.segmenter.vocabulary, study.segmenter.classes
    around = tuple(organ for kind in scan.kinds for organ in vocabulary[kind].cleanup.of if organ in able)
    labelled = MaskSet.from_masks(scan.hosts, volume.geometry) if study.config.organs == "labels" else None
    found = study.segmenter.segment(volume, (*scan.kinds, *around), probabilities=scan.kinds, organs=labelled)
    counted = candidates(found.probabilities, found.masks, found.vocabulary, CANDIDATE)
    place: dict[str, Any] = {"dataset": scan.case.card.id, "case": scan.case.name, "round": number}
    for kind in scan.kinds:
        own = [trial for trial in trials if kind in (trial.wanted.kind.name, *trial.wanted.kind.also)]
        levels = np.where(counted[kind], found.probabilities[kind], 0)
        verdicts, false_findings, score = judge([(t.box, t.mask) for t in own], found.masks[kind], levels)
        study.looks.append(
            Look(
                **place,
                name=kind,
                planted=bool(trials),
                false_findings=false_findings,
                score=score,
                predicted_ml=found.masks.volume_ml(kind),
            )
        )
        study.lesions += [
            PlantedLesion(**place, **asdict(verdict), **_facts(trial, volume))
            for trial, verdict in zip(own, verdicts, strict=True)
            if trial.wanted.kind.name == kind
        ]


def _facts(trial: Trial, volume: Volume) -> dict[str, Any]:
    """What is known of a lesion before anybody looks for it."""
    x, y, z = volume.geometry.to_world(np.array([trial.center_voxel]))[0].tolist()
    same = ("host", "seed", "planned_mm", "diameter_mm", "volume_ml", "contrast_hu")
    return {
        **{name: getattr(trial, name) for name in same},
        "name": trial.wanted.kind.name,
        "bin": bin_name(trial.wanted.low_mm, trial.wanted.high_mm),
        "center_mm": (x, y, z),
    }


def summary(study: PlantedStudy, command: str = "") -> dict[str, Any]:
    """Everything a page or a program wants to know, as plain data for JSON.

    ``lesions`` → class → ``as_delivered`` → ``sensitivity`` → bin is where most readers look; see
    `voxicon.evaluate.planted.summarize_planted`. ``rows`` has every lesion, ``looks`` every look.

    Args:
        study: After `run_planted`.
        command: How to get these numbers again.
    """
    config, segmenter = study.config, study.segmenter
    return {
        "voxicon": __version__,
        "notice": DISCLAIMER,
        "name": study.plan.recipe.name,
        "command": command,
        "weights": {"name": segmenter.name, "sha256": segmenter.checkpoint.sha256},
        "split": config.split,
        "seed": config.seed,
        "per_bin": config.per_bin,
        "contrast_hu": config.contrast_hu,
        "organs": config.organs,
        "bins": [bin_name(*one) for one in config.bins_mm],
        "scans": sorted({f"{look.dataset}/{look.case}" for look in study.looks}),
        "lesions": {
            kind: summarize_planted(
                [lesion for lesion in study.lesions if lesion.name == kind],
                [look for look in study.looks if look.name == kind],
                config.bins_mm,
            )
            for kind in study.kinds
        },
        "rows": plain(study.lesions),
        "looks": plain(study.looks),
        "failed": study.failed,
        "seen_in_training": sorted(study.seen),
        "notes": _notes(study),
    }


def _notes(study: PlantedStudy) -> list[str]:
    """One line each: what a reader of the numbers should know."""
    config, notes = study.config, []
    scans = {(look.dataset, look.case) for look in study.looks}
    notes.append(
        f"variations of {len(scans)} scan(s): for other patients all intervals are too narrow, the fewer scans the more"
    )
    if study.seen:
        notes.append(
            f"{len(study.seen)} of the scans are among those the weights learned from: specificity is fit, not accuracy"
        )
    if config.organs == "labels":
        notes.append("lesions were looked for in the labelled organs, not in those that the weights find")
    if study.believed:
        notes.append(
            f"no card says that scans have no {', '.join(sorted(study.believed))}: they are believed to have none"
        )
    own = [kind for kind in study.kinds if not KINDS[kind].contrast_hu]
    if config.contrast_hu is not None and own:
        notes.append(f"{', '.join(own)}: values of their own, whatever the contrast asked for")
    have = Counter((lesion.name, lesion.bin) for lesion in study.lesions)
    for kind in study.kinds:
        short = [
            f"{name} {have[kind, name]}"
            for name in (bin_name(*one) for one in config.bins_mm)
            if have[kind, name] < config.per_bin
        ]
        if short:
            notes.append(
                f"{kind}: fewer than {config.per_bin} lesions had room or were of that size: {', '.join(short)}"
            )
    return [*notes, *study.left_out]


def save(study: PlantedStudy, folder: Path, command: str = "") -> dict[str, Any]:
    """Write ``planted.json``, ``lesions.csv`` and ``report.html`` into a folder; returns the summary.

    Raises:
        OutputError: The folder cannot be written.
    """
    from voxicon.report.planted import planted_page

    found = summary(study, command)
    write_text(folder / "lesions.csv", lesions_csv(study.lesions))
    write_text(folder / "planted.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.html", planted_page(found))
    return found
