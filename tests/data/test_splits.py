"""No scan and no patient on two sides, whatever the assembly looks like."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxicon.data.splits import Scan, join, leaks, make_splits, scan_groups
from voxicon.errors import ConfigError


@st.composite
def assemblies(draw, official=True, copies=True):
    """Up to 40 scans of up to 4 datasets, with patients of several scans and duplicates across datasets."""
    sides = st.sampled_from(["train", "val", "test", None]) if official else st.none()
    scans = [
        Scan(f"{dataset}/{i}", dataset, str(draw(st.integers(0, 30))), draw(sides))
        for dataset in "abcd"
        for i in range(draw(st.integers(0, 10)))
    ]
    ids = [scan.id for scan in scans]
    groups = draw(st.lists(st.sets(st.sampled_from(ids), min_size=2, max_size=4), max_size=8)) if len(ids) > 4 else []
    return scans, groups if copies else []


FRACTIONS = st.tuples(st.floats(0, 0.49), st.floats(0, 0.49))
SEEDS = st.integers(0, 2**32)


def units_per_dataset(scans, groups):
    by_id = {scan.id: scan for scan in scans}
    units = scan_groups(scans, groups)
    return {d: [u for u in units if any(by_id[i].dataset == d for i in u)] for d in {s.dataset for s in scans}}


@given(assemblies(), FRACTIONS, SEEDS, st.integers(2, 6), st.booleans())
def test_nothing_leaks_and_every_scan_has_one_place(assembly, fractions, seed, n_folds, keep):
    scans, groups = assembly
    splits = make_splits(scans, groups, seed, *fractions, n_folds, keep)
    assert splits.check(scans, groups) == []
    # Told without the code under test: walk from scan to scan over shared patients and duplicates.
    ties = [{a.id, b.id} for a, b in combinations(scans, 2) if (a.dataset, a.patient) == (b.dataset, b.patient)]
    for tie in [*ties, *groups]:
        assert len({splits.split[name] for name in tie}) == 1
        assert len({splits.fold.get(name) for name in tie}) == 1
    assert set(splits.split) == {scan.id for scan in scans}
    assert set(splits.fold) == {name for name, side in splits.split.items() if side != "test"}
    assert set(splits.fold.values()) <= set(range(n_folds))


@given(assemblies(), SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(assembly, seed, random):
    scans, groups = assembly
    first = make_splits(scans, groups, seed)
    scans, groups = random.sample(scans, len(scans)), random.sample(groups, len(groups))
    again = make_splits(scans, groups, seed)
    assert first.to_dict() == again.to_dict()


@given(assemblies(), FRACTIONS, SEEDS)
def test_official_splits_are_kept_and_conflicts_told(assembly, fractions, seed):
    scans, groups = assembly
    splits = make_splits(scans, groups, seed, *fractions)
    told = {frozenset(conflict.official) for conflict in splits.conflicts}
    for unit in scan_groups(scans, groups):
        official = {scan.id: scan.official for scan in scans if scan.id in unit and scan.official}
        side = {splits.split[name] for name in unit}
        if official:
            assert side == {max(official.values(), key=["train", "val", "test"].index)}
        assert (frozenset(official) in told) == (len(set(official.values())) > 1)


@given(assemblies(official=False, copies=False), FRACTIONS, SEEDS)
def test_fractions_are_of_patients_and_train_is_never_empty(assembly, fractions, seed):
    scans, _ = assembly
    val, test = fractions
    splits = make_splits(scans, (), seed, val, test)
    for units in units_per_dataset(scans, ()).values():
        sides = Counter(splits.split[min(unit)] for unit in units)
        assert sides["train"] >= 1
        n_test = min(math.floor(test * len(units) + 0.5), len(units) - 1)
        assert sides["test"] == n_test
        assert sides["val"] == min(math.floor(val * len(units) + 0.5), len(units) - 1 - n_test)


@given(assemblies(), SEEDS, st.integers(2, 5))
def test_folds_are_level_as_far_as_own_groups_go(assembly, seed, n_folds):
    scans, groups = assembly
    splits = make_splits(scans, groups, seed, n_folds=n_folds)
    dataset_of = {scan.id: scan.dataset for scan in scans}
    for units in units_per_dataset(scans, groups).values():
        folded = [unit for unit in units if min(unit) in splits.fold]
        held = Counter(dict.fromkeys(range(n_folds), 0))
        held.update(splits.fold[min(unit)] for unit in folded)
        own = [unit for unit in folded if len({dataset_of[name] for name in unit}) == 1]
        # A fold that got a group of this dataset alone was the emptiest then, so it leads by one at most.
        assert all(held[splits.fold[min(unit)]] <= min(held.values()) + 1 for unit in own)
        if len(own) == len(folded):
            assert max(held.values()) - min(held.values()) <= 1


@given(assemblies(), SEEDS, st.integers(1, 20))
def test_another_dataset_moves_nothing_it_shares_no_scan_with(assembly, seed, n_new):
    scans, groups = assembly
    before = make_splits(scans, groups, seed)
    new = [Scan(f"aa/{i}", "aa", str(i)) for i in range(n_new)]
    after = make_splits([*new, *scans], groups, seed)
    assert {name: after.split[name] for name in before.split} == before.split
    assert {name: after.fold[name] for name in before.fold} == before.fold


def test_lits_and_msd_liver_are_the_same_scans_under_other_official_splits():
    """Six CTs; 0-3 in both datasets, 4 only in LiTS, 5 only in MSD. CT 3 also has a second scan of its patient."""
    scans = [
        Scan("lits/0", "lits", "0", "train"),
        Scan("lits/1", "lits", "1", "train"),
        Scan("lits/2", "lits", "2", "test"),
        Scan("lits/3", "lits", "3", "val"),
        Scan("lits/3b", "lits", "3"),
        Scan("lits/4", "lits", "4", "train"),
        Scan("msd/0", "msd", "0", "train"),
        Scan("msd/1", "msd", "1", "test"),
        Scan("msd/2", "msd", "2", "train"),
        Scan("msd/3", "msd", "3", "train"),
        Scan("msd/5", "msd", "5", "train"),
    ]
    copies = [{f"lits/{i}", f"msd/{i}"} for i in range(4)]
    splits = make_splits(scans, copies, seed=1, val_fraction=0, test_fraction=0, n_folds=2)
    # 0: train and train. 1: train and test -> test. 2: test and train -> test. 3: val and train -> val, and 3b,
    # which has no official split, goes with its patient. 4 and 5: as their makers say.
    assert splits.members("test") == ("lits/1", "lits/2", "msd/1", "msd/2")
    assert splits.members("val") == ("lits/3", "lits/3b", "msd/3")
    assert splits.members("train") == ("lits/0", "lits/4", "msd/0", "msd/5")
    assert [str(conflict) for conflict in splits.conflicts] == [
        "official splits disagree about the same scan or patient: lits/1 (train), msd/1 (test); all go to test",
        "official splits disagree about the same scan or patient: lits/2 (test), msd/2 (train); all go to test",
        "official splits disagree about the same scan or patient: lits/3 (val), msd/3 (train); all go to val",
    ]
    # Not in test: 0 and 3 in both datasets, 4 in LiTS, 5 in MSD: three groups each, so folds of 2 and 1.
    for dataset in ("lits", "msd"):
        held = Counter(splits.fold[name] for name in splits.fold if name.startswith(dataset) and name != "lits/3b")
        assert sorted(held.values()) == [1, 2]
    # The published lists, dataset by dataset, are the leak.
    official = {scan.id: scan.official or "train" for scan in scans}
    assert leaks(official, scans, copies) == [
        "one scan or patient on two sides: lits/1 (train), msd/1 (test)",
        "one scan or patient on two sides: lits/2 (test), msd/2 (train)",
        "one scan or patient on two sides: lits/3 (val), lits/3b (train), msd/3 (train)",
    ]
    # Without the official splits, nothing is held out here, and nothing is a conflict.
    free = make_splits(scans, copies, val_fraction=0, test_fraction=0, keep_official=False)
    assert set(free.split.values()) == {"train"}
    assert free.conflicts == ()


def plain(n, dataset="a"):
    return [Scan(f"{dataset}/{i}", dataset, str(i)) for i in range(n)]


@pytest.mark.parametrize(
    ("n", "val", "test", "expected"),
    [
        (0, 0.2, 0.2, (0, 0, 0)),
        (1, 0.4, 0.5, (1, 0, 0)),  # half of one is one, and it stays in train
        (2, 0.2, 0.2, (2, 0, 0)),  # 0.4 rounds to none
        (2, 0.45, 0.5, (1, 0, 1)),  # one each for val and test leaves nothing: test has the first claim
        (3, 0.2, 0.0, (2, 1, 0)),  # 0.6 rounds to 1
        (5, 0.2, 0.0, (4, 1, 0)),
        (5, 0.1, 0.1, (3, 1, 1)),  # 0.5 rounds up
        (10, 0.2, 0.3, (5, 2, 3)),
    ],
)
def test_small_datasets_by_hand(n, val, test, expected):
    splits = make_splits(plain(n), val_fraction=val, test_fraction=test)
    assert tuple(len(splits.members(side)) for side in ("train", "val", "test")) == expected


def test_what_is_held_out_already_counts():
    # Ten patients; a fifth of them is 2. One official test patient: one more is dealt. Three: none.
    for n_official, n_test in ((1, 2), (3, 3)):
        scans = [Scan(f"a/{i}", "a", str(i), "test" if i < n_official else None) for i in range(10)]
        splits = make_splits(scans, val_fraction=0, test_fraction=0.2)
        assert len(splits.members("test")) == n_test
    # All of b is in a. b, the smaller, is dealt first: 1 of 5; a makes up for it: 2 of 10 and not 1 + 2.
    scans = [*plain(10, "a"), *plain(5, "b")]
    splits = make_splits(scans, [{f"a/{i}", f"b/{i}"} for i in range(5)], 3, 0, 0.2)
    assert Counter(name[0] for name in splits.members("test")) == {"a": 2, "b": 1}


def test_another_seed_deals_another_hand():
    hands = {make_splits(plain(40), seed=seed).members("test") for seed in range(5)}
    assert len(hands) == 5


def test_small_datasets_do_not_crowd_the_first_fold():
    # 60 datasets of one scan each over 5 folds: 12 each on average. Were ties broken by number, fold 0 had all.
    scans = [Scan(f"{i}/0", str(i), "0") for i in range(60)]
    held = Counter(make_splits(scans).fold.values())
    assert len(held) == 5
    assert max(held.values()) < 30


def test_a_copy_that_joins_later_moves_fewer_than_a_new_hand_would():
    scans = plain(400)
    before = make_splits(scans, seed=0).split
    copies = [{f"a/{i}", f"b/{i}"} for i in range(400)]
    after = make_splits([*scans, *plain(400, "b")], copies, seed=0).split
    # Dealt anew, 0.7² + 0.1² + 0.2² = 54 % of 400 would stay by chance: 216, give or take 10. The rank is the
    # smallest hash of a group, which a copy changes for one group in two, and then only forward.
    assert sum(after[scan.id] == before[scan.id] for scan in scans) > 260


def test_the_same_hand_on_every_machine():
    """Twelve patients of two scans. Written down: a change of this breaks the splits of published results."""
    scans = [Scan(f"a/{i}", "a", str(i // 2)) for i in range(24)]
    splits = make_splits(scans, seed=7, n_folds=3)
    assert splits.members("test") == ("a/12", "a/13", "a/18", "a/19")
    assert splits.members("val") == ("a/4", "a/5")
    assert "".join(str(splits.fold.get(f"a/{i}", "-")) for i in range(0, 24, 2)) == "000012-22-11"


@pytest.mark.parametrize("seed", range(10))
def test_own_groups_level_what_shared_ones_left_uneven(seed):
    # One scan in both datasets and one more in each: both own ones go to the fold that the shared one is not in.
    splits = make_splits([*plain(2, "a"), *plain(2, "b")], [{"a/0", "b/0"}], seed, 0, 0, n_folds=2)
    assert splits.fold["a/1"] == splits.fold["b/1"] == 1 - splits.fold["a/0"]


@pytest.mark.parametrize("seed", range(10))
def test_folds_are_level_in_every_dataset_of_a_shared_group(seed):
    # a and b share each one scan with c, which has no other: c's two scans go to two folds.
    scans = [*plain(1, "a"), *plain(1, "b"), *plain(2, "c")]
    splits = make_splits(scans, [{"a/0", "c/0"}, {"b/0", "c/1"}], seed, 0, 0, n_folds=2)
    assert {splits.fold["c/0"], splits.fold["c/1"]} == {0, 1}


def test_join_by_hand():
    assert join([{"b", "c"}, {"e", "d"}, {"a"}, {"c", "d"}, set()]) == [{"a"}, {"b", "c", "d", "e"}]
    assert join([]) == []


def test_patients_of_two_datasets_are_two_people_until_a_copy_says_otherwise():
    scans = [Scan("a/0", "a", "7"), Scan("a/1", "a", "7"), Scan("b/0", "b", "7"), Scan("b/1", "b", "8")]
    assert scan_groups(scans, []) == [{"a/0", "a/1"}, {"b/0"}, {"b/1"}]
    assert scan_groups(scans, [{"a/1", "b/1"}]) == [{"a/0", "a/1", "b/1"}, {"b/0"}]


def test_leaks_names_what_is_missing_and_what_is_strange():
    assert leaks({"a/0": "train", "x": "val"}, plain(2), [{"a/0", "x"}]) == [
        "a/1 has no place",
        "x has a place and is not among the scans",
    ]
    splits = make_splits(plain(4), test_fraction=0)
    moved = type(splits)(splits.split, {**splits.fold, "a/0": 0, "a/1": 1})
    assert moved.check(plain(4), [{"a/0", "a/1"}])[-1] == ("fold: one scan or patient on two sides: a/0 (0), a/1 (1)")


def test_plain_data():
    scans = [Scan("a/0", "a", "0", "train"), Scan("a/1", "a", "0", "test"), Scan("a/2", "a", "1", "train")]
    splits = make_splits(scans, n_folds=2)
    assert splits.to_dict() == {
        "split": {"a/0": "test", "a/1": "test", "a/2": "train"},
        "fold": {"a/2": splits.fold["a/2"]},
        "conflicts": [{"official": {"a/0": "train", "a/1": "test"}, "chosen": "test"}],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scans": [*plain(2), *plain(1)]}, "1 scan id.s. occur twice, such as 'a/0'"),
        ({"groups": [{"a/0", "b/0"}]}, "1 scan.s. that are not among the scans, such as 'b/0'"),
        ({"val_fraction": -0.1}, "val_fraction -0.1 and test_fraction 0.2: expected shares"),
        ({"test_fraction": 0.9}, "leave something for train"),
        ({"val_fraction": math.nan}, "val_fraction nan"),
        ({"n_folds": 1}, "n_folds is 1; expected at least 2"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ConfigError, match=message):
        make_splits(**{"scans": plain(3), **change})
