"""OpenVINO answers as torch does, or torch answers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.infer.test_predictor import grid, small_network, volume_of
from voxicon.errors import ConfigError
from voxicon.infer import engine as engine_module
from voxicon.infer.engine import pick_engine
from voxicon.infer.predictor import InferenceConfig, Predictor
from voxicon.model.config import NetworkConfig
from voxicon.model.head import EVERY_ROW
from voxicon.model.network import UniversalNetwork, build_network

WINDOW = (16, 24, 16)
CPU = torch.device("cpu")
NETWORK = small_network(5, seed=2)


def openvino(folder: Path, network: UniversalNetwork = NETWORK) -> engine_module.Engine:
    return pick_engine("openvino", network, WINDOW, CPU, folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the network was converted and proven."""
    folder = tmp_path_factory.mktemp("engines")
    openvino(folder)
    return folder


@pytest.mark.parametrize("rows", [EVERY_ROW, torch.tensor([3, 1]), torch.tensor([], dtype=torch.int64)])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_answers_as_torch_does(kept: Path, rows: Any, batch: int) -> None:
    images = torch.rand(batch, 1, *WINDOW, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        maps, parameters = openvino(kept).encode(images, rows)
        expected_maps, expected_parameters = NETWORK.encode(images, rows)
    torch.testing.assert_close(maps, expected_maps, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parameters, expected_parameters, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "options", "controller", "leak"),
    [
        ("swin_unetr", {"feature_size": 48}, "shared", 0.0),
        ("unet", {}, "shared", 0.0),
        (
            "compact",
            {"channels": [16, 32, 48], "windows": [[0, 0.4], [0.5, 1]], "contrast": {"sides": [[1, 5], [3, 9]]}},
            "per_class",
            0.1,
        ),
    ],
)
def test_every_backbone_and_controller_is_proven(
    tmp_path: Path, backbone: str, options: dict[str, Any], controller: Any, leak: float
) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone=backbone, classes=("a", "b"), embedding_size=4, options=options, controller=controller, leak=leak
    )
    network = build_network(config, torch.randn(2, 4)).eval()
    # 96 leads to 24 and 12, which a Swin transformer pads to windows of 7 in different ways.
    window = (96, 32, 32) if backbone == "swin_unetr" else (32, 16, 16)
    found = pick_engine("openvino", network, window, CPU, tmp_path)
    image = torch.rand(1, 1, *window)
    with torch.inference_mode():
        for ours, theirs in zip(found.encode(image, EVERY_ROW), network.encode(image), strict=True):
            assert float((ours - theirs).abs().max()) < 0.03 * float(theirs.std())


def test_an_answer_outlives_the_next_one(kept: Path) -> None:
    encode = openvino(kept).encode
    first, _ = encode(torch.rand(1, 1, *WINDOW), EVERY_ROW)
    before = first.clone()
    encode(torch.rand(1, 1, *WINDOW), EVERY_ROW)
    assert torch.equal(first, before)


def test_a_predictor_finds_the_same_masks_with_it(kept: Path) -> None:
    image = volume_of((30, 31, 33))
    config = InferenceConfig(window=WINDOW)
    names = NETWORK.classes
    ours = Predictor(NETWORK, config, CPU, openvino(kept).encode).predict(image, grid((30, 31, 33)), names).masks
    theirs = Predictor(NETWORK, config, CPU).predict(image, grid((30, 31, 33)), names).masks
    shares = [theirs[name].mean() for name in names]
    assert sum(0.05 < share < 0.999 for share in shares) == len(names), "masks of nothing would prove nothing"
    for name in names:
        assert (ours[name] != theirs[name]).mean() < 1e-4


def test_what_was_proven_is_not_converted_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_convert", lambda *_: pytest.fail("converted again"))
    assert openvino(kept).name.startswith("openvino 20")
    # Of other weights or another window nothing is known yet.
    with pytest.raises(pytest.fail.Exception):
        openvino(kept, small_network(5, seed=1))
    with pytest.raises(pytest.fail.Exception):
        pick_engine("openvino", NETWORK, (16, 16, 16), CPU, kept)


@pytest.mark.parametrize(
    ("option", "one", "other"),
    [
        ("windows", [[0, 0.5]], [[0.5, 1]]),
        ("contrast", {"sides": [[1, 5]]}, {"sides": [[1, 9]]}),
    ],
)
def test_what_no_tensor_shows_makes_another_conversion(tmp_path: Path, option: str, one: Any, other: Any) -> None:
    networks = []
    for value in (one, other):
        torch.manual_seed(0)
        config = NetworkConfig(
            backbone="compact", classes=("a",), embedding_size=4, options={"channels": [16, 16], option: value}
        )
        networks.append(build_network(config, torch.zeros(1, 4)).eval())
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for network in networks:
            found = pick_engine("openvino", network, (16, 16, 16), CPU, tmp_path).encode(image, EVERY_ROW)
            torch.testing.assert_close(found[0], network.encode(image)[0], atol=1e-4, rtol=1e-4)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_kept_is_whole_and_nothing_else_lies_about(kept: Path) -> None:
    (home,) = kept.iterdir()
    assert sorted(path.name for path in home.iterdir()) == ["model.bin", "model.xml", "proof.json"]


def flip_bits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # The signs of the first convolution, where it holds numbers: loaded without complaint, and wrong.
    content[3:400:4] = bytes(byte ^ 128 for byte in content[3:400:4])
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "proof.json"])
@pytest.mark.parametrize("damage", [flip_bits, cut, Path.unlink, lambda path: path.write_text("{}")])
def test_a_damaged_conversion_is_made_anew(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], Any], name: str
) -> None:
    folder = tmp_path / "engines"
    shutil.copytree(kept, folder)
    (file,) = folder.glob(f"*/{name}")
    damage(file)
    images = torch.rand(1, 1, *WINDOW)
    with torch.inference_mode():
        torch.testing.assert_close(
            openvino(folder).encode(images, EVERY_ROW)[0], NETWORK.encode(images)[0], atol=1e-4, rtol=1e-4
        )
    monkeypatch.setattr(engine_module, "_convert", lambda *_: pytest.fail("converted again"))
    assert openvino(folder).name.startswith("openvino"), "the new one is kept"


def test_a_folder_that_cannot_be_written_costs_the_conversion_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert openvino(tmp_path / "file").name.startswith("openvino")
    assert (tmp_path / "file").read_text() == "no folder"


def test_one_that_answers_otherwise_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any) -> engine_module.Encode:
        return lambda image, rows: (2 * NETWORK.encode(image, rows)[0], NETWORK.encode(image, rows)[1])

    monkeypatch.setattr(engine_module, "_encoder", wrong)
    found = pick_engine("auto", NETWORK, WINDOW, CPU, tmp_path)
    assert (found.name, found.encode) == ("torch", NETWORK.encode)
    assert "probabilities differ from those of torch by up to 0." in found.note
    assert found.note.endswith("torch computes instead")
    assert not list(tmp_path.iterdir()), "what failed is not kept"
    with pytest.raises(
        ConfigError, match=r"engine openvino: openvino .* differ .* up to [\d.]+\); use engine auto or torch"
    ):
        openvino(tmp_path)


def test_one_that_fails_is_replaced_by_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no such operation\nsomewhere in C++")

    monkeypatch.setattr(engine_module, "_compile", fail)
    found = pick_engine("auto", NETWORK, WINDOW, CPU, tmp_path)
    assert found.name == "torch"
    assert "failed (no such operation somewhere in C++); torch computes instead" in found.note


def test_where_it_is_not_installed_torch_computes_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module.importlib.util, "find_spec", lambda _: None)
    assert pick_engine("auto", NETWORK, WINDOW, CPU, tmp_path) == engine_module.Engine("torch", NETWORK.encode)
    with pytest.raises(ConfigError, match=r'not installed \(pip install "voxicon\[fast\]"\)'):
        openvino(tmp_path)


def test_on_a_gpu_torch_computes(tmp_path: Path) -> None:
    gpu = torch.device("cuda")
    assert pick_engine("auto", NETWORK, WINDOW, gpu, tmp_path) == engine_module.Engine("torch", NETWORK.encode)
    with pytest.raises(ConfigError, match="it is for the processor, and the device is cuda"):
        pick_engine("openvino", NETWORK, WINDOW, gpu, tmp_path)


def test_torch_is_torch(tmp_path: Path) -> None:
    assert pick_engine("torch", NETWORK, WINDOW, CPU, tmp_path) == engine_module.Engine("torch", NETWORK.encode)
    with pytest.raises(ConfigError, match="engine 'tensorrt' is unknown; use auto, torch, openvino"):
        pick_engine("tensorrt", NETWORK, WINDOW, CPU, tmp_path)  # type: ignore[arg-type]


def test_nothing_is_reported_to_anyone(kept: Path) -> None:
    openvino(kept)
    assert sys.modules["openvino_telemetry"] is None


@pytest.fixture(scope="module")
def bf16_processor() -> None:
    if "BF16" not in engine_module.openvino_library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not compute in bf16")


@pytest.mark.usefixtures("bf16_processor")
@pytest.mark.parametrize("wanted", ["auto", "openvino"])
def test_bf16_is_compiled_of_what_is_kept_for_fp32(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Any
) -> None:
    images = torch.rand(2, 1, *WINDOW, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        expected, _ = NETWORK.encode(images)
    fresh = pick_engine(wanted, NETWORK, WINDOW, CPU, tmp_path, "bf16")
    monkeypatch.setattr(engine_module, "_convert", lambda *_: pytest.fail("converted again"))
    for found in (fresh, pick_engine(wanted, NETWORK, WINDOW, CPU, kept, "bf16")):
        assert found.bf16 is not None
        with torch.inference_mode():
            fp32, bf16 = (encode(images, torch.tensor([3, 1])) for encode in (found.encode, found.bf16))
        assert [part.dtype for part in bf16] == [torch.float32] * 2
        assert [part.shape for part in bf16] == [part.shape for part in fp32]
        # Eight binary digits: about a hundredth of the spread, where fp32 errs by a millionth.
        rounded, error = (float((maps - expected).abs().max() / expected.std()) for maps in (bf16[0], fp32[0]))
        assert error < 1e-4
        assert 1e-3 < rounded < 0.2
    assert len(list(kept.iterdir())) == 1, "nothing more is kept"
    assert openvino(kept).bf16 is None, "nobody asked for it"


def test_a_processor_without_bf16_refuses_it(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        def get_property(self, _: str, name: str) -> Any:
            return {"FULL_DEVICE_NAME": "Old One", "OPTIMIZATION_CAPABILITIES": ["FP32"]}[name]

    library = type("Library", (), {"__version__": "2026.1.0-x", "Core": Old})
    monkeypatch.setattr(engine_module, "openvino_library", lambda: library)
    for wanted in ("auto", "openvino"):
        with pytest.raises(
            ConfigError, match=r"bf16: this processor \(Old One\) does not compute in it; use precision fp32"
        ):
            pick_engine(wanted, NETWORK, WINDOW, CPU, kept, "bf16")


def test_torch_on_a_processor_refuses_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"torch gains nothing by it .*; use engine openvino or precision fp32"):
        pick_engine("torch", NETWORK, WINDOW, CPU, tmp_path, "bf16")
    monkeypatch.setattr(engine_module.importlib.util, "find_spec", lambda _: None)
    for wanted in ("auto", "openvino"):
        with pytest.raises(ConfigError, match=r"bf16 needs OpenVINO on a processor: it is not .*; use precision fp32"):
            pick_engine(wanted, NETWORK, WINDOW, CPU, tmp_path, "bf16")


def test_a_gpu_computes_in_bf16_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    able = {torch.device("cuda:0"): (8, 0), torch.device("cuda:1"): (7, 5)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", able.__getitem__)
    found = pick_engine("auto", NETWORK, WINDOW, torch.device("cuda:0"), tmp_path, "bf16")
    assert (found.name, found.encode, found.note) == ("torch", NETWORK.encode, "")
    assert found.bf16 is not None
    for device in ("cuda:1", "mps"):
        with pytest.raises(ConfigError, match=f"device {device} does not compute in it; use precision fp32"):
            pick_engine("auto", NETWORK, WINDOW, torch.device(device), tmp_path, "bf16")


def test_torch_in_bf16_answers_in_float32() -> None:
    images = torch.rand(2, 1, *WINDOW, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        found, expected = (
            encode(images, torch.tensor([3, 1])) for encode in (engine_module._autocast(NETWORK), NETWORK.encode)
        )
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.dtype, ours.shape) == (torch.float32, theirs.shape)
        assert 1e-4 < float((ours - theirs).abs().max() / theirs.std()) < 0.2


def test_a_precision_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision 'fp16' is unknown; use fp32 or bf16"):
        pick_engine("auto", NETWORK, WINDOW, CPU, tmp_path, "fp16")  # type: ignore[arg-type]
