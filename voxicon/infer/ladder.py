"""What is done when a GPU runs out of memory: less at a time, then less on it, and at last without it.

A step down costs time, and no voxel: windows do not see each other in a batch, and a processor's answers differ from a
GPU's by rounding alone. What did not fit once is not tried again, neither in this scan nor in the next; every step is
told by one line.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from voxicon.infer.engine import Encode
from voxicon.model.head import Rows
from voxicon.model.network import UniversalNetwork

CPU = torch.device("cpu")

MakeRoom = Callable[[], None]
"""Called after a step down: moves what is kept of earlier windows to where answers are stitched now."""


class Ladder:
    """How many windows are computed at once, and where, as far as memory has allowed so far.

    Args:
        device: Where windows are computed, and their answers kept and blended, at first.
        batch: Windows computed together at first.
        to_cpu: Gives what computes windows on the processor; called once, as the last resort.

    Attributes:
        batch: Windows computed together.
        computing: Where windows are computed.
        stitching: Where answers are kept and blended.
        warnings: One line for each step down so far.
    """

    def __init__(self, device: torch.device, batch: int, to_cpu: Callable[[], Encode]) -> None:
        self.batch, self.computing, self.stitching = batch, device, device
        self.warnings: tuple[str, ...] = ()
        self._device, self._to_cpu = device, to_cpu
        self._on_cpu: Encode | None = None

    def encode(self, encode: Encode, image_B1XYZ: Tensor, rows: Rows, make_room: MakeRoom) -> tuple[Tensor, Tensor]:
        """What `encode` answers to windows, in as many goes as memory takes; it lies where answers are stitched.

        Args:
            encode: What computes windows on the device; no longer called once that is given up.
            image_B1XYZ: One window or more, wherever they lie.
            rows: Of the classes asked for.
            make_room: See `MakeRoom`.

        Raises:
            torch.OutOfMemoryError: There is no step left.
        """
        done: list[tuple[Tensor, Tensor]] = []
        rest = image_B1XYZ
        while len(rest):
            part = rest[: self.batch]
            try:
                done.append(self._compute(encode, part, rows))
                rest = rest[len(part) :]
                continue
            except torch.OutOfMemoryError:
                if not self._step_down(len(part)):
                    raise
            # Only here: within the except block the error still holds on to what the attempt had allocated.
            done = [self._stitched(answer) for answer in done]
            _free(make_room)
        maps, parameters = zip(*done, strict=True)
        return (maps[0], parameters[0]) if len(done) == 1 else (torch.cat(maps), torch.cat(parameters))

    def stitch(self, work: Callable[[], None], make_room: MakeRoom) -> None:
        """Do what blends answers, a second time if the device cannot: then on the processor.

        Args:
            work: Asks for `stitching` anew each time, and may be done twice.
            make_room: See `MakeRoom`.

        Raises:
            torch.OutOfMemoryError: It is done on the processor already.
        """
        try:
            work()
            return
        except torch.OutOfMemoryError:
            if self.stitching == CPU:
                raise
            self._stitch_on_cpu("while blending")
        _free(make_room)
        work()

    def _compute(self, encode: Encode, image_B1XYZ: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        by = encode if self._on_cpu is None else self._on_cpu
        there = rows if isinstance(rows, slice) else rows.to(self.computing)
        return self._stitched(by(image_B1XYZ.to(self.computing), there))

    def _stitched(self, answer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return answer[0].to(self.stitching), answer[1].to(self.stitching)

    def _step_down(self, tried: int) -> bool:
        """One step; False where there is none left."""
        if tried > 1:
            # Of those tried, which may be fewer than were allowed.
            self.batch = tried // 2
            self._tell(f"with {tried} windows at once; {self.batch} at a time from here on")
        elif self.stitching != CPU:
            self._stitch_on_cpu("with one window at a time")
        elif self.computing != CPU:
            self.computing, self._on_cpu = CPU, self._to_cpu()
            self._tell("with nothing but one window; the processor computes from here on, which takes far longer")
        else:
            return False
        return True

    def _stitch_on_cpu(self, when: str) -> None:
        self.stitching = CPU
        self._tell(f"{when}; answers are kept and blended by the processor from here on")

    def _tell(self, what: str) -> None:
        self.warnings += (f"memory: {self._device} ran out {what}",)


def _free(make_room: MakeRoom) -> None:
    make_room()
    torch.cuda.empty_cache()


def copied_to_cpu(network: UniversalNetwork) -> Encode:
    """What computes windows as a network does, on the processor; the network stays where it is, and what it is."""
    # Copied by way of the memo: a plain copy would first be made where memory has run out.
    memo: dict[int, Tensor] = {id(t): t.detach().to(CPU, copy=True) for t in network.buffers()}
    memo |= {id(p): nn.Parameter(p.detach().to(CPU, copy=True), requires_grad=False) for p in network.parameters()}
    return copy.deepcopy(network, memo).encode
