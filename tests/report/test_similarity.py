"""The matrix of cosines as a picture."""

from __future__ import annotations

import io
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread

from voxicon.report.similarity import similarity_matrix

COSINES = np.array([[1, 0.5, np.nan], [0.5, 1, -0.25], [np.nan, -0.25, 1]], dtype=np.float32)
NAMES = ("kidney_left", "liver", "spleen")


def texts(svg: bytes) -> list[str]:
    return [(each.text or "").strip() for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_every_word_and_every_known_cosine_is_written() -> None:
    found = texts(similarity_matrix("Some words", NAMES, COSINES, "svg"))
    assert found.count("kidney left") == found.count("liver") == found.count("spleen") == 2
    assert "Some words" in found
    assert found.count("50") == 2
    assert found.count("-25") + found.count("−25") == 2
    assert "nan" not in found


def test_the_same_numbers_give_the_same_bytes() -> None:
    for kind in ("png", "svg"):
        first = similarity_matrix("x", NAMES, COSINES, kind)
        assert similarity_matrix("x", NAMES, COSINES, kind) == first


@pytest.mark.parametrize(("size", "written"), [(1, 0), (48, 48 * 47), (49, 0)])
def test_many_words_have_colors_alone(size: int, written: int) -> None:
    cosines = np.full((size, size), 0.77) + 0.23 * np.eye(size)
    found = texts(similarity_matrix("x", [f"w{n}" for n in range(size)], cosines, "svg"))
    assert found.count("77") == written


def test_red_is_alike_blue_is_opposite_gray_is_unknown() -> None:
    cosines = np.array([[1, -1, np.nan]] * 3)
    pixels = imread(io.BytesIO(similarity_matrix("", ["a"] * 3, cosines)))[..., :3].reshape(-1, 3)
    red, blue = (pixels[:, 0] > pixels[:, 2] + 0.2).sum(), (pixels[:, 2] > pixels[:, 0] + 0.2).sum()
    assert red > 1000
    assert blue > 1000
    assert (np.abs(pixels - 0.75).max(axis=1) < 0.01).sum() > 1000


def test_more_words_make_smaller_cells_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def height(words: int) -> int:
        return imread(io.BytesIO(similarity_matrix("x", ["name"] * words, np.eye(words)))).shape[0]

    assert height(12) > height(6)
    monkeypatch.setattr("voxicon.report.similarity._MOST_IN", 1.0)
    assert height(12) == height(6)
