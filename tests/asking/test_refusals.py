"""What is not understood is refused, in one line that says what to do."""

from __future__ import annotations

import pytest

from voxicon.asking import parse
from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnknownClass, UsageError

VOCABULARY = Vocabulary.default()

UNKNOWN = {
    "segment the belly fat": "nearest known words: abdominal organs",
    "kidney stones": "nearest known words: kidneys, kidney cyst",
    "brain tumor": "nearest known words: brain",
    "livr": "did you mean liver",
    "segment the flux capacitor": "'flux capacitor' is not understood",
    "segment large tumors": "'large' is not understood",
    "liver tumors larger than 2 inches": "'inches' is not understood",
    "measure the area of the liver": "'area' is not understood",
    "tumors in the spleen": "no class of tumors lies there",
    "spleen tumor": "no class of tumors lies there",
    "liver tumor in the pancreas": "no class of liver tumor lies there",
    "spleen in the liver": "no class of spleen lies there",
    "left spleen": "leave 'left' out",
    "left and right spleen": "leave the sides out",
    "left kidney, except the left kidney": "leaves nothing",
}

WRONG = {
    "": "found no word",
    "?!": "found no word",
    "please": "only words of courtesy",
    "segment": "found no name of what is meant",
    "measure it": "found no name of what is meant",
    "the largest": "found no name of what is meant",
    "Generate a report. Measure it.": "found no name of what is meant",
    "don't segment the liver": "name what to leave out by 'except ...'",
    "liver and kidney tumors": "can mean liver or liver tumor",
    "tumors near the aorta and the spleen": "which 'and' belongs to",
    "tumors in the liver and the left kidney": "which 'and' belongs to",
    "tumors and cysts larger than 2 cm": "said of all of them",
    "pancreatic and renal tumors larger than 2 cm": "said of all of them",
    "liver spleen": "expected 'and' or a comma",
    "liver with spleen": "only in 'compare ... with ...'",
    "compare the liver": "expected two or more",
    "segment the volume of the liver": "write 'measure ...'",
    "the head of the liver": "expected a part of it",
    "the tail": "expected a class or family",
    "near the aorta": "before any target",
    "tumors in the cysts": "expected an organ",
    "tumors in the abdomen in the chest": "two places",
    "tumors larger than 2": "expected a unit",
    "tumors larger than cm": "expected a number",
    "tumors larger than 0 mm": "expected more than 0",
    "tumors larger than 1 cm larger than 2 cm": "twice",
    "tumors within 5 ml of the aorta": "expected mm or cm",
    "tumors within 5 mm": "what it is near to",
    "tumors near the tail of the pancreas": "expected a whole class",
    "the three kidneys": "expected the same number",
    "the 1.5 largest tumors": "expected 1, 2, 3",
    "pancreatic and renal vessels": "expected tumors, cysts or lesions",
    "liver except the spleen": "no part of liver",
    "tumors except the largest liver tumor": "expected whole classes after 'except'",
    "tumors except tumors in the liver": "put places and sizes before 'except'",
    "Generate a report except the stomach": "without a target",
    "liver tumors tumors": "expected 'and' or a comma",
    "measure the liver, it": "beside a name",
    "segment the liver and then measure it, the spleen": "beside a pronoun",
    "tumors 2 cm": "right after",
    "thoracic": "an adjective alone",
    "measure the liver in mm": "expected a class or family",
    "to the liver": "only in 'compare",
}


@pytest.mark.parametrize(("text", "reason"), UNKNOWN.items())
def test_unknown_things_are_refused_with_the_nearest_words(text: str, reason: str) -> None:
    with pytest.raises(UnknownClass) as refusal:
        parse(text, VOCABULARY)
    assert reason in str(refusal.value)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(("text", "reason"), WRONG.items())
def test_what_is_no_request_or_could_mean_two_things_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(text, VOCABULARY)
    assert not isinstance(refusal.value, UnknownClass)
    assert reason in str(refusal.value)
    assert refusal.value.exit_code == 2
