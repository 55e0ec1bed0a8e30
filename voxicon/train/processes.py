"""One process or many: started by ``torchrun``, sharing every step between them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.distributed import distributed_c10d

from voxicon.errors import ConfigError

T = TypeVar("T")

_PATIENCE = timedelta(days=1)
"""How long a process waits for another. The usual ten minutes are less than preparing a dataset takes; where a process
dies, torchrun ends the others at once."""


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is. With one, everything here does nothing."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """True for the one process that writes files and speaks."""
        return self.rank == 0

    def totals(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Each of some numbers summed over all processes; every process gets the same sums."""
        if self.count == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(summed)
        return [float(value) for value in summed]

    def gather(self, value: T) -> list[T]:
        """What every process has, in order of rank; for small plain data."""
        if self.count == 1:
            return [value]
        found: list[T] = [value] * self.count
        distributed.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            distributed.barrier()

    def share(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network, its gradients averaged over all processes after each backward pass."""
        if self.count == 1:
            return network
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)


@contextmanager
def processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the other processes of a ``torchrun``, and leave them at the end; alone without it.

    Yields:
        Who this process is, and its device: with several GPUs each process takes the one of its local rank.

    Raises:
        ConfigError: More processes than GPUs on this machine, or a device that processes cannot share.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(), device
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"torchrun started process {local + 1} on this machine, which has {torch.cuda.device_count()} GPU(s); "
                "start one process per GPU, or pass --device cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise ConfigError(f"several processes cannot share the device {device}; pass --device cpu or cuda")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size()), device
        _part(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def _part(rank: int, count: int) -> None:
    """Return when every process is done with its connections.

    Gloo aborts a process that still reads from one that has closed, and a barrier of gloo is itself such a reading;
    so the processes meet in the store they first met in.
    """
    store = distributed_c10d._get_default_store()
    store.set(f"voxicon/done/{rank}", "yes")
    # Where the first process keeps the store, it may be gone before the answer comes: then all were done.
    with contextlib.suppress(RuntimeError):
        store.wait([f"voxicon/done/{other}" for other in range(count)], _PATIENCE)
