"""Where memory runs out less is done at a time, then less on the device, and the answers stay the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.infer.test_predictor import grid, small_network, volume_of
from voxicon.infer.engine import Encode
from voxicon.infer.ladder import CPU, Ladder, copied_to_cpu
from voxicon.infer.predictor import InferenceConfig, Predictor
from voxicon.model.head import EVERY_ROW, Rows

GPU = torch.device("cpu:0")
"""Another device than `CPU` by name, whose tensors are real all the same."""

MEMORY = "memory: cpu:0 ran out "
HALF = MEMORY + "with 2 windows at once; 1 at a time from here on"
STITCH = MEMORY + "with one window at a time; answers are kept and blended by the processor from here on"
BLEND = MEMORY + "while blending; answers are kept and blended by the processor from here on"
LAST = MEMORY + "with nothing but one window; the processor computes from here on, which takes far longer"


def answer(image_B1XYZ: Tensor, rows: Rows = EVERY_ROW) -> tuple[Tensor, Tensor]:
    return 2 * image_B1XYZ, 3 * image_B1XYZ[:, 0, 0, 0, :1]


def nothing() -> None:
    pass


class Small:
    """A device with memory for so many windows; which ones were tried is in `tried`."""

    def __init__(self, fits: Callable[[int], bool], encode: Encode = answer) -> None:
        self.fits, self.encode = fits, encode
        self.tried: list[int] = []

    def __call__(self, image_B1XYZ: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        self.tried.append(len(image_B1XYZ))
        if not self.fits(len(image_B1XYZ)):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.encode(image_B1XYZ, rows)


def ladder_of(batch: int, device: torch.device = GPU) -> Ladder:
    return Ladder(device, batch, lambda: answer)


def windows(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float32).reshape(n, 1, 1, 1, 1)


def assert_answers(found: tuple[Tensor, Tensor], n: int) -> None:
    for part, expected in zip(found, answer(windows(n)), strict=True):
        assert torch.equal(part, expected)


def test_what_fits_is_computed_as_it_is() -> None:
    ladder, device = ladder_of(4), Small(lambda n: n <= 4)
    assert_answers(ladder.encode(device, windows(3), EVERY_ROW, nothing), 3)
    assert_answers(ladder.encode(device, windows(9), EVERY_ROW, nothing), 9)
    assert device.tried == [3, 4, 4, 1]
    assert (ladder.warnings, ladder.batch) == ((), 4)


def test_the_batch_is_halved_until_it_fits_and_stays_so() -> None:
    ladder, device, rooms = ladder_of(8), Small(lambda n: n <= 2), []
    # Six of the eight allowed were tried: half of six is what comes next.
    assert_answers(ladder.encode(device, windows(6), EVERY_ROW, lambda: rooms.append(1)), 6)
    assert device.tried == [6, 3, 1, 1, 1, 1, 1, 1]
    assert_answers(ladder.encode(device, windows(2), EVERY_ROW, nothing), 2)
    assert device.tried[8:] == [1, 1]
    assert ladder.warnings == (
        MEMORY + "with 6 windows at once; 3 at a time from here on",
        MEMORY + "with 3 windows at once; 1 at a time from here on",
    )
    assert len(rooms) == 2
    assert (ladder.stitching, ladder.computing) == (GPU, GPU)


def test_windows_that_were_answered_are_not_computed_again() -> None:
    # The third go fails at first: what the first two answered stays.
    goes = iter([True, True, False, True, True])
    ladder, device = ladder_of(2), Small(lambda _: next(goes))
    assert_answers(ladder.encode(device, windows(6), EVERY_ROW, nothing), 6)
    assert device.tried == [2, 2, 2, 1, 1]


def test_then_answers_are_kept_elsewhere_and_at_last_the_processor_computes() -> None:
    ladder = ladder_of(2)
    places: list[torch.device] = []
    device = Small(lambda _: ladder.stitching == CPU)
    assert_answers(ladder.encode(device, windows(2), EVERY_ROW, lambda: places.append(ladder.stitching)), 2)
    assert device.tried == [2, 1, 1, 1]
    assert places == [GPU, CPU], "room is made after the step, so that what is kept goes to the new place"
    assert (ladder.computing, ladder.warnings) == (GPU, (HALF, STITCH))
    full = Small(lambda _: False)
    assert_answers(ladder.encode(full, windows(3), EVERY_ROW, nothing), 3)
    assert_answers(ladder.encode(full, windows(1), EVERY_ROW, nothing), 1)
    assert full.tried == [1], "the device is not asked again"
    assert (ladder.computing, ladder.warnings) == (CPU, (HALF, STITCH, LAST))


def test_where_no_step_is_left_the_error_is_told() -> None:
    for ladder, n_steps in ((ladder_of(2, CPU), 1), (Ladder(GPU, 2, lambda: Small(lambda _: False)), 3)):
        with pytest.raises(torch.OutOfMemoryError):
            ladder.encode(Small(lambda _: False), windows(2), EVERY_ROW, nothing)
        assert len(ladder.warnings) == n_steps


def test_other_errors_are_no_reason_to_step_down() -> None:
    def broken(*_: object) -> tuple[Tensor, Tensor]:
        raise RuntimeError("a kernel failed")

    ladder = ladder_of(2)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        ladder.encode(broken, windows(2), EVERY_ROW, nothing)
    assert ladder.warnings == ()


def test_blending_moves_to_the_processor_and_no_further() -> None:
    ladder, done = ladder_of(4), []

    def work() -> None:
        done.append(ladder.stitching)
        if ladder.stitching != CPU:
            raise torch.OutOfMemoryError("CUDA out of memory")

    ladder.stitch(work, nothing)
    ladder.stitch(work, nothing)
    assert done == [GPU, CPU, CPU]
    assert (ladder.warnings, ladder.batch, ladder.computing) == ((BLEND,), 4, GPU)
    full = Small(lambda _: False)
    with pytest.raises(torch.OutOfMemoryError):
        ladder.stitch(lambda: full(windows(1), EVERY_ROW) and None, nothing)
    assert full.tried == [1]


def test_a_copy_on_the_processor_answers_alike_and_leaves_the_network_alone() -> None:
    network = small_network(3)
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        encode = copied_to_cpu(network)
        expected = network.encode(image)
        for parameter in network.parameters():
            parameter.zero_()
        for ours, theirs in zip(encode(image, EVERY_ROW), expected, strict=True):
            assert torch.equal(ours, theirs)
    assert {type(parameter) for parameter in network.parameters()} == {torch.nn.Parameter}


@pytest.mark.parametrize(
    ("fits", "expected"),
    [
        (lambda n, _: n <= 1, (HALF,)),
        (lambda _, ladder: ladder.stitching == CPU, (HALF, STITCH)),
        (lambda *_: False, (HALF, STITCH, LAST)),
    ],
)
def test_a_scan_gets_the_same_masks_and_tells_every_step(
    fits: Callable[[int, Ladder], bool], expected: tuple[str, ...]
) -> None:
    network, image = small_network(4), volume_of((40, 30, 16))
    config = InferenceConfig(window=(16, 16, 16), batch=2)
    asked = ("class_2", "class_0")
    plain = Predictor(network, config, CPU).predict(image, grid(image.shape), asked)
    device = Small(lambda n: len(device.tried) < 3 or fits(n, predictor.ladder), network.encode)
    predictor = Predictor(network, config, GPU, device)
    found = predictor.predict(image, grid(image.shape), asked)
    assert (plain.warnings, found.warnings) == ((), expected)
    for name in asked:
        assert (found.masks[name] == plain.masks[name]).mean() > 0.999
    # The next scan goes on where this one ended, and says so too.
    assert predictor.predict(image, grid(image.shape), asked).warnings == expected


def test_a_slab_that_cannot_be_blended_on_the_device_is_blended_by_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, image = small_network(4), volume_of((40, 30, 16))
    config = InferenceConfig(window=(16, 16, 16))
    plain = Predictor(network, config, CPU).predict(image, grid(image.shape), network.classes)
    zeros, places = torch.zeros, []

    def short(*args: object, **settings: object) -> Tensor:
        if "device" in settings:
            places.append(settings["device"])
            if places[-1] != CPU and len(places) > 1:  # in the middle of the first slab
                raise torch.OutOfMemoryError("CUDA out of memory")
        return zeros(*args, **settings)

    predictor = Predictor(network, config, GPU)
    monkeypatch.setattr("voxicon.infer.predictor.torch.zeros", short)
    found = predictor.predict(image, grid(image.shape), network.classes)
    assert found.warnings == (BLEND,)
    assert places[:2] == [GPU, GPU]
    assert set(places[2:]) == {CPU}
    assert (found.masks.words == plain.masks.words).all()
