"""A study of planted lesions from Python, with a reader who knows where to look."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import ndimage

from tests.report.pages import checked
from tests.weights_on_disk import write_small_weights
from voxicon.answering.detection import operating_points
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Volume
from voxicon.errors import ConfigError, UnknownClass
from voxicon.io.atomic import file_sha256
from voxicon.io.nifti import write_labels, write_volume
from voxicon.model.checkpoint import read_metadata
from voxicon.operating import operate, read_evaluation
from voxicon.plan import Plan, plan_training
from voxicon.planted import PlantedConfig, PlantedStudy, prepare_planted, run_planted, save, summary
from voxicon.recipe import load_recipe
from voxicon.result import Result
from voxicon.segmenter import Segmenter, load

SHAPE = (44, 40, 26)
GRID = Geometry(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]))
LIVER = (slice(4, 30), slice(4, 34), slice(3, 23))  # 78 x 90 x 60 mm
KIDNEY = (slice(33, 42), slice(8, 26), slice(4, 20))  # 27 x 54 x 48 mm
CARD = {
    "id": "boxes", "title": "Boxes", "source": "tests", "terms": "none", "labels_by": "human",
    "parts": [{"image": "{case}_ct.nii.gz", "label": "{case}_labels.nii.gz"}],
    "splits": {"test": ["a", "b", "sick"]},
    "raw": {1: "liver", 2: "kidney", 3: "tumor"},
    "annotates": {
        "liver": {"union": ["liver", "tumor"]},
        "kidney_left": {"union": ["kidney"]},
        "liver_tumor": {"union": ["tumor"]},
    },
}  # fmt: skip
CLASSES = ("liver", "kidney_left", "liver_tumor", "kidney_tumor")
BINS = ((9.0, 13.0), (13.0, 20.0))


class Reader(Segmenter):
    """Calls every dark spot of an organ a lesion: as sure as it is dark, 100 HU being certainty."""

    blind = False
    shouts = False

    def segment(
        self, scan: Any, classes: Any = None, *, probabilities: Any = None, organs: Any = None, **_: Any
    ) -> Result:
        assert isinstance(scan, Volume)
        self.grids = [*getattr(self, "grids", []), scan.geometry]
        self.told = [*getattr(self, "told", []), organs]
        names, maps = self.with_probabilities(classes, probabilities)
        smooth = ndimage.gaussian_filter(scan.hu, 0.7)
        masks, levels = {}, {}
        for name in names:
            at = KIDNEY if name.startswith("kidney") else LIVER
            masks[name] = np.zeros(SHAPE, dtype=bool)
            if name in maps:
                inner = tuple(slice(side.start + 1, side.stop - 1) for side in at)
                dark = np.clip((np.median(scan.hu[at]) - smooth[inner]) / 100, 0, 1)
                levels[name] = np.zeros(SHAPE, dtype=np.uint8)
                levels[name][inner] = 0 if self.blind else np.rint(dark * 255)
                masks[name] = levels[name] > 127
                levels[name][42, 38, 24] = 255 if self.shouts else 0
            else:
                masks[name][at] = True
        return Result(MaskSet.from_masks(masks, scan.geometry), scan, {}, {}, probabilities=levels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two healthy patients, one with a tumor."""
    root = tmp_path_factory.mktemp("boxes")
    for seed, case in enumerate(("a", "b", "sick")):
        labels = np.zeros(SHAPE, dtype=np.uint8)
        labels[LIVER], labels[KIDNEY] = 1, 2
        if case == "sick":
            labels[10:14, 10:14, 10:14] = 3
        hu = np.random.default_rng(seed).normal(20, 5, SHAPE) + 100 * np.isin(labels, (1, 2))
        hu[:, :2] = -1000
        write_volume(root / f"{case}_ct.nii.gz", np.rint(hu).astype(np.int16), GRID)
        write_labels(root / f"{case}_labels.nii.gz", labels, GRID)
    (root / "boxes.yaml").write_text(yaml.safe_dump(CARD))
    (root / "all.yaml").write_text(yaml.safe_dump({"name": "boxes", "datasets": [{"card": "boxes.yaml"}]}))
    return root


@pytest.fixture(scope="module")
def plan(folder: Path) -> Plan:
    return plan_training(load_recipe(folder / "all.yaml"), folder)


def reader(folder: Path, classes: tuple[str, ...] = CLASSES, **card: Any) -> Reader:
    weights = write_small_weights(folder / "w.safetensors", classes, card=card)
    own = load(weights, device="cpu")
    return Reader(own.checkpoint, own.device, "reader")


def run(plan: Plan, who: Reader, **config: Any) -> PlantedStudy:
    config = {"bins_mm": BINS, "per_bin": 3, "contrast_hu": -90.0, "lesions": ("liver_tumor",)} | config
    study = prepare_planted(plan, who, PlantedConfig(**config))
    run_planted(study)
    return study


def test_a_good_reader_finds_all_and_raises_no_alarm(folder: Path, plan: Plan, tmp_path: Path) -> None:
    who = reader(folder)
    told: list[tuple[str, int, int]] = []
    study = prepare_planted(plan, who, PlantedConfig(bins_mm=BINS, per_bin=3, contrast_hu=-90.0))
    assert study.kinds == ("liver_tumor", "kidney_tumor")
    run_planted(study, lambda *one: told.append(one))
    assert told[:3] == [("boxes/a", 0, 3), ("boxes/b", 1, 3), ("boxes/sick", 2, 3)]
    assert study.failed == {}
    found = save(study, tmp_path / "out", "a command")
    assert json.loads((tmp_path / "out" / "planted.json").read_text()) == found
    assert (tmp_path / "out" / "lesions.csv").read_text().count("\n") == 1 + len(study.lesions)
    page = checked((tmp_path / "out" / "report.html").read_text(encoding="utf8"))
    assert "a command" in page.text
    assert found["command"] == "a command"
    for name in study.kinds:
        one = found["lesions"][name]
        delivered = one["as_delivered"]
        assert one["n_untouched"] >= 3
        assert delivered["specificity"]["value"] == 1
        assert delivered["false_findings_per_planted_scan"]["value"] == 0
        assert delivered["sensitivity"]["13-20 mm"]["total"] == 3
        # Tumors of the kidney may bulge out to where this reader does not look.
        assert delivered["sensitivity"]["13-20 mm"]["count"] == 3 or name == "kidney_tumor"
    assert found["lesions"]["liver_tumor"]["as_delivered"]["dice"]["13-20 mm"] > 0.5
    assert found["lesions"]["liver_tumor"]["at_specificity"]["0.8"]["sensitivity"]["all"]["value"] == 1
    for lesion in study.lesions:
        own = {"liver_tumor": ("liver", (4, 30)), "kidney_tumor": ("kidney_left", (33, 42))}[lesion.name]
        assert lesion.host == own[0]
        assert lesion.contrast_hu == -90
        # x of the grid, stretched by 8 % and moved by 2 mm at most; tumors of the kidney may bulge by 12 mm.
        assert (own[1][0] * 3 - 12) * 0.92 - 2 <= lesion.center_mm[0] <= (own[1][1] * 3 + 12) * 1.08 + 2


def test_what_a_study_chose_goes_into_the_weights(folder: Path, plan: Plan, tmp_path: Path) -> None:
    study = run(plan, reader(folder), bins_mm=(*BINS, (70.0, 80.0)))  # for the last there is no room
    found = save(study, tmp_path / "out")["lesions"]["liver_tumor"]
    out = tmp_path / "operated.safetensors"
    written = operate(folder / "w.safetensors", read_evaluation(tmp_path / "out", "0.8"), out)
    assert operating_points(read_metadata(out).card, "operated") == written
    point, chosen = written["liver_tumor"], found["at_specificity"]["0.8"]
    assert point.threshold == chosen["threshold"]
    assert point.specificity is not None
    assert (point.specificity.value, point.specificity.n) == (chosen["specificity"]["value"], found["n_untouched"])
    assert list(point.sensitivity) == ["all", "9-13", "13-20"]
    assert [share.n for share in point.sensitivity.values()] == [6, 3, 3]
    # Two of three scans: the sick one is left alone.
    assert point.data.startswith("6 lesions planted into 2 CTs (synthetic)")


def test_bins_and_untouched_looks_are_shared_by_the_scans(folder: Path, plan: Plan) -> None:
    who = reader(folder)
    study = run(plan, who)
    # The sick liver gets none, so the others take its share of one of three.
    assert {lesion.case for lesion in study.lesions} == {"a", "b"}
    untouched = [(look.case, look.round) for look in study.looks if not look.planted]
    assert sorted(case for case, _ in untouched) in (["a", "a", "b"], ["a", "b", "b"])
    assert len(set(untouched)) == 3
    assert Counter(lesion.bin for lesion in study.lesions) == {"9-13 mm": 3, "13-20 mm": 3}
    notes = summary(study)["notes"]
    assert notes.count("boxes/sick: has a liver_tumor of its own, so none is planted") == 1
    assert not any("fewer than" in note for note in notes)
    assert len(who.grids) == len(study.looks)
    # Round 0 is the scan as it is, all others are not.
    assert [grid == GRID for grid in who.grids] == [look.round == 0 for look in study.looks]
    # All scans give their share where all can: 3 of 3 untouched looks, and nobody said that there is no such tumor.
    kidneys = run(plan, reader(folder), lesions=("renal tumor",))
    assert {look.case for look in kidneys.looks if not look.planted} == {"a", "b", "sick"}
    assert {lesion.bin for lesion in kidneys.lesions} == {"9-13 mm", "13-20 mm"}
    assert any("no card says that scans have no kidney_tumor" in note for note in summary(kidneys)["notes"])


def test_the_same_seed_gives_the_same_numbers(folder: Path, plan: Plan) -> None:
    one, again, other = (run(plan, reader(folder), seed=seed) for seed in (0, 0, 1))
    assert one.lesions == again.lesions
    assert one.looks == again.looks
    assert one.lesions != other.lesions
    # Two scans do not get the same lesions either.
    assert len({lesion.seed for lesion in one.lesions}) == len(one.lesions)


def test_a_blind_reader_finds_nothing(folder: Path, plan: Plan) -> None:
    who = reader(folder)
    who.blind = True
    one = summary(run(plan, who))["lesions"]["liver_tumor"]
    assert one["as_delivered"]["sensitivity"]["all"]["count"] == 0
    assert one["as_delivered"]["specificity"]["value"] == 1
    assert one["at_specificity"]["0.8"]["threshold"] is None


def test_what_cleanup_takes_from_masks_does_not_count(folder: Path, plan: Plan) -> None:
    who = reader(folder)
    who.shouts = True
    study = run(plan, who)
    # A certain voxel far from the liver: no threshold would be high enough.
    assert max(look.score for look in study.looks if not look.planted) < 0.5
    assert summary(study)["lesions"]["liver_tumor"]["at_specificity"]["0.8"]["threshold"] is not None


def test_a_lesion_of_two_classes_is_false_in_neither(folder: Path, plan: Plan) -> None:
    who = reader(folder, (*CLASSES, "hepatic_vessel_tumor"))
    study = run(plan, who, lesions=("liver_tumor", "hepatic_vessel_tumor"))
    planted = [look for look in study.looks if look.planted]
    # A tumor in a vessel of the liver is a tumor of the liver; not every one of the liver is one in a vessel.
    assert {look.false_findings for look in planted if look.name == "liver_tumor"} == {0}
    assert sum(look.false_findings for look in planted if look.name == "hepatic_vessel_tumor") > 0
    assert Counter(lesion.name for lesion in study.lesions) == {"liver_tumor": 6, "hepatic_vessel_tumor": 6}


def test_what_a_reader_of_the_numbers_should_know(folder: Path, plan: Plan) -> None:
    who = reader(folder, data=[file_sha256(folder / "a_ct.nii.gz")])
    found = summary(run(plan, who))
    assert found["seen_in_training"] == ["boxes/a"]
    assert any("1 of the scans are among those the weights learned from" in note for note in found["notes"])
    assert any(note.startswith("variations of 2 scan(s)") for note in found["notes"])
    assert found["scans"] == ["boxes/a", "boxes/b"]


def test_a_scan_that_the_network_inside_learned_from_was_seen(folder: Path, plan: Plan) -> None:
    who = reader(folder)
    alone = who.checkpoint.metadata
    inside = replace(alone, card={"data": [file_sha256(folder / "a_ct.nii.gz")]})
    who.checkpoint = replace(who.checkpoint, metadata=replace(alone, inside=inside))
    assert summary(run(plan, who))["seen_in_training"] == ["boxes/a"]


def test_a_scan_with_other_lesions_is_not_untouched(folder: Path, plan: Plan) -> None:
    # The liver has room for these, the kidney has not.
    study = run(plan, reader(folder), lesions=("liver_tumor", "kidney_tumor"), bins_mm=((40.0, 46.0),), per_bin=2)
    assert {lesion.name for lesion in study.lesions} == {"liver_tumor"}
    planted = Counter(look.name for look in study.looks if look.planted)
    # Looks at the sick patient are about the kidney alone, and nothing is planted there.
    assert planted["kidney_tumor"] == planted["liver_tumor"] > 0


def test_a_scan_that_cannot_be_read_is_noted(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "a_labels.nii.gz").write_bytes(b"no label map")
    study = run(plan_training(load_recipe(tmp_path / "all.yaml"), tmp_path), reader(folder))
    assert set(study.failed) == {"boxes/a"}
    assert {lesion.case for lesion in study.lesions} == {"b"}


def test_lesions_too_large_for_their_organ(folder: Path, plan: Plan) -> None:
    who = reader(folder)
    study = run(plan, who, lesions=("kidney_tumor",), bins_mm=((44.0, 50.0),))
    # A third of 70 ml is a ball of 35 mm; the scans are still looked at untouched.
    assert study.lesions == []
    assert [look.planted for look in study.looks] == [False] * 3
    # Three rounds in vain, and no more.
    assert study.rounds == {"boxes/a": 3, "boxes/b": 3, "boxes/sick": 3}
    assert any(note.endswith("44-50 mm 0") for note in summary(study)["notes"])
    assert summary(study)["lesions"]["kidney_tumor"]["at_specificity"]["0.8"]["sensitivity"]["all"]["total"] == 0


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"bins_mm": ()}, ConfigError, "--diameters"),
        ({"bins_mm": ((5.0, 3.0),)}, ConfigError, "--diameters 5-3: expected ascending"),
        ({"bins_mm": ((3.0, 6.0), (5.0, 8.0))}, ConfigError, "do not overlap"),
        ({"bins_mm": ((0.0, 6.0),)}, ConfigError, "--diameters 0-6"),
        ({"bins_mm": ((3.0, float("inf")),)}, ConfigError, "--diameters 3-inf"),
        ({"bins_mm": ((float("nan"), 5.0),)}, ConfigError, "--diameters"),
        ({"contrast_hu": 0.0}, ConfigError, "--contrast-hu 0.0: expected a difference"),
        ({"contrast_hu": float("nan")}, ConfigError, "--contrast-hu nan"),
        ({"per_bin": 0}, ConfigError, "--per-bin 0: expected at least 1"),
        ({"seed": -1}, ConfigError, "--seed -1"),
        ({"split": "unlabeled"}, ConfigError, "lesions need organs"),
        ({"split": "train"}, ConfigError, "no scan in the split 'train' (there are: train 0, val 0, test 3)"),
        ({"lesions": ("livr tumor",)}, UnknownClass, "liver_tumor"),
        ({"lesions": ("spleen",)}, UnknownClass, "were not trained for spleen"),
        ({"lesions": ("colon_tumor",)}, UnknownClass, "were not trained for colon_tumor"),
        ({"lesions": ("liver",)}, ConfigError, "'liver' cannot be planted"),
    ],
)
def test_refusals(folder: Path, plan: Plan, config: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        prepare_planted(plan, reader(folder), PlantedConfig(**config))
    assert message in str(caught.value)


def test_organs_nobody_annotated(folder: Path, plan: Plan, tmp_path: Path) -> None:
    weights = load(write_small_weights(tmp_path / "w.safetensors", ("liver_tumor", "lung_tumor")), device="cpu")
    with pytest.raises(ConfigError, match="no scan of 'test' has lung_right or lung_left annotated, where lung_tumor"):
        prepare_planted(plan, weights, PlantedConfig(lesions=("lung_tumor",)))
    # Not asked for by name, it is left out and said to be.
    study = prepare_planted(plan, weights, PlantedConfig())
    assert study.kinds == ("liver_tumor",)
    assert list(study.left_out) == ["lung_tumor: no scan has an organ for it annotated"]
    lungs = load(write_small_weights(tmp_path / "l.safetensors", ("lung_tumor",)), device="cpu")
    with pytest.raises(ConfigError, match="where lung_tumor grows"):
        prepare_planted(plan, lungs, PlantedConfig())
    organs = load(write_small_weights(tmp_path / "o.safetensors", ("liver", "spleen")), device="cpu")
    with pytest.raises(ConfigError, match="find no lesion that can be planted"):
        prepare_planted(plan, organs, PlantedConfig())


def test_lesions_may_be_looked_for_in_labelled_organs(folder: Path, plan: Plan) -> None:
    who = reader(folder)
    run(plan, who)
    assert set(who.told) == {None}
    who = reader(folder)
    study = run(plan, who, organs="labels")
    for organs, grid in zip(who.told, who.grids, strict=True):
        assert organs.geometry.same_grid(grid), "the variation's"
        assert organs["liver"][LIVER].all()
        assert organs.count("liver") == np.ones(SHAPE)[LIVER].size
    found = summary(study)
    assert found["organs"] == "labels"
    assert any("labelled organs" in note for note in found["notes"])
