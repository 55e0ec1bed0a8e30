"""Scans made ready for a run, once, and kept in a store that runs may share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from voxicon.core.volume import Volume
from voxicon.data.cases import read_case
from voxicon.data.content import ContentHashes
from voxicon.data.harmonise import Targets
from voxicon.data.layout import Case
from voxicon.errors import ConfigError, OutputError
from voxicon.plan import Plan
from voxicon.train.cases import TrainingCase, build_case
from voxicon.train.processes import Processes
from voxicon.train.store import CaseStore, entry_key

Told = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is."""

Complete = Callable[[Volume, Targets], Targets]
"""A scan and what is annotated to all that is to be learned from it."""


def make_folder(folder: Path) -> None:
    """Make a folder, and those around it, where there is none.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror}); expected a folder, or room for one; give another",
            code="E-DISK",
        ) from error


def prepare_cases(
    plan: Plan,
    cache: Path,
    processes: Processes = Processes(),  # noqa: B008  frozen
    told: Told = lambda what, done, total: None,
    complete: tuple[str, Complete] | None = None,
) -> tuple[list[TrainingCase], dict[str, tuple[str, str]]]:
    """Training and validation scans from the store, and the hashes of image and labels by case id.

    Each process reads its share of the files and makes its share of what is not in the store yet.

    Args:
        plan: Which scans, for which classes.
        cache: Folder of the store.
        processes: Who else works on it.
        told: Hears of it.
        complete: Fills in labels that training scans lack, and a name that changes with what it fills in.

    Raises:
        InputError: A scan cannot be read.
        ConfigError: Scans are not those of the manifest.
    """
    cases = (*plan.train, *plan.val)
    own = range(processes.rank, len(cases), processes.count)
    hashes = ContentHashes(cache / f"hashes-{processes.rank}.jsonl")
    shares: dict[str, tuple[str, str]] = {}
    for index in own:
        told(f"reading {cases[index].id}", index, len(cases))
        shares[cases[index].id] = hashes.of(cases[index].image), hashes.of_labels(cases[index])
    digests = {name: digest for share in processes.gather(shares) for name, digest in share.items()}
    _refuse_changed(plan, digests)
    store = CaseStore(cache)
    # The usual mistake is made in training alone: scans to judge on say what they know.
    missing = [plan.recipe.missing] * len(plan.train) + ["unknown"] * len(plan.val)
    # What is to be judged on is never filled in by a network.
    fill = [complete] * len(plan.train) + [None] * len(plan.val)
    each = list(zip(cases, missing, fill, strict=True))
    keys = [case_key(plan, case, digests[case.id], what, by) for case, what, by in each]
    makers = [partial(_make, plan, case, what, by) for case, what, by in each]
    for index in own:
        if keys[index] not in store:
            told(f"preparing {cases[index].id}", index, len(cases))
            store.get(keys[index], makers[index])
    processes.wait()
    return [store.get(key, make) for key, make in zip(keys, makers, strict=True)], digests


def _refuse_changed(plan: Plan, digests: Mapping[str, tuple[str, str]]) -> None:
    """Scans that are not what was checked may be copies across splits, or broken."""
    for name, found in digests.items():
        row = plan.rows.get(name)
        listed = (row.image_sha256, row.labels_sha256) if row else ("", "")
        for what, stated, is_now in zip(("scan", "labels"), listed, found, strict=True):
            if stated and stated != is_now:
                raise ConfigError(
                    f"{plan.recipe.manifest}: the {what} of {name} changed since they were checked "
                    f"(SHA-256 {is_now[:12]}, listed {stated[:12]}); run 'voxicon assembly check' again"
                )


def case_key(
    plan: Plan, case: Case, digests: tuple[str, str], missing: str, complete: tuple[str, Complete] | None = None
) -> str:
    """What a prepared scan is called in the store: changes with all that it is made of.

    Args:
        plan: For which classes, at which spacing.
        case: The scan.
        digests: Hashes of its image and its labels.
        missing: What an unannotated class means.
        complete: As of `prepare_cases`.
    """
    filled = {} if complete is None else {"filled in by": complete[0]}
    read = {"raw", "annotates", "sampling", "zoom", "repaint_hu", "label_axes"}
    return entry_key(
        {
            "image": digests[0],
            "labels": digests[1],
            "card": case.card.model_dump(mode="json", include=read),
            "annotates": sorted(case.annotates),
            "classes": plan.classes,
            "missing": missing,
            "spacing_mm": plan.preparation.spacing_mm[0],
            "antialias": plan.preparation.antialias,
            "repaint_hu": plan.recipe.repaint_hu,
            **filled,
        }
    )


def _make(plan: Plan, case: Case, missing: str, complete: tuple[str, Complete] | None) -> TrainingCase:
    volume, annotation, targets = read_case(case, plan.classes)
    if complete is not None:
        targets = complete[1](volume, targets)
    if missing == "background":
        targets = Targets(targets.masks, frozenset(plan.classes))
    return build_case(volume, annotation, case.card, targets, plan.preparation, plan.recipe.repaint_hu)
