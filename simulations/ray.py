"""The same apps on Flower's own Ray simulation: slower to start than `LocalGrid`, but with a process per hospital."""

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from flwr.app import UserConfigValue

from medtl_core.errors import MedtlError, RunError
from medtl_core.flower import compat
from medtl_core.runtime import quiet


def run_ray(app: Path, hospitals: int, run_config: Mapping[str, UserConfigValue]) -> None:
    """Runs an app folder's `server.app:app` and `client.app:app` on Ray, driven from this process.

    One CPU per hospital at work. What the run found lies in the folder `run_config["out"]`, as on every other road.
    Keys must stand in the `[tool.flwr.app.config]` of the folder's pyproject.

    Raises:
        RunError: Ray is not installed, or the ServerApp or the simulation itself raised.
    """
    if find_spec("ray") is None:
        raise RunError("Ray is not installed: pip install 'medtl[ray]', or run without it on the in-process grid")
    # Ray reports usage over the network unless told not to; its workers inherit the environment
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with quiet("flwr", logging.WARNING):
            _simulated(app, hospitals, run_config)
    except Exception as error:
        text = str(error) if isinstance(error, MedtlError) else f"{type(error).__name__}: {error}"
        raise RunError(f"the run on Ray failed: {text}") from error


def _simulated(app: Path, hospitals: int, run_config: Mapping[str, UserConfigValue]) -> None:
    """Runs the two apps on Flower's own Ray simulation in this process.

    Flower's public `run_simulation` leaves the run config empty, hence the private one. Needs the extra `medtl[ray]`.
    """
    from flwr.simulation.run_simulation import _run_simulation
    from flwr.supercore import telemetry
    from flwr.supercore.constant import NOOP_FEDERATION_ID

    # read from the environment only when first imported, and on unless told otherwise
    telemetry.FLWR_TELEMETRY_ENABLED = os.getenv("FLWR_TELEMETRY_ENABLED", "0")

    run = compat.empty_run(1)
    run.primary_task_id, run.federation_id, run.override_config = 1, NOOP_FEDERATION_ID, dict(run_config)
    compat.take_identity(1, 1)
    _run_simulation(
        num_supernodes=hospitals,
        exit_event=telemetry.EventType.PYTHON_API_RUN_SIMULATION_LEAVE,
        client_app_attr="client.app:app",
        server_app_attr="server.app:app",
        app_dir=str(app),
        is_app=True,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        server_app_context=compat.node_context(1, 1, {}, dict(run_config)),
        run=run,
    )
