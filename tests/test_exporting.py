"""Weights in other programs' formats: proven there, described whole, and put in place whole or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.phantoms import body, dice, oriented
from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon import exporting
from voxicon.errors import ConfigError, OutputError, UnknownClass, UsageError
from voxicon.export.formats import FORMATS, Format
from voxicon.exporting import export
from voxicon.infer.engine import made_up_image
from voxicon.io.nifti import write_volume
from voxicon.prep.pipeline import prepare
from voxicon.segmenter import Segmenter, load

WORDS = ("liver", "right kidney")
NAMES = ("liver", "kidney_right")
CHANGES: dict[str, Any] = {
    "preparation": {"spacing_mm": [6, 6, 6], "window_hu": [-250, 350]},
    "inference": {"window": [16, 24, 16], "overlap": 0.25, "thresholds": {"liver": 0.6}, "smoothing_mm": {"liver": 3}},
}


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    path = write_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors", **CHANGES)
    return load(path, device="cpu", engine="torch")


@pytest.fixture(scope="module")
def exports(segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {to: export(segmenter, to, folder / to, WORDS).folder for to in FORMATS}


def ours(segmenter: Segmenter, windows: np.ndarray, names: tuple[str, ...] = NAMES) -> np.ndarray:
    with torch.inference_mode():
        return segmenter.predictor.network(torch.from_numpy(windows), names).numpy()


@pytest.mark.parametrize("to", FORMATS)
def test_it_answers_as_we_do_for_one_window_and_for_more(
    segmenter: Segmenter, exports: dict[str, Path], to: str
) -> None:
    answer = FORMATS[to].load(exports[to])
    windows = np.random.default_rng(0).random((3, 1, 16, 24, 16), dtype=np.float32)
    for batch in (windows[:1], windows):
        found = answer(batch)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, ours(segmenter, batch), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("to", FORMATS)
def test_the_description_says_everything_needed(segmenter: Segmenter, exports: dict[str, Path], to: str) -> None:
    told = json.loads((exports[to] / "voxicon.json").read_text())
    assert told["format"] == to
    assert told["weights"]["sha256"] == segmenter.checkpoint.sha256
    assert told["weights"]["license"] == "Apache-2.0"
    assert told["notice"] == "Research software, not a medical device."
    assert told["voxicon"]
    assert [(each["channel"], each["name"]) for each in told["classes"]] == [(0, "liver"), (1, "kidney_right")]
    assert [(each["threshold"], each["smoothing_mm"]) for each in told["classes"]] == [(0.6, 3), (0.5, 0)]
    assert told["input"]["shape"] == ["B", 1, 16, 24, 16]
    assert told["output"]["shape"] == ["B", 2, 16, 24, 16]
    assert told["preparation"]["orientation"] == "RAS"
    assert told["preparation"]["spacing_mm"] == [6, 6, 6]
    assert told["preparation"]["window_hu"] == [-250, 350]
    assert (told["windows"]["size"], told["windows"]["overlap"]) == ([16, 24, 16], 0.25)
    assert 0 <= told["parity"]["most_difference_of_a_probability"] < 1e-3
    assert told["parity"]["at_most"] == 0.01
    files = {path.relative_to(exports[to]).as_posix() for path in exports[to].rglob("*") if path.is_file()}
    assert files == {*told["files"], "voxicon.json"}
    for name, digest in told["files"].items():
        assert hashlib.sha256((exports[to] / name).read_bytes()).hexdigest() == digest
    assert not [path for path in exports[to].parent.iterdir() if path.name.startswith(".")]


def test_a_file_that_travels_alone_describes_itself(exports: dict[str, Path]) -> None:
    import onnxruntime

    told = json.loads((exports["onnx"] / "voxicon.json").read_text())
    session = onnxruntime.InferenceSession(exports["onnx"] / "model.onnx")
    notes = {"voxicon.json": ""}
    torch.export.load(exports["exported-program"] / "model.pt2", extra_files=notes)
    assert [port.name for port in (*session.get_inputs(), *session.get_outputs())] == ["image", "logits"]
    for text in (session.get_modelmeta().custom_metadata_map["voxicon"], notes["voxicon.json"]):
        alone = json.loads(text)
        assert alone == {key: told[key] for key in alone}
        assert {"classes", "preparation", "windows", "weights", "notice"} <= alone.keys()
    assert "not a medical device" in (exports["openvino"] / "model.xml").read_text()


def test_all_classes_are_exported_by_default(segmenter: Segmenter, tmp_path: Path) -> None:
    export(segmenter, "exported-program", tmp_path / "all")
    told = json.loads((tmp_path / "all" / "voxicon.json").read_text())
    assert tuple(each["name"] for each in told["classes"]) == segmenter.classes
    assert sorted(segmenter.classes) == sorted(CLASSES)


def _wrong(form: Format, change: Any) -> Format:
    return Format(
        needs=form.needs, write=form.write, load=lambda folder: lambda windows: change(form.load(folder)(windows))
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits + 0.5,
        lambda logits: logits[:, ::-1],
        lambda logits: logits[..., :-1],
        lambda logits: np.full_like(logits, np.nan),
    ],
)
def test_what_answers_otherwise_is_not_left(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setitem(FORMATS, "onnx", _wrong(FORMATS["onnx"], change))
    with pytest.raises(OutputError, match=r"onnxruntime [\d.]+ gives probabilities up to .* away from torch") as error:
        export(segmenter, "onnx", tmp_path / "out", WORDS)
    assert error.value.code == "E-PARITY"
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_stays_until_the_new_one_is_proven(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export(segmenter, "exported-program", out, WORDS)
    (out / "of_mine.txt").write_text("kept until then")
    before = (out / "voxicon.json").read_bytes()
    with pytest.raises(UsageError, match="is already there; use --overwrite"):
        export(segmenter, "exported-program", out, WORDS)
    with monkeypatch.context() as patch:
        patch.setitem(FORMATS, "onnx", _wrong(FORMATS["onnx"], lambda logits: logits + 1))
        with pytest.raises(OutputError):
            export(segmenter, "onnx", out, overwrite=True)
    assert (out / "voxicon.json").read_bytes() == before
    assert (out / "of_mine.txt").exists()
    export(segmenter, "onnx", out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx", "voxicon.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_no_export_is_never_replaced(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds no voxicon\.json, so it is no earlier export; choose another folder"):
        export(segmenter, "onnx", tmp_path, overwrite=True)
    with pytest.raises(UsageError, match=r"holds no voxicon\.json"):
        export(segmenter, "onnx", tmp_path / "thesis.tex", overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("to", "package", "extra"),
    [("onnx", "onnxruntime", "export"), ("onnx", "onnxscript", "export"), ("openvino", "openvino", "fast")],
)
def test_a_missing_runtime_is_one_line(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, package: str, extra: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        exporting.importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name, *rest)
    )
    expected = rf'format {to}: needs {package}, not installed here; pip install "voxicon\[{extra}\]"'
    with pytest.raises(ConfigError, match=expected):
        export(segmenter, to, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_requests_that_make_no_sense(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format 'torchscript' is unknown; use onnx, openvino, exported-program, mon"):
        export(segmenter, "torchscript", tmp_path / "out")
    with pytest.raises(UnknownClass, match="not trained for aorta"):
        export(segmenter, "onnx", tmp_path / "out", ["aorta"])
    with pytest.raises(UnknownClass, match="no class to export"):
        export(segmenter, "onnx", tmp_path / "out", [])
    assert not list(tmp_path.iterdir())


def test_the_bundle_is_what_monai_asks_for(segmenter: Segmenter, exports: dict[str, Path]) -> None:
    """Names and types of the schema's required fields; written down here, as nothing can be fetched."""
    folder = exports["monai-bundle"]
    meta = json.loads((folder / "configs/metadata.json").read_text())
    texts = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors",
             "copyright")  # fmt: skip
    assert all(isinstance(meta[key], str) and meta[key] for key in texts)
    assert isinstance(meta["required_packages_version"], dict)
    formats = meta["network_data_format"]
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"} <= tensor.keys()
        assert tensor["spatial_shape"] == [16, 24, 16]
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "liver", "1": "kidney_right"}
    readme = (folder / "docs/README.md").read_text()
    assert "| 0 | liver | 0.6 |" in readme
    assert "not a medical device" in readme
    assert '{"image": "ct.nii.gz"}' in readme
    assert "Apache License" in (folder / "LICENSE").read_text()


def test_the_bundle_lays_and_cuts_windows_as_we_do(exports: dict[str, Path]) -> None:
    told = json.loads((exports["monai-bundle"] / "configs/inference.json").read_text())
    inferer = {key: value for key, value in told["inferer"].items() if key != "_target_"}
    assert inferer == {
        "roi_size": [16, 24, 16], "sw_batch_size": 1, "overlap": 0.25, "mode": "gaussian", "sigma_scale": 0.125,
        "padding_mode": "constant",
    }  # fmt: skip
    assert (told["classes"], told["thresholds"]) == (["liver", "kidney_right"], [0.6, 0.5])


def test_the_bundle_runs_where_voxicon_is_not(exports: dict[str, Path], segmenter: Segmenter, tmp_path: Path) -> None:
    image = made_up_image((16, 24, 16)).numpy()
    np.save(tmp_path / "window.npy", image)
    code = (
        "import sys\nsys.modules['voxicon'] = None\nimport numpy, torch\n"
        "from monai.bundle import ConfigParser\nparser = ConfigParser()\n"
        "parser.read_config('configs/inference.json')\nparser.read_meta('configs/metadata.json')\n"
        "network = parser.get_parsed_content('network').eval()\n"
        f"window = torch.from_numpy(numpy.load({str(tmp_path / 'window.npy')!r}))\n"
        "with torch.no_grad():\n    logits = parser.get_parsed_content('inferer')(window, network)\n"
        f"numpy.save({str(tmp_path / 'logits.npy')!r}, logits.numpy())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=exports["monai-bundle"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), ours(segmenter, image), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_the_bundle_finds_the_same_organs_in_a_real_scan(real_data: Path, tmp_path: Path) -> None:
    """Its steps are MONAI's: measured 0.991, 0.986 and 0.980 for liver, spleen and aorta."""
    from monai.bundle.config_parser import ConfigParser

    names = ("liver", "spleen", "aorta")
    starter = load("starter", device="cpu", engine="torch", overlap=0.25)
    folder = export(starter, "monai-bundle", tmp_path / "bundle", names).folder
    scan = real_data / "chest_abdomen" / "ct.nii.gz"
    parser = ConfigParser()
    parser.read_config(folder / "configs/inference.json")
    parser["bundle_root"], parser["device"] = str(folder), "cpu"
    steps = parser["postprocessing"]["transforms"]
    assert steps.pop()["_target_"] == "SaveImaged"
    found = parser.get_parsed_content("preprocessing")({"image": str(scan)})
    with torch.no_grad():
        network = parser.get_parsed_content("network")
        found["pred"] = parser.get_parsed_content("inferer")(found["image"][None], network)[0]
    masks = parser.get_parsed_content("postprocessing")(found)["pred"]
    expected = starter.segment(scan, names, cleanup="none").masks
    scores = {name: dice(np.asarray(masks[at]) > 0, expected[name]) for at, name in enumerate(names)}
    assert all(score > 0.97 for score in scores.values()), scores


def test_preparation_of_the_bundle_is_ours_where_no_voxel_is_coarser(tmp_path: Path) -> None:
    """Same grid, same values: turned to RAS, resampled, windowed and cut."""
    from monai.bundle.config_parser import ConfigParser

    changes = {**CHANGES, "preparation": {"spacing_mm": [5, 5, 5], "window_hu": [-250, 350]}}
    one = load(write_small_weights(tmp_path / "w.safetensors", **changes), device="cpu", engine="torch")
    folder = export(one, "monai-bundle", tmp_path / "bundle", WORDS).folder
    volume = oriented(body((5.0, 5.0, 5.0)), (2, 0, 1), (-1, 1, -1))
    write_volume(tmp_path / "ct.nii.gz", volume.hu.astype(np.int16), volume.geometry)
    parser = ConfigParser()
    parser.read_config(folder / "configs/inference.json")
    theirs = parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "ct.nii.gz")})["image"]
    prepared = prepare(volume, one.preparation)
    np.testing.assert_allclose(theirs[0].numpy(), prepared.image, atol=1e-4)
    np.testing.assert_allclose(theirs.affine.numpy(), prepared.trace.model.affine, atol=1e-4)
