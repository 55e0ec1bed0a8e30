"""What every page must be: complete in itself, harmless, with pictures that parse."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Text and tags of a page; tags that do not close in order are an error."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def checked(source: str, *, pictures: bool = False) -> Page:
    """The page, after what holds for every page was found to hold; its pictures, where it may have any, too."""
    page = Page(source)
    assert "Research software, not a medical device" in page.text
    banned = {"script", "link", "iframe", "object", "embed", "base"} | (set() if pictures else {"img"})
    assert not [tag for tag, _ in page.tags if tag in banned]
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert attributes.get("href", "#").startswith("#")
        assert (tag == "img") == ("src" in attributes)
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/png;base64,iVBOR")
            assert attributes["alt"]
    policy = [a.get("content") for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"].removeprefix("#") for _, a in page.tags if a.get("href")} <= set(ids)
    style = source[source.index("<style>") : source.index("</style>")]
    assert "@import" not in style
    assert all(target.startswith("#hatch") for target in re.findall(r"url\(([^)]*)\)", style))
    assert set(re.findall(r"url\(#(\w+)\)", style)) <= set(ids)
    for picture in re.findall(r"<svg.*?</svg>", _flat(source), flags=re.DOTALL):
        ElementTree.fromstring(picture)
    return page


def _flat(source: str) -> str:
    """Pictures within pictures made groups, so that a picture ends at its own end."""
    depth, pieces = 0, []
    for piece in re.split(r"(<svg|</svg)", source):
        if piece == "<svg":
            depth += 1
            pieces.append("<svg" if depth == 1 else "<g")
        elif piece == "</svg":
            pieces.append("</svg" if depth == 1 else "</g")
            depth -= 1
        else:
            pieces.append(piece)
    return "".join(pieces)


def parsed(svg: str) -> ElementTree.Element:
    """A picture as XML."""
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    """What is written in a picture, without what is only shown when pointed at."""
    found = []
    for text in parsed(svg).iter("text"):
        found.append((text.text or "") + "".join(part.text or "" for part in text if part.tag == "tspan"))
    return found


def with_class(svg: str, name: str) -> list[ElementTree.Element]:
    """Tags of a class, in order."""
    return [tag for tag in parsed(svg).iter() if name in (tag.get("class") or "").split()]
