"""A color for every class: the vocabulary's own, or ones that color-blind readers tell apart.

A class looks the same in every picture, whichever other classes are shown with it: its style follows from its place in
the vocabulary alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voxicon.core.concepts import Concept, Vocabulary

Colors = Literal["vocabulary", "safe"]
Color = tuple[int, int, int]

_HUES: tuple[Color, ...] = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (0, 114, 178), (213, 94, 0), (204, 121, 167))
"""Orange, sky blue, bluish green, blue, vermilion, reddish purple: the set without yellow, and without black, which CT
hides.

Source: Okabe and Ito, Color Universal Design, 2008, https://jfly.uni-koeln.de/color/.
"""

_LESION: Color = (240, 228, 66)
"""Yellow of the same set, the lightest of it, kept for lesions."""

_SHADES = (0.0, 0.45, -0.35)
"""Shares of white (above 0) or black (below) mixed into the hues when all were given. Own choice."""

_ORDER = (1, 4, 15, 9, 0, 13, 16, 10, 6, 2, 5, 14, 11, 12, 8, 7, 3, 17)
"""Which of the hues in their shades an id gets. Own choice: of all orders that a random search tried, the one that
keeps organs that touch, and lesions and their organs, furthest apart for every kind of color vision
(``tests/report/test_palette.py``)."""


@dataclass(frozen=True)
class Style:
    """How a class is drawn.

    Attributes:
        color: Red, green, blue, 0 to 255.
        dashed: Whether its outline is.
    """

    color: Color
    dashed: bool = False


class Palette:
    """The style of every class of a vocabulary.

    Args:
        vocabulary: Knows the classes that are drawn.
        colors: ``vocabulary`` for its own colors, ``safe`` for ones that color-blind readers tell apart; where these
            run out, lightness and then dashed outlines tell classes apart, and after 36 organs they begin anew.
    """

    def __init__(self, vocabulary: Vocabulary, colors: Colors = "vocabulary") -> None:
        self.vocabulary = vocabulary
        self.colors = colors

    def __getitem__(self, name: str) -> Style:
        """The style of a class.

        Raises:
            UnknownClass: The vocabulary does not know it.
        """
        concept = self.vocabulary[name]
        return _safe(concept) if self.colors == "safe" else Style(concept.color)


def _safe(concept: Concept) -> Style:
    if concept.kind == "lesion":
        # Tumors and cysts of one organ have ids some even steps apart.
        return Style(_LESION, dashed=concept.id // 2 % 2 == 0)
    number = _ORDER[concept.id % len(_ORDER)]
    hue, share = _HUES[number % len(_HUES)], _SHADES[number // len(_HUES)]
    toward = 255 if share > 0 else 0
    r, g, b = (round(value + abs(share) * (toward - value)) for value in hue)
    return Style((r, g, b), dashed=concept.id // len(_ORDER) % 2 == 1)
