"""A model judged on an assembly: every case predicted and compared with what its labels know.

Only what a card annotates in a case is judged there, on the scan's own grid. A class that is annotated and that the
weights do not find is *not predicted*: it is listed and counted, and it is in no mean, since 0 would blame a model for
an answer it was never asked to give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.data.cases import read_case
from voxicon.data.layout import Case, Dataset
from voxicon.data.manifest import read_manifest
from voxicon.data.readers import find_reading, read_reading
from voxicon.data.submission import unlabeled_cases, write_submission
from voxicon.errors import ConfigError, InputError, VoxiconError
from voxicon.evaluate.agreement import MACHINE, PairScore, agree
from voxicon.evaluate.lesions import LesionMatch, match_lesions
from voxicon.evaluate.pair import Mask
from voxicon.evaluate.predictions import ResultFolder
from voxicon.evaluate.table import CaseRow, Subject, read_csv, score
from voxicon.evaluate.tumors import CANDIDATE, LesionScan
from voxicon.infer.cleanup import candidates
from voxicon.io.scan import read_scan
from voxicon.prediction import Predictions

if TYPE_CHECKING:
    from voxicon.plan import Plan

SPLITS: Final = ("train", "val", "test", "unlabeled")

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What is asked.

    Attributes:
        split: Whose scans are judged; ``unlabeled`` only makes a submission.
        choose_on: Split that operating points for lesions are chosen on; None chooses none.
        tolerance_mm: Of the NSD.
        readers: Name → folder of another reader's label maps; none or at least two.
        against: Folder of an earlier evaluation to compare with.
        submission: Folder for predictions in the datasets' own label values.

    Raises:
        ConfigError: Settings that make no sense, alone or together.
    """

    split: str = "test"
    choose_on: str | None = None
    tolerance_mm: float = 2.0
    readers: Mapping[str, Path] = field(default_factory=dict)
    against: Path | None = None
    submission: Path | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"--split {self.split!r}: expected one of {', '.join(SPLITS)}")
        if self.choose_on is not None and self.choose_on not in SPLITS[:3]:
            raise ConfigError(f"--choose-on {self.choose_on!r}: expected one of {', '.join(SPLITS[:3])}")
        if self.choose_on == self.split:
            raise ConfigError(
                f"--choose-on {self.choose_on}: an operating point looks too good on the patients it was chosen on; "
                "choose on another split than --split"
            )
        if not 0 <= self.tolerance_mm < float("inf"):
            raise ConfigError(f"--tolerance-mm {self.tolerance_mm}: expected 0 or more; 1 to 3 mm is usual for organs")
        if self.split == "unlabeled" and (self.submission is None or self.choose_on or self.readers or self.against):
            raise ConfigError("--split unlabeled: there are no labels to judge by; it goes with --submission alone")
        if len(self.readers) == 1:
            raise ConfigError("--reader: one reader agrees with nobody; give at least two as NAME=FOLDER")
        if MACHINE in self.readers:
            raise ConfigError(f"--reader {MACHINE}=...: {MACHINE} stands for the model; name the reader otherwise")


@dataclass(kw_only=True)
class Study:
    """Everything found so far.

    Attributes:
        plan: Datasets, classes and splits.
        config: What was asked.
        predictions: Where masks come from.
        cases: The split's scans, and those of the split to choose on that may hold a lesion.
        groups: Case id → whose scan it is; scans of one patient and copies of one scan share it.
        others: Rows of the evaluation to compare with.
        rows: One per case and class.
        lesions: One per case and predicted lesion class.
        agreements: One per case, class and pair of readers.
        failed: Case id → why it could not be judged.
        submitted: File → classes that its dataset annotates and nobody predicted.
        seen: Ids of scans that the weights say they learned from.
    """

    plan: Plan
    config: StudyConfig
    predictions: Predictions
    cases: tuple[tuple[str, Case], ...]
    groups: Mapping[str, str]
    others: tuple[CaseRow, ...] = ()
    rows: list[CaseRow] = field(default_factory=list)
    lesions: list[LesionScan] = field(default_factory=list)
    agreements: list[PairScore] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    submitted: dict[str, list[str]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def subject(self, split: str, case: Case) -> Subject:
        """What all rows of a case say about it."""
        return Subject(
            dataset=case.card.id,
            case=case.name,
            patient=self.groups.get(case.id, case.patient),
            split=split,
            labels_by=case.card.labels_by,
        )

    def dataset(self, case: Case) -> Dataset:
        """The dataset a case belongs to."""
        return next(dataset for dataset in self.plan.datasets if dataset.card.id == case.card.id)


def prepare_study(plan: Plan, base: Path, predictions: Predictions, config: StudyConfig) -> Study:
    """Everything that can be wrong before the first scan is read, checked.

    Args:
        plan: From `voxicon.training.plan_training`.
        base: Folder of the recipe, which its manifest is relative to.
        predictions: Where masks come from.
        config: What is asked.

    Raises:
        ConfigError: The split holds no scan, two scans have one id, a folder to compare with holds no evaluation, or
            the readers have drawn no scan.
    """
    cases = [(config.split, case) for case in scans_of(plan, config.split)]
    if not cases:
        counts = ", ".join(f"{name} {len(scans_of(plan, name))}" for name in SPLITS)
        raise ConfigError(
            f"{plan.recipe.name}: no scan in the split {config.split!r} (there are: {counts}); use --split"
        )
    if config.choose_on is not None:
        lesions = set(_lesion_classes(plan))
        cases += [(config.choose_on, c) for c in scans_of(plan, config.choose_on) if lesions & c.annotates]
    repeated = [name for name, n in Counter(case.id for _, case in cases).items() if n > 1]
    if repeated:
        raise ConfigError(f"{repeated[0]}: {len(repeated)} case ids occur twice; give every dataset once")
    others: tuple[CaseRow, ...] = ()
    if config.against is not None:
        ids = {case.id for _, case in cases}
        others = tuple(row for row in read_csv(config.against / "cases.csv") if row.id in ids)
        if not others:
            raise ConfigError(
                f"{config.against}: judges no scan of this split {config.split!r}; compare the same split"
            )
    rows = read_manifest(base / plan.recipe.manifest) if plan.recipe.manifest else {}
    study = Study(
        plan=plan,
        config=config,
        predictions=predictions,
        cases=tuple(cases),
        groups={name: row.group for name, row in rows.items()},
        others=others,
    )
    if config.readers and not any(_readings(study, case) for _, case in cases):
        raise ConfigError(
            f"--reader: no scan of {config.split!r} has a label map in all of "
            f"{', '.join(str(folder) for folder in config.readers.values())}; name them like the dataset's own"
        )
    return study


def scans_of(plan: Plan, split: str) -> tuple[Case, ...]:
    """The scans of one of `SPLITS`."""
    if split == "unlabeled":
        return tuple(case for dataset in plan.datasets for case in unlabeled_cases(dataset))
    found: tuple[Case, ...] = getattr(plan, split)
    return found


def run_study(study: Study, told: Told = lambda what, done, total: None) -> None:
    """Predict and judge case after case, into `study`. A case that cannot be judged is noted and the next one starts.

    Args:
        study: From `prepare_study`.
        told: Hears of the progress.
    """
    for index, (split, case) in enumerate(study.cases):
        told(case.id, index, len(study.cases))
        try:
            _judge(study, split, case)
        except (VoxiconError, OSError) as error:
            study.failed[case.id] = str(error)


def _judge(study: Study, split: str, case: Case) -> None:
    """One case; either all of its findings are added or none."""
    if split == "unlabeled":
        volume = read_scan(case.image)
        if not _submit(study, case, volume, study.predictions.of(case, volume, _annotated(study, case))):
            raise InputError(f"{case.id}: none of its dataset's classes was predicted; use weights that find one")
        return
    chosen = _lesion_classes(study.plan) if split == study.config.choose_on else study.plan.classes
    volume, _, targets = read_case(case, chosen)
    known = tuple(name for name in chosen if name in targets.known)
    found = study.predictions.of(case, volume, known)
    subject = study.subject(split, case)
    rows: list[CaseRow] = []
    lesions: list[LesionScan] = []
    agreements: list[PairScore] = []
    readings = _readings(study, case) if split == study.config.split else {}
    others = {name: read_reading(path, case, volume, known) for name, path in readings.items()}
    for name in known:
        truth, predicted = targets.masks[name], found.mask(name)
        rows.append(score(subject, name, truth, predicted, volume.geometry, study.config.tolerance_mm))
        if predicted is None:
            continue
        if study.plan.vocabulary[name].kind == "lesion":
            lesions.append(_lesion_scan(study, subject, name, truth, predicted, found))
        if others:
            drawn = {reader: reading.masks[name] for reader, reading in others.items()}
            agreements += agree(subject, name, {MACHINE: predicted, **drawn})
    if split == study.config.split:
        _submit(study, case, volume, found)
    study.rows += rows
    study.lesions += lesions
    study.agreements += agreements
    if volume.source.sha256 and volume.source.sha256 in study.predictions.trained_on:
        study.seen.append(case.id)


def _lesion_scan(
    study: Study, subject: Subject, name: str, truth: Mask, predicted: Mask, found: ResultFolder
) -> LesionScan:
    """Lesions of one class against the mask as delivered and, with a probability map, against candidates."""
    spacing_mm = found.geometry.spacing_mm
    probability = found.probability(name)
    scored: LesionMatch | None = None
    if probability is not None:
        # The map is as the network answered; what cleanup takes from masks must not come back as a candidate.
        around = {organ: found.mask(organ) for organ in study.plan.vocabulary[name].cleanup.of}
        organs = {organ: mask for organ, mask in around.items() if mask is not None}
        packed = MaskSet.from_masks(organs, found.geometry)
        confined = candidates({name: probability}, packed, study.plan.vocabulary, CANDIDATE)
        scored = match_lesions(truth, confined[name], spacing_mm, probability)
    return LesionScan(
        **asdict(subject),
        name=name,
        found=match_lesions(truth, predicted, spacing_mm),
        candidates=scored,
        predicted_ml=float(np.count_nonzero(predicted)) * found.geometry.voxel_ml,
    )


def _submit(study: Study, case: Case, volume: Volume, found: ResultFolder) -> bool:
    """Write the file of one case where one is wanted; False when no class was predicted."""
    if study.config.submission is None:
        return True
    masks = {name: found.mask(name) for name in _annotated(study, case)}
    made = {name: mask for name, mask in masks.items() if mask is not None}
    if not made:
        return False
    packed = MaskSet.from_masks(made, volume.geometry, volume.source)
    path = write_submission(study.config.submission, packed, case, study.dataset(case))
    study.submitted[str(path)] = sorted(case.annotates - set(made))
    return True


def _annotated(study: Study, case: Case) -> tuple[str, ...]:
    return tuple(name for name in study.plan.classes if name in case.annotates)


def _readings(study: Study, case: Case) -> dict[str, Path]:
    """Reader → label map of a case; empty unless all readers have drawn it."""
    root = study.dataset(case).folder
    found = {name: find_reading(folder, case, root) for name, folder in study.config.readers.items()}
    drawn = {name: path for name, path in found.items() if path is not None}
    return drawn if len(drawn) == len(found) else {}


def _lesion_classes(plan: Plan) -> tuple[str, ...]:
    return tuple(name for name in plan.classes if plan.vocabulary[name].kind == "lesion")
