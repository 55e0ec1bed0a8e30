"""The authors' file, converted and used: what someone with the original weights does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.model import original
from tests.model.conftest import save_like_authors
from tests.test_workflow import write_scan
from voxicon.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["voxicon", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_convert_then_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net = {f"module.{key}": tensor for key, tensor in original.weights(original.unet_shapes()).items()}
    official = save_like_authors(tmp_path / "official.pth", net)
    weights = tmp_path / "unet.safetensors"
    assert run(monkeypatch, "weights", "convert", str(official), "-o", str(weights)) == 0
    # 117 tensors: 75 are placed; 14 norms bring three each that the original never uses.
    assert "75 tensors placed, 42 known and without effect" in capsys.readouterr().err
    official.unlink()
    # All voxels at 1.5 mm, and smaller than one window of 96³, so that one window does.
    scan = write_scan(tmp_path / "scan.nii.gz")
    source = nib.load(scan)
    small = nib.Nifti1Image(np.asarray(source.dataobj)[5:20, 4:16, 4:14], np.diag([3.0, 3.0, 4.0, 1.0]))
    nib.save(small, scan)
    words = ["-c", "liver,liver tumor", "--cleanup", "original", "--no-preview", "--weights", str(weights)]
    assert run(monkeypatch, "segment", str(scan), "-o", str(tmp_path / "out"), *words) == 0
    case = json.loads((tmp_path / "out" / "scan" / "case.json").read_text())
    assert set(case["volumes_ml"]) == {"liver", "liver_tumor"}
    assert case["settings"]["preparation"]["spacing_mm"] == [1.5, 1.5, 1.5]
    assert "CC BY-NC-ND" in case["weights"]["license"]
    assert nib.load(tmp_path / "out" / "scan" / "segmentations" / "liver.nii.gz").shape == (15, 12, 10)
    # What is there is not written over unless asked.
    assert run(monkeypatch, "weights", "convert", str(scan), "-o", str(weights)) == 2
    assert "--overwrite" in capsys.readouterr().err
