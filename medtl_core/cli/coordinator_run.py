"""`medtl coordinator run`: a study with hospitals that have enrolled, shown as it goes, with a true exit code."""

import os
import shlex
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medtl_core.cli import console
from medtl_core.cli.app_folder import installed_app
from medtl_core.cli.plan import absolute, read_words, scenario_path
from medtl_core.cli.site_check import beside_loopback
from medtl_core.config import Settings, Value, read_assignments, read_scenario, settings
from medtl_core.errors import ConfigError
from medtl_core.federation.registry import check_effect

if TYPE_CHECKING:
    from medtl_core.evaluation.result import Result
    from medtl_core.report.summary import Summary

#: What a scenario says of simulated hospitals and their cases; real ones have their own.
_SIMULATED = ("data", "sites", "partition", "alpha", "seeds", "workers", "wire", "out", "leave-out")
#: Settings that are no person's to set here, and what sets them.
_GIVEN = {
    "sites": "--hospitals says who takes part",
    "out": "results go into the coordinator's folder; --name names the run",
    "state": "what the server remembers is in the coordinator's folder",
    "data-path": "cases lie at the hospitals; test-path names the coordinator's own",
}


def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's own folder.")],
    words: console.Words = None,
    assignments: console.Assignments = None,
    hospitals: Annotated[str, typer.Option(metavar="A,B,...", help="Who takes part; usual: all enrolled.")] = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait for all of them to be there.")] = 60.0,
    name: Annotated[str, typer.Option(help="Of the run, and its folder in DIR/runs.")] = "",
    as_json: console.AsJson = False,
    quiet: console.Quiet = False,
) -> None:
    """Run a study with the hospitals named, and no others; exit code 0 says that all took part to the end."""
    from medtl_core.deploy.coordinator import read_coordinator
    from medtl_core.deploy.federated_run import Federation, await_hospitals, one_run
    from medtl_core.run_folder import create_run

    coordinator, app = read_coordinator(folder), installed_app()
    scenario, pairs = console.scenario_and_settings(words or (), assignments or ())
    chosen = _settings(scenario, pairs, app)
    check_effect(read_words(pairs), chosen)
    quieten(coordinator.folder / "flower")
    signal.signal(signal.SIGTERM, _terminated)
    log = console.console_of(stderr=True, quiet=quiet)
    named = tuple(filter(None, (word.strip() for word in hospitals.split(","))))
    with one_run(coordinator):
        nodes = await_hospitals(coordinator, named, wait, lambda text: console.say(log, f"waiting for {text}"))
        title = name or f"{scenario or 'run'}-{datetime.now():%Y%m%d-%H%M%S}"
        console.say(log, f"{title}: {len(nodes)} hospitals: {', '.join(nodes)}")
        shown = _Shown(log)
        with create_run(coordinator.runs / title) as place, redirect_stdout(sys.stderr):
            federation = Federation(coordinator, nodes, chosen, app, _again(folder, scenario, pairs, nodes))
            place.begin(
                {"name": title, "begun": f"{date.today()}", "seeds": 1, "workers": 1, "settings": chosen.public()}
            )
            result = federation.run(place, shown.tell)
            summary = _finish(place, result, title)
    _show(summary, coordinator.runs / title, as_json=as_json)
    _tell_lost(result, nodes, quorum_typed="quorum" in read_assignments(pairs))


def _settings(scenario: str | None, pairs: list[str], app: Path) -> Settings:
    """The settings of a run: a scenario's, less what concerns simulated hospitals, under what was typed."""
    typed = read_assignments(pairs)
    for word, why in _GIVEN.items():
        if word in typed:
            raise ConfigError(f"{word} is not set here: {why}")
    read: Mapping[str, Value] = read_scenario(scenario_path(scenario, app)) if scenario else {}
    kept = {key: value for key, value in read.items() if key not in _SIMULATED}
    values = {"data": "", **kept, **typed}
    chosen = settings({key: absolute(key, value) for key, value in values.items()})
    if not (chosen.test_path or chosen.data):
        raise ConfigError(
            "the coordinator judges on cases of its own: name their folder with test-path=FOLDER; with test=sites the "
            "hospitals judge on theirs, and that folder only says which classes there are"
        )
    return chosen


def _again(folder: Path, scenario: str | None, pairs: list[str], hospitals: Iterable[str]) -> str:
    """Returns the command that runs the same with the same hospitals; its folder gets another name."""
    words = [*filter(None, [scenario]), *pairs, "--hospitals", ",".join(hospitals)]
    return shlex.join(["medtl", "coordinator", "run", str(folder), *words])


def _finish(place: Any, result: "Result", title: str) -> "Summary":
    """Writes metrics and report as a simulation does."""
    from medtl_core.report.folder import read_context
    from medtl_core.report.page import render
    from medtl_core.report.summary import summarise

    summary = summarise([result], title)
    place.finish(summary.as_dict(), render(summary, [result], read_context(place.folder, [result])))
    return summary


def _show(summary: "Summary", place: Path, *, as_json: bool) -> None:
    if as_json:
        console.show_json(summary.as_dict())
    else:
        from medtl_core.report.terminal import summary_table

        console.show(summary_table(summary), f"report      {place / 'report.html'}", f"run folder  {place}")


def _tell_lost(result: "Result", nodes: Mapping[str, int], *, quorum_typed: bool) -> None:
    """Says who did not take part to the end; the exit code is 1 then, unless the person has set a quorum."""
    called = {f"node {node}": site for site, node in nodes.items()}  # whose answer to "join" says no name
    lost = {called.get(fault.site, fault.site): f"{fault.code}: {fault.text}" for fault in result.failures}
    lost |= {site: "did not join" for site in nodes if site not in result.sites and site not in lost}
    log = console.console_of(stderr=True)
    for site, why in lost.items():
        console.say(log, f"failed: {site}: {why}")
    if lost and quorum_typed:
        console.say(log, f"finished without {', '.join(lost)}, as the quorum set allows")
    elif lost:
        console.say(log, "finished, but not with everybody named; set quorum=... to allow it, or run again")
        raise typer.Exit(1)


class _Shown:
    """Says what happens in a run, line by line: who joins, how each phase went, who drops out."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def tell(self, event: Mapping[str, Any]) -> None:
        """Says one event; passes over those it does not know."""
        kind, phase = event.get("kind"), event.get("phase")
        if kind == "site":
            console.say(self._log, f"{phase}: {event['site']} ({event['done']} of {event['of']})")
        elif kind == "failure":
            console.say(self._log, f"{phase}: {event['site']} dropped out: {event['code']}: {event['text']}")
        elif kind == "exchange":
            answered = f"{event['replies']} answered" + (f", {event['failures']} failed" if event["failures"] else "")
            console.say(self._log, f"{phase}: {answered} in {event['seconds']:.1f} s")


def quieten(home: Path) -> None:
    """Lets Flower, which is imported later, say nothing to its makers, install nothing, and write below a folder."""
    home.mkdir(mode=0o700, exist_ok=True)
    names = ("FLWR_DISABLE_UPDATE_CHECK", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION")
    os.environ.update(dict.fromkeys(names, "1"), FLWR_TELEMETRY_ENABLED="0", FLWR_HOME=str(home))
    beside_loopback()


def _terminated(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)
