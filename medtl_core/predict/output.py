"""Answers as people and programs read them: text, JSON, JSON lines, CSV, and one page of HTML."""

import csv
import io
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from medtl_core.predict.answer import Answer

#: What stands above every page and beside every answer of it.
NOTICE = "Research software, not a medical device: a person who knows the patient decides."

#: Parts that text and HTML tell; JSON tells all.
_TOLD = 8
#: A map on the page, and what is said of all of them.
_MAP = (
    '<img src="data:image/png;base64,{}" alt="The picture in grey, red where it speaks for {} and blue where against">'
)
_LEGEND = (
    "Below an answer stands the picture in grey, of several the one that adds most: red speaks for the likeliest "
    "class, blue against{}. Take a map as a way to notice a wrong reason. The page holds pictures of the cases: it "
    "belongs where they lie."
)

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1f24;
  background: #fff }
table { border-collapse: collapse; width: 100% } caption, th, td { text-align: left; padding: .3rem .6rem }
th, td { border-bottom: 1px solid #d0d7de; vertical-align: top; overflow-wrap: break-word }
td.number { text-align: right; font-variant-numeric: tabular-nums } .number { white-space: nowrap }
.wide { overflow-x: auto } img { display: block; width: 14rem; max-width: 100%; margin-top: .3rem }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117 } th, td { border-color: #30363d } }
"""


@dataclass(frozen=True)
class Heading:
    """What answers are of.

    Attributes:
        classes: in the head's order.
        version: of the head; see `Predictor.version`.
        basis: what the probabilities take for granted, in a sentence.
        promise: what the sets of likely classes promise, in a sentence; "" = there are none.
        thresholds: those that classes are answered from, in a sentence; "" = there are none.
        limit: which cases are too unlike the training cases, in a sentence; "" = nothing tells.
        maps: beyond what the maps of a page's answers are told, in words, "" = beyond nothing; None = there are none.
    """

    classes: tuple[str, ...]
    version: str
    basis: str
    promise: str = ""
    thresholds: str = ""
    limit: str = ""
    maps: str | None = None

    @property
    def promises(self) -> str:
        """All that is said of the sets, the thresholds and the limit."""
        return " ".join(filter(None, (self.promise, self.thresholds, self.limit)))


def json_lines(answers: Iterable[Answer], heading: Heading) -> Iterator[str]:
    """Yields one JSON object a line, each with the head's version."""
    for answer in answers:
        yield json.dumps({**answer.as_dict(), "head": heading.version}, ensure_ascii=False)


def json_text(answers: Iterable[Answer], heading: Heading) -> Iterator[str]:
    """Yields one JSON document in lines: the head, what the probabilities take for granted, and the answers."""
    about: dict[str, Any] = {"head": heading.version, "classes": heading.classes, "basis": heading.basis}
    about |= {"promise": heading.promise or None, "notice": NOTICE}
    about |= {key: text for key in ("thresholds", "limit") if (text := getattr(heading, key))}
    yield json.dumps(about, ensure_ascii=False, indent=1)[:-2] + ',\n "answers": ['
    last = ""
    for answer in answers:
        if last:
            yield last + ","
        last = "  " + json.dumps(answer.as_dict(), ensure_ascii=False)
    if last:
        yield last
    yield " ]\n}"


def csv_lines(answers: Iterable[Answer], heading: Heading) -> Iterator[str]:
    """Yields a CSV file in lines: case, answer, a column for each class, doubt, fault and head.

    A cell that a spreadsheet would take for a formula has an apostrophe before it.
    """
    yield _csv(["case", "answer", *heading.classes, "likely", "doubt", "fault", "head"])
    for answer in answers:
        shares = [
            f"{answer.probabilities[name]:.6g}" if name in answer.probabilities else "" for name in heading.classes
        ]
        yield _csv(
            [
                answer.name,
                answer.likeliest,
                *shares,
                " | ".join(answer.likely),
                answer.doubt,
                answer.fault,
                heading.version,
            ]
        )


def text_lines(answers: Iterable[Answer], heading: Heading) -> Iterator[str]:
    """Yields a line a case: its answer, then every class with its probability, the likeliest first."""
    yield f"head     {heading.version}"
    yield f"basis    {heading.basis}"
    if heading.promise:
        yield f"likely   {heading.promise}"
    if heading.thresholds:
        yield f"over     {heading.thresholds}"
    if heading.limit:
        yield f"unlike   {heading.limit}"
    for answer in answers:
        name = printable(answer.name)
        if answer.fault:
            yield f"{name}  no answer: {printable(answer.fault)}"
            continue
        ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {share:.3f}" for name, share in ranked)
        likely = f"; likely: {', '.join(answer.likely)}" if answer.likely else ""
        likely += f"; over the threshold of {', '.join(answer.over)}" if answer.over else ""
        yield f"{name}  {f'no answer: {answer.doubt}' if answer.doubt else answer.likeliest}  ({shares}){likely}"
        yield from (f"    {number:+.3f}  {printable(what)}" for number, what in _beside(answer))


def html_lines(answers: Iterable[Answer], heading: Heading) -> Iterator[str]:
    """Yields one page without script and without anything from elsewhere; every text is escaped."""
    csp = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    yield (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{csp}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Answers of a head</title><style>{_STYLE}</style></head>\n<body><main><h1>Answers</h1>"
    )
    about = escape(f"Head: {heading.version}. {heading.basis} {heading.promises}")
    about = re.sub(r"--[\w-]+", r'<span class="number">\g<0></span>', about)  # an option is one word
    legend = "" if heading.maps is None else f"<p>{_LEGEND.format(heading.maps)}</p>"
    yield f"<p><strong>{NOTICE}</strong></p><p>{about}</p>{legend}"
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in heading.classes)
    yield '<div class="wide"><table><caption>Probability of each class</caption><thead><tr>'
    yield f'<th scope="col">case</th><th scope="col">answer</th><th scope="col">likely</th>{names}</tr></thead><tbody>'
    for answer in answers:
        said = escape(answer.likeliest or f"no answer: {answer.fault or answer.doubt}")
        likely = escape(", ".join(answer.likely))
        likely += escape(f" (over the threshold of {', '.join(answer.over)})") if answer.over else ""
        cells = [f'<td class="number">{_share(answer, name)}</td>' for name in heading.classes]
        beside = "".join(f"<br>{number:+.3f} {escape(what)}" for number, what in _beside(answer))
        said += f"<small>{beside}</small>" if beside else ""
        said += _MAP.format(b64encode(answer.map).decode("ascii"), escape(answer.largest)) if answer.map else ""
        yield f'<tr><th scope="row">{escape(answer.name)}</th><td>{said}</td><td>{likely}</td>{"".join(cells)}</tr>'
    yield "</tbody></table></div></main></body>\n</html>"


#: Every form by its name.
FORMS = {"text": text_lines, "json": json_text, "jsonl": json_lines, "csv": csv_lines, "html": html_lines}


def _beside(answer: Answer) -> Iterator[tuple[float, str]]:
    """What adds most to an answer, and the own cases that are most like it."""
    yield from ((part, what) for what, part in list(answer.parts.items())[:_TOLD])
    yield from ((near.cosine, f"like {near.name} ({near.label})") for near in answer.alike)


def _share(answer: Answer, name: str) -> str:
    return f"{answer.probabilities[name]:.3f}" if name in answer.probabilities else ""


def printable(text: str) -> str:
    """Returns a text on one line that no terminal obeys: what is no visible sign stands as its escape.

    Example:
        >>> printable("a\\nb \\x1b[31m")
        'a\\\\nb \\\\x1b[31m'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _csv(cells: Sequence[str]) -> str:
    line = io.StringIO()
    safe = [f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in cells]
    csv.writer(line, lineterminator="\n").writerow(safe)  # by which a cell with a line break is quoted
    return line.getvalue().removesuffix("\n")
