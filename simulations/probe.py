"""One simulation in a process of its own, for the benchmark: prints its seconds and peak memory as one JSON line."""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def local(values: dict[str, Any]) -> None:
    """Runs on the in-process grid."""
    from client.app import app as client_app
    from medtl_core.config import settings
    from medtl_core.flower.grid import run_local
    from server.app import app as server_app

    chosen = settings(values)
    nodes = [{"partition-id": part, "num-partitions": chosen.sites} for part in range(chosen.sites)]
    run_local(server_app, client_app, node_configs=nodes, run_config=chosen.public(), workers=2)


def ray(values: dict[str, Any]) -> None:
    """Runs on Flower's own Ray simulation, two actors."""
    from medtl_core.config import settings
    from medtl_core.flower.ray import run_ray

    chosen = settings(values)
    run_ray(ROOT, chosen.sites, chosen.public())


def main() -> None:
    """Reads the road and the settings from the command line."""
    road, values = sys.argv[1], json.loads(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        values["out"] = folder
        started = time.perf_counter()
        {"local": local, "ray": ray}[road](values)
        seconds = time.perf_counter() - started
        if not (Path(folder) / "result.json").is_file():
            raise SystemExit(f"the {road} run left no result")
    # not getrusage: its peak is inherited from the process that started this one
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1e3
    sys.stdout.write(json.dumps({"seconds": seconds, "megabytes": peak}) + "\n")


if __name__ == "__main__":
    main()
