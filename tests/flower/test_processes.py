"""What the harness of real processes promises: nothing outlives the context."""

import sys
import time
from pathlib import Path

import pytest

from medtl_core.flower.processes.children import Children, marked, tail

DETACHED = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("\\x1b[31mstarted\\x1b[0m", flush=True)
time.sleep(60)
"""


def test_detached_processes_end_with_the_context(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Children(tmp_path) as children:
        command = [Path(sys.executable).name, "-c", DETACHED]
        process = children.start("python", command, children.environment("flwr"))
        end = time.monotonic() + 60
        while "started" not in tail(children.log("python")) and time.monotonic() < end:
            time.sleep(0.05)
        assert len(marked(tmp_path)) == 2
        assert not children.ended()
        raise KeyError
    assert process.returncode is not None
    assert not marked(tmp_path)
    assert children.tails() == "--- python.log\nstarted"
