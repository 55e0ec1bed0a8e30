"""Operating points in weights: thresholds that an evaluation chose, and what they were found to do, in the card.

An evaluation knows the weights that it judged by their hash. A file that gets operating points has another hash and the
same tensors, so its card keeps the hash of the file it was made from. `voxicon.answering.detection` reads what is
written here; both sides go through its dataclasses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from voxicon.answering.detection import CARD_KEY, OperatingPoint, Share, operating_points
from voxicon.errors import ConfigError, UnknownClass, UsageError
from voxicon.infer.settings import classes_of, vocabulary_of
from voxicon.model.checkpoint import file_sha256, read_metadata, save_with_card

ORIGIN_KEY: Final = "operating_points_of"
"""Where the card keeps the hash of the weights that had the same tensors before any operating point."""

PLANTED_FILE: Final = "planted.json"
LABELS_FILE: Final = "summary.json"

DEFAULT_SPECIFICITY: Final = "0.9"
"""Of planted lesions, where none is asked for: false alarms cost readers' trust. Own choice."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation tells of thresholds.

    Attributes:
        folder: Where it lies.
        sha256: Of the weights that it judged; None where it does not say.
        points: Class → its operating point.
        lacking: Class → why it has none.
    """

    folder: Path
    sha256: str | None
    points: Mapping[str, OperatingPoint]
    lacking: Mapping[str, str]


def read_evaluation(folder: Path, specificity: str | None = None) -> Evaluation:
    """The operating points that ``voxicon evaluate`` left in a folder.

    A threshold of which nobody knows what it finds, for lack of lesions, is none.

    Args:
        folder: Output of ``voxicon evaluate``, with ``--planted`` or without.
        specificity: Of planted lesions, a key of their ``at_specificity``; `DEFAULT_SPECIFICITY` if None. An
            evaluation on labels has one threshold, chosen by its own rule.

    Raises:
        ConfigError: The folder holds no evaluation, holds two, or one that is damaged.
        UsageError: A specificity was given for an evaluation on labels.
    """
    files = [folder / name for name in (PLANTED_FILE, LABELS_FILE) if (folder / name).is_file()]
    if len(files) != 1:
        raise ConfigError(
            f"{folder}: holds {'two evaluations' if files else 'no evaluation'}; expected {PLANTED_FILE} or "
            f"{LABELS_FILE}; give the output folder of 'voxicon evaluate'"
        )
    [path] = files
    is_planted = path.name == PLANTED_FILE
    if specificity is not None and not is_planted:
        raise UsageError(
            f"--specificity {specificity}: {folder} is an evaluation on labels, which chose a threshold by its own "
            "rule; leave it out"
        )
    try:
        found = json.loads(path.read_text(encoding="utf8"))
        sha256 = (found["weights"] or {}).get("sha256") or None
        told = _planted(found, specificity or DEFAULT_SPECIFICITY) if is_planted else _labeled(found)
    except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: is no evaluation, or a damaged one ({error!r}); expected what 'voxicon evaluate' writes; "
            "evaluate again"
        ) from error
    return Evaluation(
        folder,
        sha256,
        {name: point for name, point in told.items() if isinstance(point, OperatingPoint)},
        {name: why for name, why in told.items() if isinstance(why, str)},
    )


def operate(weights: Path, evaluation: Evaluation, out: Path, classes: Iterable[str] = ()) -> dict[str, OperatingPoint]:
    """Write weights with the operating points of an evaluation in their card; all else in the file stays the same.

    Operating points of other classes that the card has already are kept. Those of a network inside go into the card of
    the first one, with all others: they are of what the weights find as a whole.

    Args:
        weights: Stay as they are.
        evaluation: Of these weights, or of those they were before they got operating points.
        out: Ends in ``.safetensors``; a file of that name is replaced.
        classes: Words for those that get one; all that have one in the evaluation when empty.

    Returns:
        By class, what was written.

    Raises:
        UsageError: The evaluation is of other weights, does not judge a class, or has no operating point for it or
            for any; the output has another ending.
        UnknownClass: A class that the weights were not trained for.
        CheckpointError: The weights are missing, or they or their operating points are damaged.
        OutputError: The output cannot be written.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the output must end in .safetensors")
    metadata, sha256 = read_metadata(weights), file_sha256(weights)
    card, vocabulary = metadata.card, vocabulary_of(metadata.card, weights.name)
    origin = str(card.get(ORIGIN_KEY, sha256))
    _refuse_other_weights(evaluation, weights.name, {sha256, origin})
    asked = tuple(dict.fromkeys(vocabulary.resolve(word).name for word in classes))
    names = asked or (*evaluation.points, *evaluation.lacking)
    found = classes_of(metadata, vocabulary)
    strangers = [name for name in names if name not in found]
    if strangers:
        raise UnknownClass(
            f"weights {weights.name} were not trained for {', '.join(strangers)}; they find: {', '.join(found)}"
        )
    points = {name: evaluation.points[name] for name in names if name in evaluation.points}
    lacking = [name for name in names if name not in points]
    if not points or (asked and lacking):
        why = "; ".join(f"{name}: {evaluation.lacking.get(name, 'is not judged')}" for name in lacking)
        raise UsageError(f"{evaluation.folder}: no operating point of {why or 'any lesion: none is judged'}")
    kept = operating_points(card, weights.name)
    entries = {name: point.to_dict() for name, point in {**kept, **points}.items()}
    save_with_card(weights, out, {**card, CARD_KEY: entries, ORIGIN_KEY: origin})
    return points


def carried_over(
    card: Mapping[str, Any], names: Mapping[str, str] | None = None, lost: Iterable[str] = ()
) -> dict[str, Any]:
    """A card for other tensors that answer as before: points go with their words, no older evaluation fits any more.

    Args:
        card: Of the weights before.
        names: Old name → new name, of words that are called otherwise.
        lost: Words that are gone, or that do not answer as before.
    """
    kept = {key: value for key, value in card.items() if key not in (CARD_KEY, ORIGIN_KEY)}
    new, gone = names or {}, set(lost)
    points = {new.get(name, name): point for name, point in card.get(CARD_KEY, {}).items() if name not in gone}
    return kept | {CARD_KEY: points} if points else kept


def described(name: str, point: OperatingPoint) -> str:
    """A class's operating point in one line."""
    specificity = "unknown" if point.specificity is None else _percent(point.specificity)
    found = ", ".join(
        f"{size if size == 'all' else f'{size} mm'} {_percent(share)}" for size, share in point.sensitivity.items()
    )
    return f"{name}: threshold {point.threshold:.3f}, specificity {specificity}, sensitivity {found}; {point.data}"


def _refuse_other_weights(evaluation: Evaluation, name: str, same: set[str]) -> None:
    if evaluation.sha256 is None:
        raise UsageError(
            f"{evaluation.folder}: does not say which weights it judges; expected {name}; evaluate with --weights"
        )
    if evaluation.sha256 not in same:
        raise UsageError(
            f"{evaluation.folder}: judges weights with sha256 {evaluation.sha256[:12]}...; expected {name} with "
            f"{' or '.join(f'{one[:12]}...' for one in sorted(same))}; evaluate these"
        )


def _planted(found: Mapping[str, Any], specificity: str) -> dict[str, OperatingPoint | str]:
    """By class its point, or why there is none."""
    return {name: _planted_point(name, one, found, specificity) for name, one in found["lesions"].items()}


def _planted_point(
    name: str, one: Mapping[str, Any], found: Mapping[str, Any], specificity: str
) -> OperatingPoint | str:
    point = one["at_specificity"][specificity]
    if point is None:
        return "no untouched scan was looked at, so that nothing tells of false alarms"
    if point["threshold"] is None:
        return (
            f"keeping {float(specificity):.0%} of {one['n_untouched']} untouched scans without a finding takes a "
            "threshold above every score, at which nothing is called positive"
        )
    if not one["n_lesions"]:
        return "no lesion was planted, so that nobody knows what a threshold finds"
    scans = {(row["dataset"], row["case"]) for row in found["rows"] if row["name"] == name}
    return _point(
        point,
        {size.removesuffix(" mm"): share for size, share in point["sensitivity"].items()},
        point["specificity"],
        f"{_count(one['n_lesions'], 'lesion')} planted into {_count(len(scans), 'CT')} (synthetic), "
        f"judged on the scans the threshold was chosen on{_seen(found)}",
    )


def _labeled(found: Mapping[str, Any]) -> dict[str, OperatingPoint | str]:
    """By class its point, or why there is none."""
    return {name: _labeled_point(one, found) for name, one in found["detection"].items()}


def _labeled_point(one: Mapping[str, Any], found: Mapping[str, Any]) -> OperatingPoint | str:
    if found["choose_on"] is None:
        return "no split was given to choose a threshold on; evaluate with --choose-on"
    point = one["operating_point"]
    if point is None:
        return str(one["notes"][-1]).removeprefix("no operating point: ")
    if one["score"] != "probability":
        return "patients were scored by volume, since not all scans have a probability map"
    if point["threshold"] is None:
        return f"on {point['chosen_on']!r} no threshold was better than calling nobody positive"
    rates = point["reported"]
    if not rates["sensitivity"]["total"]:
        return f"no patient of {found['split']!r} has one, so that nobody knows what a threshold finds"
    return _point(
        point,
        {"all": rates["sensitivity"]},
        rates["specificity"],
        f"{_count(one['n_patients'], 'patient')} of the split {found['split']!r} ({one['n_positive']} with lesions, "
        f"labels by {' and '.join(one['labels_by'])}), threshold chosen on other scans, the split "
        f"{point['chosen_on']!r}{_seen(found)}",
    )


def _point(
    point: Mapping[str, Any], sensitivity: Mapping[str, Any], specificity: Mapping[str, Any], data: str
) -> OperatingPoint:
    threshold = float(point["threshold"])
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold:g}")
    # Probabilities are kept in steps of 1/255; maps read from files are off by the rounding of single precision, and a
    # patient whose score is the threshold has to reach it.
    level = round(threshold * 255) / 255
    threshold = level if math.isclose(threshold, level, rel_tol=1e-6) else threshold
    shares = {size: _share(entry) for size, entry in sensitivity.items()}
    known = {size: share for size, share in shares.items() if share is not None}
    return OperatingPoint(threshold, _share(specificity), known, data)


def _share(entry: Mapping[str, Any]) -> Share | None:
    """None of nothing."""
    if not entry["total"]:
        return None
    return Share(float(entry["value"]), float(entry["low"]), float(entry["high"]), int(entry["total"]))


def _seen(found: Mapping[str, Any]) -> str:
    n = len(found["seen_in_training"])
    return f"; the weights learned from {n} of all scans of this evaluation" if n else ""


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _percent(share: Share) -> str:
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}] (n = {share.n})"
