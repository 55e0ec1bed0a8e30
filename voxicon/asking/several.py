"""Several requests at once."""

from __future__ import annotations

from collections.abc import Sequence

from voxicon.asking.grammar import parse
from voxicon.asking.request import Request
from voxicon.core.concepts import Vocabulary
from voxicon.errors import UsageError


def understood(texts: Sequence[str], vocabulary: Vocabulary) -> tuple[tuple[str, Request], ...]:
    """Requests as written and as understood.

    Raises:
        UsageError: One cannot be understood; with several, the message says which.
    """
    pairs = []
    for number, text in enumerate(texts, start=1):
        try:
            pairs.append((text, parse(text, vocabulary)))
        except UsageError as error:
            which = "request" if len(texts) == 1 else f"request {number} of {len(texts)}"
            raise type(error)(f"{which}: {str(error).removeprefix('request: ')}", code=error.code) from None
    return tuple(pairs)
