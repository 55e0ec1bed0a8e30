"""How long the stages of a walk take."""

from __future__ import annotations

import time


class Clock:
    """Wall seconds between laps, the first one counted from when it was made.

    Attributes:
        seconds: By lap, rounded to hundredths.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """Write down what has passed since the lap before under a name."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._last, 2)
        self._last = now
