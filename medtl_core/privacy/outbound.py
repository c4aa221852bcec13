"""What a hospital may send: every named value, what it is, and what could be learnt from it about a patient."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outbound:
    """One named value a hospital may send.

    Attributes:
        task: whose answer it is in.
        name: of the array or number.
        what: it is, in words.
        private: whether the gate noised and counted it.
        learnt: what could be learnt from it about a patient.
    """

    task: str
    name: str
    what: str
    private: bool
    learnt: str


def _read(table: str) -> tuple[Outbound, ...]:
    content = tomllib.loads(Path(__file__).with_name("outbound.toml").read_text(encoding="utf-8"))
    words = content["learnt"]
    rows = ({"private": False, **row, "learnt": words.get(row["learnt"], row["learnt"])} for row in content[table])
    return tuple(Outbound(**row) for row in rows)


#: Everything that may leave under privacy, and nothing else; what the default method sends without it; and what it
#: sends of a multi-label task.
PRIVATE_OUTBOUND, DEFAULT_OUTBOUND, LABEL_OUTBOUND = map(_read, ("private", "plain", "label"))


def said_of(task: str, names: Iterable[str] = ()) -> str:
    """Returns in words, without shapes, what an answer to a task holds; of one not listed, the names of its arrays."""
    if task == "join":
        return "that the hospital takes part: name, identity key, number of cases, hash of the settings"
    rows = [row for row in (*PRIVATE_OUTBOUND, *DEFAULT_OUTBOUND, *LABEL_OUTBOUND) if row.task == task]
    arrays = {*names}
    rows = [row for row in rows if arrays & {*row.name.split(", ")}] or rows
    fitting = [row for row in rows if {*row.name.split(", ")} <= arrays] or rows
    said = "; ".join(dict.fromkeys(row.what for row in fitting))
    return re.sub(r" \[[^\]]*\]", "", said) or f"arrays {', '.join(sorted(arrays)) or 'none'}"
