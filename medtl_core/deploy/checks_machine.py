"""What may be wrong with the machine: versions, memory, threads, its home folder, ports, and what computes features."""

import os
import platform
import socket
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from medtl_core.backbones.weights import weights_sha
from medtl_core.backbones.zoo import find_backbone
from medtl_core.data.readers import reader_of
from medtl_core.deploy.check import Check, CheckResult, Subject
from medtl_core.deploy.versions import fits, unfit
from medtl_core.errors import MedtlError
from medtl_core.runtime import processor

#: Bytes of memory that a hospital's processes take at work.
_MEMORY = 3 * 2**29
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_GROUP = Path("/sys/fs/cgroup")


def _versions(subject: Subject) -> Iterator[CheckResult]:
    del subject
    for name, here, asked in unfit():
        what = f"{name} {here} is installed, and medtl asks for {asked}" if here else f"{name} is not installed"
        yield CheckResult(what, f"pip install '{name}{asked}'", "fatal" if name == "flwr" else "fault")
    asked = metadata.metadata("medtl")["Requires-Python"] or ""
    if not fits(platform.python_version(), asked):
        yield CheckResult(f"this is Python {platform.python_version()}, and medtl asks for {asked}", "install that one")


def _memory(subject: Subject) -> Iterator[CheckResult]:
    del subject
    free = free_memory()
    if free < _MEMORY:
        yield CheckResult(
            f"only {free / 2**20:.0f} MiB of memory are free, and a run takes up to {_MEMORY / 2**20:.0f} MiB",
            "end what else runs here, or give the machine (or its container) more",
        )


def free_memory() -> float:
    """Returns the bytes of memory that a process may still take here; infinity where nobody says."""
    free = float("inf")
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            free = 1024.0 * int(line.split()[1])
    limit, used = _lines(_GROUP / "memory.max"), _lines(_GROUP / "memory.current")
    if limit and used and limit[0].isdecimal():
        free = min(free, float(limit[0]) - float(used[0]))
    return free


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _threads(subject: Subject) -> Iterator[CheckResult]:
    del subject
    for name in _THREADS:
        if os.environ.get(name, "1") != "1":
            yield CheckResult(
                f"{name}={os.environ[name]} has no effect here: medtl site run computes on one thread", "", "note"
            )


def _home(subject: Subject) -> Iterator[CheckResult]:
    del subject
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (pathlib's own raises where there is no home)
    if not (home.is_dir() and os.access(home, os.W_OK)):
        cure = "medtl keeps nothing there; weights that lie in a cache below it are not found: name them in `weights`"
        yield CheckResult(f"the home folder {home} is not there, or cannot be written", cure, "note")


def _ports(subject: Subject) -> Iterator[CheckResult]:
    """The loopback device, which the node's processes talk over, and the port of the status page."""
    for port in {0, subject.page}:
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            what = (
                f"port {port} of this machine, for the status page, is taken ({why})"
                if port
                else f"no loopback ({why})"
            )
            yield CheckResult(what, "name another port" if port else "bring up the loopback device (lo)", "fatal")


def _device(subject: Subject) -> Iterator[CheckResult]:
    if subject.hospital and subject.hospital.device != "auto":
        try:
            processor(subject.hospital.device)
        except MedtlError as error:
            yield CheckResult.of(error, 'set device = "auto"', "fault")


def _weights(subject: Subject) -> Iterator[CheckResult]:
    """Weights that are not there, or not those that are known."""
    hospital = subject.hospital
    if hospital is None:
        return
    place = Path(hospital.weights) if hospital.weights else None
    try:
        if place is None:
            if not _is_table(Path(hospital.data)):
                weights_sha(find_backbone("lite0"))
        elif place.is_dir():
            for file in sorted(place.rglob("*.safetensors")):
                weights_sha(find_backbone("lite0"), str(file))
        else:
            weights_sha(find_backbone("lite0"), str(place))
    except MedtlError as error:
        yield CheckResult.of(error, "bring the right file here, or correct `weights`", "fault")


def _is_table(data: Path) -> bool:
    try:
        return reader_of(data).name in ("table", "records", "signals", "notes")
    except MedtlError:
        return False


CHECKS = (
    Check("versions", _versions, quick=True, always=True),
    Check("memory", _memory, always=True),
    Check("threads", _threads, always=True),
    Check("home", _home, always=True),
    Check("ports", _ports, quick=True, always=True),
    Check("device", _device, seconds=45.0),
    Check("weights", _weights),
)
