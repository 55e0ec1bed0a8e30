"""The original's way from a CT file to 32 mask files, written anew from its description, as the measure of ours.

It keeps what costs: MONAI's transforms on the whole scan, one float map per class and voxel, a head that repeats its
map once per class, cleanup of whole volumes in float64, and one inverse transform and one file per class. The network
is the functional one that the tests compare ours with. The device is the processor; the original needs CUDA.

    python benchmarks/original_flow.py CT.nii.gz BACKBONE WEIGHTS.pth OUT

prints one line of JSON: wall seconds of each stage.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import torch
from monai import transforms
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.model.original import N_CLASSES, naive_head, naive_swin, naive_unet

WINDOW = 96
OVERLAP = 0.5
BACKBONES = {"swin_unetr": naive_swin, "unet": naive_unet}
_CUBE = np.ones((5, 5, 5))
_KEYS = [f"class_{number}" for number in range(1, N_CLASSES + 1)]


def preparation() -> transforms.Compose:
    """File to a RAS volume of 1.5 mm, scaled to [0, 1], cut to what is above -175 HU."""
    return transforms.Compose([
        transforms.LoadImaged("image", ensure_channel_first=True),
        transforms.Orientationd("image", axcodes="RAS", labels=None),
        transforms.Spacingd("image", pixdim=(1.5, 1.5, 1.5), mode="bilinear"),
        transforms.ScaleIntensityRanged("image", -175, 250, 0, 1, clip=True),
        transforms.CropForegroundd("image", source_key="image", allow_smaller=True),
    ])  # fmt: skip


def predictor(backbone: str, weights: dict[str, torch.Tensor]) -> Any:
    """Window (1, 1, 96, 96, 96) to logits (1, 32, 96, 96, 96)."""
    features = BACKBONES[backbone]
    return lambda window: naive_head(weights, *features(weights, window))


def largest(mask: np.ndarray, count: int = 1) -> np.ndarray:
    """The largest components of a whole volume."""
    labels, n = cc3d.connected_components(mask.astype(np.uint8), connectivity=26, return_N=True)
    sizes = np.bincount(labels.ravel(), minlength=n + 1)
    sizes[0] = 0
    kept = [label for label in np.argsort(-sizes, kind="stable")[:count] if sizes[label] > 0]
    return np.isin(labels, kept)


def cleanup(found: np.ndarray) -> np.ndarray:
    """The rules of `voxicon.infer.cleanup_original`, class by class on whole volumes; (32, X, Y, Z) float64."""
    result = np.zeros(found.shape)
    for number in (*range(1, 10), *range(11, 15), *range(18, 26)):
        result[number - 1] = largest(found[number - 1])
    vein = found[9].copy()
    pancreas = np.flatnonzero(result[10].any(axis=(0, 1)))
    if len(pancreas):
        vein[..., : pancreas[0]] = 0
    result[9] = vein
    lungs = largest((found[15] + found[16]) > 0, 2)
    labels, n = cc3d.connected_components(lungs.astype(np.uint8), connectivity=26, return_N=True)
    if n == 2:
        first, second = (np.argwhere(labels == label)[:, 0].mean() for label in (1, 2))
        result[16], result[15] = (labels == (1 if first < second else 2)), (labels == (2 if first < second else 1))
    for tumor, organs, count in ((26, (2, 3), 2), (27, (6,), 1)):
        region = largest(sum(found[organ - 1] for organ in organs) > 0, count)
        region = ndimage.binary_dilation(ndimage.binary_closing(region, _CUBE), _CUBE)
        result[tumor - 1] = found[tumor - 1] * region
    for number in (15, 28, 29, 30, 31, 32):
        result[number - 1] = found[number - 1]
    return result


def segment(scan: Path, backbone: str, weights: Path, out: Path) -> dict[str, float]:
    """Write OUT/<number>.nii.gz for every class; returns wall seconds of each stage."""
    seconds: dict[str, float] = {}
    began = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal began
        now = time.perf_counter()
        seconds[name], began = now - began, now

    network = predictor(backbone, torch.load(weights, weights_only=True))
    lap("load weights")
    prepare = preparation()
    case = prepare({"image": str(scan)})
    lap("prepare")
    with torch.no_grad():
        logits = sliding_window_inference(
            case["image"][None].as_tensor(), (WINDOW,) * 3, 1, network, overlap=OVERLAP, mode="gaussian"
        )
        lap("network")
        probability = torch.sigmoid(logits)
        found = (probability > 0.5).float().numpy()[0]
    lap("threshold")
    cleaned = torch.from_numpy(cleanup(found))
    lap("cleanup")
    for key, mask in zip(_KEYS, cleaned, strict=True):
        case[key] = MetaTensor(mask[None], meta=case["image"].meta)
        undo = transforms.Invertd(key, transform=prepare, orig_keys="image", nearest_interp=True, to_tensor=True)
        case = undo(case)
        number = key.removeprefix("class_")
        transforms.SaveImage(out, output_postfix=number, separate_folder=False, print_log=False)(case.pop(key))
    lap("restore and write")
    return seconds


if __name__ == "__main__":
    scan, backbone, weights, out = sys.argv[1:]
    print(json.dumps(segment(Path(scan), backbone, Path(weights), Path(out))))
