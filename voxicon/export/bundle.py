"""A MONAI bundle: a folder that MONAI and torch run from a scan to masks, without this package.

Its steps are MONAI's own and follow ours as far as MONAI has them; its README says where they do not. The network
inside is an exported program. torch gives such a program no training and evaluation mode, which MONAI asks every
network for; taken apart into modules again (`torch.export.unflatten`) it has them.

Reading the configuration of a bundle runs expressions in it: load only bundles that you trust.
"""

from __future__ import annotations

import importlib.metadata
import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from voxicon.export.description import INPUT, Description
from voxicon.export.program import quiet
from voxicon.infer.windows import SIGMA_SCALE
from voxicon.prep.pipeline import BODY_HU, BODY_MARGIN_MM
from voxicon.result import DISCLAIMER
from voxicon.version import __version__

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""What ``metadata.json`` follows. Source: MONAI's page of schemas; the newest of them when this was written."""

MODEL, CONFIGURATION = "models/model.pt2", "configs/inference.json"

_PADDING = {"air": "constant", "edge": "replicate"}


def write(program: torch.export.ExportedProgram, description: Description, folder: Path) -> None:
    """Fill a folder with a bundle."""
    for part in ("configs", "models", "docs"):
        (folder / part).mkdir()
    torch.export.save(program, folder / MODEL)
    (folder / "configs/metadata.json").write_text(json.dumps(metadata(description), indent=2) + "\n", "utf8")
    (folder / CONFIGURATION).write_text(json.dumps(inference(description), indent=2) + "\n", "utf8")
    (folder / "docs/README.md").write_text(readme(description), "utf8")
    (folder / "LICENSE").write_text(license_text(str(description.weights["license"])), "utf8")


def load(folder: Path) -> torch.nn.Module:
    """The network of a bundle, as MONAI builds it from the bundle's own configuration."""
    from monai.bundle.config_parser import ConfigParser

    parser = ConfigParser()
    with quiet():
        parser.read_config(folder / CONFIGURATION)
        parser.read_meta(folder / "configs/metadata.json")
        parser["bundle_root"], parser["device"] = str(folder), "cpu"
        network: torch.nn.Module = parser.get_parsed_content("network")
    return network.eval()


def metadata(description: Description) -> dict[str, Any]:
    """``metadata.json``: what MONAI's schema asks for, and our own description under ``voxicon``."""
    weights, names = description.weights, description.classes
    shape = {"spatial_shape": list(description.inference.window), "dtype": "float32", "is_patch_data": True}
    image = {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": 1, "value_range": [0, 1]}
    logits = {"type": "image", "format": "logits", "num_channels": len(names), "value_range": []}
    channels = {str(channel): name for channel, name in enumerate(names)}
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: f"exported from the weights {weights['name']}, sha256 {weights['sha256']}"},
        **{f"{key}_version": _version(package) for key, package in _BASE.items()},
        "required_packages_version": {"nibabel": _version("nibabel")},
        "name": f"Voxicon: {weights['title'] or weights['name']}",
        "task": f"Segmentation of {len(names)} classes in CT",
        "description": f"A universal segmentation network with its words baked in: {', '.join(names)}. {DISCLAIMER}",
        "authors": "Voxicon maintainers",
        "copyright": f"License of the weights: {weights['license']}",
        "intended_use": DISCLAIMER,
        "data_type": "nibabel",
        "image_classes": "single channel, HU window scaled to [0, 1]",
        "pred_classes": "a logit for each class; classes may overlap, so a sigmoid follows and no softmax",
        "network_data_format": {
            "inputs": {INPUT: {**image, **shape, "channel_def": {"0": "image"}}},
            "outputs": {"pred": {**logits, **shape, "channel_def": channels}},
        },
        "voxicon": description.to_dict(),
    }


_BASE = {"monai": "monai", "pytorch": "torch", "numpy": "numpy"}


def inference(description: Description) -> dict[str, Any]:
    """``inference.json``: from files in ``dataset_dir`` to masks in ``output_dir``, in MONAI's configuration language.

    Nothing is built before it is asked for, so the evaluator at the end does no harm where pytorch-ignite is missing.
    """
    settings = description.inference
    return {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/masks'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "classes": list(description.classes),
        "thresholds": list(description.thresholds),
        "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
        "network_def": f"$torch.export.unflatten(torch.export.load(@bundle_root + '/{MODEL}'))",
        "network": "$@network_def.to(@device)",
        "preprocessing": _compose(_preprocessing(description)),
        "dataset": {
            "_target_": "Dataset",
            "data": f"$[{{'{INPUT}': path}} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(settings.window),
            "sw_batch_size": 1,
            "overlap": settings.overlap,
            "mode": "gaussian",
            "sigma_scale": SIGMA_SCALE,
            "padding_mode": _PADDING[settings.padding],
        },
        "postprocessing": _compose([*_POSTPROCESSING, _SAVE]),
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "amp": False,
        },
        "run": ["$@evaluator.run()"],
    }


def _compose(transforms: list[dict[str, Any]]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": transforms}


def _preprocessing(description: Description) -> list[dict[str, Any]]:
    config = description.preparation
    low, high = config.window_hu
    steps = [_step("LoadImaged"), _step("EnsureChannelFirstd"), _step("Orientationd", axcodes="RAS")]
    if config.antialias:
        steps.append(_step("Lambdad", func=_smoothing(config.spacing_mm)))
    steps.append(_step("Spacingd", pixdim=list(config.spacing_mm), mode="bilinear", padding_mode="border"))
    if config.crop != "none":
        level, margin_mm = (BODY_HU, BODY_MARGIN_MM) if config.crop == "body" else (low, 0.0)
        inside, margin = f"$lambda hu: hu > {level!r}", [round(margin_mm / s) for s in config.spacing_mm]
        steps.append(_step("CropForegroundd", source_key=INPUT, select_fn=inside, margin=margin, allow_smaller=True))
    steps.append(_step("ScaleIntensityRanged", a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True))
    return [*steps, _step("EnsureTyped", dtype="$torch.float32")]


def _smoothing(spacing_mm: tuple[float, float, float]) -> str:
    """What stands for averaging over coarser voxels, which MONAI's ``Spacing`` does not do.

    A triangle of half width h, which is what we resample with, has the variance h² / 6, and linear interpolation 1 / 6
    already: a Gaussian with the rest comes before it. Source: `voxicon.prep.resample`, which does so for oblique scans.
    Of MONAI's kernels only ``scalespace`` has this variance, and sums to 1, below one voxel. What it takes for zeros
    beyond the scan is divided out again.
    """
    sigma = f"[(max((t / float(s)) ** 2 - 1, 0) / 6) ** 0.5 for t, s in zip({list(spacing_mm)}, x.pixdim)]"
    smooth = f"monai.transforms.GaussianSmooth({sigma}, approx='scalespace')"
    return f"$lambda x: (lambda smooth: smooth(x) / smooth(torch.ones_like(x)))({smooth})"


def _step(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, "keys": INPUT, **arguments}


_POSTPROCESSING: list[dict[str, Any]] = [
    {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
    {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": INPUT,
        "nearest_interp": False,
        "to_tensor": True,
    },
    {
        "_target_": "Lambdad",
        "keys": "pred",
        "func": "$lambda p: (p > torch.tensor(@thresholds, device=p.device)[:, None, None, None]).to(torch.uint8)",
    },
]

_SAVE = {
    "_target_": "SaveImaged",
    "keys": "pred",
    "output_dir": "@output_dir",
    "output_postfix": "masks",
    "output_dtype": "$numpy.uint8",
    "separate_folder": False,
}


def readme(description: Description) -> str:
    """``docs/README.md``: what it is, how to run it, and where it differs from what it was exported from."""
    weights = description.weights
    rows = [
        f"| {channel} | {name} | {threshold:g} |"
        for channel, (name, threshold) in enumerate(zip(description.classes, description.thresholds, strict=True))
    ]
    template = resources.files("voxicon.export").joinpath("bundle_readme.md").read_text("utf8")
    return template.format(
        title=weights["title"] or weights["name"],
        notice=DISCLAIMER,
        name=weights["name"],
        sha256=weights["sha256"],
        license=weights["license"],
        version=__version__,
        rows="\n".join(rows),
        spacing=" x ".join(f"{s:g}" for s in description.preparation.spacing_mm),
        low=description.preparation.window_hu[0],
        high=description.preparation.window_hu[1],
        window=" x ".join(map(str, description.inference.window)),
    )


def license_text(name: str) -> str:
    """What ``LICENSE`` says: the license that the weights state, in full where it is that of this package."""
    full = None
    if name == "Apache-2.0":
        full = importlib.metadata.distribution("voxicon").read_text("licenses/LICENSE")
    return full or f"The license of these weights, in the words of their card: {name}\n"


def _version(package: str) -> str:
    return importlib.metadata.version(package)
