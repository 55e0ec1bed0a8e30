"""What a user may say about a file whose header is silent or wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from voxicon.errors import ConfigError

_AXIS_OF = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Answers to questions a header leaves open; every default means "take the header's word or refuse".

    Attributes:
        volume: Which volume of a 4D file, counted from 0.
        use: Which of two contradicting placements to believe.
        assume_orientation: Three letters such as ``RAS``: the direction in which each voxel index grows, for
            files that place nothing. A file that does place its voxels is believed instead.
        spacing_mm: Voxel size along the three voxel axes, in place of the header's.
        hu_offset: Added to every value; 0 switches the detection of a stored offset off.

    Raises:
        ConfigError: A value makes no sense.
    """

    volume: int | None = None
    use: Literal["sform", "qform"] | None = None
    assume_orientation: str | None = None
    spacing_mm: tuple[float, float, float] | None = None
    hu_offset: float | None = None

    def __post_init__(self) -> None:
        if self.volume is not None and self.volume < 0:
            raise ConfigError(f"volume: got {self.volume}; expected 0 or more; volumes are counted from 0")
        if self.use not in (None, "sform", "qform"):
            raise ConfigError(f"use: got {self.use!r}; expected 'sform' or 'qform'; choose one of them")
        code = self.assume_orientation
        if code is not None and sorted(_AXIS_OF.get(letter, -1) for letter in code) != [0, 1, 2]:
            raise ConfigError(
                f"assume_orientation: got {code!r}; expected one letter each of R/L, A/P and S/I, such as 'RAS'; "
                "write the direction in which each voxel index grows"
            )
        spacing = self.spacing_mm
        if spacing is not None and (len(spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing)):
            raise ConfigError(f"spacing_mm: got {spacing}; expected three positive numbers; give millimetres per axis")
        if self.hu_offset is not None and not math.isfinite(self.hu_offset):
            raise ConfigError(f"hu_offset: got {self.hu_offset}; expected a number; -1024 is the usual one")

    def orientation_axes(self) -> tuple[tuple[int, int], ...]:
        """World axis and sign of each voxel axis for `assume_orientation`; empty when it is not given."""
        return tuple((_AXIS_OF[letter], 1 if letter in "RAS" else -1) for letter in self.assume_orientation or "")


TRUST_HEADER = ReadOptions()
"""No answers: the header is believed or the file refused."""
