"""One scenario under several seeds, in this process, with the ServerApp and the ClientApp that an app folder names."""

import logging
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl_core.config import Settings
from medtl_core.errors import RunError
from medtl_core.evaluation.result import Result
from medtl_core.events import Events
from medtl_core.run_folder import Run
from medtl_core.store import write_json

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    from medtl_core.data.faults import Fault
    from medtl_core.federation.method import Method

_LOG = logging.getLogger("medtl")

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class RunPlan:
    """What a run is to do, checked.

    A ConfigError says that the settings name a method that is not known, or one that they contradict.

    Attributes:
        seeds: number of repetitions; repetition i runs under `seed + i` of the settings.
        workers: hospitals that work at the same time.
        wire: whether every message takes a real round trip through its serialised form.
        out: absolute run folder; it must not exist yet, or be empty.
        app: folder with the `server` and `client` packages and the pyproject.toml that names the two apps.
        name: of the scenario, for titles.
    """

    settings: Settings
    seeds: int
    workers: int
    wire: bool
    out: Path
    app: Path
    name: str
    methods: "tuple[Method, ...]" = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        from medtl_core.federation.registry import chosen_methods

        object.__setattr__(self, "methods", chosen_methods(self.settings))


def load_apps(folder: Path) -> "tuple[ServerApp, ClientApp]":
    """Loads the two apps that a folder's pyproject.toml names, by reference, as Flower does.

    Raises:
        RunError: it names none, or what it names is not there or was loaded from another folder before.
    """
    from medtl_core.flower import compat

    try:
        declared = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        names = declared["tool"]["flwr"]["app"]["components"]
        return compat.load_app(str(names["serverapp"]), folder), compat.load_app(str(names["clientapp"]), folder)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunError(f"{folder}/pyproject.toml does not name the apps in [tool.flwr.app.components]") from error


def run_seeds(plan: RunPlan, run: Run, progress: Progress) -> list[Result]:
    """Runs every repetition of a plan and returns their results; the server app writes them into the run's folder.

    Raises:
        MedtlError: anything a user can mend.
    """
    apps, events = load_apps(plan.app), Events(run.events_path, progress)
    results = []
    for number in range(plan.seeds):
        seeded = plan.settings.replace(seed=plan.settings.seed + number)
        results.append(_repetition(apps, seeded, plan, run.seed_folder(seeded.seed), events))
        events.emit("seed", seed=seeded.seed, done=number + 1, of=plan.seeds)
    return results


def _repetition(
    apps: "tuple[ServerApp, ClientApp]", seeded: Settings, plan: RunPlan, folder: Path, events: Events
) -> Result:
    """One seed, as on any other road: only the settings reach the apps, only the files come back."""
    from medtl_core.flower.grid import FIRST_NODE, run_local

    names, faults = _hospitals(seeded)
    for fault in faults:
        _LOG.warning("left out: %s", fault)
    with _left_out() as told:
        run_local(
            *apps,
            node_configs=[{"partition-id": index, "num-partitions": len(names)} for index in range(len(names))],
            run_config=seeded.replace(out=str(folder), state=str(folder / "state")).public(),
            workers=plan.workers,
            wire=plan.wire,
            listener=lambda event: events.emit(**{"seed": seeded.seed, **event}),
        )
    faults = (*faults, *_by_cause(told))
    result = Result.read(folder / "result.json")
    if faults or result.failures:  # what the server does not know; in a simulation the files are this machine's own
        called = {f"node {FIRST_NODE + index}": name for index, name in enumerate(names)}
        failures = tuple(replace(failure, site=called.get(failure.site, failure.site)) for failure in result.failures)
        notes = (*result.data.notes, *(f"Left out: {fault.counted}." for fault in faults))
        result = replace(result, data=replace(result.data, notes=notes), failures=failures)
        write_json(folder / "result.json", result.as_dict())
    return result


@contextmanager
def _left_out() -> "Iterator[list[Fault]]":
    """What the hospitals of this process say to their log about cases that they cannot use."""
    told: list[Fault] = []

    def keep(record: logging.LogRecord) -> bool:
        if hasattr(record, "fault"):
            told.append(record.fault)
        return True

    _LOG.addFilter(keep)
    try:
        yield told
    finally:
        _LOG.removeFilter(keep)


def _by_cause(faults: "Iterable[Fault]") -> "Iterator[Fault]":
    """The same, each cause once with all its cases; a hospital that was opened twice tells its own once."""
    from medtl_core.data.faults import Fault

    places: dict[tuple[str, str], dict[str, None]] = {}
    for fault in faults:
        places.setdefault((fault.cause, fault.remedy), {}).update(dict.fromkeys(fault.places))
    return (Fault(*key, tuple(found)) for key, found in places.items())


def _hospitals(seeded: Settings) -> "tuple[list[str], tuple[Fault, ...]]":
    """The hospitals that the partition gives, and what cost rows; wrong or leaking data are refused at once."""
    from medtl_core.data.shared import check_sides, shared_parts, shared_source

    check_sides(seeded)
    source, parts = shared_source(seeded), shared_parts(seeded)
    return [site.name for site in parts.sites], source.faults
