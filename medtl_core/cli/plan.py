"""From the words of a command line to the plan of a run."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from medtl_core.cli.fitting import fit
from medtl_core.config import Value, parsed, read_assignments, read_scenario, settings
from medtl_core.errors import ConfigError, DataError, did_you_mean, positive
from medtl_core.flower.run import RunPlan
from medtl_core.store import expanded, read_json

#: The scenario of a run that names neither a scenario nor data.
QUICKSTART = "quickstart"

#: Settings that are places; a relative one is meant from the current directory.
_PLACES = ("data-path", "test-path", "weights", "cache", "state")

#: Words after `--set` that are options of the run and not settings.
_OPTIONS: Mapping[str, type] = {"seeds": int, "workers": int, "wire": bool, "out": str}
_KINDS: Mapping[type, str] = {int: "a whole number", bool: "true or false"}


@dataclass(frozen=True)
class RunOrder:
    """What was typed: None where an option was left out.

    Attributes:
        scenario: a name in the app's `simulations/scenarios`, or the path of a TOML file.
        assignments: `key=value` words, from `--set` and after it.
        data: a folder, a file, or the catalog name of built-in data.
        seeds, workers, wire, out: as in `RunPlan`.
    """

    scenario: str | None = None
    assignments: Sequence[str] = ()
    data: str | None = None
    seeds: int | None = None
    workers: int | None = None
    wire: bool | None = None
    out: Path | None = None


def make_plan(order: RunOrder, app: Path, usual: Mapping[str, Value] | None = None) -> RunPlan:
    """Returns the plan of an order: scenario first, assignments over it, everything checked before anything starts.

    Args:
        order: what was typed.
        app: folder of the Flower app.
        usual: settings of this command that hold where neither the scenario nor an assignment says otherwise.

    Raises:
        ConfigError: a setting, method or scenario is unknown, or an option is given twice with different values.
        DataError: `data` is neither a place nor the name of a known set.
    """
    assigned = read_words(order.assignments)
    fitting = _of_records(assigned if order.data is None else name_data(order.data))
    scenario = order.scenario or (None if order.data or fitting else QUICKSTART)
    path = scenario_path(scenario, app) if scenario else None
    written = {**fitting, **(usual or {}), **(read_scenario(path) if path else {})}
    typed: dict[str, Any] = {**vars(order), "out": None if order.out is None else str(order.out)}
    options = {name: _option(name, typed[name], assigned.pop(name, None), written.pop(name, None)) for name in _OPTIONS}
    if order.data is not None:
        written |= name_data(order.data, str(written.get("data", "")))
    said = written | assigned
    chosen = settings({key: absolute(key, value) for key, value in said.items()})
    if chosen.data_path and not scenario:
        chosen = fit(chosen, said)
    name = path.stem if path else re.sub(r"[^\w.-]+", "-", chosen.data) or Path(chosen.data_path).stem
    return RunPlan(
        settings=chosen,
        seeds=options["seeds"] or 1,
        workers=options["workers"] or cores(),
        wire=bool(options["wire"]),
        out=new_folder(name) if options["out"] is None else expanded(options["out"]).absolute(),
        app=app,
        name=name,
    )


def name_data(text: str, named: str = "") -> dict[str, Value]:
    """Returns the settings that name a folder, a file or built-in data.

    Args:
        text: as given by a person.
        named: the data set that a scenario names already; it goes on naming what lies in the folder, unless it is
            built in.

    Raises:
        DataError: there is no such place and no such data set.
    """
    from medtl_core.data.catalog import catalog

    if not text.strip():
        raise DataError("the name of the data is empty; name their folder or file, '.' for this folder")
    check_name(text)
    if Path(text).exists():
        entry = catalog().get(named.partition(":")[0])
        return {"data": named if entry is not None and entry.files else "", "data-path": str(Path(text).absolute())}
    if text.partition(":")[0] in catalog():
        return {"data": text, "data-path": ""}
    raise DataError(
        f"there is no folder or file {text!r}, and no data set of that name; {did_you_mean(text, catalog())}"
    )


def check_name(text: str) -> None:
    """Refuses a name that cannot be written down.

    Raises:
        DataError: it is not UTF-8, as of an archive that an old system packed.
    """
    shown = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    if shown != text:
        raise DataError(f"the name {shown} is not UTF-8; rename the folder or file")


def _of_records(named: Mapping[str, Value]) -> dict[str, Value]:
    """Returns the settings that suit records, where the data named are such; an event is followed over time."""
    from medtl_core.data.catalog import catalog
    from medtl_core.data.readers import recognise
    from medtl_core.data.task import SCHEMA
    from medtl_core.formats.schema_file import read_schema, shipped

    name, path = (str(named.get(key, "")) for key in ("data", "data-path"))
    entry = catalog().get(name.partition(":")[0]) if name or not path else recognise(Path(path))
    if path and (Path(path) / SCHEMA).is_file():
        schema = read_schema(Path(path) / SCHEMA)
    elif entry is not None and entry.layout.kind == "records":
        schema = shipped(entry.name)
    else:
        return {}
    methods = "local,ridge,cox" if schema.time else "local,ridge,discriminant,records,fedavg-5,auto,pooled-logistic"
    return {"backbone": "table", "shots": 0, "methods": methods}


def scenario_path(scenario: str, app: Path) -> Path:
    """Returns the file of a scenario: a name in the app's `simulations/scenarios`, or a path."""
    if scenario.endswith(".toml") or os.sep in scenario:
        return Path(scenario)
    return app / "simulations" / "scenarios" / f"{scenario}.toml"


def read_words(words: Sequence[str]) -> dict[str, Value]:
    """Returns the settings and options of `key=value` words, none of them given two ways."""
    values: dict[str, Value] = {}
    for word in words:
        for key, value in read_assignments([word]).items():
            if key in values and values[key] != value:
                raise ConfigError(f"{key} is set to {values[key]} and to {value}; keep one")
            values[key] = value
    return values


def _option(name: str, typed: Value | None, assigned: Value | None, written: Value | None) -> Any:
    """Returns an option as typed or assigned, which must agree, else as the scenario has it."""
    kind = _OPTIONS[name]
    if isinstance(assigned, str):
        assigned = parsed(assigned, kind)
    if typed is not None and assigned is not None and typed != assigned:
        raise ConfigError(f"{name} is given as {typed!r} and as {assigned!r}; keep one")
    value = next((value for value in (typed, assigned, written) if value is not None), None)
    if value is None or kind is str:
        return None if value is None else str(value)
    if type(value) is not kind:
        raise ConfigError(f"{name}={value!r} must be {_KINDS[kind]}")
    if kind is int and isinstance(value, int):
        positive(**{name: value})
    return value


def absolute(key: str, value: Value) -> Value:
    """Returns a setting's value; a place that is meant from the current directory becomes absolute."""
    place = key in _PLACES and isinstance(value, str) and value not in ("", "off")
    return str(expanded(str(value)).absolute()) if place else value


def new_folder(name: str) -> Path:
    """Returns a folder below ./runs, named after a run and the moment, that does not exist yet."""
    stem = Path.cwd() / "runs" / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    place, number = stem, 1
    while place.exists():
        number += 1
        place = stem.with_name(f"{stem.name}-{number}")
    return place


def is_done(plan: RunPlan) -> bool:
    """Returns whether a plan's folder holds its finished run, under the same settings and seeds."""
    if not (plan.out / "metrics.json").is_file():
        return False
    stored = read_json(plan.out / "config.json")
    return bool(stored["settings"] == plan.settings.public() and stored["seeds"] == plan.seeds)


def cores() -> int:
    """Returns how many hospitals, or images, are worked on at the same time unless stated."""
    # More than eight hospitals at once rarely helps and multiplies memory.
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
