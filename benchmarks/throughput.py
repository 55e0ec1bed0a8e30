"""Which share of a processor's convolution throughput the network reaches, and which of its parts hold it back.

One window, all classes, float32, one process. FLOPs are counted by torch.utils.flop_counter: two for each
multiply-add of convolutions and matrix products, none for norms, activations and interpolation, which take time all the
same. Beside the network, in turns, run: chains of three 3×3×3 convolutions of many channels, in torch (channels first
and last) and in OpenVINO, the best of which is what the machine can do; products of square matrices; and the network's
own convolutions one at a time, because those of few channels cannot reach what many can. Numbers are medians.

    python benchmarks/throughput.py --out runs/throughput

measures the starter weights in five rounds, writes OUT/throughput.json, and prints rates, ratios (the project wants at
least half of the best convolution), and where torch spends the window: by block, and by kind of operation. On a machine
that does other work OMP_NUM_THREADS=1 tells more: two threads wait for each other after every operation, and the class
networks are hundreds of small ones.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.measure import flops_of, interleave, machine, seconds_of, table, write
from voxicon.infer.engine import Engine, pick_engine
from voxicon.infer.settings import inference_config
from voxicon.model.checkpoint import load_checkpoint
from voxicon.model.head import EVERY_ROW
from voxicon.model.network import UniversalNetwork
from voxicon.weights.store import engines_folder, resolve

REFERENCES = ((48, 96), (96, 48), (192, 24))
"""Channels, and voxels along each side."""
MATRICES = (2048, 4096)

_CHAIN = 3
"""Convolutions in a row: OpenVINO changes the layout on the way in and out, which one alone should not pay for."""

Task = Callable[[], object]


def in_openvino(module: nn.Module, image: Tensor) -> Task:
    """The same computation in OpenVINO, with the settings that the product gives it."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    model = openvino.convert_model(torch.export.export(module, (image,)))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(image.numpy().copy()))
    infer: Task = request.infer
    return infer


def ways(name: str, module: nn.Module, image: Tensor) -> dict[str, Task]:
    """A module in torch, channels first and last, and in OpenVINO where it is installed."""
    last = copy.deepcopy(module).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    last_image = image.to(memory_format=torch.channels_last_3d)
    found: dict[str, Task] = {
        f"{name}, torch": partial(module, image),
        f"{name}, torch, channels last": partial(last, last_image),
    }
    if find_spec("openvino") is not None:
        found[f"{name}, openvino"] = in_openvino(module, image)
    return found


def references() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Convolutions of many channels."""
    for channels, side in REFERENCES:
        chain = nn.Sequential(*(nn.Conv3d(channels, channels, 3, padding=1) for _ in range(_CHAIN))).eval()
        yield f"conv {channels}→{channels} at {side}³", chain, torch.rand(1, channels, side, side, side)


def own_convolutions(network: nn.Module, call: Task, most: int) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Of the convolutions that a call goes through the `most` that compute most, each shape once."""
    seen: dict[str, tuple[int, nn.Module, Tensor]] = {}

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (image,) = inputs
        assert isinstance(module, nn.Conv3d | nn.ConvTranspose3d)
        kind = f"{module.in_channels}→{module.out_channels}, {'×'.join(map(str, module.kernel_size))}"
        name = f"own {kind} of {'×'.join(map(str, image.shape[2:]))}, stride {module.stride[0]}"
        seen.setdefault(name, (0, module, image.clone()))

    kinds = (nn.Conv3d, nn.ConvTranspose3d)
    hooks = [m.register_forward_pre_hook(look) for m in network.modules() if isinstance(m, kinds)]
    call()
    for hook in hooks:
        hook.remove()
    counted = {name: (flops_of(partial(module, image)), module, image) for name, (_, module, image) in seen.items()}
    for name in sorted(counted, key=lambda name: -counted[name][0])[:most]:
        yield name, copy.deepcopy(counted[name][1]), counted[name][2]


def whole(network: UniversalNetwork, engine: Engine, image: Tensor) -> Task:
    """A window through an engine, all classes."""
    return lambda: network.decode(*engine.encode(image, EVERY_ROW), network.maps_of(EVERY_ROW))


@contextmanager
def metered(network: nn.Module, reading: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Adds up, for every module by name, how far a meter moves inside of it but outside of its children."""
    found: dict[str, float] = defaultdict(float)
    running: list[tuple[float, list[float]]] = []
    """Of every module that has begun and not ended: the reading then, and what its children took since."""

    def enter(*_: Any) -> None:
        running.append((reading(), []))

    def leave(name: str, *_: Any) -> None:
        began, children = running.pop()
        took = reading() - began
        found[name] += took - sum(children)
        if running:
            running[-1][1].append(took)

    hooks = []
    for name, module in network.named_modules():
        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(partial(leave, name))]
    yield found
    for hook in hooks:
        hook.remove()


def block_of(name: str) -> str:
    """What a module's account is told under."""
    if name in {"", "backbone"}:
        return {"": "class networks", "backbone": "backbone, between its blocks"}[name]
    found = re.match(r"head|backbone(\.host)?(\.\w+)?(\.\d+)?", name)
    assert found is not None
    return found.group()


def by_block(network: UniversalNetwork, image: Tensor, rounds: int) -> list[dict[str, Any]]:
    """Seconds and GFLOP of every block of a window in torch, the slowest first."""
    with FlopCounterMode(display=False) as counter, metered(network, counter.get_total_flops) as computed:
        network(image)
    times = []
    for _ in range(rounds):
        with metered(network, time.perf_counter) as took:
            network(image)
        times.append(took)
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"seconds": 0.0, "gflop": 0.0})
    for name, flops in computed.items():
        found[block_of(name)]["seconds"] += median(took[name] for took in times)
        found[block_of(name)]["gflop"] += flops / 1e9
    return sorted(({"part": name, **of} for name, of in found.items()), key=lambda of: -of["seconds"])


def by_operation(network: UniversalNetwork, image: Tensor, most: int = 12) -> list[dict[str, Any]]:
    """Seconds of every kind of operation of a window in torch, without those it calls; the slowest first."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        network(image)
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    parts = [{"part": e.key, "seconds": e.self_cpu_time_total / 1e6, "calls": e.count} for e in events]
    rest = {"part": "all others", "seconds": sum(part["seconds"] for part in parts[most:]), "calls": 0}
    return [*parts[:most], rest]


def tasks_of(network: UniversalNetwork, engines: list[Engine], image: Tensor, most: int) -> dict[str, tuple[int, Task]]:
    """All that is timed, in the order of a round: its FLOPs and the call."""
    encoded, called = network.encode(image), partial(network, image)
    of_encode, of_all = flops_of(partial(network.encode, image)), flops_of(called)
    found: dict[str, tuple[int, Task]] = {}
    for engine in engines:
        found[f"network, {engine.name}"] = (of_all, whole(network, engine, image))
        found[f"its backbone, {engine.name}"] = (of_encode, partial(engine.encode, image, EVERY_ROW))
    found["its class networks, torch"] = (of_all - of_encode, partial(network.head.decode, *encoded))
    for name, module, example in (*references(), *own_convolutions(network, called, most)):
        flops = flops_of(partial(module, example))
        found |= {way: (flops, call) for way, call in ways(name, module, example).items()}
    for side in MATRICES:
        a, b = torch.rand(2, side, side)
        found[f"matrices of {side}"] = (flops_of(partial(torch.mm, a, b)), partial(torch.mm, a, b))
    return found


def ratios(rates: dict[str, float], gflop: dict[str, float]) -> dict[str, float]:
    """Of each engine: the network's rate by that of the best reference, and by that of its own convolutions."""
    best = max(rate for name, rate in rates.items() if name.startswith("conv "))
    found = {"best reference, GFLOP/s": best}
    for name, rate in rates.items():
        if not name.startswith("network, "):
            continue
        engine = name.removeprefix("network, ").split()[0]
        own = {n.rpartition(f", {engine}")[0]: n for n in rates if n.startswith("own ") and f", {engine}" in n}
        # Of channels first and last the faster, for every shape by itself.
        fastest = {of: max(rates[n] for n in rates if n.startswith(f"{of}, {engine}")) for of in own}
        seconds = sum(gflop[own[of]] / speed for of, speed in fastest.items())
        found[f"{name} / best reference"] = rate / best
        found[f"{name} / its own convolutions"] = rate * seconds / sum(gflop[own[of]] for of in own)
    return found


def tell(rates: list[list[object]], compared: dict[str, float], parts: dict[str, list[dict[str, Any]]]) -> None:
    """Print all tables."""
    print(table(["what", "GFLOP", "s", "GFLOP/s"], rates))
    print(table(["ratio", ""], list(compared.items())))
    for name, several in parts.items():
        total = sum(part["seconds"] for part in several)
        rows = [
            [part["part"], part["seconds"], f"{100 * part['seconds'] / total:.0f} %"]
            + ([part["gflop"], part["gflop"] / part["seconds"]] if "gflop" in part else [])
            for part in several
        ]
        print(table([name, "s", "share", *(["GFLOP", "GFLOP/s"] if "gflop" in several[0] else [])], rows))


@torch.no_grad()
def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", default="starter", help="'starter', installed weights, or a .safetensors file.")
    parser.add_argument("--engines", nargs="+", choices=("torch", "openvino"),
                        default=["torch", "openvino"] if find_spec("openvino") else ["torch"])  # fmt: skip
    parser.add_argument("--own", type=int, default=8, help="How many of the network's own convolutions.")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    about = machine()
    torch.manual_seed(0)
    checkpoint = load_checkpoint(resolve(options.weights))
    network, size = checkpoint.network.eval(), inference_config(checkpoint.metadata.inference).window
    engines = [pick_engine(name, network, size, torch.device("cpu"), engines_folder()) for name in options.engines]
    image = torch.rand(1, 1, *size)
    tasks = tasks_of(network, engines, image, options.own)
    for _, call in tasks.values():
        call()
    times = interleave({name: partial(seconds_of, call) for name, (_, call) in tasks.items()}, options.rounds)
    gflop = {name: flops / 1e9 for name, (flops, _) in tasks.items()}
    seconds = {name: median(several) for name, several in times.items()}
    rates = {name: gflop[name] / seconds[name] for name in tasks}
    compared = ratios(rates, gflop)
    parts = {"block": by_block(network, image, options.rounds), "operation": by_operation(network, image)}
    results = {"weights": options.weights, "window": size, "classes": len(network.classes),
               "threads": torch.get_num_threads(), "gflop": gflop,
               "seconds": times, "gflops_per_second": rates, "ratios": compared, "parts": parts}  # fmt: skip
    write(options.out / "throughput.json", about, results)
    tell([[name, gflop[name], seconds[name], rates[name]] for name in tasks], compared, parts)


if __name__ == "__main__":
    main()
