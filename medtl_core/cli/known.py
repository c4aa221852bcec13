"""`medtl data list`: the public sets that medtl knows, and what one of them is."""

from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.data.catalog import Entry, catalog
from medtl_core.formats.layouts import named_entry
from medtl_core.values import MULTI_LABEL


def list_command(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One of them: all that is known of it.")] = "",
) -> None:
    """List the public sets that are known: task, hospitals, licence, how a person comes by them.

    Nothing is downloaded. A set is recognised by its own files where it lies, or named by the setting `data`.
    """
    if name:
        console.show(*(f"{fact}: {text}" for fact, text in _facts(named_entry(name)).items()), markup=False)
        return
    shown = console.table_of("name", "task", "hospitals", "licence", "how to obtain it")
    for entry in catalog().values():
        shown.add_row(entry.name, _task(entry), entry.hospitals, entry.licence, entry.obtain)
    console.show(shown, markup=False)


def _task(entry: Entry) -> str:
    """What is told apart, in the room of a cell."""
    what = "findings" if entry.task.kind == MULTI_LABEL else "classes"
    return f"{entry.task.name}: {len(entry.task.classes)} {what}"


def _facts(entry: Entry) -> dict[str, str]:
    """All that is known of a set, in the order of reading."""
    layout, first = entry.layout, entry.name.partition(":")[0]
    policy = [f"{name} {count}" for name, count in layout.uncertain.items()]
    facts = {
        "name": entry.name,
        "title": entry.title,
        "modality": entry.modality,
        "findings" if entry.task.kind == MULTI_LABEL else "classes": ", ".join(entry.task.classes),
        "one finding": f"data={first}:any, or {first}:FINDING of {', '.join(layout.findings)}"
        if layout.findings
        else "",
        "uncertain": f"{', '.join(policy)}; others ignore" if policy else "",
        "hospitals": entry.hospitals,
        "recognised by": " or ".join(entry.files) if layout.kind == "medmnist" else ", ".join(entry.files),
        "needs also": ", ".join(layout.beside),
        "licence": entry.licence,
        "cite": entry.citation,
        "where": entry.url,
        "how to obtain it": entry.obtain,
        "same pictures": ", ".join(entry.same),
        "note": entry.note,
    }
    return {fact: text for fact, text in facts.items() if text}
