"""bf16 is used where the scan's own first windows get the masks that fp32 gives them, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from voxicon.infer.engine import Encode
from voxicon.infer.precision import CHECKED_WINDOWS, LEAST_DICE, LEAST_VOXELS, PrecisionGate
from voxicon.model.head import EVERY_ROW, Rows

SIDE = 20  # of which every second voxel is looked at: 1000 of a window
CUTS = {"liver": 0.0, "spleen": math.log(3), "aorta": 0.0}
"""Spleen where it is three times as likely as not."""


def logits(**voxels: float) -> Tensor:
    """(1, 3, 20, 20, 20): of each class so many of the voxels looked at are just above its cut, the rest just below.

    All others are far above: whoever looked at them would find other numbers.
    """
    maps = torch.full((1, len(CUTS), SIDE, SIDE, SIDE), 9.0)
    for i, (name, cut) in enumerate(CUTS.items()):
        above = torch.arange(1000) < voxels.get(name, 0)
        maps[0, i, ::2, ::2, ::2] = torch.where(above, cut + 0.1, cut - 0.1).reshape(10, 10, 10)
    return maps


class Answers:
    """An `Encode` that answers one window after the other with what was laid out for it, and counts."""

    def __init__(self, *windows: Tensor) -> None:
        self.windows, self.asked = windows, 0

    def __call__(self, image_B1XYZ: Tensor, rows: Rows = EVERY_ROW) -> tuple[Tensor, Tensor]:
        maps = [self.windows[(self.asked + i) % len(self.windows)] for i in range(len(image_B1XYZ))]
        self.asked += len(image_B1XYZ)
        return torch.cat(maps), torch.zeros(len(maps), len(CUTS), 153)


def gate_of(fp32: Encode, bf16: Encode | None, cuts: Mapping[str, float] = CUTS) -> PrecisionGate:
    return PrecisionGate(fp32, bf16, lambda maps, _: maps, cuts)


def run(gate: PrecisionGate, n_windows: int, batch: int = 1) -> list[Tensor]:
    """The maps answered for so many windows."""
    image = torch.zeros(batch, 1, SIDE, SIDE, SIDE)
    return [gate.encode(image, EVERY_ROW)[0] for _ in range(n_windows // batch)]


def test_equal_masks_let_bf16_compute_all_but_the_windows_compared() -> None:
    theirs = logits(liver=400, spleen=300) + 0.01  # other numbers, the same masks
    fp32, bf16 = Answers(logits(liver=400, spleen=300)), Answers(theirs)
    gate = gate_of(fp32, bf16)
    answers = run(gate, 5)
    assert [torch.equal(answer, theirs) for answer in answers] == [False, False, True, True, True]
    assert (CHECKED_WINDOWS, fp32.asked, bf16.asked) == (2, 2, 5)
    told = gate.told()
    assert (told.used, told.reason, told.warnings) == ("bf16", "", ())
    assert told.to_dict() == {"used": "bf16", "reason": "", "checked_windows": 2, "lowest_dice": {"liver": 1.0}}


def test_other_masks_keep_the_rest_in_fp32_and_say_which_class() -> None:
    ours = logits(liver=400, spleen=300)
    fp32, bf16 = Answers(ours), Answers(logits(liver=400, spleen=270))
    gate = gate_of(fp32, bf16)
    assert all(torch.equal(answer, ours) for answer in run(gate, 5))
    assert (fp32.asked, bf16.asked) == (5, 2)
    # By hand: 2 · 270 / (300 + 270) = 0.9474.
    told = gate.told()
    assert told.to_dict()["lowest_dice"] == {"spleen": 0.9474}
    assert told.used == "fp32"
    assert told.warnings == (
        "precision: bf16 changes spleen: Dice 0.9474 with fp32, below 0.995; computed in fp32 instead",
    )


@pytest.mark.parametrize(
    ("both", "dice", "used"),
    [
        ((991, 991), 1982 / 1991, "bf16"),  # 0.9955
        ((990, 990), 1980 / 1990, "fp32"),  # 0.99497
        ((982, 1000), 3964 / 3982, "bf16"),  # 0.9955 of both, although the first alone has 0.991
        ((980, 1000), 3960 / 3980, "fp32"),  # 0.99497 of both, although the second alone has 1
    ],
)
def test_the_bound_by_hand(both: tuple[int, int], dice: float, used: str) -> None:
    gate = gate_of(Answers(logits(liver=1000)), Answers(*(logits(liver=n) for n in both)))
    run(gate, 3)
    assert gate.told().lowest_dice == {"liver": pytest.approx(dice)}
    assert gate.told().used == used
    assert LEAST_DICE == 0.995


def test_what_only_bf16_finds_counts_and_what_is_small_does_not() -> None:
    ours = logits(liver=400, spleen=10)
    invents = gate_of(Answers(ours), Answers(logits(liver=400, spleen=10, aorta=LEAST_VOXELS // 2)))
    run(invents, 3)
    assert invents.told().lowest_dice == {"aorta": 0.0}  # 100 in each of two windows
    assert invents.told().refused
    little = gate_of(Answers(ours), Answers(logits(liver=400, spleen=0, aorta=LEAST_VOXELS // 2 - 1)))
    run(little, 3)
    assert little.told().lowest_dice == {"liver": 1.0}
    assert little.told().used == "bf16"


def test_numbers_that_are_none_are_refused() -> None:
    gate = gate_of(Answers(logits(liver=400)), Answers(torch.full_like(logits(), math.nan)))
    run(gate, 3)
    assert gate.told().lowest_dice == {"liver": 0.0}
    assert gate.told().used == "fp32"


def test_windows_with_next_to_nothing_in_them_are_not_compared() -> None:
    empty, full = logits(liver=LEAST_VOXELS - 1), logits(liver=LEAST_VOXELS)
    fp32, bf16 = Answers(empty, empty, empty, full, full, full), Answers(full)
    gate = gate_of(fp32, bf16)
    run(gate, 5)
    assert (fp32.asked, bf16.asked) == (5, 2)
    assert gate.told().checked_windows == 2
    run(gate, 1)
    assert (fp32.asked, bf16.asked) == (5, 3)


@pytest.mark.parametrize(
    ("n_windows", "n_checked", "lowest"), [(0, 0, {}), (1, 1, {"liver": 1.0}), (2, 2, {"liver": 1.0})]
)
def test_a_scan_of_few_windows_is_computed_in_fp32(n_windows: int, n_checked: int, lowest: dict[str, float]) -> None:
    gate = gate_of(Answers(logits(liver=400)), Answers(logits(liver=400)))
    run(gate, n_windows)
    told = gate.told()
    assert (told.used, told.checked_windows, told.lowest_dice) == ("fp32", n_checked, lowest)
    assert told.reason == "no window was left after those compared, which are answered in fp32"
    assert told.warnings == ()


def test_windows_of_a_batch_count_each() -> None:
    fp32, bf16 = Answers(logits(liver=100)), Answers(logits(liver=100))
    gate = gate_of(fp32, bf16)
    answers = run(gate, 6, batch=2)
    assert [len(answer) for answer in answers] == [2, 2, 2]
    assert (fp32.asked, bf16.asked) == (2, 6)  # 2 · 100 voxels of the liver are enough
    assert gate.told().checked_windows == 2


def test_without_bf16_there_is_nothing_to_tell() -> None:
    gate = gate_of(Answers(logits(liver=400)), None)
    assert len(run(gate, 3)) == 3
    assert gate.told().to_dict() == {"used": "fp32", "reason": "", "checked_windows": 0, "lowest_dice": {}}
    assert gate.told().warnings == ()


def test_no_class_gives_nothing_to_compare() -> None:
    bf16 = Answers(logits())
    gate = PrecisionGate(Answers(logits()), bf16, lambda maps, _: maps[:, :0], {})
    run(gate, 3)
    assert bf16.asked == 0
    assert gate.told().lowest_dice == {}
