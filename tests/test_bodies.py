"""Synthetic scans as a dataset: a card that fits them, labels that fit the scans, the same bodies every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from voxicon.bodies import CARD, Wish, bodies_like, phantoms
from voxicon.core.volume import AIR_HU
from voxicon.data.card import DatasetCard, load_card, parse_card
from voxicon.data.cases import read_case
from voxicon.data.layout import Case, find_dataset
from voxicon.errors import BadGeometry, CardError, ConfigError, OutputError, UsageError
from voxicon.io.nifti import read_labels, read_volume, write_labels, write_volume
from voxicon.synthesis.label_map import TISSUES
from voxicon.synthesis.painting.paint import paint
from voxicon.synthesis.painting.scanner import PRESETS
from voxicon.synthesis.phantom.body import draw_body

COARSE_MM = 8.0
"""Coarse enough to be quick, fine enough for the liver to hold vessels and for sides to be told."""


def source_card(**annotates: Any) -> DatasetCard:
    """The liver has a name of its own in this dataset; nobody drew kidneys."""
    text = json.dumps(
        {
            "id": "clinic", "title": "Clinic", "source": "made up", "terms": "none", "labels_by": "human",
            "parts": [{"image": "{case}/ct.nii.gz", "label": "{case}/labels.nii.gz"}],
            "raw": {5: "Leber", 1: "spleen", 10: "upper", 11: "lower"},
            "annotates": {
                "liver": {"union": ["Leber"]},
                "spleen": {"union": ["spleen"]},
                "lung_left": {"union": ["upper", "lower"]},
                **annotates,
            },
        }
    )  # fmt: skip
    return parse_card(text, "clinic.yaml")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A body with four of its structures labelled, and its CT, turned to another voxel order."""
    folder = tmp_path_factory.mktemp("clinic")
    rng = np.random.default_rng(5)
    body = draw_body(rng, COARSE_MM, "torso")
    hu = np.rint(paint(body, rng, "venous")).astype(np.int16)
    kept = np.where(np.isin(body.values, [1, 5, 10, 11]), body.values, 0).astype(np.int16)
    write_labels(folder / "labels.nii.gz", kept, body.geometry)
    write_volume(folder / "ct.nii.gz", hu, body.geometry)
    for name in ("ct", "labels"):
        image = nib.load(folder / f"{name}.nii.gz")
        nib.save(image.as_reoriented([[0, -1], [2, 1], [1, 1]]), folder / f"{name}_turned.nii.gz")
    return folder


def cases_of(card: Path) -> tuple[Case, ...]:
    return find_dataset(load_card(card), card.parent).cases


def test_patients_like_one_are_a_dataset_that_training_can_read(clinic: Path, tmp_path: Path) -> None:
    wish = Wish(count=4, seed=2, spacing_mm=COARSE_MM, real=0.5)
    told: list[tuple[int, int]] = []
    card_path = bodies_like(
        clinic / "labels.nii.gz", source_card(), tmp_path / "made", wish, clinic / "ct.nii.gz",
        lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert card_path == tmp_path / "made" / CARD
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    cases = cases_of(card_path)
    painted = [case for case in cases if "painted" in case.name]
    real = [case for case in cases if "real" in case.name]
    assert (len(cases), len(painted) + len(real)) == (4, 4)
    assert painted, "the seed was chosen so that both kinds are drawn"
    assert real
    assert "hepatic_vessel" in painted[0].annotates
    assert "hepatic_vessel" not in real[0].annotates, "nobody drew vessels in the real scan"
    for case in cases:
        assert {"liver", "spleen", "lung_left"} <= case.annotates
        assert ({"liver_tumor", "lung_tumor"} <= case.annotates) == (case in painted), "nobody looked in the real scan"
        assert not {"kidney_tumor", "kidney_right"} & case.annotates, "nobody drew kidneys in the source"
        volume, _, targets = read_case(case, ("liver", "spleen", "lung_left", "liver_tumor"))
        liver, spleen, lung = (targets.masks[name] for name in ("liver", "spleen", "lung_left"))
        assert not targets.masks["liver_tumor"].any()
        assert ("liver_tumor" in targets.known) == (case in painted)
        x_liver, x_spleen = (np.argwhere(mask)[:, 0].mean() for mask in (liver, spleen))
        assert x_liver > x_spleen, "never mirrored: the liver stays on the patient's right"
        # Labels lie on what they name: lung is darker than liver, whatever was painted.
        assert np.median(volume.hu[lung]) < -500 < -50 < np.median(volume.hu[liver])
        assert volume.geometry.spacing_mm == pytest.approx((COARSE_MM,) * 3)
    record = json.loads((tmp_path / "made" / "synthesized.json").read_text())
    assert (record["made_from"], record["count"], record["seed"]) == ("labels.nii.gz", 4, 2)


def test_body_number_i_of_a_seed_is_always_the_same(clinic: Path, tmp_path: Path) -> None:
    def made(folder: str, **wish: Any) -> dict[str, bytes]:
        wanted = Wish(spacing_mm=COARSE_MM, real=0.0, **wish)
        bodies_like(clinic / "labels.nii.gz", source_card(), tmp_path / folder, wanted)
        return {p.parent.name: p.read_bytes() for p in sorted((tmp_path / folder).rglob("ct.nii.gz"))}

    one, two, other = made("one", count=1), made("two", count=2), made("other", count=1, seed=1)
    assert two["painted_0000"] == one["painted_0000"]
    assert two["painted_0001"] != one["painted_0000"]
    assert other["painted_0000"] != one["painted_0000"]


def test_the_voxel_order_of_the_source_does_not_matter(clinic: Path, tmp_path: Path) -> None:
    wish = Wish(count=1, spacing_mm=COARSE_MM, strength=0, real=1)
    for name in ("", "_turned"):
        bodies_like(
            clinic / f"labels{name}.nii.gz", source_card(), tmp_path / f"made{name}", wish, clinic / f"ct{name}.nii.gz"
        )
    plain, turned = (
        read_labels(tmp_path / f"made{name}" / "real" / "real_0000" / "labels.nii.gz") for name in ("", "_turned")
    )
    assert plain[1].same_grid(turned[1])
    np.testing.assert_array_equal(plain[0], turned[0])


def test_the_liver_of_the_card_holds_its_vessels(clinic: Path, tmp_path: Path) -> None:
    wish = Wish(count=1, spacing_mm=5.0, real=0)
    card_path = bodies_like(clinic / "labels.nii.gz", source_card(), tmp_path / "made", wish)
    card = load_card(card_path)
    assert card.annotates["liver"].union == ("liver", "hepatic_vessel"), "Leber goes by our name now"
    assert card.annotates["liver_tumor"].union == ()
    _, _, targets = read_case(cases_of(card_path)[0], ("liver", "hepatic_vessel"))
    vessel, liver = targets.masks["hepatic_vessel"], targets.masks["liver"]
    assert 0 < vessel.sum() < 0.2 * liver.sum()
    assert not (vessel & ~liver).any()


def test_phantoms_know_every_organ_they_draw(tmp_path: Path) -> None:
    card_path = phantoms("abdomen", tmp_path / "made", Wish(count=1, seed=3, spacing_mm=6.0))
    card = load_card(card_path)
    (case,) = cases_of(card_path)
    wanted = ("liver", "spleen", "kidney_right", "kidney_left", "aorta", "pancreas", "kidney_cyst")
    assert set(wanted) <= case.annotates
    assert "synthetic" in card.id
    volume, _, targets = read_case(case, wanted)
    assert all(targets.masks[name].any() for name in wanted[:-1])
    assert not targets.masks["kidney_cyst"].any()
    assert set(np.unique(volume.hu)) <= set(range(-1024, 3072))


def test_values_of_tissues_do_not_collide_with_those_of_cards() -> None:
    own = load_card("totalsegmentator_v2").raw.keys() | load_card("chest_abdomen").raw.keys()
    assert not own & TISSUES.keys()


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"spacing_mm": 0}, {"strength": -1}, {"real": 1.5}, {"variety": -0.1}, {"phase": "nephrographic"}],
)
def test_senseless_wishes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        Wish(**wrong)


def test_nothing_is_overwritten(clinic: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        bodies_like(clinic / "labels.nii.gz", source_card(), tmp_path, Wish(spacing_mm=COARSE_MM))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_card_of_another_dataset_and_another_grid_are_refused(clinic: Path, tmp_path: Path) -> None:
    strange = source_card()
    strange = strange.model_copy(update={"raw": {77: "Leber", 78: "spleen", 79: "upper", 80: "lower"}})
    with pytest.raises(CardError, match="none of the structures"):
        bodies_like(clinic / "labels.nii.gz", strange, tmp_path / "made", Wish(spacing_mm=COARSE_MM))
    volume = read_volume(clinic / "ct.nii.gz")
    write_volume(tmp_path / "ct.nii.gz", volume.hu[1:].astype(np.int16), volume.geometry.__class__(
        (volume.hu.shape[0] - 1, *volume.hu.shape[1:]), volume.geometry.affine))  # fmt: skip
    with pytest.raises(BadGeometry, match="another grid"):
        bodies_like(
            clinic / "labels.nii.gz",
            source_card(),
            tmp_path / "made",
            Wish(spacing_mm=COARSE_MM),
            tmp_path / "ct.nii.gz",
        )
    with pytest.raises(ConfigError, match="region"):
        phantoms("head", tmp_path / "heads", Wish(spacing_mm=COARSE_MM))


def test_nothing_is_labelled_outside_of_the_field_of_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "typical", PRESETS["none"].model_copy(update={"fov_z": 1.0}))
    phantoms("torso", tmp_path / "out", Wish(count=2, seed=1, spacing_mm=COARSE_MM))
    for case in sorted((tmp_path / "out" / "painted").iterdir()):
        hu, (labels, _) = read_volume(case / "ct.nii.gz").hu, read_labels(case / "labels.nii.gz")
        cut = (hu == AIR_HU).all(axis=(0, 1))
        assert cut.any()
        assert not labels[:, :, cut].any()
        assert labels[:, :, ~cut].any(axis=(0, 1)).all()
