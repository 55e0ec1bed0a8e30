"""What a scan will take of memory, said before it is read, and what of it goes to a file so that it fits.

Everything on the scan's own grid is walked through slab by slab and may lie in a temporary file
(`voxicon.core.storage`). What cannot are the program with its weights, a window on its way through the network, and the
model's grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxicon.core.masks import word_count
from voxicon.core.storage import LARGE_BYTES
from voxicon.errors import InputError
from voxicon.infer.windows import Size, tile
from voxicon.model.head import HIDDEN

SCRATCH_BYTES = 256 << 20
"""Slabs being resampled or packed. Measured with the starter weights: what is beyond the arrays counted here."""

SMALLEST_IN_FILE_BYTES = 16 << 20
"""Arrays below stay in memory even where it is scarce: a file would save next to nothing."""

_NEVER = 1 << 62
_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a scan asks for, in bytes.

    Attributes:
        process: The program and its weights, as they are in memory now.
        window: A window in the network, the maps of windows that wait to be blended, and what a second look takes.
        model_grid: The scan and its masks on the model's grid.
        unpacked: The scan's file, while it is read.
        hu: The scan's Hounsfield units.
        smoothed: A second, whole copy of them that an oblique scan needs while it is prepared.
        masks: The masks on the scan's grid.
        maps: Each of the probability maps there.
    """

    process: int
    window: int
    model_grid: int
    unpacked: int
    hu: int
    smoothed: int = 0
    masks: int
    maps: tuple[int, ...]

    def in_memory(self, in_memory_below: int) -> int:
        """The most at one time where arrays of the scan's grid from a size on lie in files."""
        unpacked, hu, masks, *maps = (
            n if n < in_memory_below else 0 for n in (self.unpacked, self.hu, self.masks, *self.maps)
        )
        reading = unpacked + hu
        preparing = hu + self.smoothed + self.model_grid
        computing = hu + self.model_grid + self.window
        writing = hu + masks + sum(maps) + self.model_grid
        return self.process + SCRATCH_BYTES + max(reading, preparing, computing, writing)

    def in_files(self, in_memory_below: int) -> int:
        """The most at one time in temporary files."""
        unpacked, hu, masks, *maps = (
            n if n >= in_memory_below else 0 for n in (self.unpacked, self.hu, self.masks, *self.maps)
        )
        return hu + max(unpacked, masks + sum(maps))


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What a scan will take; see `plan_memory`.

    Attributes:
        demand: What it asks for.
        in_memory_below: From how many bytes on an array of the scan's grid goes to a file.
    """

    demand: Demand
    in_memory_below: int

    @property
    def memory_bytes(self) -> int:
        """The most in memory at one time, about."""
        return self.demand.in_memory(self.in_memory_below)

    @property
    def file_bytes(self) -> int:
        """The most in temporary files at one time."""
        return self.demand.in_files(self.in_memory_below)

    def __str__(self) -> str:
        """One line for people."""
        files = f", and {self.file_bytes / _GB:.1f} GB in temporary files" if self.file_bytes else ""
        return f"about {self.memory_bytes / _GB:.1f} GB of memory{files}"

    def to_dict(self) -> dict[str, float]:
        """Plain data for ``case.json``."""
        return {
            "planned_gb": round(self.memory_bytes / _GB, 2),
            "planned_in_files_gb": round(self.file_bytes / _GB, 2),
        }


def plan_memory(demand: Demand, most_bytes: int | None, name: str) -> MemoryPlan:
    """How a scan's demand is met.

    Args:
        demand: What it asks for.
        most_bytes: Not to be exceeded, about; None for the usual, where only arrays from `LARGE_BYTES` on go to files.
        name: The scan's, for messages.

    Returns:
        The plan that uses files least and stays below `most_bytes`.

    Raises:
        InputError: ``E-MEMORY``: no plan does.
    """
    if most_bytes is None:
        return MemoryPlan(demand=demand, in_memory_below=LARGE_BYTES)
    for below in (_NEVER, LARGE_BYTES, SMALLEST_IN_FILE_BYTES):
        plan = MemoryPlan(demand=demand, in_memory_below=below)
        if plan.memory_bytes <= most_bytes:
            return plan
    raise InputError(
        f"{name}: needs {plan}, but only {most_bytes / _GB:.1f} GB may be used; allow more, ask for fewer probability "
        "maps, or take weights with a smaller window",
        code="E-MEMORY",
    )


def waiting_bytes(shape: Size, window: Size, overlap: float, channels: int = HIDDEN) -> int:
    """Shared maps of windows kept until they are blended: those of a row, and of the rows that still reach into it."""
    tiling = tile(tuple(max(n, w) for n, w in zip(shape, window, strict=True)), window, overlap)  # type: ignore[arg-type]
    widest = max(len(row) for row in tiling.rows)
    reaching = min(len(tiling.rows), math.ceil(1 / (1 - overlap)))
    return widest * reaching * channels * math.prod(window) * 4


def model_grid_bytes(shape: Size, n_classes: int, n_maps: int) -> int:
    """The scan before and after it is cut to the body and scaled, masks before and after cleaning, and maps."""
    voxels = math.prod(shape)
    return voxels * (2 * 4 + 2 * 4 * word_count(n_classes) + n_maps)
