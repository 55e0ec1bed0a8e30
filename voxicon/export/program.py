"""A network with its words baked in, as a program that needs neither this package nor any text.

Shape letters: B windows, N classes, X Y Z voxels of a window.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from voxicon.infer.windows import Size
from voxicon.model.extend import without
from voxicon.model.network import UniversalNetwork


class _Answer(nn.Module):
    """A network that answers for all of its words, in another order."""

    def __init__(self, network: UniversalNetwork, order: list[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.is_sorted = order == sorted(order)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)
        return logits if self.is_sorted else logits[:, self.get_buffer("order")]


def to_program(network: UniversalNetwork, classes: tuple[str, ...], window: Size) -> torch.export.ExportedProgram:
    """The network as one program: windows (B, 1, X, Y, Z) float32 in [0, 1] to logits (B, N, X, Y, Z).

    Args:
        network: In evaluation mode; stays as it is. Heads and adapters of words not asked for are left out.
        classes: N of its words, in the order of the channels wanted; at least one.
        window: Voxels of a window. B is free, this is not.

    Raises:
        CheckpointError: Words are to be left out of a network that was put together by hand.
    """
    others = tuple(name for name in network.classes if name not in classes)
    asked = without(network, others) if others else copy.deepcopy(network)
    order = [asked.classes.index(name) for name in classes]
    answer = _Answer(asked, order).cpu().eval().requires_grad_(False)
    # Two windows: of one, torch concludes that there is always one.
    example = torch.zeros(2, 1, *window)
    with torch.no_grad(), quiet():
        program = torch.export.export(answer, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    program.example_inputs = None  # else the example is written into every file
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """No word of libraries about themselves: torch warns of packages that it would use and does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
