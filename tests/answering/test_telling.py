"""Answers and findings in sentences, each expected one written by hand."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest

from tests.answering.findings import LESION, POINT, found, lesion, organ, verdict
from tests.answering.phantom import clauses, scene
from voxicon.answering.answers import ClauseAnswer, Comparison, TargetAnswer
from voxicon.answering.language import language
from voxicon.answering.telling import answer_lines, impression
from voxicon.findings.organs import ABOVE_NORMAL, AT_BORDER, BELOW_NORMAL, IN_PIECES

SAY = language("en")
LESIONS = {("pancreas_tumor", 1): LESION}


def told(
    action: str, *things: Any, quantities: tuple[str, ...] = (), looked_for: tuple[str, ...] = ("pancreas_tumor",),
    lost: tuple[str, ...] = (), said: str = "pancreas tumor", narrowed: bool = False,
) -> list[str]:  # fmt: skip
    target = TargetAnswer(said, looked_for, lost, narrowed, things, ())
    return answer_lines(ClauseAnswer(action, "", quantities, False, (target,)), LESIONS, SAY)  # type: ignore[arg-type]


LIVER = found(name="liver", number=None, volume_ml=1500.4)


def test_segment() -> None:
    assert told("segment", found()) == ["pancreas tumor: 1 found, 3.1 ml"]
    assert told("segment", found(), found(number=2)) == ["pancreas tumor: 2 found, 6.3 ml together"]
    assert told("segment") == ["pancreas tumor: none found"]
    assert told("segment", LIVER, looked_for=("liver",), said="liver") == ["liver: 1,500 ml"]
    cut = found(name="liver", number=None, volume_ml=150.4, touches_border=True)
    assert told("segment", cut, looked_for=("liver",), said="liver") == [
        "liver: 150 ml (cut off by the border of the scan: a lower bound)"
    ]


def test_segment_a_family() -> None:
    kidney = found(name="kidney_left", number=None, volume_ml=150.0)
    assert told("segment", kidney, looked_for=("kidney_left", "kidney_right"), said="kidneys") == [
        "kidneys: 1 of 2 found, 150 ml together",
        "kidneys: not found: right kidney",
    ]
    assert told("segment", kidney, looked_for=("kidney_left",), lost=("kidney_right", "spleen"), said="organs") == [
        "organs: 1 of 3 found, 150 ml together",
        "organs: not looked for: right kidney and spleen",
    ]


def test_what_a_size_or_place_rules_out_is_not_missing() -> None:
    lung = found(name="lung_right", number=None, volume_ml=1935.0, touches_border=True)
    organs = ("lung_left", "lung_right", "spleen")
    assert told(
        "segment", lung, looked_for=organs, lost=("heart",), said="organs, larger than 1000 ml", narrowed=True
    ) == [
        "organs, larger than 1000 ml: right lung; 1,935 ml together (cut off by the border of the scan: a lower bound)",
        "organs, larger than 1000 ml: not looked for: heart",
    ]


def test_a_part_of_an_organ_is_measured_by_its_own_name() -> None:
    said = "upper third of the liver"
    assert told("measure", LIVER, quantities=("volume",), looked_for=("liver",), said=said, narrowed=True) == [
        "upper third of the liver: 1,500 ml"
    ]


def test_count() -> None:
    assert told("count") == ["pancreas tumor: 0"]
    assert told("count", found()) == ["pancreas tumor: 1"]
    assert told("count", found(), found(number=2), lost=("lung_tumor",)) == [
        "pancreas tumor: 2",
        "pancreas tumor: not looked for: lung tumor",
    ]


def test_mark() -> None:
    assert told("mark", found()) == [
        "pancreas tumor 1 (pancreas, tail): box R -41 to -20 mm, A 1 to 22 mm, S 130 to 151 mm; "
        "voxels 9:11 × 20:22 × 14:16"
    ]


def test_measure() -> None:
    assert told("measure", found(), quantities=("size",)) == [
        "pancreas tumor 1 (pancreas, tail): 21.6 × 14.2 mm (axial), 3.1 ml"
    ]
    assert told("measure", found(), quantities=("volume",)) == ["pancreas tumor 1 (pancreas, tail): 3.1 ml"]
    assert told("measure", found(), quantities=("size", "volume", "diameter", "density")) == [
        "pancreas tumor 1 (pancreas, tail): 21.6 × 14.2 mm (axial), 3.1 ml, longest axial diameter 21.6 mm, 42 ± 12 HU"
    ]
    assert told("measure", LIVER, quantities=("size", "density"), looked_for=("liver",)) == [
        "liver: 21 × 22 × 1,234 mm (R-L × A-P × S-I), 1,500 ml, 42 ± 12 HU"
    ]
    bare = found(number=9, hu_mean=None, hu_sd=None, touches_border=True)
    assert told("measure", bare, quantities=("density",)) == [
        "pancreas tumor 9: – ± – HU (cut off by the border of the scan: a lower bound)"
    ]


def test_nothing_found_and_something_not_looked_for_are_told_apart() -> None:
    for action in ("segment", "measure", "mark"):
        assert told(action, lost=("lung_tumor",), quantities=("size",), said="tumors") == [
            "tumors: none found",
            "tumors: not looked for: lung tumor",
        ]


def test_report_on_a_target_tells_size_and_density() -> None:
    assert told("report", found(), quantities=("volume",)) == told("report", found())
    assert told("report", found()) == ["pancreas tumor 1 (pancreas, tail): 21.6 × 14.2 mm (axial), 3.1 ml, 42 ± 12 HU"]
    assert answer_lines(ClauseAnswer("report", "report", (), False, ()), {}, SAY) == [SAY.say("answers.whole_report")]


def test_the_place_of_a_lesion_as_far_as_it_is_known() -> None:
    def line(**changes: Any) -> str:
        target = TargetAnswer("t", ("pancreas_tumor",), (), False, (found(),), ())
        clause = ClauseAnswer("measure", "", ("volume",), False, (target,))
        return answer_lines(clause, {("pancreas_tumor", 1): lesion(**changes)}, SAY)[0]

    assert line(third=None) == "pancreas tumor 1 (pancreas): 3.1 ml"
    assert line(organ=None, third=None) == "pancreas tumor 1: 3.1 ml"
    assert line(organ="liver", third="upper") == "pancreas tumor 1 (liver, upper third): 3.1 ml"


def compared(comparison: Comparison) -> str:
    (line,) = answer_lines(ClauseAnswer("compare", "", (), False, (), (comparison,)), {}, SAY)
    return line


def test_compare() -> None:
    three = ("liver", "spleen", "pancreas")
    volumes = Comparison("volume", "ml", three, (1500.0, None, 75.0), (0.0, None, -1425.0), (1.0, None, 0.05))
    assert compared(volumes) == "volume: liver 1,500 ml, spleen: none found, pancreas 75.0 ml (0.05 times liver)"
    densities = Comparison("density", "HU", three, (100.0, 120.4, 79.9), (0.0, 20.4, -20.1), (None, None, None))
    assert compared(densities) == "mean density: liver 100 HU, spleen 120 HU (+20 HU), pancreas 80 HU (-20 HU)"
    alike = Comparison("density", "HU", three, (100.0, 100.3, 99.7), (0.0, 0.3, -0.3), (None, None, None))
    assert compared(alike) == "mean density: liver 100 HU, spleen 100 HU (0 HU), pancreas 100 HU (0 HU)"
    zero = Comparison("diameter", "mm", three[:2], (0.0, 12.34), (0.0, 12.34), (None, None))
    assert compared(zero) == "longest axial diameter: liver 0.0 mm, spleen 12.3 mm (+12.3 mm)"
    missing = Comparison("volume", "ml", three[:2], (None, 12.0), (None, None), (None, None))
    assert compared(missing) == "volume: liver: none found, spleen 12.0 ml"


def test_compare_tells_what_was_not_looked_for() -> None:
    (clause,) = clauses("compare the volume of the kidneys", scene("kidney_right"))
    assert answer_lines(clause, {}, SAY) == [
        "volume: left kidney 6.4 ml",
        "left and right kidney: not looked for: right kidney",
    ]


def of(**changes: Any) -> list[str]:
    """The impression of one kind of lesion."""
    lesions = changes.pop("found", ())
    return impression([verdict(**changes)], lesions, (), (), SAY)


NOT_MEASURED = "What these weights miss was not measured: finding nothing does not mean that nothing is there."
WORTH = [
    "This threshold found 80 % (70 to 88 %, n = 50) of those of 10-20 mm and 87 % (80 to 92 %, n = 120) of all. "
    "Measured on: 220 scans of a hospital.",
    "It found nothing in 95 % (90 to 98 %, n = 100) of cases without any.",
]


def test_found_one() -> None:
    assert of(found=[LESION]) == [
        "Pancreas tumor: 1 found, 3.1 ml; 21.6 × 14.2 mm (longest axial diameters), in the tail of the pancreas, "
        "48 HU darker than the pancreas, mean probability 0.87."
    ]


def test_found_many() -> None:
    other = lesion(number=2)
    assert of(found=[LESION, other], lesions=2, volume_ml=0.0424) == [
        "Pancreas tumor: 2 found, 0.042 ml together; the largest 21.6 × 14.2 mm (longest axial diameters), in the tail "
        "of the pancreas, 48 HU darker than the pancreas, mean probability 0.87."
    ]


def test_only_lesions_of_the_verdicts_own_kind_are_told() -> None:
    mixed = [lesion(name="liver_tumor", organ="liver", third="upper", touches_border=True), LESION]
    assert of(found=mixed) == of(found=[LESION])


def test_found_with_less_known() -> None:
    plain = {"confidence": None, "third": None}
    (line,) = of(found=[lesion(**plain, attenuation="hyper", hu_difference=20.2)])
    assert line.endswith("diameters), in the pancreas, 20 HU brighter than the pancreas.")
    (line,) = of(found=[lesion(**plain, attenuation="iso", hu_difference=-3.4)])
    assert line.endswith("in the pancreas, as bright as the pancreas (difference -3 HU).")
    (line,) = of(found=[lesion(**plain, attenuation=None, hu_difference=None)])
    assert line.endswith("in the pancreas.")
    (line,) = of(found=[lesion(**plain, organ=None, attenuation=None, hu_difference=None)])
    assert line == "Pancreas tumor: 1 found, 3.1 ml; 21.6 × 14.2 mm (longest axial diameters)."


def test_cut_off_by_the_border() -> None:
    (line,) = of(found=[LESION, lesion(number=2, touches_border=True)], lesions=2)
    assert line.endswith("0.87. It reaches the border of the scan, so that sizes are lower bounds.")


def test_found_at_a_measured_threshold() -> None:
    lines = of(found=[LESION], measured=POINT, threshold=0.3)
    assert lines[1:] == WORTH


def test_none() -> None:
    nothing = {"detected": False, "lesions": 0, "volume_ml": 0.0, "score": 0.123}
    assert of(**nothing) == [
        "No pancreas tumor found at threshold 0.50 (highest score 0.12).",
        NOT_MEASURED,
    ]
    assert of(**nothing, measured=POINT) == [
        "No pancreas tumor found at threshold 0.50 (highest score 0.12).",
        *WORTH,
    ]
    assert of(**(nothing | {"score": None, "threshold": None})) == ["No pancreas tumor found.", NOT_MEASURED]


def test_none_in_given_masks() -> None:
    given = {"detected": False, "lesions": 0, "score": None, "threshold": None, "by": "masks"}
    assert of(**given) == ["No pancreas tumor in the masks that were given."]


def test_a_mask_whose_score_stays_below() -> None:
    assert of(found=[LESION], detected=False, threshold=0.9, score=0.756) == [
        "Pancreas tumor: not found at threshold 0.90; 3.1 ml of the mask stay below it (highest score 0.76).",
        NOT_MEASURED,
    ]


def test_a_score_without_a_mask() -> None:
    assert of(threshold=0.3, score=0.41, lesions=0, volume_ml=0.0, measured=POINT) == [
        "Pancreas tumor: the score of 0.41 reaches the threshold 0.30, but the mask, which has a threshold of its own "
        "and is cleaned up, holds no voxel: nothing is marked or measured.",
        *WORTH,
    ]
    # Without a measured threshold the mask decides; "none found at 0.50, highest score 0.80" would contradict itself.
    (line, _) = of(detected=False, score=0.8, lesions=0, volume_ml=0.0)
    assert line.startswith("Pancreas tumor: the score of 0.80 reaches the threshold 0.50, but the mask")


def test_a_point_that_tells_nothing_adds_nothing() -> None:
    from dataclasses import replace

    assert len(of(found=[LESION], measured=replace(POINT, sensitivity={}, specificity=None))) == 1


def test_several_unmeasured_kinds_are_told_of_once() -> None:
    both = [verdict(name=name, detected=False, lesions=0) for name in ("liver_tumor", "pancreas_tumor")]
    assert impression(both, (), (), (), SAY).count(NOT_MEASURED) == 1


def test_not_looked_for() -> None:
    assert impression((), (), (), ("lung_tumor", "colon_tumor"), SAY) == [
        "No kind of tumor or cyst was looked for.",
        "Not looked for, since neither weights nor masks know them: lung tumor and colon tumor.",
    ]


def of_organs(*organs: Any) -> list[str]:
    return impression((), (), organs, (), SAY)[1:]


def test_organs_that_are_odd() -> None:
    assert of_organs(
        organ(volume_ml=2000.0, flags=(ABOVE_NORMAL, IN_PIECES), components=3),
        organ(name="spleen", volume_ml=50.0, flags=(BELOW_NORMAL,)),
        organ(name="aorta", normal_volume=None, flags=(AT_BORDER,)),
        organ(name="colon", normal_volume=None, flags=(AT_BORDER,)),
        organ(name="gallbladder", volume_ml=0.0, flags=(BELOW_NORMAL, AT_BORDER)),
    ) == [
        "Liver: 2,000 ml, more than the 1,033 to 1,953 ml of most healthy adults.",
        "Spleen: 50.0 ml, less than the 1,033 to 1,953 ml of most healthy adults.",
        "Cut off by the border of the scan, so that volumes are lower bounds: aorta and colon.",
        "In several pieces, which may be a mistake of the mask: liver (3).",
        "Not found: gallbladder.",
    ]


def test_organs_that_are_not() -> None:
    assert of_organs(organ(), organ(name="spleen")) == [
        "Of 2 organs and vessels, none is cut off, in pieces, or outside of the normal volumes known here."
    ]
    assert of_organs(organ()) == [
        "The one organ or vessel that was asked for is not cut off, in pieces, or outside of the normal volumes known "
        "here."
    ]
    assert of_organs() == []
    # A finding without any voxel is told of as absent, not as odd, and not as normal.
    assert of_organs(organ(), organ(name="spleen", volume_ml=0.0, flags=())) == ["Not found: spleen."]


def test_the_belly_in_sentences() -> None:
    belly = scene()
    lesions = {(one.name, one.number): one for one in belly.lesions("liver_tumor")}
    (clause,) = clauses("measure the 2 largest liver tumors", belly)
    assert answer_lines(clause, lesions, SAY) == [
        "liver tumor 1 (liver, upper third): 13.4 × 8.9 mm (axial), 1.2 ml",
        "liver tumor 2 (liver, lower third): 10.0 × 2.0 mm (axial), 0.080 ml",
    ]
    (clause,) = clauses("compare the volume of the kidneys", belly)
    assert answer_lines(clause, lesions, SAY) == [
        "volume: left kidney 6.4 ml, right kidney 6.4 ml (1.00 times left kidney)"
    ]


FORBIDDEN = (
    "benign", "malign", "cancer", "carcinom", "metasta", "diagnos", "recommend", "should", "must", "suspicious",
    "suggest", "likely", "probably", "disease", "patholog", "histolog", "abnormal", "follow-up", "biopsy", "treat",
    "resect", "advise", "urgent", "indicate", "consistent with", "neoplas", "lymphom", "adenom", "hemangiom", "stage",
    "rule out", "clear of", "healthy liver", "unremarkable",
)  # fmt: skip


@pytest.mark.parametrize("code", ["en"])
def test_no_sentence_claims_more_than_was_measured(code: str) -> None:
    text = resources.files("voxicon.answering").joinpath("languages", f"{code}.yaml").read_text(encoding="utf8")
    sentences = re.sub(r"(?m)^#.*$", "", text).casefold()
    assert [word for word in FORBIDDEN if word in sentences] == []
