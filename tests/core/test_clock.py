"""Laps add up to what has passed."""

from __future__ import annotations

import pytest

from voxicon.core.clock import Clock


def test_each_lap_counts_from_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 12.5, 12.504, 15.0])
    monkeypatch.setattr("voxicon.core.clock.time.monotonic", lambda: next(times))
    clock = Clock()
    for name in ("read", "prepare", "network"):
        clock.lap(name)
    assert clock.seconds == {"read": 2.5, "prepare": 0.0, "network": 2.5}
