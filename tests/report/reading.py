"""Reads a page as a browser would: elements, ids and words; a page that is not well formed is refused."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Collects elements and complains about unbalanced ones."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(html: str) -> Reader:
    """Returns what the page holds."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def check_whole(html: str) -> Reader:
    """Checks what holds for every page: well formed, named pictures, both themes, nothing fetched, nothing run."""
    reader = read(html)
    tags = {tag for tag, _ in reader.seen}
    assert len(reader.ids) == len(set(reader.ids))
    named = {word for _, attrs in reader.seen for word in (attrs.get("aria-labelledby") or "").split()}
    assert named <= set(reader.ids)
    pictures = [attrs for tag, attrs in reader.seen if tag == "svg"]
    assert pictures and all(attrs["role"] == "img" and attrs["aria-labelledby"] for attrs in pictures)
    numbers = {value for tag, attrs in reader.seen if tag in ("circle", "line", "rect") for value in attrs.values()}
    assert not numbers & {"nan", "inf", "-inf"}
    ends = [float(attrs[key] or "nan") for tag, attrs in reader.seen if tag == "line" for key in ("x1", "x2")]
    assert all(0 <= end <= 864 for end in ends)  # no interval leaves its picture
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) == {"http://www.w3.org/2000/svg"}
    assert not {"script", "link", "img", "iframe", "object"} & tags
    assert not any(name in attrs for _, attrs in reader.seen for name in ("src", "srcset", "onclick", "onload"))
    assert "url(" not in html and "@import" not in html and "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html and "@media print" in html
    assert "Research software, not a medical device." in reader.text
    return reader
