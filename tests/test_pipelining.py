"""Stages of neighbors overlap, and nobody can tell from what comes out. Nothing here sleeps or is timed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from voxicon import pipelining
from voxicon.errors import InputError, OutputError, VoxiconError
from voxicon.pipelining import Stages, in_turn, overlapped

SAFETY_SECONDS = 60
"""No test waits for this long unless it fails."""

Hook = Callable[[str], None]


class Case:
    """What a stage hands on; large in real life, so that it matters when it is let go."""

    def __init__(self, name: str) -> None:
        self.name = name


class Fake(Stages[str, Case, Case, str]):
    """Stages of named items that write down what happens, and where a test can look in or wait."""

    def __init__(self, skip: str = "", clashes: tuple[tuple[str, str], ...] = (), **hooks: Hook) -> None:
        self.skip, self.clashes, self.hooks = skip, clashes, hooks
        self.log: list[str] = []
        self.threads: dict[str, set[int]] = defaultdict(set)
        self.happened: dict[str, threading.Event] = defaultdict(threading.Event)
        self.cases: list[weakref.ref[Case]] = []

    def _begin(self, stage: str, item: str) -> None:
        self.log.append(f"{stage} {item}")
        self.threads[stage].add(threading.get_ident())
        self.happened[f"{stage} {item}"].set()
        self.hooks.get(stage, lambda _: None)(item)
        self.log.append(f"{stage} {item} done")

    def wait(self, event: str) -> None:
        assert self.happened[event].wait(SAFETY_SECONDS), f"{event} never happened; so far: {self.log}"

    def alive(self) -> list[str]:
        return [case.name for case in (ref() for ref in self.cases) if case is not None]

    def read(self, item: str) -> Case | None:
        if item in self.skip:
            return None
        case = Case(item)
        self.cases.append(weakref.ref(case))
        weakref.finalize(case, self.happened[f"{item} let go"].set)
        self._begin("read", item)
        return case

    def compute(self, item: str, read: Case, check: Callable[[], None]) -> Case:
        self.check = check
        self._begin("compute", item)
        return read

    def write(self, item: str, computed: Case) -> str:
        self._begin("write", item)
        return computed.name.upper()

    def clash(self, item: str, earlier: str) -> bool:
        return (item, earlier) in self.clashes


class Watched:
    """What was handed to the threads, in order, and whether they are being ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.futures: dict[str, Future[object]] = {}
        self.changed, self.ending = threading.Condition(), threading.Event()
        watched = self

        class Executor(ThreadPoolExecutor):
            def submit(self, stage: Callable[..., object], /, *given: object, **more: object) -> Future[object]:
                future = super().submit(stage, *given, **more)
                with watched.changed:
                    watched.futures[f"{stage.__name__} {given[0]}"] = future
                    watched.changed.notify_all()
                return future

            def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
                if wait:
                    watched.ending.set()
                super().shutdown(wait, cancel_futures=cancel_futures)
                watched.ending.set()

        monkeypatch.setattr(pipelining, "ThreadPoolExecutor", Executor)

    def wait(self, name: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: name in self.futures, SAFETY_SECONDS), f"{name} was not handed over"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def breaking(at: str, error: BaseException) -> Hook:
    def hook(item: str) -> None:
        if item == at:
            raise error

    return hook


def threads_of_ours() -> int:
    return sum(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = threads_of_ours()
    yield
    assert threads_of_ours() == before


def test_the_next_is_read_and_the_last_written_while_one_is_computed() -> None:
    def computing(item: str) -> None:
        if item == "b":
            fake.wait("write a")
            fake.wait("read c")
            fake.check()  # has nothing to say, and does not wait for the writer to have
            fake.happened["b saw its neighbors"].set()

    def writing(item: str) -> None:
        if item == "a":
            fake.wait("b saw its neighbors")

    def reading(item: str) -> None:
        if item == "c":
            fake.wait("b saw its neighbors")

    fake = Fake(read=reading, compute=computing, write=writing)
    assert list(overlapped("abc", fake)) == [("a", "A"), ("b", "B"), ("c", "C")]
    assert fake.threads["compute"] == {threading.get_ident()}
    assert not fake.threads["compute"] & (fake.threads["read"] | fake.threads["write"])


def test_in_turn_nothing_overlaps() -> None:
    fake = Fake()
    assert list(in_turn("ab", fake)) == [("a", "A"), ("b", "B")]
    steps = [f"{stage} {item}" for item in "ab" for stage in ("read", "compute", "write")]
    assert fake.log == [line for step in steps for line in (step, f"{step} done")]
    assert set.union(*fake.threads.values()) == {threading.get_ident()}


@pytest.mark.parametrize("pipeline", [in_turn, overlapped])
def test_no_items_and_one(pipeline: Callable[..., Iterator[object]]) -> None:
    assert list(pipeline("", Fake())) == []
    assert list(pipeline("a", Fake())) == [("a", "A")]
    assert list(pipeline("a", Fake(skip="a"))) == [("a", None)]


def test_at_most_one_is_read_ahead_and_one_written() -> None:
    most: list[list[str]] = []

    def computing(item: str) -> None:
        if item in "bcd":
            fake.wait(f"write {chr(ord(item) - 1)}")
            fake.wait(f"read {chr(ord(item) + 1)}")
            most.append(fake.alive())
            fake.happened[f"{item} looked"].set()

    def writing(item: str) -> None:
        if item in "abc":
            # What is written stays in memory until the next one has looked around; so does what is read ahead.
            fake.wait(f"{chr(ord(item) + 1)} looked")

    fake = Fake(compute=computing, write=writing)
    assert [item for item, _ in overlapped("abcde", fake)] == list("abcde")
    assert most == [["a", "b", "c"], ["b", "c", "d"], ["c", "d", "e"]]
    for earlier, later in zip("abcd", "bcde", strict=True):
        assert fake.log.index(f"read {earlier} done") < fake.log.index(f"read {later}")
        assert fake.log.index(f"write {earlier} done") < fake.log.index(f"write {later}")
    # The second after one is not begun before that one is computed.
    assert fake.log.index("compute b done") < fake.log.index("read d")


def test_what_is_written_is_let_go_while_the_next_is_computed() -> None:
    def computing(item: str) -> None:
        if item != "a":
            fake.wait(f"{chr(ord(item) - 1)} let go")

    fake = Fake(compute=computing)
    for item, _ in overlapped("abcd", fake):
        if item == "d":
            # The generator waits here and keeps nothing.
            fake.wait("d let go")


def test_in_turn_one_is_let_go_before_the_next_is_read() -> None:
    fake = Fake(read=lambda item: seen.append(fake.alive()))
    seen: list[list[str]] = []
    list(in_turn("abc", fake))
    assert seen == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("pipeline", [in_turn, overlapped])
@pytest.mark.parametrize("stage", ["read", "compute", "write"])
@pytest.mark.parametrize("at", ["a", "b", "d"])
def test_our_own_errors_end_their_item_alone(pipeline: Callable[..., Iterator[object]], stage: str, at: str) -> None:
    error = OutputError("no")
    expected = [(item, error if item == at else item.upper()) for item in "abcd"]
    fake = Fake(**{stage: breaking(at, error)})
    assert list(pipeline("abcd", fake)) == expected
    # Errors are kept by whoever collects outcomes, the arrays of the stages they came through are not.
    gc.collect()
    assert fake.alive() == []


def test_an_error_keeps_no_arrays_even_through_its_causes() -> None:
    def deeper(item: str) -> None:
        kept = Case(item)
        held.append(weakref.ref(kept))
        raise ValueError("first")

    def fail(item: str) -> None:
        try:
            deeper(item)
        except ValueError as error:
            raise InputError("second") from error

    held: list[weakref.ref[Case]] = []
    ((_, error),) = overlapped("a", Fake(read=fail))
    assert isinstance(error, InputError)
    assert isinstance(error.__cause__, ValueError)
    assert error.__traceback__ is not None, "where it happened is still told"
    assert held[0]() is None


@pytest.mark.parametrize("pipeline", [in_turn, overlapped])
@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_any_other_error_ends_everything_after_what_came_before(
    pipeline: Callable[..., Iterator[tuple[str, str | VoxiconError | None]]], stage: str
) -> None:
    fake = Fake(**{stage: breaking("c", RuntimeError("broken"))})
    told: list[tuple[str, object]] = []
    with pytest.raises(RuntimeError, match="broken"):
        told.extend(pipeline("abcdef", fake))
    assert told == [("a", "A"), ("b", "B")]
    assert "write d" not in fake.log
    assert "read f" not in fake.log
    if stage != "write":
        assert "compute d" not in fake.log


def test_a_broken_writer_is_told_during_the_computation_beside_it(watched: Watched) -> None:
    def computing(item: str) -> None:
        if item == "b":
            assert isinstance(watched.futures["write a"].exception(SAFETY_SECONDS), RuntimeError)
            fake.check()
            pytest.fail("nobody was told")

    def writing(_: str) -> None:
        fake.wait("compute b")
        raise RuntimeError("disk on fire")

    fake = Fake(compute=computing, write=writing)
    with pytest.raises(RuntimeError, match="disk on fire"):
        list(overlapped("abc", fake))
    assert "write b" not in fake.log


def test_our_own_error_of_a_writer_does_not_disturb_the_computation_beside_it(watched: Watched) -> None:
    def computing(item: str) -> None:
        if item == "b":
            fake.happened["b begun"].set()
            assert isinstance(watched.futures["write a"].exception(SAFETY_SECONDS), OutputError)
            fake.check()

    def writing(item: str) -> None:
        if item == "a":
            fake.wait("b begun")
            raise OutputError("full")

    fake = Fake(compute=computing, write=writing)
    assert [str(became) for _, became in overlapped("ab", fake)] == ["full", "B"]


def test_the_next_write_waits_for_the_last() -> None:
    def computing(item: str) -> None:
        fake.happened[f"computed {item}"].set()

    def writing(item: str) -> None:
        if item == "a":
            fake.wait("computed b")
            assert fake.alive() != []

    fake = Fake(compute=computing, write=writing)
    list(overlapped("ab", fake))
    assert fake.log.index("write a done") < fake.log.index("write b")


def test_skipped_items_are_neither_computed_nor_written_and_keep_their_place() -> None:
    fake = Fake(skip="bd")
    assert list(overlapped("abcd", fake)) == [("a", "A"), ("b", None), ("c", "C"), ("d", None)]
    assert {line.split()[1] for line in fake.log} == {"a", "c"}


def test_a_skipped_item_is_told_before_the_next_is_computed() -> None:
    fake = Fake(skip="ab")
    told = overlapped("abc", fake)
    assert [next(told), next(told)] == [("a", None), ("b", None)]
    assert "compute c" not in fake.log
    assert next(told) == ("c", "C")


def test_an_item_that_clashes_is_begun_when_those_before_it_are_written(watched: Watched) -> None:
    fake = Fake(
        clashes=(("b", "a"), ("e", "c")),
        # Still being written when e could be read ahead of the computation of d.
        write=lambda item: fake.wait("compute d") if item == "c" else None,
    )
    assert [item for item, _ in overlapped("abcdef", fake)] == list("abcdef")
    order = list(watched.futures)
    assert fake.log.index("write a done") < fake.log.index("read b")
    assert order.index("read d") < order.index("write c")
    assert order.index("write d") < order.index("read e")


def test_abandoned_nothing_new_begins_and_what_is_written_is_finished() -> None:
    fake = Fake(write=lambda item: fake.wait({"a": "compute b", "b": "closing"}[item]))
    told = overlapped("abcdef", fake)
    assert next(told) == ("a", "A")
    fake.wait("write b")
    fake.happened["closing"].set()
    told.close()
    assert "write b done" in fake.log
    assert "compute c" not in fake.log
    assert "read d" not in fake.log
    before = list(fake.log)
    assert list(told) == []
    assert fake.log == before


def test_an_interruption_of_the_computation_finishes_what_is_written() -> None:
    fake = Fake(compute=breaking("b", KeyboardInterrupt()), write=lambda _: fake.wait("compute b"))
    told: list[tuple[str, object]] = []
    with pytest.raises(KeyboardInterrupt):
        told.extend(overlapped("abc", fake))
    assert told == [], "an interruption does not wait to be told of others"
    assert "write a done" in fake.log
    assert not any(line.startswith("write b") for line in fake.log)
