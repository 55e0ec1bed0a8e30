"""Whether a scan may be computed in bf16: only where its own first windows get the masks that fp32 gives them.

bf16 keeps eight binary digits of a number. Some processors and GPUs compute faster in it; what it costs depends on the
weights and on the scan, so there is no list of weights that bear it: every scan is asked anew, and answers by Dice.
The windows that are compared are answered in fp32, so a refusal throws nothing away but the comparison.

What it cannot tell: a class that the windows compared do not hold is computed as the others are, unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from voxicon.infer.engine import Encode, Precision
from voxicon.model.head import Rows

CHECKED_WINDOWS = 2
"""Windows computed in both. Own choice: rounding errs all over a window, so few show it. One alone may hold no more
than a corner of the body; a third would cost a scan of eight windows most of what bf16 spares it."""

LEAST_DICE = 0.995
"""What the worst class must reach. Own choice: of a class's voxels, one in a hundred may differ. The engines in fp32
agree to 1.0000; the starter weights, which do not bear bf16, reach 0.99 for lungs and 0.6 for vessels of the liver."""

LEAST_VOXELS = 200
"""Voxels looked at, of the two masks the larger, from which on a class is compared. Own choice: at 200 the bound lets
two of them differ; among fewer, chance would decide, a single voxel on a border."""

STRIDE = 2
"""Of the voxels every second one along each axis is looked at: an eighth of the decoding, which for many classes takes
longer than the window itself, and the same Dice up to chance."""

Decode = Callable[[Tensor, Tensor], Tensor]
"""Shared maps (B, 8, X, Y, Z) and parameters (B, N, 153) to logits (B, N, X, Y, Z)."""


@dataclass(frozen=True)
class PrecisionUsed:
    """What a scan was computed in.

    Attributes:
        used: ``bf16`` where windows were answered in it, if not those compared.
        reason: Why fp32 was used although bf16 was asked for; else empty.
        checked_windows: How many were computed in both.
        lowest_dice: The class in which they differed most, and its Dice; empty where nothing was compared.
        refused: True where that Dice was too low.
    """

    used: Precision = "fp32"
    reason: str = ""
    checked_windows: int = 0
    lowest_dice: Mapping[str, float] = field(default_factory=dict)
    refused: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line where bf16 was refused."""
        return (f"precision: {self.reason}; computed in fp32 instead",) if self.refused else ()

    def to_dict(self) -> dict[str, object]:
        """For ``case.json``."""
        return {
            "used": self.used,
            "reason": self.reason,
            "checked_windows": self.checked_windows,
            "lowest_dice": {name: round(dice, 4) for name, dice in self.lowest_dice.items()},
        }


class PrecisionGate:
    """Computes the windows of one scan: in fp32 until it is known what bf16 makes of them, then as that allows.

    Args:
        fp32: What computes windows; its answers are the measure.
        bf16: The same in bf16; None where there is none.
        decode: What makes logits of the answers of both.
        cuts: By class, in the order of the rows: the logit above which a voxel is of it.
        without: Why there is no bf16 although it was asked for; empty where it was not.
    """

    def __init__(
        self, fp32: Encode, bf16: Encode | None, decode: Decode, cuts: Mapping[str, float], without: str = ""
    ) -> None:
        self._fp32, self._bf16, self._decode, self._without = fp32, bf16, decode, without
        self._names, self._cuts_N = tuple(cuts), torch.tensor(list(cuts.values()))
        self._counts_3N = torch.zeros(3, len(cuts), dtype=torch.int64)
        self._checked = 0
        self._allowed: bool | None = None
        self._used: Precision = "fp32"

    def encode(self, image_B1XYZ: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """As `UniversalNetwork.encode`."""
        if self._bf16 is None or self._allowed is False:
            return self._fp32(image_B1XYZ, rows)
        if self._allowed:
            answer = self._bf16(image_B1XYZ, rows)
            self._used = "bf16"
            return answer
        sure = self._fp32(image_B1XYZ, rows)
        masks_NV = self._masks(*sure)
        # Where there is next to nothing to find, there is nothing to be learned of bf16 either.
        if (masks_NV.sum(1) >= LEAST_VOXELS).any():
            self._compare(masks_NV, self._masks(*self._bf16(image_B1XYZ, rows)))
            self._checked += len(image_B1XYZ)
            if self._checked >= CHECKED_WINDOWS:
                self._allowed = self._lowest()[1] >= LEAST_DICE
        return sure

    def told(self) -> PrecisionUsed:
        """What the windows so far were computed in."""
        if self._bf16 is None:
            return PrecisionUsed(reason=self._without)
        lowest = dict([self._lowest()]) if self._checked else {}
        refused, reason = self._allowed is False, ""
        if refused:
            ((name, dice),) = lowest.items()
            reason = f"bf16 changes {name}: Dice {dice:.4f} with fp32, below {LEAST_DICE}"
        elif self._used == "fp32":
            reason = "no window was left after those compared, which are answered in fp32"
        return PrecisionUsed(self._used, reason, self._checked, lowest, refused)

    def _masks(self, map_B8XYZ: Tensor, parameters_BNP: Tensor) -> Tensor:
        """(N, V) bool of the voxels looked at."""
        logits_BNXYZ = self._decode(map_B8XYZ[..., ::STRIDE, ::STRIDE, ::STRIDE], parameters_BNP)
        logits_NV = logits_BNXYZ.transpose(0, 1).flatten(1).float()
        return logits_NV > self._cuts_N.to(logits_NV.device)[:, None]

    def _compare(self, fp32_NV: Tensor, bf16_NV: Tensor) -> None:
        found = [mask_NV.sum(1) for mask_NV in (fp32_NV, bf16_NV, fp32_NV & bf16_NV)]
        self._counts_3N += torch.stack(found).cpu()

    def _lowest(self) -> tuple[str, float]:
        """The class that differs most among those with voxels enough in either, and its Dice; there is one."""
        ours_N, theirs_N, both_N = self._counts_3N
        dice_N = 2 * both_N / (ours_N + theirs_N).clamp(min=1)
        # Above any Dice: what is too small to tell is never the lowest.
        dice_N[torch.maximum(ours_N, theirs_N) < LEAST_VOXELS] = 2
        worst = int(dice_N.argmin())
        return self._names[worst], float(dice_N[worst])
