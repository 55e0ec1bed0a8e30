"""Features and embeddings from the front door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.phantoms import body
from tests.test_workflow import write_scan
from tests.weights_on_disk import write_small_weights
from voxicon.core.geometry import Geometry
from voxicon.core.volume import Volume
from voxicon.errors import UnknownClass
from voxicon.prep.pipeline import prepare
from voxicon.segmenter import Segmenter, load


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load(write_small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors"), device="cpu")


def test_features_of_a_scan_are_on_the_model_grid(segmenter: Segmenter, tmp_path: Path) -> None:
    volume = body((5.0, 5.0, 7.0))
    prepared = prepare(volume, segmenter.preparation)
    found = segmenter.features(volume)
    assert found.geometry == prepared.trace.model
    assert found.decoder.shape == (16, *prepared.image.shape)
    assert found.decoder.dtype == np.float16
    assert found.bottleneck.shape == (len(found.windows), 16)
    path = write_scan(tmp_path / "a.nii.gz")
    assert segmenter.features(path, dtype="float32").decoder.any()


def test_an_embedding_of_a_scan_and_of_its_classes(segmenter: Segmenter) -> None:
    volume = body((5.0, 5.0, 7.0))
    found = segmenter.embed(volume, ["liver", "right kidney"])
    features = segmenter.features(volume, dtype="float32")
    np.testing.assert_allclose(found.scan, features.bottleneck.mean(axis=0), atol=1e-6)
    masks = segmenter.find(volume, ("liver", "kidney_right"))
    assert tuple(found.classes) == masks.names
    assert masks.count("liver")
    inside = features.decoder[:, masks["liver"]].mean(axis=1)
    np.testing.assert_allclose(found.classes["liver"], inside, atol=1e-4)
    alone = segmenter.embed(volume)
    assert alone.classes == {}
    np.testing.assert_array_equal(alone.scan, found.scan)
    with pytest.raises(UnknownClass, match="not trained for aorta"):
        segmenter.embed(volume, ["aorta"])


def test_air_around_a_scan_changes_no_embedding(segmenter: Segmenter) -> None:
    volume = body((6.0, 6.0, 6.0))
    hu = np.pad(volume.hu, 20, constant_values=-1000)
    affine = volume.geometry.affine.copy()
    affine[:3, 3] -= 120
    x, y, z = hu.shape
    wider = Volume(hu, Geometry((x, y, z), affine), volume.source)
    first, second = (segmenter.embed(each, ["liver"]) for each in (volume, wider))
    np.testing.assert_allclose(first.scan, second.scan, atol=1e-5)
    np.testing.assert_allclose(first.classes["liver"], second.classes["liver"], atol=1e-4)
