"""`schema.toml`: what each column of a table of records means, and which one says who, where, when and what.

Part of a schema is agreed by all hospitals (a column's name, kind, unit, range and vocabulary: `Column.features`), part
describes one hospital's own file (headers, the unit and the codes that stand there, words for missing values). Calendar
dates have no type: they identify patients. Write days since an event instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from medtl_core.formats.units import Conversion
from medtl_core.values import Task

#: The level that stands for every code which the vocabulary does not know.
OTHER = "other"


@dataclass(frozen=True)
class Column:
    """One measurement.

    Attributes:
        name: as agreed.
        header: of the column in this hospital's file.
        kind: "number", "flag" (yes or no) or "category".
        unit: agreed, of a number.
        low, high: what is possible in a patient, in that unit, both included.
        centre, scale: round figures that all hospitals share, never fitted to patients: what is usual, and how far
            patients lie apart; unless stated the middle of the range and a quarter of its length.
        convert: from what stands in the file to the agreed unit.
        missing: words of the file, beside the usual ones, that stand for "not measured".
        levels: of a category, in order, with `OTHER` at the end unless the vocabulary is closed.
        codes: what stands in the file -> level, or "1" and "0" of a flag.
        analyte: what is measured, where units need its molar mass.
    """

    name: str
    header: str
    kind: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    centre: float = 0.0
    scale: float = 1.0
    convert: Conversion = field(default_factory=Conversion)
    missing: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    analyte: str = ""

    @property
    def features(self) -> tuple[str, ...]:
        """The agreed meaning of each column of numbers that this one becomes, in words: unequal words, unequal data."""
        if self.kind == "number":
            unit = self.unit or "no unit"
            return (f"{self.name} ({unit}, {self.low!r} to {self.high!r}, about {self.centre!r} by {self.scale!r})",)
        return tuple(f"{self.name}={level}" for level in self.levels) or (f"{self.name} (flag)",)


@dataclass(frozen=True)
class Roles:
    """Headers of the columns that are no measurements; "" = there is none.

    Attributes:
        id: of the patient.
        label: the diagnosis; or instead:
        event, time: whether the event was seen, and when, or until when it was not.
    """

    id: str = ""
    label: str = ""
    site: str = ""
    split: str = ""
    event: str = ""
    time: str = ""

    @property
    def headers(self) -> tuple[str, ...]:
        """Those that are there."""
        return tuple(name for name in vars(self).values() if name)


@dataclass(frozen=True)
class Schema:
    """What a file of records means.

    Attributes:
        task: its name, and the classes; with an event the second one says that it was seen.
        csv: name of the file, beside the schema.
        roles: columns that are no measurements.
        columns: measurements, in the agreed order.
        time: the column with that role; None without an event.
        labels, splits: what stands in the file -> class, and train, val or test.
        encoder, sha256: file beside the schema with a source site's encoder (`formats.encoder`), and its SHA-256.
    """

    task: Task
    csv: str
    roles: Roles
    columns: tuple[Column, ...]
    time: Column | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    encoder: str = ""
    sha256: str = ""

    @property
    def features(self) -> tuple[str, ...]:
        """The agreed meaning of each column of numbers."""
        return tuple(feature for column in self.columns for feature in column.features)
