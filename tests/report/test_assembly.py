"""The page of a check shows every number of the summary, however few or hostile."""

from __future__ import annotations

import re
from typing import Any

from tests.report.pages import checked, with_class
from voxicon.report.assembly import assembly_page
from voxicon.report.svg import COLORS

HOSTILE = "<script>alert('1')</script>"
EMPTY: dict[str, Any] = {"datasets": [], "splits": {}, "copies": [], "conflicts": [], "counts": {}}


def dataset(name: str, scans: int = 10, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "title": f"The {name} scans",
        "folder": f"/data/{name}",
        "terms": "CC BY 4.0",
        "labels_by": "human",
        "pitfalls": [],
        "scans": scans,
        "unlabeled": [],
        "orphan_labels": [],
        "failed": {},
        "warnings": {},
        "splits": {"train": scans},
        **more,
    }


def cell(annotated: int, present: int, training: int) -> dict[str, int]:
    return {"annotated": annotated, "present": present, "training": training}


def example() -> dict[str, Any]:
    lits = dataset(
        "lits",
        131,
        splits={"train": 91, "val": 13, "test": 26, "excluded": 1},
        failed={"lits/volume-7": "ends too early"},
        warnings={f"lits/volume-{i}": ["odd spacing", "padding"] for i in range(25)},
        unlabeled=["test-volume-0.nii"],
        orphan_labels=["segmentation-999.nii"],
        pitfalls=["some headers are mirrored", "copies in MSD"],
    )
    return {
        "datasets": [lits, dataset("msd_liver", 1131, splits={"train": 1131}, labels_by="machine, corrected")],
        "splits": {"train": 1222, "val": 13, "test": 26, "excluded": 1},
        "copies": [
            {"a": f"lits/{i}", "b": f"msd_liver/{i}", "kind": "same", "common_share": 0.876, "correlation": 0.9991}
            for i in range(22)
        ]
        + [{"a": "lits/1", "b": "lits/2", "kind": "suspected", "common_share": 0.0, "correlation": 0.983}],
        "conflicts": ["official splits disagree: lits/1 (test), msd_liver/1 (train)"],
        "counts": {
            "liver_tumor": {"lits": cell(130, 118, 82)},
            "liver": {"lits": cell(130, 130, 90), "msd_liver": cell(1131, 1129, 1100)},
            "colon_tumor": {"lits": cell(7, 3, 0)},
        },
    }


def test_headline_numbers() -> None:
    text = checked(assembly_page(example())).text
    for words in (
        "2 datasets",
        "1,262 labeled scans 1,222 train, 13 val, 26 test",
        "3 classes 1 without a scan to learn from",
        "22 copies of a scan and 1 that look alike",
        "1 scan that cannot be used 25 with warnings",
        "1 split conflict",
        "No training scan shows: colon tumor. A model cannot learn it",
    ):
        assert words in text


def test_the_long_tail_is_sorted_and_says_how_many_were_looked_through() -> None:
    source = assembly_page(example())
    [plot] = re.findall(r'<svg class="plot"[^>]*><title>Scans that show each class.*?</svg>', source)
    names = [group[0].text for group in with_class(plot, "plot")[0].iter("g")]
    assert names == ["liver", "liver tumor", "colon tumor"]
    for words in ("1,259", " of 1,261", "118", " of 130", "liver, msd_liver: 1,129"):
        assert words in plot
    # The longest bar is the 1261 scans looked through for liver; lits has 130 of them.
    assert with_class(plot, "c0")[0].get("width") == f"{100 * 130 / 1261:.2f}%"


def test_splits_are_drawn_with_the_largest_dataset_first() -> None:
    source = assembly_page(example())
    [plot] = re.findall(r'<svg class="plot"[^>]*><title>Scans of each dataset.*?</svg>', source)
    assert [group[0].text for group in with_class(plot, "plot")[0].iter("g")] == ["msd_liver", "lits"]
    # 91 of the largest, 1131.
    assert [bar.get("width") for bar in with_class(plot, "split-train")] == ["100%", f"{100 * 91 / 1131:.2f}%"]


def test_the_table_has_a_cell_for_what_is_known_and_a_dot_for_what_is_not() -> None:
    source = assembly_page(example())
    table = source[source.index('<table class="matrix">') :]
    row = table[table.index("liver tumor") : table.index("</tr>", table.index("liver tumor"))]
    assert "118<small>130/82</small>" in row
    assert row.count('<td class="unknown">·</td>') == 1
    assert "1,259<small>1,261/1,190</small>" in table
    # 45% of the accent color for the largest number of the table.
    assert "--heat:45" in table
    # log(1 + 3) / log(1 + 1129) * 45 = 8.9
    assert 'style="--heat:9">3<small>7/0' in table
    assert table.count("no training scan") == 1


def test_datasets_show_what_is_wrong_and_stop_after_twenty() -> None:
    text = checked(assembly_page(example())).text
    for words in (
        "The lits scans",
        "131 scans",
        "91 train",
        "1 excluded",
        "labels by machine, corrected",
        "/data/msd_liver",
        "CC BY 4.0",
        "lits/volume-7 ends too early",
        "lits/volume-19 odd spacing; padding and 5 more",
        "1 scans without labels test-volume-0.nii",
        "1 labels without a scan segmentation-999.nii",
        "2 known pitfalls some headers are mirrored copies in MSD",
    ):
        assert words in text
    assert "lits/volume-20 " not in text


def test_copies_are_counted_between_datasets_and_listed() -> None:
    text = checked(assembly_page(example())).text
    assert "lits msd_liver 22 0" in text
    assert "lits itself 0 1" in text
    assert "lits/19 msd_liver/19 same 88% 0.999" in text
    assert "and 3 more" in text
    assert "lits/1 (test), msd_liver/1 (train)" in text


def test_an_empty_assembly_has_a_page() -> None:
    page = checked(assembly_page(EMPTY))
    assert "0 datasets" in page.text
    assert page.text.count("nothing to show") == 4
    assert "No scan was found twice." in page.text
    assert "Conflicts" not in page.text


def test_names_from_disk_stay_text() -> None:
    found = example()
    lists = {key: [HOSTILE] for key in ("unlabeled", "orphan_labels", "pitfalls")}
    words = dict.fromkeys(("id", "title", "folder", "terms", "labels_by"), HOSTILE)
    found["datasets"][0] |= {**lists, **words, "failed": {HOSTILE: HOSTILE}, "warnings": {HOSTILE: [HOSTILE]}}
    found["copies"][0] |= {"a": HOSTILE, "b": HOSTILE}
    found["conflicts"] = [HOSTILE]
    found["counts"][HOSTILE] = {HOSTILE: cell(3, 2, 1)}
    source = assembly_page(found)
    assert "<script" not in source
    assert checked(source).text.count(HOSTILE) > 15


def test_the_same_summary_gives_the_same_page() -> None:
    assert assembly_page(example()) == assembly_page(example())


def test_more_datasets_than_colors_share_the_last() -> None:
    found = EMPTY | {"datasets": [dataset(f"set_{i}", 100 - i) for i in range(COLORS + 5)]}
    found["counts"] = {"liver": {f"set_{i}": cell(100 - i, 100 - i, 50) for i in range(COLORS + 5)}}
    source = assembly_page(found)
    checked(source)
    # Sets 17 to 22 have 83, 82, 81, 80, 79 and 78 scans: 483 together.
    assert "liver, other datasets: 483" in source
    assert "liver, set_16: 84" in source
    assert "liver, set_17" not in source
