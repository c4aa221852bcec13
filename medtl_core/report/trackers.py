"""A finished run's figures in TensorBoard or MLflow, written from the run's own record.

Neither library is imported before it is asked for, and nothing is sent anywhere but to the place that is typed.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from medtl_core.errors import ConfigError, RunError
from medtl_core.evaluation.result import Result
from medtl_core.report.examples import EMBEDDED
from medtl_core.report.folder import read_results
from medtl_core.report.promise import shown_settings
from medtl_core.store import file_names, read_json

#: Group of what is of no method: the exchanges with the hospitals, numbered as they came.
EXCHANGES = "exchanges"
#: What of an exchange and of a method's cost is told.
_COSTS = ("bytes_up", "bytes_down", "cpu_seconds")
#: Settings that name places on this machine.
_PLACES = ("data-path", "test-path", "weights", "cache", "out", "state")
#: Files of a run that go along to MLflow: figures alone, and no page that shows a case.
_FILES = ("report.html", "metrics.json")


@dataclass(frozen=True)
class TrackedPoint:
    """One number: of a method or of the exchanges, its name, its place in order (a seed or an exchange), its value."""

    group: str
    tag: str
    step: int
    value: float


@dataclass(frozen=True)
class Tracked:
    """What a run has to tell: its name, its settings as words, its versions, and all its numbers."""

    name: str
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    points: tuple[TrackedPoint, ...]


def tracked(folder: Path) -> Tracked:
    """Returns what a run folder has to tell.

    Raises:
        RunError: it holds no results.
    """
    results = sorted(read_results(folder), key=lambda result: result.seed)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    settings = {name: str(value) for name, value in shown_settings(results[0]).items() if name not in _PLACES}
    name = f"{config.get('name', '')}-{folder.resolve().name}".lstrip("-")
    return Tracked(name, settings, dict(results[0].versions), (*_points(results),))


def _points(results: Sequence[Result]) -> Iterator[TrackedPoint]:
    for result in results:
        for name, method in result.methods.items():
            told = {f"figures/{key}": value for key, value in method.judgement.figures.items()}
            told |= {f"cost/{key}": asdict(method.cost)[key] for key in (*_COSTS, "rounds")}
            for tag, value in told.items():
                if value is not None and isfinite(value):
                    yield TrackedPoint(name, tag, result.seed, float(value))
        several = f"seed-{result.seed}/" if len(results) > 1 else ""
        for step, exchange in enumerate(result.exchanges):
            for key in (*_COSTS, "seconds", "failures"):
                yield TrackedPoint(EXCHANGES, f"{several}{exchange.phase}/{key}", step, float(getattr(exchange, key)))


def to_tensorboard(folder: Path, place: Path) -> Path:
    """Writes a run below `place`, a folder for each method, and returns the run's own.

    Raises:
        ConfigError: TensorBoard is not installed.
        RunError: the run is there already, or has no results.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("--tensorboard needs TensorBoard; pip install 'medtl[tensorboard]'") from None
    run = tracked(folder)
    home = place / file_names([run.name])[run.name]
    if home.exists():
        raise RunError(f"{home} exists already; choose another folder")
    groups = dict.fromkeys(point.group for point in run.points)
    names = file_names(groups)
    for group in groups:
        writer: Any = SummaryWriter(log_dir=str(home / names[group]))
        for point in run.points:
            if point.group == group:
                writer.add_scalar(point.tag, point.value, point.step)
        if group != EXCHANGES:
            rows = "\n".join(f"| {name} | {value} |" for name, value in run.settings.items())
            writer.add_text("settings", f"| setting | value |\n|-|-|\n{rows}")
        writer.close()
    return home


def to_mlflow(folder: Path, place: str) -> str:
    """Writes a run into MLflow and returns the URI of its store: `place` if it is one, else a database in that folder.

    The store is the one that is typed, whatever MLflow's own variables say.

    Raises:
        ConfigError: MLflow is not installed.
        RunError: the run has no results, or MLflow refused it.
    """
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # read when it is imported
    try:
        import mlflow
        from mlflow.entities import Metric, Param, RunTag
    except ImportError:
        raise ConfigError("--mlflow needs MLflow; pip install 'medtl[mlflow]'") from None
    run, home = tracked(folder), Path(place).absolute()
    local = "://" not in place
    if local:
        home.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{home / 'mlflow.db'}" if local else place
    try:
        client: Any = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        known = client.get_experiment_by_name("medtl")
        where = {"artifact_location": (home / "files").as_uri()} if local else {}
        number = known.experiment_id if known else client.create_experiment("medtl", **where)
        one = client.create_run(number, run_name=run.name, tags={f"medtl.{k}": v for k, v in run.versions.items() if v})
        told, moment = one.info.run_id, int(one.info.start_time)
        params = [Param(name, value[:6000]) for name, value in run.settings.items()]
        metrics = [Metric(_key(point), point.value, moment, point.step) for point in run.points]
        for first in range(0, len(params), 100):
            client.log_batch(told, params=params[first : first + 100])
        for first in range(0, len(metrics), 1000):
            client.log_batch(told, metrics=metrics[first : first + 1000])
        client.log_batch(told, tags=[RunTag("medtl.notice", "Research software, not a medical device.")])
        for name in _FILES:
            if (folder / name).is_file() and EMBEDDED.encode() not in (folder / name).read_bytes():
                client.log_artifact(told, str(folder / name))
        client.set_terminated(told)
    except mlflow.MlflowException as error:
        raise RunError(f"MLflow at {uri} refused the run: {' '.join(str(error).split())[:300]}") from error
    return uri


def _key(point: TrackedPoint) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w./ -]", "-", f"{point.group}/{point.tag}")
