"""The page of findings: complete, harmless, and of one mind with findings.json."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.pages import Page, checked
from voxicon.answering.language import Language, language
from voxicon.asking import understood
from voxicon.core.concepts import Vocabulary
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.core.volume import Source, Volume
from voxicon.errors import ConfigError
from voxicon.findings.vessels import VesselContact
from voxicon.inquiry import Inquiry, answer
from voxicon.io.masks import write_masks
from voxicon.report.findings import PICTURED, Pictures, findings_page
from voxicon.report.palette import Palette
from voxicon.report.pdf import check_printing, to_pdf

SHAPE = (40, 36, 30)
VOCABULARY = Vocabulary.default()
REQUESTS = ("Measure the liver tumors.", "Generate a report.", "Count the liver tumors")


def inquiry(
    folder: Path, tumors: int = 2, requests: tuple[str, ...] = REQUESTS, say: Language | None = None
) -> Inquiry:
    """A liver with that many tumors, a spleen that the scan cuts off, and an empty gallbladder, as masks at hand."""
    geometry = Geometry(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]))
    masks = {name: np.zeros(SHAPE, dtype=bool) for name in ("liver", "spleen", "gallbladder", "liver_tumor")}
    masks["liver"][10:34, 8:30, 4:26] = True
    masks["spleen"][0:6, 5:12, 10:16] = True
    hu = np.where(np.indices(SHAPE).sum(axis=0) % 2, -998.0, -1000.0)
    hu[masks["liver"]], hu[masks["spleen"]] = 100, 120
    for number in range(tumors):
        x, y, z = 12 + 5 * (number % 4), 10 + 5 * (number // 4 % 4), 6 + 5 * (number // 16)
        size = 3 if number == 0 else 2
        masks["liver_tumor"][x : x + size, y : y + size, z : z + size] = True
    hu[masks["liver_tumor"]] = 40
    source = Source(name="a <b> & c", path="/nowhere/a <b> & c.nii.gz", sha256="0" * 64, warnings=("odd <i>thing</i>",))
    volume = Volume(hu.astype(np.float32), geometry, source)
    write_masks(MaskSet.from_masks(masks, geometry), folder, VOCABULARY)
    return answer(volume, understood(requests, VOCABULARY), None, masks=folder, language=say or language("en"))


def test_the_page_says_what_the_document_says(tmp_path: Path) -> None:
    found = inquiry(tmp_path)
    page = checked(found.page(), pictures=True)
    assert "Findings in a <b> & c" in page.text
    for line in found.document.impression:
        assert line in page.text
    for text in REQUESTS:
        assert text in page.text
    assert "odd <i>thing</i>" in page.text
    one = found.document.lesions[0]
    assert f"{one.axial.longest_mm:.1f} × {one.axial.perpendicular_mm:.1f} mm (axial)" in page.text
    assert "60 HU darker than the liver" in page.text
    assert "at the border of the scan" in page.text
    assert "Count" in page.text
    assert "liver tumor: 2" in page.text
    pictures = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert sum("Three planes" in (alt or "") for alt in pictures) == 2
    assert sum("Axial slice" in (alt or "") for alt in pictures) >= 1
    assert sum("front" in (alt or "") for alt in pictures) == 1


def test_the_page_says_where_everything_is_from(tmp_path: Path) -> None:
    found = inquiry(tmp_path)
    text = checked(found.page(), pictures=True).text
    assert f"Scan: a <b> & c.nii.gz, SHA-256 {'0' * 64}." in text
    assert "Masks that were given and taken as they are" in text
    given = text[text.index("Masks that were given") :].split(".")[0]
    assert all(name in given for name in ("liver tumor", "spleen", "gallbladder"))
    assert "Henderson et al., Radiology 1981;141:525-527" in text
    assert "not found" in text  # the gallbladder
    assert "mean probability" not in text
    assert "weights" not in found.document.impression[0]


def page_of(found: Inquiry, **changes: object) -> str:
    """The text of a page without pictures, of a document with some fields replaced."""
    document = replace(found.document, **changes)  # type: ignore[arg-type]
    return checked(findings_page(document, Pictures(), Palette(VOCABULARY), found.language), pictures=True).text


def test_volumes_without_lesions_are_told_of_organs_that_have_some(tmp_path: Path) -> None:
    found = inquiry(tmp_path)
    by_name = {organ.name: organ for organ in found.document.organs}
    liver, spleen = by_name["liver"], by_name["spleen"]
    text = page_of(found)
    assert liver.volume_without_lesions_ml < liver.volume_ml
    assert f"liver {liver.volume_ml:.0f} ml {liver.volume_without_lesions_ml:.0f} ml 1,033 to 1,953" in text
    assert f"spleen {spleen.volume_ml:.1f} ml 67 to 371" in text


def test_vessels_scores_and_thresholds_are_told(tmp_path: Path) -> None:
    found = inquiry(tmp_path)
    vessels = (
        VesselContact("aorta", 4.25, 0.0, None),
        VesselContact("hepatic_vessel", 0.0, 91.4, 7),
        VesselContact("inferior_vena_cava", 0.0, 0.0, None),
        VesselContact("celiac_trunk", None, None, None),
    )
    text = page_of(found, lesions=(replace(found.document.lesions[0], vessels=vessels),))
    assert (
        "aorta 4.2 mm away; hepatic vessel touched, 91° of its circumference; "
        "inferior vena cava touched, across slices only; celiac trunk not found"
    ) in text
    (verdict,) = found.document.detection
    low = replace(verdict, detected=False, score=0.12, threshold=0.4, lesions=0, volume_ml=0.0, by="weights")
    assert "liver tumor no 0.12 0.40 0 0.000 ml nothing was measured" in page_of(found, detection=(low,))


def test_safe_colors_are_those_of_the_pictures(tmp_path: Path) -> None:
    found = inquiry(tmp_path)
    for colors in ("vocabulary", "safe"):
        red, green, blue = Palette(VOCABULARY, colors)["liver"].color  # type: ignore[arg-type]
        assert f"#{red:02x}{green:02x}{blue:02x}" in found.page(colors)  # type: ignore[arg-type]
    assert found.page("safe") != found.page()


def test_many_lesions_have_rows_and_not_all_have_pictures(tmp_path: Path) -> None:
    found = inquiry(tmp_path, tumors=PICTURED + 3)
    page = checked(found.page(), pictures=True)
    assert len(found.document.lesions) == PICTURED + 3
    assert sum("Three planes" in (a["alt"] or "") for tag, a in page.tags if tag == "img") == PICTURED
    assert "3 more lesions" in page.text
    assert f"Liver tumor {PICTURED + 3}" in page.text


def test_nothing_found(tmp_path: Path) -> None:
    found = inquiry(tmp_path, tumors=0, requests=("liver tumors, if any", "the gallbladder"))
    page = checked(found.page(), pictures=True)
    assert "No liver tumor in the masks that were given." in page.text
    assert "0 kinds of lesions found of 1 looked for 0 organs and vessels found of 1 looked for" in page.text
    assert "liver tumor: none found" in page.text
    assert not [tag for tag, a in page.tags if tag == "img" and "Three planes" in (a["alt"] or "")]


def test_pictures_may_be_left_out(tmp_path: Path) -> None:
    found = inquiry(tmp_path)
    page = checked(findings_page(found.document, Pictures(), Palette(VOCABULARY), found.language), pictures=True)
    assert not [tag for tag, _ in page.tags if tag == "img"]


def marked(entry: object) -> object:
    """Every sentence of a language file between marks."""
    if isinstance(entry, dict):
        return {
            key: value if key in ("decimal", "thousands", "classes") else marked(value) for key, value in entry.items()
        }
    return [marked(item) for item in entry] if isinstance(entry, list) else f"⟦{entry}⟧"


def test_every_sentence_comes_from_the_language_file(tmp_path: Path) -> None:
    english = language("en")
    entries = marked(english.entries)
    assert isinstance(entries, dict)
    entries["page"]["notice"] = "Research software, not a medical device"  # what every page says
    made_up = Language("xx", entries, VOCABULARY)
    found = inquiry(tmp_path, say=made_up)
    source = found.page()
    assert '<html lang="xx">' in source
    words = {name.display_name for name in VOCABULARY} | set(found.document.warnings) | set(found.document.notes)
    for piece in Page(source).pieces:
        text = piece.strip()
        if not any(letter.isalpha() for letter in text) or "⟦" in text:
            continue
        plain = text.removesuffix(",").split(" 1")[0].split(" 2")[0].strip(" ·").lower()
        allowed = {*(word.lower() for word in words), *(text.lower() for text in REQUESTS)}
        brand = plain.startswith(("voxicon", "research software", "masks.tmp"))
        assert brand or plain in allowed, text


def test_a_pdf(tmp_path: Path) -> None:
    try:
        check_printing()
    except ConfigError as reason:
        pytest.skip(str(reason))
    found = inquiry(tmp_path / "masks")
    found.save(tmp_path / "out", preview=False, page=False, pdf=True)
    assert (tmp_path / "out" / "report.pdf").read_bytes().startswith(b"%PDF-")
    assert not (tmp_path / "out" / "report.html").exists()


def test_without_what_prints_a_pdf_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(ConfigError, match=r"pip install \"voxicon\[pdf\]\".*print report\.html from a browser"):
        to_pdf("<p>x</p>")
