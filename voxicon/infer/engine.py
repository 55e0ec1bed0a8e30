"""Who computes the network: torch, which is the reference, or OpenVINO, several times faster on a processor.

OpenVINO is optional (``pip install "voxicon[fast]"``) and taken of its own accord where it is installed. It has to
prove itself first: on a made-up image its probabilities must be those of torch. What was converted and proven is kept
on disk, under a name made of the weights' hash, the window, the version and the processor, so that it happens once.
Whatever goes wrong with it is no reason not to segment: torch takes over, and one line says why.

Only what depends on the image alone is handed over: the backbone, the shared map and the controllers. The class
networks stay with torch, because how many of them run is decided by each request.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import secrets
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxicon.errors import ConfigError
from voxicon.infer.windows import Size
from voxicon.model.head import EVERY_ROW, Rows
from voxicon.model.network import UniversalNetwork

if TYPE_CHECKING:
    import openvino

EngineName = Literal["auto", "torch", "openvino"]

Precision = Literal["fp32", "bf16"]
"""What windows are computed in; whether bf16 is used is decided scan by scan (`voxicon.infer.precision`)."""

_BF16_CAPABILITY = (8, 0)
"""Of a CUDA device. Source: NVIDIA's CUDA programming guide, arithmetic instructions: bf16 from 8.0 on."""

MOST_DIFFERENCE = 0.01
"""Largest difference of a probability from that of torch. Own choice: one percentage point, where float32 rounding in
another order was measured to give a thirteenth of it (starter weights; ``proof.json`` of what is kept holds it)."""

_MODEL, _NUMBERS, _PROOF = "model.xml", "model.bin", "proof.json"

Encode = Callable[[Tensor, Rows], tuple[Tensor, Tensor]]
"""Windows (B, 1, X, Y, Z) and rows of classes to shared maps (B, M, X, Y, Z) and parameters (B, N, 153)."""


@dataclass(frozen=True)
class Engine:
    """What turns windows into maps and parameters.

    Attributes:
        name: ``torch``, or ``openvino`` with its version.
        encode: As `UniversalNetwork.encode`.
        note: Why it is not the one that was to be taken; empty if it is.
        bf16: The same as `encode`, computed in bf16 and answered in float32; None where that was not asked for.
    """

    name: str
    encode: Encode
    note: str = ""
    bf16: Encode | None = None


def pick_engine(
    wanted: EngineName,
    network: UniversalNetwork,
    window: Size,
    device: torch.device,
    folder: Path,
    precision: Precision = "fp32",
) -> Engine:
    """The engine asked for; ``auto`` takes OpenVINO on a processor where it is installed and proves itself.

    Args:
        wanted: What to take.
        network: In evaluation mode, on `device`.
        window: Voxels of a window.
        device: Where torch computes. OpenVINO is for ``cpu`` alone.
        folder: Where converted networks are kept; made when needed. One that cannot be written costs the conversion
            each time.
        precision: ``bf16`` adds what computes in it.

    Raises:
        ConfigError: No such engine or precision, ``openvino`` was asked for by name and cannot be had, or bf16 cannot;
            says why.
    """
    if wanted not in get_args(EngineName):
        raise ConfigError(f"engine {wanted!r} is unknown; use {', '.join(get_args(EngineName))}")
    if precision not in get_args(Precision):
        raise ConfigError(f"precision {precision!r} is unknown; use {' or '.join(get_args(Precision))}")
    if wanted == "torch":
        return _torch(network, device, precision)
    try:
        return _openvino(network, window, device, folder, precision)
    except _NoOpenVino as reason:
        if precision == "bf16" and device.type == "cpu":
            raise ConfigError(f"precision bf16 needs OpenVINO on a processor: {reason}; use precision fp32") from reason
        if wanted == "openvino":
            raise ConfigError(f"engine openvino: {reason}; use engine auto or torch") from reason
        note = f"{reason}; torch computes instead" if reason.matters else ""
        return _torch(network, device, precision, note)


def _torch(network: UniversalNetwork, device: torch.device, precision: Precision, note: str = "") -> Engine:
    if precision == "fp32":
        return Engine("torch", network.encode, note)
    if device.type == "cpu":
        # Measured with the starter weights: 2.9 s a window, where float32 takes 2.5.
        raise ConfigError(
            "precision bf16: torch gains nothing by it on a processor; use engine openvino or precision fp32"
        )
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _BF16_CAPABILITY:
        raise ConfigError(f"precision bf16: device {device} does not compute in it; use precision fp32")
    return Engine("torch", network.encode, note, _autocast(network))


def _autocast(network: UniversalNetwork) -> Encode:
    def encode(image_B1XYZ: Tensor, rows: Rows = EVERY_ROW) -> tuple[Tensor, Tensor]:
        with torch.autocast(image_B1XYZ.device.type, torch.bfloat16):
            maps, parameters = network.encode(image_B1XYZ, rows)
        return maps.float(), parameters.float()

    return encode


class _NoOpenVino(Exception):
    """Why OpenVINO is not used; `matters` where one would have expected it to be."""

    def __init__(self, reason: str, *, matters: bool) -> None:
        super().__init__(" ".join(reason.split()))
        self.matters = matters


class _Windows(nn.Module):
    """The part of a network that sees the image, for all of its classes."""

    def __init__(self, network: UniversalNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image_B1XYZ: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode(image_B1XYZ)


def _openvino(
    network: UniversalNetwork, window: Size, device: torch.device, folder: Path, precision: Precision
) -> Engine:
    if device.type != "cpu":
        raise _NoOpenVino(f"it is for the processor, and the device is {device}", matters=False)
    if importlib.util.find_spec("openvino") is None:
        raise _NoOpenVino('it is not installed (pip install "voxicon[fast]")', matters=False)
    version = "openvino"
    try:
        library = openvino_library()
        version = f"openvino {library.__version__.split('-')[0]}"
        core = library.Core()
        processor = core.get_property("CPU", "FULL_DEVICE_NAME")
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ConfigError(
                f"precision bf16: this processor ({processor}) does not compute in it; use precision fp32"
            )
        home = folder / _key(network, window, f"{version} {processor}")
        model, encode = _kept(core, network, home) or _proven(library, core, network, window, home)
        # Of the same numbers: nothing more is kept, and nothing is proven, as every scan does that for itself.
        bf16 = _encoder(network, _compile(core, model, "bf16")) if precision == "bf16" else None
    except ConfigError:
        raise
    except Exception as error:  # whatever another library raises, torch can do it too
        raise _NoOpenVino(f"{version} failed ({error})", matters=True) from error
    return Engine(version, encode, bf16=bf16)


def openvino_library() -> ModuleType:
    """OpenVINO without its telemetry, which asks for consent on import and reports conversions to a server."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def _kept(core: openvino.Core, network: UniversalNetwork, home: Path) -> tuple[openvino.Model, Encode] | None:
    """What was proven before, byte for byte; None where there is nothing, or nothing sound."""
    try:
        proof = json.loads((home / _PROOF).read_text("utf8"))
        if proof["sha256"] == _hashes(home):
            model = core.read_model(home / _MODEL)
            return model, _encoder(network, _compile(core, model))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        pass  # nothing is kept, or it is damaged
    shutil.rmtree(home, ignore_errors=True)
    return None


def _hashes(home: Path) -> dict[str, str]:
    # A flipped bit among the numbers would be loaded without complaint and give wrong masks.
    return {name: hashlib.sha256((home / name).read_bytes()).hexdigest() for name in (_MODEL, _NUMBERS)}


def _proven(
    library: ModuleType, core: openvino.Core, network: UniversalNetwork, window: Size, home: Path
) -> tuple[openvino.Model, Encode]:
    """A conversion that answers as torch does, and is kept for the next time."""
    model = _convert(library, network, window)
    encode = _encoder(network, _compile(core, model))
    difference = _difference(network, encode, window)
    if not difference <= MOST_DIFFERENCE:
        raise ValueError(f"probabilities differ from those of torch by up to {difference:.3g}")
    _keep(library, model, home, difference)
    return model, encode


def _key(network: UniversalNetwork, window: Size, where: str) -> str:
    """A name that changes with every number and setting of the network, the window, the version and the processor."""
    settings = network.config.to_dict() if network.config else {"leak": network.head.leak}
    digest = hashlib.sha256(f"{window} {json.dumps(settings, sort_keys=True)} {where}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _convert(library: ModuleType, network: UniversalNetwork, window: Size) -> openvino.Model:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        # Not torch.jit.trace: sizes that a Swin transformer computes on the way come out wrong in the conversion.
        exported = torch.export.export(_Windows(network).eval(), (torch.zeros(1, 1, *window),))
        return library.convert_model(exported)


def _compile(
    core: openvino.Core, model: openvino.Model, hint: Literal["f32", "bf16"] = "f32"
) -> openvino.CompiledModel:
    # Left to itself it computes in bfloat16 where the processor can: 4 % of Dice were measured to go.
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return core.compile_model(model, "CPU", settings)


def _encoder(network: UniversalNetwork, compiled: openvino.CompiledModel) -> Encode:
    def encode(image_B1XYZ: Tensor, rows: Rows = EVERY_ROW) -> tuple[Tensor, Tensor]:
        # Window by window, and copied: the next answer overwrites the buffers of the one before.
        answers = [[output.copy() for output in compiled(window[None].numpy()).values()] for window in image_B1XYZ]
        maps, parameters = (torch.from_numpy(np.concatenate(output)) for output in zip(*answers, strict=True))
        return maps[:, network.map_channels(rows)], parameters[:, rows]

    return encode


@torch.inference_mode()
def _difference(network: UniversalNetwork, encode: Encode, window: Size) -> float:
    """Largest difference of a probability from that of torch, on a made-up image."""
    image = made_up_image(window)
    maps_of = network.maps_of(EVERY_ROW)
    ours, theirs = (network.decode(*by(image, EVERY_ROW), maps_of).sigmoid_() for by in (network.encode, encode))
    return float((ours - theirs).abs_().max()) if ours.numel() else 0.0


def made_up_image(window: Size) -> Tensor:
    """(1, 1, X, Y, Z) in [0, 1], always the same: coarse and fine structure, to compare engines by."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, *(max(1, n // 8) for n in window), generator=generator)
    fine = torch.rand(1, 1, *window, generator=generator)
    return 0.8 * functional.interpolate(coarse, size=window, mode="trilinear") + 0.2 * fine


def _keep(library: ModuleType, model: openvino.Model, home: Path, difference: float) -> None:
    """Put a proven network where the next start finds it: whole or not at all."""
    unfinished = home.with_name(f".tmp-{secrets.token_hex(8)}")
    # A folder that cannot be written, or another process that was faster: then there is nothing to keep.
    with contextlib.suppress(OSError, RuntimeError):
        unfinished.mkdir(parents=True)
        library.save_model(model, unfinished / _MODEL, compress_to_fp16=False)
        proof = {"most_difference_of_a_probability": difference, "sha256": _hashes(unfinished)}
        (unfinished / _PROOF).write_text(json.dumps(proof), "utf8")
        unfinished.rename(home)
    shutil.rmtree(unfinished, ignore_errors=True)
