"""Masks made by weights once, and kept: what is there is used again only where it answers the same question."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.assemblies import TINY, write_scan
from tests.weights_on_disk import write_small_weights
from voxicon.data.card import DatasetCard
from voxicon.data.layout import Case
from voxicon.errors import ConfigError
from voxicon.io.nifti import read_volume
from voxicon.prediction import ByWeights, FromFolder
from voxicon.segmenter import Segmenter, load

CARD = DatasetCard.model_validate(TINY)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load(write_small_weights(tmp_path_factory.mktemp("w") / "w.safetensors"), device="cpu")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    image = write_scan(tmp_path / "scan.nii.gz")
    return Case(CARD, "t1", image, None, {}, frozenset(CARD.annotates))


def test_a_lesion_comes_with_its_map_and_its_organ(segmenter: Segmenter, case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    found = ByWeights(segmenter, folder).of(case, read_volume(case.image), ("liver_tumor", "aorta"))
    made = {path.relative_to(found.folder).as_posix() for path in found.folder.glob("*/*")}
    assert made == {
        "segmentations/liver_tumor.nii.gz", "segmentations/liver.nii.gz", "probabilities/liver_tumor.nii.gz",
    }  # fmt: skip
    assert found.folder == folder / "tiny" / "t1"
    assert found.mask("liver") is not None
    assert found.mask("aorta") is None  # these weights do not know it


def test_weights_that_know_nothing_of_it_make_nothing(segmenter: Segmenter, case: Case, tmp_path: Path) -> None:
    found = ByWeights(segmenter, tmp_path / "out").of(case, read_volume(case.image), ("aorta",))
    assert found.mask("aorta") is None
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_used_again_where_it_answers(segmenter: Segmenter, case: Case, tmp_path: Path) -> None:
    source = ByWeights(segmenter, tmp_path / "out")

    def made(*classes: str) -> int:
        folder = source.of(case, read_volume(case.image), classes).folder
        return (folder / "case.json").stat().st_mtime_ns

    first = made("liver", "spleen")
    assert made("liver") == first
    assert made("spleen", "liver") == first
    more = made("liver", "pancreas")  # a class that was not asked for then
    assert more != first
    lesion = made("liver_tumor")
    assert lesion != more
    (tmp_path / "out" / "tiny" / "t1" / "probabilities" / "liver_tumor.nii.gz").unlink()
    again = made("liver_tumor")  # a file is gone
    assert again != lesion
    write_scan(case.image, seed=1)  # another scan under this name
    assert made("liver_tumor") != again
    # All of it is still by these weights.
    ByWeights(segmenter, tmp_path / "out")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        FromFolder(tmp_path / "nowhere", ())
