"""Every card's made-up dataset lies where the card says, holds what it says, and is recognized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.test_card import GOOD
from voxicon.data.card import card_ids, load_card, parse_card
from voxicon.data.cases import read_case
from voxicon.data.example import case_id, make_scan, write_example
from voxicon.data.harmonise import to_raw
from voxicon.data.layout import find_dataset, recognize
from voxicon.errors import CardError


@pytest.mark.parametrize("name", card_ids())
def test_a_card_finds_reads_and_recognizes_its_own_layout(name: str, tmp_path: Path) -> None:
    card = load_card(name)
    written = write_example(card, tmp_path, n_cases=1)
    dataset = find_dataset(card, tmp_path)
    assert sorted(case.image for case in dataset.cases) == sorted(written)
    assert dataset.orphans == ()
    assert recognize(tmp_path).card.id == name
    for case in dataset.cases:
        volume, annotation, targets = read_case(case, tuple(card.annotates))
        assert targets.known == case.annotates
        assert targets.known, "an example annotates something"
        empty = {c for c in targets.known if not targets.masks[c].any()}
        assert empty == {c for c in case.annotates if not card.annotates[c].union}
        assert volume.hu.min() >= -1024
        if annotation.raw is not None and case.annotates == set(card.annotates):
            used = {s for labels in card.annotates.values() for s in labels.union}
            expected = np.where(
                np.isin(annotation.raw, [v for v, s in card.raw.items() if s in used]), annotation.raw, 0
            )
            found = to_raw(targets.masks, card)
            assert ((found > 0) == (expected > 0)).all()


@pytest.mark.parametrize("name", ["kits23", "ct_org", "abdomenct_1k", "word"])
def test_sides_come_out_on_their_side(name: str, tmp_path: Path) -> None:
    card = load_card(name)
    write_example(card, tmp_path, n_cases=1)
    case = find_dataset(card, tmp_path).cases[0]
    volume, _, targets = read_case(case, tuple(card.annotates))
    for right in (c for c in targets.known if c.endswith("_right")):
        left = right.replace("_right", "_left")
        x_right, x_left = (
            volume.geometry.to_world(np.argwhere(targets.masks[c])).mean(axis=0)[0] for c in (right, left)
        )
        assert x_right > x_left, right


def test_every_second_scan_lacks_the_lesions() -> None:
    card = load_card("lits")
    assert set(make_scan(card, 0, 0).structures) == {"liver", "tumor"}
    assert set(make_scan(card, 1, 0).structures) == {"liver"}


def test_case_ids_count_up_and_keep_their_width() -> None:
    part = load_card("kits23").parts[0]
    assert [case_id(part, k) for k in (0, 1, 12)] == ["case_00000", "case_00001", "case_00012"]


def test_an_official_table_of_splits_is_written_and_read(tmp_path: Path) -> None:
    card = load_card("totalsegmentator_v2")
    write_example(card, tmp_path, n_cases=2)
    assert [case.split for case in find_dataset(card, tmp_path).cases].count("test") == 1
    (tmp_path / "meta.csv").write_text("a;b\n1;2\n")
    with pytest.raises(CardError, match="has no columns 'image_id' and 'split'"):
        find_dataset(card, tmp_path)


def test_unpacked_one_folder_deeper_is_found_too(tmp_path: Path) -> None:
    card = load_card("msd_spleen")
    write_example(card, tmp_path / "downloads" / "Task09_Spleen", n_cases=1)
    assert find_dataset(card, tmp_path).folder == tmp_path / "downloads" / "Task09_Spleen"


def test_files_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    """Archives made on a Mac carry ._ twins of every file."""
    card = load_card("msd_spleen")
    (image,) = write_example(card, tmp_path, n_cases=1)
    image.with_name(f"._{image.name}").write_bytes(b"junk")
    dataset = find_dataset(card, tmp_path)
    assert [case.image for case in dataset.cases] == [image]


def test_scans_without_labels_and_labels_without_scans_are_told(tmp_path: Path) -> None:
    card = parse_card(GOOD, "c")
    first, second, third = write_example(card, tmp_path, n_cases=3)
    first.unlink()
    Path(str(second).replace("_ct", "_labels")).unlink()
    dataset = find_dataset(card, tmp_path)
    assert [case.image for case in dataset.cases] == [third]
    assert dataset.unlabeled == (second,)
    assert dataset.orphans == (Path(str(first).replace("_ct", "_labels")),)


def test_folders_that_hold_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no such folder"):
        recognize(tmp_path / "nowhere")
    with pytest.raises(CardError, match="no known dataset here"):
        recognize(tmp_path)
    with pytest.raises(CardError, match=r"no labeled scan in .* expects dataset/\{case\}/imaging.nii.gz"):
        find_dataset(load_card("kits23"), tmp_path)


def test_the_same_case_twice_is_refused(tmp_path: Path) -> None:
    card = load_card("lits")
    write_example(card, tmp_path, n_cases=1)
    batch = next(tmp_path.iterdir())
    batch.rename(tmp_path / "Training Batch 1")
    write_example(card, tmp_path, n_cases=1)
    with pytest.raises(CardError, match="case 0 lies twice"):
        find_dataset(card, tmp_path)


def test_two_label_files_for_one_scan_are_refused(tmp_path: Path) -> None:
    card = load_card("lits")
    (image,) = write_example(card, tmp_path, n_cases=1)
    label = image.with_name("segmentation-0.nii")
    other = tmp_path / "Training Batch 2" / label.name
    other.parent.mkdir()
    other.write_bytes(label.read_bytes())
    with pytest.raises(CardError, match="labels of case 0 lie twice"):
        find_dataset(card, tmp_path)
