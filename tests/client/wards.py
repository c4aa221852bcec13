"""Random data of hospitals, with and without one patient, and everything a run may ask of them."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from client.site import Node
from medtl_core.config import Settings
from medtl_core.federation.tasks import Config
from medtl_core.privacy.hospital import Hospital
from medtl_core.privacy.policy import Policy
from medtl_core.values import Array

CLASSES = ("a", "b", "c")
#: Cells as they may stand in a table: numbers, gaps, and what is no number, or one of float64 only.
NUMBERS = st.sampled_from(
    ["0.5", "-1.25", "3", "1e3", "-7e-4", "", "nan", "NA", "inf", "-inf", "1e39", "9e12", "-1e308", "1e400", "1e-42",
     "four", "1_0", "0x1", " 2 ", "5\n6"]
)  # fmt: skip
LABELS = st.sampled_from([*CLASSES, *CLASSES, *CLASSES, "d", "", "A", "nan"])
SPLITS = st.sampled_from(["train", "train", "val", "test", "", "tset"])
Row = tuple[str, ...]
RULES = Policy(public_patients=4, max_epsilon=5.0, delta=1e-4)


@dataclass(frozen=True)
class Ward:
    """A hospital's table, and the patient who is there or not.

    Attributes:
        header: its columns.
        rows: its cells; a row may have too few or too many.
        owner: the patient of each row.
        gone: of them.
        classes: that `task.json` states; none = there is no such file.
        policy: of the hospital.
    """

    header: Row
    rows: tuple[Row, ...]
    owner: tuple[str, ...]
    gone: str
    classes: tuple[str, ...] = CLASSES
    policy: Policy = RULES

    def node(self, folder: Path, whole: bool) -> Node:
        """Writes the table, with all patients or without the one, and returns the hospital's node."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = [row for row, owner in zip(self.rows, self.owner, strict=True) if whole or owner != self.gone]
        with (folder / "table.csv").open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle, lineterminator="\n").writerows([self.header, *kept])
        stated = folder / "task.json"
        stated.unlink(missing_ok=True)
        if self.classes:
            stated.write_text(json.dumps({"name": "toy", "classes": self.classes}), encoding="utf-8")
        path = str(folder / "table.csv")
        return Node("north", path, -1, Hospital(folder, "north", path, policy=self.policy))


@st.composite
def wards(draw: st.DrawFn) -> Ward:
    """Up to six patients of up to three rows each, in any order, by whatever policy."""
    split, columns = draw(st.booleans()), draw(st.integers(1, 3))
    names = [f"p{number}" for number in range(draw(st.integers(1, 6)))]
    rows: list[tuple[str, Row]] = []
    for name in names:
        for _ in range(draw(st.integers(1, 3))):
            numbers = [draw(NUMBERS) for _ in range(columns)]
            cells = [draw(LABELS), name, *([draw(SPLITS)] if split else []), *numbers]
            extra = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]))
            rows.append((name, (*cells[: len(cells) + min(extra, 0)], *["9"] * extra)))
    rows = draw(st.permutations(rows))
    header = ("label", "patient_id", *(["split"] if split else []), *(f"x{place}" for place in range(columns)))
    policy = Policy(
        public_patients=draw(st.integers(0, 6)), minimum_patients=draw(st.integers(1, 6)),
        one_image_per_patient=draw(st.booleans()), require_private=draw(st.booleans()),
    )  # fmt: skip
    stated = draw(st.sampled_from([CLASSES, CLASSES, CLASSES, CLASSES, ("a", "b"), ()]))
    owner = tuple(name for name, _ in rows)
    return Ward(header, tuple(row for _, row in rows), owner, draw(st.sampled_from(names)), stated, policy)


#: What a run may set that could touch a hospital's cases; a catalog's name brings its own classes.
ORDERS = st.fixed_dictionaries(
    {"backbone": st.just("table"), "data": st.sampled_from(["", "", "", "phantom", "uci_heart"])},
    optional={
        "privacy": st.sampled_from(["mean", "gradient-3", "private-prototypes-8-cosine"]), "sites": st.integers(1, 9),
        "shots": st.integers(0, 9), "partition": st.sampled_from(["natural", "dirichlet", "skewed", "size", "even"]),
        "alpha": st.floats(0.01, 9), "seed": st.integers(0, 99), "features": st.sampled_from(["rich", "plain", "4"]),
        "image_size": st.integers(0, 99), "views": st.sampled_from(["auto", "one"]), "folds": st.integers(2, 9),
        "test_path": st.sampled_from(["", "/x"]), "leave_out": st.sampled_from(["", "north", "site"]),
        "secure_sum": st.booleans(), "public_cases": st.integers(0, 9), "epsilon": st.floats(0.01, 9),
        "min_cell": st.integers(0, 3), "weights": st.sampled_from(["", "/x"]), "cache": st.just("off"),
    },
)  # fmt: skip


def orders(drawn: Mapping[str, Any]) -> Settings:
    """The settings of a private run; what no run may set together is left out."""
    values = {"privacy": "auto", **drawn, "min_cell": 0}
    if values.get("test_path"):
        values["leave_out"] = ""
    return Settings(**values)


def public_arrays(rng: np.random.Generator, width: int, classes: int) -> Iterator[tuple[str, dict[str, Array], Config]]:
    """Yields each private task of features with arrays that a server may send: usual ones, and the largest of all."""
    size = int(rng.integers(1, width + 1))
    scale = float(rng.choice([1e-6, 1.0, 1e6]))
    length = float(rng.choice([0.0, 1e-3, 1.0, 1e6]))

    def some(*shape: int) -> Array:
        return np.clip(length * rng.standard_normal(shape), -1e6, 1e6)

    basis = np.linalg.qr(rng.standard_normal((width, width)))[0][:, :size] if length < 2 else some(width, size)
    arrays = {"mean": some(width), "scale": np.full(width, scale), "basis": basis}
    yield "private_mean", arrays, {}
    yield "private_counts", arrays, {}
    yield "private_statistics", arrays, {"gram": False}
    yield "private_sums", {**arrays, "centre": some(size)}, {"gram": bool(rng.integers(2))}
    yield "private_gradient", {**arrays, "head": some(classes, size)}, {}


def table(rows: Sequence[tuple[str, str, Sequence[float | str]]], gone: str, columns: int = 2, **more: Any) -> Ward:
    """A ward of (patient, label, numbers)."""
    header = ("label", "patient_id", *(f"x{place}" for place in range(columns)))
    cells = tuple((label, name, *map(str, numbers)) for name, label, numbers in rows)
    return Ward(header, cells, tuple(name for name, _, _ in rows), gone, **more)
