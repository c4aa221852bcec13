"""What a person at a terminal sees: tables that fit it, and no folder of a run that never began."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.cli.conftest import Call

COMMAND = f"{sys.executable} -m medtl_core.cli.app"


def shown(command: str, columns: int = 80) -> list[str]:
    """The lines that a terminal of so many columns shows of a shell's command."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    quiet = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    child = subprocess.Popen(["sh", "-c", command], stdin=theirs, stdout=theirs, stderr=theirs, env=quiet)
    os.close(theirs)
    content = b""
    try:
        while part := os.read(ours, 65536):
            content += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert child.wait() == 0
    return content.decode().replace("\r\n", "\n").splitlines()


def test_a_pipe_beside_a_terminal_is_as_wide_as_it_and_a_file_keeps_every_row_whole(tmp_path: Path) -> None:
    lines = shown(f"{COMMAND} settings | cat; {COMMAND} settings > {tmp_path / 'settings'}")
    assert len(lines) > 60 and max(map(len, lines)) == 80
    rows = (tmp_path / "settings").read_text(encoding="utf-8").splitlines()
    assert len(rows) < len(lines) and max(map(len, rows)) > 200


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_asked_no_hospital_leaves_no_folder(call: Call, tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "run").mkdir()
    words = ("simulate", "quickstart", "image-size=32", "weights=/nowhere", "--out", str(tmp_path / "run"), "--quiet")
    code, told = call(*words)
    assert code == 1 and "does not exist" in told
    assert [*tmp_path.rglob("*")] == [tmp_path / "run"] * there


def test_a_command_whose_output_is_closed_does_its_work(tmp_path: Path) -> None:
    ended = subprocess.run(["sh", "-c", f"{COMMAND} settings >&-"], capture_output=True, text=True, check=False)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 0
