"""What only all cases together show: what is wrong with data as a whole, and what a person should look at.

Nothing is changed by what a person should look at: it is a sentence, and names no patient.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.faults import Faults
from medtl_core.data.names import alike
from medtl_core.data.task import Statement
from medtl_core.errors import DataError
from medtl_core.formats.alike import look_of_class, look_of_name
from medtl_core.values import MULTI_LABEL, Array, Examples

#: A column of a table that varies less, by itself or ten times less beside its mean, is lost in rounding.
SMALLEST = 1e-4
#: More classes than this, and than half of the cases, are no classes.
_CLASSES, NO_CLASSES = 20, "are no classes"
#: Fewest values of a hospital that say where its values lie, and most different ones that are codes.
_VALUES, _CODES = 10, 4
#: Rows of a table that are looked at together.
_BLOCK = 1 << 16
#: Share of a table's rows that are equal to others by more than chance.
_TWICE = 0.05
#: Share of patients with rows of several classes, up to which these may be slips.
_FEW = 0.1
#: Signals that are so many times as large as others are in another unit; leads of electrocardiograms, and mV by which
#: none of these spreads.
_LOUDER, _LARGEST_MV = 100, 20
_LEADS = frozenset(("i", "ii", "iii", "avr", "avl", "avf", "mlii", *(f"v{number}" for number in range(1, 7))))
#: Percent of a hospital's values that say so.
_MIDDLE = (5, 95)


def look_over(
    left: Examples, columns: Sequence[str], stated: Statement | None, faults: Faults, rows: NDArray[np.int64]
) -> tuple[str, ...]:
    """Notes what is wrong with all usable cases together, and returns in sentences what is doubtful.

    Args:
        left: the cases that can be used.
        columns: names of those of its table.
        stated: what `task.json` says.
        faults: where it is noted.
        rows: of these cases among all that were read, int64 [n].
    """
    if not len(left):
        return ()
    classes, sites = left.task.classes, np.unique(left["site"]).tolist()
    if len(classes) < 2:
        faults.whole("all cases are of one class", "cases of two are needed, or task.json with all classes")
    if stated is None and len(classes) > max(_CLASSES, len(left) // 2):
        cause = f"{len(classes)} classes in {len(left)} cases {NO_CLASSES}"
        faults.whole(
            cause, "give the name 'label' to the column that says what a case shows, or state the classes in task.json"
        )
    if stated and stated.one_patient_a_row and len(np.unique(left["patient"])) < len(left):
        faults.whole("task.json says one patient a row, and a patient has several", "mend patient_id, or task.json")
    for kind, groups in (("classes", alike(classes, look_of_class)), ("hospitals", alike(sites, look_of_name))):
        for group in groups:
            faults.whole(f"the {kind} {' and '.join(map(repr, group))} look alike", "spell them the same, or otherwise")
    for name, column in zip(columns, left["table"].T if "table" in left.columns else (), strict=False):
        known = column[np.isfinite(column)]
        spread = float(known.std()) if len(known) else 0.0
        if 0.0 < spread < max(SMALLEST, SMALLEST * 0.1 * abs(float(known.mean()))):
            faults.whole(
                f"column {name!r} varies by only {spread:.1g}", "give it in a smaller unit, or less its usual value"
            )
    named = {"path": "an image", "note_key": "a note"}
    for name in [name for name in named if name in left.columns][:1]:
        _, first, image = np.unique(left[name], return_index=True, return_inverse=True)
        told = left.columns.get("labels", left["label"][:, None])
        several = np.isin(image, image[(told != told[first][image]).any(axis=1)]) & (left[name] != "")
        cause, remedy = f"{named[name]} is listed with several labels", "keep the row with the right one"
        faults.case(rows[several], cause, remedy)
    return tuple(_doubts(left, columns))


def _doubts(left: Examples, columns: Sequence[str]) -> Iterator[str]:
    """What a person should look at: hospitals without a class in common, columns that two of them mean otherwise."""
    at = {site: np.flatnonzero(left["site"] == site) for site in np.unique(left["site"]).tolist()}
    only = [site for site, rows in at.items() if (left["split"][rows] == "test").all()]
    if 0 < len(only) < len(at):
        yield f"All cases of {_listed(only)} are test cases: it judges and does not train."
    if left.task.kind == MULTI_LABEL:
        shown = (left["labels"] == 1).any(axis=0).tolist()
        if gone := [name for name, there in zip(left.task.classes, shown, strict=True) if not there]:
            yield f"No case shows {_listed(gone)}."
    else:
        yield from _classes(left, at)
    yield from _patients(left, columns)
    if "signal" in left.columns:
        yield from _units(left["signal"], at, {name.partition(":")[2].partition("@")[0].lower() for name in columns})
    for place, name in enumerate(columns if "table" in left.columns else ()):
        values = {site: _known(left["table"][rows, place]) for site, rows in at.items()}
        if pair := _otherwise({site: own for site, own in values.items() if len(own) >= _VALUES}):
            one, other = pair
            yield f"Column {name!r} holds other values at {one!r} than at {other!r}: another unit, code or column?"


def _patients(left: Examples, columns: Sequence[str]) -> Iterator[str]:
    """What is doubtful about cases that are there twice, patients of several classes, and one patient of all cases."""
    if "path" in left.columns and (count := int((left["path"] != "").sum()) - len({*left["path"].tolist()} - {""})):
        yield f"{count} rows name an image that another row names, too: it counts several times."
    again = len(left) - len({*_rows(left)}) if "table" in left.columns and len(columns) > 1 else 0
    if again and _TWICE * len(left) <= again <= len(left) / 2:
        yield f"{again} rows are equal to another one: if that is the same patient, test cases may be training cases."
    patients = len(np.unique(left["patient"]))
    if {"table", "path"} & {*left.columns} and 0 < (count := _unlike(left)) <= _FEW * patients:
        yield f"{count} patients have rows of several classes: if a patient is of one, mend the others."
    if patients == 1 < len(left):
        yield "All cases are of one patient, so that nobody is left to judge on: whose are they?"


def _units(waves: Array, at: Mapping[str, NDArray[np.int64]], leads: Collection[str]) -> Iterator[str]:
    """What the sizes of signals [n, t, leads] say of their unit, which nothing else tells."""
    spread = np.asarray([np.median(wave.std(axis=0)) for wave in waves])  # one by one, for they may fill the memory
    usual = {site: float(np.median(spread[rows])) for site, rows in at.items()}
    above, below = max(usual, key=usual.__getitem__), min(usual, key=usual.__getitem__)
    if usual[above] > _LOUDER * usual[below] > 0:
        times = f"about {usual[above] / usual[below]:.0f} times as large as at {below!r}"
        yield f"The signals at {above!r} are {times}: another unit, such as uV among mV?"
    elif usual[above] > _LARGEST_MV and _LEADS & {*leads}:
        large = f"spread by {usual[above]:.3g}, as no electrocardiogram in mV does"
        yield f"The signals at {above!r} {large}: are they in uV?"
    for site, rows in at.items():
        if count := int((spread[rows] > _LOUDER * usual[site]).sum() * (usual[site] > 0)):
            large = f"are more than {_LOUDER} times as large as the others"
            yield f"{count} signal(s) at {site!r} {large}: another unit, or noise?"


def check_rows(train: Examples, test: Examples) -> None:
    """Refuses test cases of a table most of which are training cases, where nothing says whose they are.

    Rows that are equal by chance are few where those of the training cases are mostly different.

    Raises:
        DataError: counts them.
    """
    rows, again = [*_rows(train)], [*_rows(test)]
    count = sum(map({*rows}.__contains__, again))
    if 2 * count > len(again) and 2 * len({*rows}) > len(rows):
        raise DataError(f"{count} of {len(again)} test cases are equal to training cases: name patients, or other data")


def _unlike(cases: Examples) -> int:
    """How many patients have cases of several classes."""
    pairs = np.unique(np.stack([np.unique(cases["patient"], return_inverse=True)[1], cases["label"]]), axis=1)
    return int((np.bincount(pairs[0]) > 1).sum())


def _rows(cases: Examples) -> Iterator[int]:
    """A number of each row of a table and its label: equal rows, equal numbers."""
    for rows in np.array_split(np.arange(len(cases)), len(cases) // _BLOCK + 1):
        yield from map(hash, map(bytes, np.column_stack([cases["table"][rows], cases["label"][rows]])))


def _classes(left: Examples, at: Mapping[str, NDArray[np.int64]]) -> Iterator[str]:
    classes, there = left.task.classes, {site: frozenset(left["label"][rows].tolist()) for site, rows in at.items()}
    first = {labels: site for site, labels in reversed(there.items())}
    for one, other in combinations(first, 2):
        if not one & other:
            names = f"{first[one]!r} and {first[other]!r}"
            yield f"The hospitals {names} have no class in common: do they call the same otherwise?"
            break
    if alone := [site for site in at if len(there[site]) == 1 < len(classes)]:
        yield f"All cases are of one class at {_listed(alone)}."
    if gone := [name for number, name in enumerate(classes) if not any(number in labels for labels in first)]:
        yield f"No case is of the class {_listed(gone)}."
    trained = {*left["label"][left["split"] != "test"].tolist()}
    if new := [classes[number] for number in sorted(frozenset[int]().union(*first) - trained) if trained]:
        yield f"All cases of the class {_listed(new)} are test cases: nobody trains on it."
    judged = {*left["label"][left["split"] == "test"].tolist()}
    if unjudged := [classes[number] for number in sorted(trained - judged) if judged]:
        yield f"No test case is of the class {_listed(unjudged)}: no figure tells how it is recognised."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.isfinite(values)]


def _otherwise(values: Mapping[str, NDArray[np.float64]]) -> tuple[str, str] | None:
    """Two hospitals whose values of a column differ as those of one measurement do not."""
    if len(values) < 2:
        return None
    codes = {frozenset(np.unique(own).tolist()): site for site, own in values.items()}
    if len(frozenset[float]().union(*codes)) <= _CODES:
        return next(((codes[one], codes[two]) for one, two in combinations(codes, 2) if one - two and two - one), None)
    ends = {site: np.percentile(own, _MIDDLE) for site, own in values.items()}
    above, below = max(ends, key=lambda site: ends[site][0]), min(ends, key=lambda site: ends[site][1])
    return (above, below) if ends[above][0] > ends[below][1] else None
