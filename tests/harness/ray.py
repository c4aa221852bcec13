"""Runs with `flwr run .` on this machine: a local SuperLink and Ray."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from medtl_core.errors import RunError
from medtl_core.flower.processes.children import Children, free_ports, words
from medtl_core.flower.processes.loopback import START, Submission, Values, name_link, start_link


def flwr_run(
    app: Path, run_config: Values, *, nodes: int, home: Path, timeout: float, cluster: Sequence[int] = ()
) -> str:
    """Runs `flwr run .` with a local SuperLink and Ray of its own; both are ended with it.

    `cluster` are the CPUs of each node of a Ray cluster to start before, its head first; none = Flower's own Ray.

    Flower's command exits with 0 also when the run failed; here the true status decides. It is "finished:completed", or
    the RunError ends with the last lines of the logs. Flower wants the app's folder named by letters, digits, hyphens.
    """
    # Ray's sockets need a short path, and others on this machine must not find the cluster in Ray's usual folder
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short, Children(home) as children:
        (port,) = free_ports(1)
        env = children.environment("flwr", FLWR_LOCAL_SUPERLINK_HTTP_API_PORT=str(port))
        name_link(Path(env["FLWR_HOME"]), 'address = ":local:"')
        if cluster:
            env["RAY_ADDRESS"] = _start_ray(children, cluster, short)
        # `flwr run` would start the same SuperLink, but waits only 15 s for it; it takes one that is there already
        start_link(children, port, env, "--simulation")
        simulation = {"num-supernodes": nodes, "client-resources-num-cpus": 1}
        if not cluster:
            simulation["init-args-num-cpus"] = 2
        job = Submission(children, env, "run", time.monotonic() + timeout)
        return job.run(app, run_config, ["--federation-config", words(simulation)])


def _start_ray(children: Children, cluster: Sequence[int], folder: str) -> str:
    """Starts the nodes of a Ray cluster, one after the other, and returns its address."""
    ports = free_ports(1 + 2 * len(cluster))
    address = f"127.0.0.1:{ports[0]}"
    for number, cpus in enumerate(cluster):
        head = ["--head", f"--port={ports[0]}", "--include-dashboard=false", f"--temp-dir={folder}"]
        place = [f"--address={address}"] if number else head
        more = [f"--num-cpus={cpus}", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        more += [
            f"--dashboard-agent-listen-port={ports[1 + 2 * number]}",
            f"--metrics-export-port={ports[2 + 2 * number]}",
        ]
        first = 33000 + 1000 * number
        more += [f"--min-worker-port={first}", f"--max-worker-port={first + 999}"]
        process = children.start(f"ray-{number}", ["ray", "start", *place, *more], children.environment("ray"))
        end = time.monotonic() + START
        while "Ray runtime started" not in children.log(f"ray-{number}").read_text(encoding="utf-8", errors="replace"):
            if process.poll() is not None or time.monotonic() > end:
                raise RunError(f"node {number} of the Ray cluster did not start\n{children.tails()}")
            time.sleep(0.1)
    return address
