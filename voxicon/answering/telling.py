"""Answers and findings in sentences. They say what was measured: no cause, no histology, no advice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from voxicon.answering.answers import ClauseAnswer, Comparison, Found, TargetAnswer
from voxicon.answering.detection import Detection, OperatingPoint, Share
from voxicon.answering.language import Language, sentence
from voxicon.findings.lesions import LesionFinding
from voxicon.findings.organs import ABOVE_NORMAL, AT_BORDER, BELOW_NORMAL, IN_PIECES, OrganFinding

Lesions = Mapping[tuple[str, int], LesionFinding]
"""By class and number."""


def answer_lines(clause: ClauseAnswer, lesions: Lesions, say: Language) -> list[str]:
    """A clause's answer, a line for each thing to be told."""
    if clause.action == "compare":
        lost = [line for target in clause.targets for line in _lost(target, say)]
        return [*(_compared(comparison, say) for comparison in clause.comparisons), *lost]
    if not clause.targets:
        return [say.say("answers.whole_report")]
    return [line for target in clause.targets for line in _target_lines(clause, target, lesions, say)]


def _target_lines(clause: ClauseAnswer, target: TargetAnswer, lesions: Lesions, say: Language) -> Iterator[str]:
    if clause.action == "count":
        yield f"{target.said}: {say.say('answers.count', len(target.found))}"
    elif not target.found:
        yield f"{target.said}: {say.say('answers.none')}"
    elif clause.action == "segment":
        yield f"{target.said}: {_sum(target, say)}"
    else:
        quantities = clause.quantities if clause.action == "measure" else ("size", "density")
        for one in target.found:
            told = _box(one, say) if clause.action == "mark" else _measured(one, quantities, say)
            # A part of one organ is told by its own name.
            alone = one.number is None and target.narrowed and len(target.found) == 1
            yield f"{target.said if alone else piece_name(one, lesions, say)}: {told}"
    # What a size or a place rules out is not missing.
    wanted = () if target.narrowed else target.looked_for
    absent = [name for name in wanted if all(one.name != name for one in target.found)]
    if absent and target.found:
        yield f"{target.said}: {say.say('answers.missing', names=say.names(absent))}"
    yield from _lost(target, say)


def _lost(target: TargetAnswer, say: Language) -> Iterator[str]:
    if target.not_looked_for:
        yield f"{target.said}: {say.say('answers.unknown', names=say.names(target.not_looked_for))}"


def piece_name(one: Found, lesions: Lesions, say: Language) -> str:
    """Such as "pancreas tumor 1 (tail)" or "liver"."""
    if one.number is None:
        return say.name(one.name)
    finding = lesions.get((one.name, one.number))
    place = finding and place_of(finding, say)
    return f"{say.name(one.name)} {one.number}" + (f" ({place})" if place else "")


def place_of(finding: LesionFinding, say: Language) -> str:
    """The organ and the third of it, as far as known; empty where a lesion is in no organ and beside none."""
    organ = finding.organ or finding.beside
    if organ is None:
        return ""
    name = say.name(organ) if finding.organ else say.say("answers.beside", organ=say.name(organ))
    return f"{name}, {say.say(f'thirds.{finding.third}')}" if finding.third else name


def attenuation_words(finding: LesionFinding, say: Language) -> str:
    """Such as "45 HU darker than the liver"; empty where a lesion is in no organ, or fills it."""
    if finding.attenuation is None or finding.hu_difference is None or finding.organ is None:
        return ""
    difference = finding.hu_difference if finding.attenuation == "iso" else abs(finding.hu_difference)
    return say.say(f"attenuation.{finding.attenuation}", value=say.number(difference), organ=say.name(finding.organ))


def _sum(target: TargetAnswer, say: Language) -> str:
    volume = say.amount(sum(one.volume_ml for one in target.found))
    if any(one.number is not None for one in target.found):
        return say.say("answers.lesions", len(target.found), volume=volume)
    classes = [*target.looked_for, *target.not_looked_for]
    if target.narrowed and len(classes) > 1:
        names = say.names([one.name for one in target.found])
        return say.say("answers.these", names=names, volume=volume) + _border_of(target.found, say)
    if len(classes) > 1:
        n = len({one.name for one in target.found})
        return say.say("answers.classes", n=n, of=len(classes), volume=volume)
    return say.say("answers.volume", value=volume) + _border(target.found[0], say)


def _measured(one: Found, quantities: Sequence[str], say: Language) -> str:
    volume = say.say("answers.volume", value=say.amount(one.volume_ml))
    longest, perpendicular = say.number(one.longest_mm, 1), say.number(one.perpendicular_mm, 1)
    x, y, z = (say.number(length) for length in one.extent_mm)
    parts = {
        "size": [
            say.say("answers.extent", x=x, y=y, z=z)
            if one.number is None
            else say.say("answers.axial", longest=longest, perpendicular=perpendicular),
            volume,
        ],
        "volume": [volume],
        "diameter": [say.say("answers.longest", value=longest)],
        "density": [say.say("answers.density", mean=say.number(one.hu_mean), sd=say.number(one.hu_sd))],
    }
    told = dict.fromkeys(part for quantity in quantities for part in parts[quantity])
    return ", ".join(told) + _border(one, say)


def _box(one: Found, say: Language) -> str:
    low, high = one.box_mm
    x, y, z = (say.say("answers.range", low=say.number(a), high=say.number(b)) for a, b in zip(low, high, strict=True))
    voxels = " × ".join(f"{start}:{stop}" for start, stop in one.box_voxels)
    return say.say("answers.box", x=x, y=y, z=z, voxels=voxels)


def _border_of(found: Sequence[Found], say: Language) -> str:
    cut = [one for one in found if one.touches_border]
    return _border(cut[0], say) if cut else ""


def _border(one: Found, say: Language) -> str:
    return f" ({say.say('answers.border')})" if one.touches_border else ""


def _compared(comparison: Comparison, say: Language) -> str:
    digits = 0 if comparison.unit == "HU" else 1
    told = []
    for at, (name, value) in enumerate(zip(comparison.names, comparison.values, strict=True)):
        amount = say.amount(value) if value is not None and comparison.unit == "ml" else say.number(value, digits)
        text = f"{name} {amount} {comparison.unit}"
        ratio, difference = comparison.ratios[at], comparison.differences[at]
        if at and ratio is not None:
            text += f" ({say.say('answers.of_first', value=say.number(ratio, 2), first=comparison.names[0])})"
        elif at and difference is not None:
            told_as = say.number(difference, digits, signed=True)
            text += f" ({say.say('answers.difference', value=told_as, unit=comparison.unit)})"
        told.append(text if value is not None else f"{name}: {say.say('answers.none')}")
    return f"{say.say(f'quantities.{comparison.quantity}')}: {', '.join(told)}"


def impression(
    detection: Iterable[Detection],
    lesions: Sequence[LesionFinding],
    organs: Sequence[OrganFinding],
    not_looked_for: Sequence[str],
    say: Language,
) -> list[str]:
    """What a reader should know first, in sentences: lesions, then organs that are odd, then what is not known."""
    lines: list[str] = []
    verdicts = list(detection)
    for verdict in verdicts:
        lines += _verdict(verdict, [lesion for lesion in lesions if lesion.name == verdict.name], say)
    unmeasured = [one for one in verdicts if not one.detected and one.by == "weights" and one.measured is None]
    if unmeasured:
        lines.append(say.say("impression.not_measured"))
    if not verdicts:
        lines.append(say.say("impression.no_lesions"))
    lines += _organ_lines(organs, say)
    if not_looked_for:
        lines.append(say.say("impression.unknown", names=say.names(not_looked_for)))
    return [sentence(line) for line in lines]


def _verdict(verdict: Detection, lesions: Sequence[LesionFinding], say: Language) -> list[str]:
    name, threshold = say.name(verdict.name), say.number(verdict.threshold, 2)
    score, volume = say.number(verdict.score, 2), say.amount(verdict.volume_ml)
    told = [] if verdict.measured is None else worth(verdict.measured, say)
    if not verdict.lesions and _reached(verdict):
        return [say.say("impression.score_alone", name=name, threshold=threshold, score=score), *told]
    if verdict.detected:
        largest = say.say("impression.largest", verdict.lesions, **_largest(lesions[0], say)) if lesions else ""
        line = say.say("impression.found", verdict.lesions, name=name, volume=volume, largest=largest)
        return [line + (say.say("impression.cut") if any(one.touches_border for one in lesions) else ""), *told]
    if verdict.by == "masks":
        return [say.say("impression.none_given", name=name)]
    if verdict.score is None:
        return [say.say("impression.none_unscored", name=name), *told]
    key = "impression.below" if verdict.lesions else "impression.none"
    return [say.say(key, name=name, threshold=threshold, score=score, volume=volume), *told]


def _reached(verdict: Detection) -> bool:
    return verdict.score is not None and verdict.threshold is not None and verdict.score >= verdict.threshold


def _largest(lesion: LesionFinding, say: Language) -> dict[str, str]:
    size = say.say(
        "impression.size",
        longest=say.number(lesion.axial.longest_mm, 1), perpendicular=say.number(lesion.axial.perpendicular_mm, 1),
    )  # fmt: skip
    where = density = sure = ""
    if near := lesion.organ or lesion.beside:
        how = "where" if lesion.organ else "beside"
        third = say.say(f"thirds.{lesion.third}") if lesion.third else ""
        where = say.say(f"impression.{how}" if third else f"impression.{how}_whole", third=third, organ=say.name(near))
    if told := attenuation_words(lesion, say):
        density = say.say("impression.density", attenuation=told)
    if lesion.confidence is not None:
        sure = say.say("impression.sure", value=say.number(lesion.confidence.mean, 2))
    return {"size": size, "where": where, "density": density, "sure": sure}


def worth(point: OperatingPoint, say: Language) -> list[str]:
    """What is known of a threshold, in sentences; none where nothing is."""
    shares = [
        say.say("impression.share_all" if size == "all" else "impression.share", size=size, **_percents(share, say))
        for size, share in point.sensitivity.items()
    ]
    lines = [say.say("impression.measured", data=point.data, shares=say.listed(shares))] if shares else []
    if point.specificity is not None:
        lines.append(say.say("impression.specificity", **_percents(point.specificity, say)))
    return lines


def _percents(share: Share, say: Language) -> dict[str, Any]:
    percent, low, high = (say.number(100 * value) for value in (share.value, share.low, share.high))
    return {"percent": percent, "low": low, "high": high, "n": share.n}


def _organ_lines(organs: Sequence[OrganFinding], say: Language) -> Iterator[str]:
    there = [organ for organ in organs if organ.volume_ml > 0]
    for key, flag in (("large", ABOVE_NORMAL), ("small", BELOW_NORMAL)):
        for organ in there:
            if flag in organ.flags and organ.normal_volume is not None:
                normal = organ.normal_volume
                low, high = say.number(normal.low_ml), say.number(normal.high_ml)
                volume = say.amount(organ.volume_ml)
                yield say.say(f"impression.{key}", name=say.name(organ.name), volume=volume, low=low, high=high)
    cut = [organ.name for organ in there if AT_BORDER in organ.flags]
    if cut:
        yield say.say("impression.border", names=say.names(cut))
    several = [f"{say.name(organ.name)} ({organ.components})" for organ in there if IN_PIECES in organ.flags]
    if several:
        yield say.say("impression.pieces", names=say.listed(several))
    absent = [organ.name for organ in organs if not organ.volume_ml]
    if absent:
        yield say.say("impression.absent", names=say.names(absent))
    if there and not absent and not any(organ.flags for organ in there):
        yield say.say("impression.nothing_odd", len(there))
