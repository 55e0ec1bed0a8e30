"""Memory planned before a scan is read: worked by hand, and what is done where it is scarce."""

from __future__ import annotations

import pytest

from voxicon.core.storage import LARGE_BYTES
from voxicon.errors import InputError
from voxicon.infer.memory import (
    SCRATCH_BYTES,
    Demand,
    MemoryPlan,
    model_grid_bytes,
    plan_memory,
    waiting_bytes,
)

MB = 1 << 20
SCAN = Demand(
    process=300 * MB, window=500 * MB, model_grid=100 * MB, unpacked=150 * MB, hu=300 * MB, masks=300 * MB,
    maps=(75 * MB, 75 * MB),
)  # fmt: skip


def test_in_memory_the_largest_stage_counts() -> None:
    # Reading 450, preparing 400, computing 900, writing 300 + 300 + 150 + 100 = 850.
    assert SCAN.in_memory(1 << 60) == (300 + 900) * MB + SCRATCH_BYTES
    assert SCAN.in_files(1 << 60) == 0


def test_arrays_in_files_do_not_count() -> None:
    # From 256 MB on: hu and masks. Computing 600 remains.
    assert SCAN.in_memory(256 * MB) == (300 + 600) * MB + SCRATCH_BYTES
    assert SCAN.in_files(256 * MB) == 600 * MB
    # All of it: the file is gone when the masks come.
    assert SCAN.in_memory(1) == (300 + 600) * MB + SCRATCH_BYTES
    assert SCAN.in_files(1) == (300 + 300 + 150) * MB


def test_an_oblique_scan_is_smoothed_in_memory() -> None:
    oblique = Demand(
        process=0, window=10 * MB, model_grid=5 * MB, unpacked=0, hu=50 * MB, smoothed=50 * MB, masks=0, maps=()
    )
    assert oblique.in_memory(1 << 60) == 105 * MB + SCRATCH_BYTES


def test_files_are_used_as_little_as_the_limit_allows() -> None:
    assert plan_memory(SCAN, None, "ct").in_memory_below == LARGE_BYTES
    for limit_mb, in_files in ((1200, 0), (1199, 600), (900, 600)):
        plan = plan_memory(SCAN, limit_mb * MB + SCRATCH_BYTES, "ct")
        assert plan.file_bytes == in_files * MB
        assert plan.memory_bytes <= limit_mb * MB + SCRATCH_BYTES


def test_what_cannot_fit_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputError, match=r"ct: needs about 1\.2 GB of memory, .* only 0\.9 GB may be used; allow") as e:
        plan_memory(SCAN, 900 * MB, "ct")
    assert e.value.code == "E-MEMORY"


def test_said_in_a_line() -> None:
    assert str(MemoryPlan(demand=SCAN, in_memory_below=1 << 60)) == "about 1.5 GB of memory"
    assert str(MemoryPlan(demand=SCAN, in_memory_below=1)) == "about 1.2 GB of memory, and 0.8 GB in temporary files"
    assert MemoryPlan(demand=SCAN, in_memory_below=1).to_dict() == {"planned_gb": 1.21, "planned_in_files_gb": 0.79}


def test_windows_that_wait() -> None:
    # 64³ in windows of 32³: at overlap 0.5 three per axis, nine in a row, and two rows reach into one another.
    assert waiting_bytes((64, 64, 64), (32, 32, 32), 0.5) == 2 * 9 * 8 * 4 * 32**3
    assert waiting_bytes((64, 64, 64), (32, 32, 32), 0.0) == 1 * 4 * 8 * 4 * 32**3
    assert waiting_bytes((5, 5, 5), (32, 32, 32), 0.5) == 8 * 4 * 32**3


def test_model_grid() -> None:
    # Two floats and two words a voxel, a second word for the 33rd class, a byte per map.
    assert model_grid_bytes((10, 10, 10), 32, 0) == 16_000
    assert model_grid_bytes((10, 10, 10), 33, 2) == 26_000
