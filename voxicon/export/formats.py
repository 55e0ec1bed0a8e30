"""The formats that weights are exported to: how each is written, and how it is run without this package.

A new format is one writer, one loader and one line in `FORMATS`. Libraries are imported when a format is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxicon.export import bundle
from voxicon.export.description import INPUT, OUTPUT, Description
from voxicon.export.program import quiet
from voxicon.infer.engine import openvino_library

EMBEDDED = "voxicon"
"""Under this name a file that has room for notes holds the description itself, should it ever travel alone."""

_OPSET = 18
"""Version of the operators in an ONNX file. Source: what torch 2.13 writes without rewriting anything."""

Answer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Windows (B, 1, X, Y, Z) float32 in [0, 1] to logits (B, N, X, Y, Z)."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A way to write a program.

    Attributes:
        needs: Packages that write and run it, the one that runs it first.
        extra: What of this package to install to have them.
        write: Puts files into a folder.
        load: Runs what was written there.
    """

    needs: tuple[str, ...]
    extra: str = "export"
    write: Callable[[torch.export.ExportedProgram, Description, Path], None]
    load: Callable[[Path], Answer]


def _write_onnx(program: torch.export.ExportedProgram, description: Description, folder: Path) -> None:
    with quiet():
        written: Any = torch.onnx.export(
            program, opset_version=_OPSET, input_names=[INPUT], output_names=[OUTPUT], verbose=False
        )
    written.model.metadata_props[EMBEDDED] = json.dumps(description.to_dict())
    written.save(folder / "model.onnx")


def _load_onnx(folder: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    return lambda windows: session.run([OUTPUT], {INPUT: windows})[0]


def _write_openvino(program: torch.export.ExportedProgram, description: Description, folder: Path) -> None:
    library = openvino_library()
    with quiet():
        model = library.convert_model(program, input=[-1, 1, *description.inference.window])
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    model.set_rt_info(json.dumps(description.to_dict()), EMBEDDED)
    library.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _load_openvino(folder: Path) -> Answer:
    # Left to itself it computes in bfloat16 where the processor can.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino_library().Core().compile_model(folder / "model.xml", "CPU", settings)
    return lambda windows: compiled(windows)[OUTPUT].copy()


def _write_program(program: torch.export.ExportedProgram, description: Description, folder: Path) -> None:
    notes = {f"{EMBEDDED}.json": json.dumps(description.to_dict())}
    torch.export.save(program, folder / "model.pt2", extra_files=notes)


def _load_program(folder: Path) -> Answer:
    return _run_module(torch.export.load(folder / "model.pt2").module())


def _load_bundle(folder: Path) -> Answer:
    return _run_module(bundle.load(folder))


def _run_module(module: torch.nn.Module) -> Answer:
    def answer(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            logits: NDArray[np.float32] = module(torch.from_numpy(windows)).numpy()
        return logits

    return answer


FORMATS: dict[str, Format] = {
    "onnx": Format(needs=("onnxruntime", "onnx", "onnxscript"), write=_write_onnx, load=_load_onnx),
    "openvino": Format(needs=("openvino",), extra="fast", write=_write_openvino, load=_load_openvino),
    "exported-program": Format(needs=("torch",), write=_write_program, load=_load_program),
    "monai-bundle": Format(needs=("monai", "torch"), write=bundle.write, load=_load_bundle),
}
"""By the name that ``--to`` takes."""
