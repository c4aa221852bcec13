"""One simulation in a process of its own, for the benchmark: one JSON line of its seconds, CPU and peak memory.

Both roads are timed from the first import to the result, as who starts a simulation waits for it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medtl_core.events import Listener

ROOT = Path(__file__).resolve().parents[1]


def local(values: dict[str, Any], workers: int = 2, listener: "Listener | None" = None) -> None:
    """Runs both apps on the in-process grid."""
    from client.app import app as client_app
    from medtl_core.config import settings
    from medtl_core.flower.grid import run_local
    from server.app import app as server_app

    chosen = settings(values)
    nodes = [{"partition-id": part, "num-partitions": chosen.sites} for part in range(chosen.sites)]
    config = chosen.public()
    run_local(server_app, client_app, node_configs=nodes, run_config=config, workers=workers, listener=listener)


def ray(values: dict[str, Any]) -> None:
    """Runs on Flower's own Ray simulation, two actors."""
    from medtl_core.config import settings
    from simulations.ray import run_ray

    chosen = settings(values)
    run_ray(ROOT, chosen.sites, chosen.public())


def measured(road: str, values: dict[str, Any]) -> dict[str, float]:
    """Runs one simulation in a process of its own and returns its "seconds", seconds of "cpu" and "megabytes"."""
    command = [sys.executable, "-m", "simulations.probe", road, json.dumps(values)]
    # modules compiled once, as pip installs them, and not anew in each process that starts
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, check=False)
    with suppress(IndexError, ValueError):
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return found
    raise SystemExit(f"the {road} probe failed:\n{done.stderr[-3000:]}")


def main() -> None:
    """Reads the road and the settings from the command line."""
    road, values = sys.argv[1], json.loads(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        values["out"] = folder
        started, spent = time.perf_counter(), time.process_time()
        {"local": local, "ray": ray}[road](values)
        found = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - spent}
        if not (Path(folder) / "result.json").is_file():
            raise SystemExit(f"the {road} run left no result")
    # not getrusage: its peak is inherited from the process that started this one
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1e3
    sys.stdout.write(json.dumps({**found, "megabytes": peak}) + "\n")


if __name__ == "__main__":
    main()
