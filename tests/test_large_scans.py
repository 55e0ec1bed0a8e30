"""A scan that lies in a file: every stage that walks through it gives its memory back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from voxicon.core import storage
from voxicon.core.concepts import Vocabulary
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.io.masks import write_combined, write_masks
from voxicon.io.nifti import read_volume
from voxicon.io.probabilities import write_probabilities
from voxicon.prep.pipeline import PreparationConfig, Prepared, prepare
from voxicon.report.preview import render_preview

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what is resident")

SHAPE = (160, 160, 320)
"""33 MB of float32: pieces of it are half as large."""

VOCABULARY = Vocabulary.default()


@pytest.fixture(scope="module", autouse=True)
def in_files() -> Iterator[None]:
    before = storage.in_memory_below()
    storage.keep_in_memory_below(1 << 22)
    patch = pytest.MonkeyPatch()
    patch.setattr(storage, "_PIECE_BYTES", 1 << 20)
    patch.setattr("voxicon.prep.resample._SLAB_VOXELS", 1 << 20)
    patch.setattr("voxicon.prep.restore._SLAB_VOXELS", 1 << 20)
    yield
    patch.undo()
    storage.keep_in_memory_below(before)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hu = np.full(SHAPE, -1000.0)
    hu[20:140, 30:130] = 30
    hu += np.random.default_rng(0).normal(0, 20, SHAPE)
    path = tmp_path_factory.mktemp("scan") / "ct.nii"
    nib.save(nib.Nifti1Image(hu.astype(np.int16), np.diag([-2.0, -2.0, 1.5, 1])), path)
    return path


@pytest.fixture(scope="module")
def volume(scan: Path) -> Volume:
    return read_volume(scan)


@pytest.fixture(scope="module")
def prepared(volume: Volume) -> Prepared:
    return prepare(volume, PreparationConfig(spacing_mm=(6, 6, 6), window_hu=(-200, 300), crop="none"))


@pytest.fixture(scope="module")
def masks(prepared: Prepared) -> MaskSet:
    """Two classes that fill most of the scan."""
    model = MaskSet.empty(("liver", "spleen"), prepared.trace.model)
    for name, side in (("liver", slice(8, 30)), ("spleen", slice(25, 45))):
        mask = np.zeros(model.geometry.shape, dtype=bool)
        mask[side, 5:45, 5:75] = True
        model.set(name, mask)
    return prepared.trace.restore(model)


def resident_share(array: NDArray[np.generic], shape: tuple[int, ...] | None = None) -> float:
    """Of the file that an array lies in; its shape where the array is a part of it."""
    assert storage.lies_in_file(array)
    address = array.__array_interface__["data"][0]
    found = None
    for line in Path("/proc/self/smaps").read_text(encoding="ascii").splitlines():
        ends = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if ends:
            found = int(ends[1], 16) <= address < int(ends[2], 16)
        elif found and line.startswith("Rss:"):
            whole = array.nbytes if shape is None else int(np.prod(shape)) * array.itemsize
            return int(line.split()[1]) * 1024 / whole
    raise AssertionError("the array is not mapped")


def test_reading(volume: Volume) -> None:
    assert resident_share(volume.hu) < 0.1


def test_what_is_used_is_resident(volume: Volume) -> None:
    float(volume.hu.sum())
    assert resident_share(volume.hu) > 0.9, "or the other tests here prove nothing"
    storage.release(volume.hu)


def test_preparing(prepared: Prepared, volume: Volume) -> None:
    assert resident_share(volume.hu) < 0.1


def test_restoring(masks: MaskSet) -> None:
    assert masks.count("liver") > masks.words.size / 10
    storage.release(masks.words)
    assert resident_share(masks.words) < 0.1


def test_restoring_gives_back_what_it_wrote(prepared: Prepared) -> None:
    model = MaskSet.empty(("liver",), prepared.trace.model)
    model.set("liver", np.ones(model.geometry.shape, dtype=bool))
    for nearest in (False, True):
        restored = prepared.trace.restore(model, nearest=nearest)
        assert resident_share(restored.words) < 0.1
    levels = prepared.trace.restore_probabilities({"liver": np.full(model.geometry.shape, 99, dtype=np.uint8)})
    assert resident_share(levels["liver"]) < 0.2  # its pieces are a larger share of it


def test_a_thin_tall_organ_takes_no_more_than_a_piece(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    # As an aorta: few voxels in every slice there is.
    model = MaskSet.empty(("liver",), prepared.trace.model)
    mask = np.zeros(model.geometry.shape, dtype=bool)
    mask[20:24, 20:24] = True
    model.set("liver", mask)
    shares: list[float] = []
    let_go = storage.release

    def watched(array: NDArray[np.generic]) -> None:
        if array.dtype == np.uint32 and storage.lies_in_file(array):
            shares.append(resident_share(array, SHAPE))
        let_go(array)

    monkeypatch.setattr(storage, "release", watched)
    prepared.trace.restore(model).volumes_ml()
    assert len(shares) > 20
    assert max(shares) < 0.1


@pytest.mark.parametrize(
    "use",
    [
        lambda masks, folder: masks.bounds(),
        lambda masks, folder: masks.volumes_ml(),
        lambda masks, folder: write_masks(masks, folder, VOCABULARY),
        lambda masks, folder: write_combined(masks, folder / "all.nii.gz", VOCABULARY),
    ],
)
def test_using_masks(use: Callable[[MaskSet, Path], object], masks: MaskSet, tmp_path: Path) -> None:
    use(masks, tmp_path)
    assert resident_share(masks.words) < 0.1


def test_drawing(volume: Volume, masks: MaskSet) -> None:
    render_preview(volume, masks, VOCABULARY)
    assert resident_share(volume.hu) < 0.1
    assert resident_share(masks.words) < 0.1


def test_writing_probabilities(volume: Volume, tmp_path: Path) -> None:
    levels = storage.zeros(SHAPE, np.uint8, order="F")
    levels[30:] = 7
    write_probabilities({"liver": levels}, tmp_path, volume.geometry)
    assert resident_share(levels) < 0.2
