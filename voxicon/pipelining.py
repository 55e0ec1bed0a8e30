"""Many cases in three stages: one after the other, or so that neighbors overlap.

Overlapped, a case is computed while the next is read and the last is written. That pays where reading and writing
leave a processor free, above all where a GPU computes.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from voxicon.errors import VoxiconError

Item = TypeVar("Item")
Read = TypeVar("Read")
Computed = TypeVar("Computed")
Written = TypeVar("Written")


class Stages(ABC, Generic[Item, Read, Computed, Written]):
    """What is done to an item. A `VoxiconError` of a stage ends that item alone; any other error ends everything."""

    @abstractmethod
    def read(self, item: Item) -> Read | None:
        """What there is to compute, or None where nothing is to be done; runs on any thread."""

    @abstractmethod
    def compute(self, item: Item, read: Read, check: Callable[[], None]) -> Computed:
        """What there is to write; runs on the thread of the caller.

        Args:
            item: What was read.
            read: What `read` gave.
            check: To be called now and then. It raises when the stage that runs beside this one broke, so that
                nobody has to wait for the end of a long computation to hear of it.
        """

    @abstractmethod
    def write(self, item: Item, computed: Computed) -> Written:
        """What there is to tell of a finished item; runs on any thread, for one item at a time."""

    @abstractmethod
    def clash(self, item: Item, earlier: Item) -> bool:
        """Whether an item cannot be read before an earlier one is written."""


def in_turn(
    items: Iterable[Item], stages: Stages[Item, Read, Computed, Written]
) -> Generator[tuple[Item, Written | VoxiconError | None], None, None]:
    """Each item and what became of it, all three stages of one before the first of the next.

    Yields:
        The item with what `Stages.write` told, with the error that ended it, or with None where nothing was to be
        done. Nothing for no items.
    """
    for item in items:
        became: Written | VoxiconError | None
        try:
            became = _whole(stages, item)
        except VoxiconError as error:
            became = _light(error)
        yield item, became


def overlapped(
    items: Iterable[Item], stages: Stages[Item, Read, Computed, Written]
) -> Generator[tuple[Item, Written | VoxiconError | None], None, None]:
    """As `in_turn`, in the same order and with the same outcomes, but stages of neighbors run at the same time.

    At most three items are in memory: one read ahead, one computed, one written. Each is let go as soon as it is
    written. The next item is asked for before the one before it is computed.

    An item is told of when it is written, and that is looked at after the next is computed. Whatever ends the
    generator early (an error that is none of ours, an interruption, `close`) waits for the stages that run at that
    moment, so no thread goes on behind the caller's back and what was being written is whole; no other begins.
    """
    rest = iter(items)
    item = next(rest, None)
    ahead: deque[Future[Read | None]] = deque()  # popped when used: a name here would keep what was read
    behind: tuple[Item, Future[Written | None]] | None = None
    with ThreadPoolExecutor(max_workers=1) as reader, ThreadPoolExecutor(max_workers=1) as writer:
        try:
            while item is not None:
                if not ahead:
                    ahead.append(reader.submit(stages.read, item))
                upcoming = next(rest, None)
                busy = [item] if behind is None else [behind[0], item]
                if upcoming is not None and not any(stages.clash(upcoming, earlier) for earlier in busy):
                    ahead.append(reader.submit(stages.read, upcoming))
                done = _computed(stages, item, ahead.popleft(), behind and behind[1], writer)
                if behind is not None:
                    became = _settled(behind[1])
                    yield behind[0], became
                behind = item, done
                # Nothing to write, or nothing to compute meanwhile.
                if done.done() or not ahead:
                    became = _settled(done)
                    yield item, became
                    behind = None
                item = upcoming
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def _whole(stages: Stages[Item, Read, Computed, Written], item: Item) -> Written | None:
    """All stages of an item. A function of its own, so that none of its arrays outlives it."""
    read = stages.read(item)
    return None if read is None else stages.write(item, stages.compute(item, read, lambda: None))


def _computed(
    stages: Stages[Item, Read, Computed, Written],
    item: Item,
    reading: Future[Read | None],
    behind: Future[Written | None] | None,
    writer: ThreadPoolExecutor,
) -> Future[Written | None]:
    """Compute an item and have it written after the one before it; what will become of it.

    Raises:
        Exception: The item before it could not be written, for a reason that is none of ours.
    """

    def check() -> None:
        if behind is not None and behind.done():
            _settled(behind)

    ended: Future[Written | None] = Future()
    try:
        read = reading.result()
        if read is None:
            ended.set_result(None)
            return ended
        computed = stages.compute(item, read, check)
    except Exception as error:  # to be raised when the items before it have been told of
        ended.set_exception(error)
        return ended
    if behind is not None:
        _settled(behind)  # two results at once would be a fourth case in memory
    return writer.submit(stages.write, item, computed)


def _settled(done: Future[Written | None]) -> Written | VoxiconError | None:
    """What became of an item, as soon as that is known.

    Raises:
        Exception: Whatever is none of our own errors.
    """
    error = done.exception()  # not caught: its traceback would begin here, and lead to whatever is computed now
    return _light(error) if isinstance(error, VoxiconError) else done.result()


def _light(error: VoxiconError) -> VoxiconError:
    """The same error, whose traceback still says where, but no longer holds the arrays of every function there."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error
