"""From a scan and words to masks: the Python front door."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.phantoms import body, rotation
from tests.test_workflow import write_scan
from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon import segmenter as segmenter_module
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.storage import lies_in_file
from voxicon.core.volume import Volume
from voxicon.errors import CheckpointError, ConfigError, InputError, UnknownClass
from voxicon.infer.device import pick_device
from voxicon.infer.engine import Engine
from voxicon.model.head import Rows
from voxicon.model.network import UniversalNetwork
from voxicon.prep.pipeline import prepare
from voxicon.segmenter import Segmenter, load


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load(write_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors"), device="cpu")


def test_masks_come_back_on_the_very_grid_of_the_scan(segmenter: Segmenter) -> None:
    volume = body((5.0, 5.0, 7.0))
    result = segmenter.segment(volume)
    assert result.masks.geometry is volume.geometry
    assert result.masks.names == segmenter.classes == CLASSES
    assert result.masks.words.any()
    assert set(result.seconds) == {"read", "prepare", "network", "cleanup", "restore"}
    assert result.weights["name"] == "small"
    assert len(str(result.weights["sha256"])) == 64


def test_why_another_engine_computed_is_a_warning(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such operation")

    assert segmenter.segment(body((8.0, 8.0, 8.0))).warnings == ()
    monkeypatch.setenv("VOXICON_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("voxicon.infer.engine._compile", fail)
    found = load(write_small_weights(tmp_path / "small.safetensors"), device="cpu").segment(body((8.0, 8.0, 8.0)))
    assert found.settings["engine"] == "torch"
    (warning,) = found.warnings
    assert warning.startswith("engine: openvino ")
    assert warning.endswith("failed (no such operation); torch computes instead")


def test_a_window_fitted_to_a_thin_scan_is_told_and_is_torchs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxicon.segmenter.pick_engine", lambda _, network, *__: Engine("quick 1", network.encode))
    settings = {"window": [16, 16, 16], "overlap": 0.25, "padding": "edge"}
    segmenter = load(write_small_weights(tmp_path / "small.safetensors", inference=settings), device="cpu")
    volume = body((4.0, 4.0, 7.0))
    middle = volume.hu.shape[2] // 2
    slab = Volume(volume.hu[..., middle : middle + 3], Geometry((*volume.hu.shape[:2], 3), volume.geometry.affine))
    thick, thin = (segmenter.segment(one).settings for one in (volume, slab))
    assert thick["inference"]["window"] == [16, 16, 16]
    assert thick["engine"] == "quick 1"
    assert thin["inference"]["window"] == [30, 24, 4]
    assert thin["engine"] == "torch"


def test_a_precision_that_was_refused_is_told_and_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def picked(_: str, network: UniversalNetwork, *rest: object) -> Engine:
        def contrary(image_B1XYZ: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
            maps, parameters = network.encode(image_B1XYZ, rows)
            return maps, -parameters

        assert rest[-1] == "bf16"
        return Engine("quick 1", network.encode, bf16=contrary)

    monkeypatch.setattr("voxicon.segmenter.pick_engine", picked)
    settings = {"window": [24, 24, 24], "overlap": 0.25}
    path = write_small_weights(tmp_path / "small.safetensors", inference=settings)
    found = load(path, device="cpu", precision="bf16").segment(body((3.0, 3.0, 3.0)), cleanup="none")
    told = found.settings["precision"]
    assert (told["asked"], told["used"]) == ("bf16", "fp32")
    assert list(told["lowest_dice"].values()) == [0.0]
    assert found.warnings == (f"precision: {told['reason']}; computed in fp32 instead",)


def test_thresholds_of_the_weights_are_used_and_told(tmp_path: Path) -> None:
    settings = {"window": [16, 16, 16], "overlap": 0.25}
    plain = load(write_small_weights(tmp_path / "a.safetensors", inference=settings), device="cpu", engine="torch")
    own = {**settings, "thresholds": {"spleen": 0.9}, "smoothing_mm": {"spleen": 8.0}}
    strict = load(write_small_weights(tmp_path / "b.safetensors", inference=own), device="cpu", engine="torch")
    before, after = (one.segment(body((8.0, 8.0, 8.0)), cleanup="none") for one in (plain, strict))
    assert after.masks.count("spleen") < before.masks.count("spleen")
    assert after.masks.count("liver") == before.masks.count("liver")
    assert after.settings["inference"]["thresholds"] == {"spleen": 0.9}  # type: ignore[index]
    assert after.settings["inference"]["smoothing_mm"] == {"spleen": 8.0}  # type: ignore[index]


def test_less_overlap_computes_fewer_windows(tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "small.safetensors")
    totals = []
    for overlap in (None, 0.75, 0.0):
        found: list[int] = []
        load(weights, device="cpu", engine="torch", overlap=overlap).segment(
            body((5.0, 5.0, 7.0)), progress=lambda _, total, found=found: found.append(total)
        )
        totals.append(found[-1])
    assert totals[2] < totals[0] < totals[1]
    with pytest.raises(ConfigError, match=r"overlap 1 is no share of a window; use 0 up to, but not, 1"):
        load(weights, device="cpu", overlap=1.0)


def test_words_choose_classes_in_their_order(segmenter: Segmenter) -> None:
    result = segmenter.segment(body((8.0, 8.0, 8.0)), classes=["Liver", "right kidney", "6"])
    assert result.masks.names == ("liver", "kidney_right")


def test_a_class_alone_equals_the_class_among_all(segmenter: Segmenter) -> None:
    volume = body((8.0, 8.0, 8.0))
    every = segmenter.segment(volume)
    # The tumor's cleanup looks at the liver, so the liver is computed although nobody asked for it.
    alone = segmenter.segment(volume, classes=["liver tumour"])
    assert alone.masks.names == ("liver_tumor",)
    assert (alone.masks["liver_tumor"] == every.masks["liver_tumor"]).all()


def test_cleanup_none_keeps_what_cleanup_removes(segmenter: Segmenter) -> None:
    volume = body((8.0, 8.0, 8.0))
    raw = segmenter.segment(volume, cleanup="none")
    assert raw.notes == ()
    assert segmenter.segment(volume).notes
    assert raw.masks.count("spleen") >= segmenter.segment(volume).masks.count("spleen")
    assert raw.settings["cleanup"] == "none"


def test_original_cleanup_comes_back_the_original_way(segmenter: Segmenter) -> None:
    volume = body((3.0, 3.0, 3.0))  # two voxels per model voxel of 6 mm
    masks = segmenter.segment(volume, cleanup="original").masks
    trace = prepare(volume, segmenter.preparation).trace
    middles = trace.model.to_world(np.argwhere(np.ones(trace.model.shape, dtype=bool)))
    at = tuple(volume.geometry.to_index(middles).round().astype(int).T)
    whole = MaskSet.from_masks({"spleen": masks["spleen"][at].reshape(trace.model.shape)}, trace.model)
    assert (trace.restore(whole, nearest=True)["spleen"] == masks["spleen"]).all()
    assert (trace.restore(whole)["spleen"] != masks["spleen"]).any()


def test_probabilities_come_for_the_classes_asked_for_and_change_no_mask(segmenter: Segmenter) -> None:
    volume = body((5.0, 5.0, 7.0))
    plain = segmenter.segment(volume)
    assert plain.probabilities == {}
    asked = segmenter.segment(volume, probabilities=["liver tumour", "1", "spleen"])
    assert tuple(asked.probabilities) == ("liver_tumor", "spleen")
    assert (asked.masks.words == plain.masks.words).all()
    for levels in asked.probabilities.values():
        assert levels.dtype == np.uint8
        assert levels.shape == volume.geometry.shape
        assert levels.max() > 128


def test_probabilities_are_those_the_masks_were_cut_from(segmenter: Segmenter) -> None:
    # On a scan of the model's own spacing the way back is the identity, so the cut can be seen on the scan.
    volume = body((6.0, 6.0, 6.0))
    result = segmenter.segment(volume, cleanup="none", probabilities=segmenter.classes)
    assert tuple(result.probabilities) == CLASSES
    model = prepare(volume, segmenter.preparation).trace.model
    assert np.prod(model.shape) < np.prod(volume.geometry.shape), "nothing was cropped, so this would prove nothing"
    start = volume.geometry.to_index(model.to_world([0, 0, 0])).round().astype(int)
    outside = np.ones(volume.geometry.shape, dtype=bool)
    outside[tuple(slice(s, s + n) for s, n in zip(start, model.shape, strict=True))] = False
    for name, levels in result.probabilities.items():
        assert ((levels > 127.5) != result.masks[name]).sum() <= 1
        assert not levels[outside].any()


def test_cleanup_leaves_probabilities_as_they_are(segmenter: Segmenter) -> None:
    volume = body((8.0, 8.0, 8.0))
    raw = segmenter.segment(volume, ["spleen"], cleanup="none", probabilities=["spleen"])
    cleaned = segmenter.segment(volume, ["spleen"], probabilities=["spleen"])
    assert cleaned.masks.count("spleen") < raw.masks.count("spleen")
    assert (cleaned.probabilities["spleen"] == raw.probabilities["spleen"]).all()


def test_a_class_of_which_only_probabilities_are_asked_for_gets_a_mask_too(segmenter: Segmenter) -> None:
    volume = body((8.0, 8.0, 8.0))
    result = segmenter.segment(volume, ["pancreas", "liver"], probabilities=["Spleen", "liver"])
    assert result.masks.names == ("pancreas", "liver", "spleen")
    assert tuple(result.probabilities) == ("spleen", "liver")
    assert (result.masks["spleen"] == segmenter.segment(volume).masks["spleen"]).all()
    # Neighbors that cleanup looks at are computed, but nobody asked for them.
    assert tuple(segmenter.segment(volume, [], probabilities=["liver_tumor"]).masks) == ("liver_tumor",)


def test_probabilities_on_disk_read_as_zero_to_one(segmenter: Segmenter, tmp_path: Path) -> None:
    result = segmenter.segment(write_scan(tmp_path / "a.nii.gz"), ["liver"], probabilities=["spleen"])
    written = result.save(tmp_path / "case", preview=False)
    path = tmp_path / "case" / "probabilities" / "spleen.nii.gz"
    assert path in written
    assert [p.name for p in path.parent.iterdir()] == ["spleen.nii.gz"]
    image = nib.load(path)
    source = nib.load(tmp_path / "a.nii.gz")
    assert (image.affine == source.affine).all()
    assert (image.header["sform_code"], image.header["qform_code"]) == (2, 0)
    assert (source.header["sform_code"], source.header["qform_code"]) == (2, 0)
    assert (np.asarray(image.dataobj.get_unscaled()) == result.probabilities["spleen"]).all()
    assert np.abs(image.get_fdata() - result.probabilities["spleen"] / 255).max() < 1e-6
    case = json.loads((tmp_path / "case" / "case.json").read_text())
    assert case["probabilities"] == ["spleen"]
    assert case["files"]["probabilities/spleen.nii.gz"] == hashlib.sha256(path.read_bytes()).hexdigest()
    # A run without probabilities leaves none of an earlier one behind.
    segmenter.segment(tmp_path / "a.nii.gz", ["liver"]).save(tmp_path / "case", preview=False)
    assert not path.exists()
    assert json.loads((tmp_path / "case" / "case.json").read_text())["probabilities"] == []


def test_the_scan_is_not_changed(segmenter: Segmenter) -> None:
    volume = body((8.0, 8.0, 8.0))
    before = volume.hu.copy()
    segmenter.segment(volume, classes=["liver"])
    assert (np.asarray(volume.hu) == before).all()


def test_progress_is_told(segmenter: Segmenter) -> None:
    told: list[tuple[int, int]] = []
    segmenter.segment(body((8.0, 8.0, 8.0)), classes=["liver"], progress=lambda *step: told.append(step))
    assert told
    assert told[-1][0] == told[-1][1]


def test_unknown_and_untrained_classes_are_refused(segmenter: Segmenter) -> None:
    with pytest.raises(UnknownClass, match="did you mean spleen"):
        segmenter.segment(body((8.0, 8.0, 8.0)), classes=["spleeen"])
    with pytest.raises(UnknownClass, match="not trained for aorta; they find: spleen"):
        segmenter.segment(body((8.0, 8.0, 8.0)), classes=["aorta"])
    with pytest.raises(UnknownClass, match="not trained for aorta; they find: spleen"):
        segmenter.segment(body((8.0, 8.0, 8.0)), classes=["liver"], probabilities=["aorta"])


def test_weights_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    strange = write_small_weights(tmp_path / "a.safetensors", classes=("class_01", "class_02"))
    with pytest.raises(CheckpointError, match="none of the classes"):
        load(strange, device="cpu")
    odds = [{"thresholds": odd} for odd in ({"liver": 1.0}, {"liver": "high"}, None, 0.8)]
    odds += [{"smoothing_mm": odd} for odd in ({"liver": -1.0}, {"liver": "much"}, None, 3.0)]
    odds += [{"depth_mm": odd} for odd in ({"liver": -1.0}, {"liver": 21.0}, {"liver": "deep"}, None)]
    odds += [{"peaks": odd} for odd in ({"liver": 0.0}, {"liver": 1.0}, {"liver": "high"}, None)]
    for settings in ({}, {"window": [16, 16]}, *({"window": [16] * 3, **odd} for odd in ({"x": 1}, *odds))):
        broken = write_small_weights(tmp_path / "b.safetensors", inference=settings)
        with pytest.raises(CheckpointError, match="inference settings"):
            load(broken, device="cpu")
    with pytest.raises(CheckpointError, match="preparation settings"):
        load(write_small_weights(tmp_path / "c.safetensors", preparation={}), device="cpu")


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    with pytest.raises(ConfigError, match="unknown"):
        pick_device("toaster")
    with pytest.raises(ConfigError, match="not available"):
        pick_device("cuda:99")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot promise room in a file")
@pytest.mark.parametrize("turned", [False, True])
def test_a_scan_kept_in_files_gives_the_same_files(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    volume = body((4.0, 4.0, 5.0), rotation(10, 2)) if turned else body((4.0, 4.0, 5.0))
    scan = write_scan(tmp_path / "ct.nii.gz", volume)
    for name, limit in (("memory", 1 << 40), ("files", 1)):
        monkeypatch.setattr("voxicon.infer.memory.LARGE_BYTES", limit)
        result = segmenter.segment(scan, probabilities=["liver"])
        large = (result.volume.hu, result.masks.words, result.probabilities["liver"])
        assert [lies_in_file(array) for array in large] == [name == "files"] * 3
        result.save(tmp_path / name)
    a, b = (json.loads((tmp_path / name / "case.json").read_text())["files"] for name in ("memory", "files"))
    assert a == b
    assert len(a) == len(CLASSES) + 4


def test_memory_is_planned_from_the_header_alone(segmenter: Segmenter, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "ct.nii.gz")
    plan = segmenter.plan(scan, ["liver"], probabilities=["spleen"])
    # 25 x 20 x 18 voxels, two bytes each behind a header of 352, and a word and a map of a byte.
    assert (plan.demand.unpacked, plan.demand.hu, plan.demand.masks) == (352 + 2 * 9000, 4 * 9000, 4 * 9000)
    assert plan.demand.maps == (9000,)
    assert plan.demand.smoothed == 0
    scan.write_bytes(scan.read_bytes()[:-40])  # the voxels are not looked at
    assert segmenter.plan(scan).demand.maps == ()
    in_memory = segmenter.plan(body((8.0, 8.0, 10.0), rotation(10, 2))).demand
    assert (in_memory.unpacked, in_memory.hu, in_memory.smoothed) == (0, 0, 4 * 9000)


def test_windows_are_computed_together_as_far_as_the_device_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(segmenter_module, "windows_at_once", lambda device, size: asked.append(size) or 3)
    plain = load(write_small_weights(tmp_path / "small.safetensors"), device="cpu", engine="torch")
    assert plain.predictor.config.batch == 3
    assert asked == [plain.predictor.network.window_bytes((16, 16, 16))]
    inference = {"window": [16, 16, 16], "batch": 2}
    stated = load(write_small_weights(tmp_path / "own.safetensors", inference=inference), device="cpu", engine="torch")
    assert stated.predictor.config.batch == 2


def test_a_scan_that_does_not_fit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "small.safetensors")
    scan = write_scan(tmp_path / "ct.nii.gz")
    scan.write_bytes(scan.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"ct\.nii\.gz: needs about .* but only 0\.1 GB may be used") as refused:
        load(weights, device="cpu", engine="torch", max_memory_gb=0.1).segment(scan)
    assert refused.value.code == "E-MEMORY"
    for gb in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=f"max memory {gb:g} GB: expected a number above 0, such as 4"):
            load(weights, device="cpu", max_memory_gb=gb)


def test_what_was_planned_and_taken_is_told(segmenter: Segmenter, tmp_path: Path) -> None:
    segmenter.segment(body((8.0, 8.0, 8.0))).save(tmp_path)
    told = json.loads((tmp_path / "case.json").read_text())["memory"]
    assert set(told) == {"planned_gb", "planned_in_files_gb", "peak_gb"}
    assert told["planned_gb"] > 0.3
    assert told["planned_in_files_gb"] == 0


def test_organs_are_located_first_and_what_is_near_them_is_the_same(tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "small.safetensors")
    plain = load(weights, device="cpu", engine="torch")
    located = Segmenter(plain.checkpoint, plain.device, "small", locator=plain)
    volume = body((4.0, 4.0, 5.0))
    whole = plain.segment(volume, ["liver"], cleanup="none")
    near = located.segment(volume, ["liver"], cleanup="none")
    assert (near.masks["liver"] == whole.masks["liver"]).all()  # noise is everywhere, and so is its box
    assert near.settings["located_by"] == "small"
    assert whole.settings["located_by"] is None
    assert "locate" in near.seconds
    assert near.warnings == whole.warnings


def test_tumors_and_what_is_not_found_are_looked_for_everywhere(tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "small.safetensors")
    plain = load(weights, device="cpu", engine="torch")
    volume = body((8.0, 8.0, 8.0))
    tumor = Segmenter(plain.checkpoint, plain.device, locator=plain).segment(volume, ["liver tumor"])
    assert tumor.warnings[0] == "locating: not done, as liver_tumor cannot be located by 'small'"
    blind = load(weights, device="cpu", engine="torch")
    blind.predictor.config = replace(blind.predictor.config, thresholds={"spleen": 1 - 1e-9})
    spleen = Segmenter(plain.checkpoint, plain.device, locator=blind).segment(volume, ["spleen"])
    assert spleen.warnings[0] == "locating: everywhere, as 'small' did not find spleen"
    assert (spleen.masks["spleen"] == plain.segment(volume, ["spleen"]).masks["spleen"]).all()


def test_locating_skips_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = write_small_weights(tmp_path / "small.safetensors")
    plain = load(weights, device="cpu", engine="torch")
    small = MaskSet.empty(("liver",), body((8.0, 8.0, 8.0)).geometry)
    mask = np.zeros(small.geometry.shape, dtype=bool)
    mask[3, 3, 3] = True
    small.set("liver", mask)
    monkeypatch.setattr(plain, "find", lambda *_: small)
    near = Segmenter(plain.checkpoint, plain.device, locator=plain).segment(body((8.0, 8.0, 8.0)), ["liver"])
    whole = plain.segment(body((8.0, 8.0, 8.0)), ["liver"], cleanup="none")
    assert 0 < near.masks.count("liver") < whole.masks.count("liver") / 2
