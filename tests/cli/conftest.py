"""The command line, called in this process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medtl_core.cli import app as cli

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line and returns its exit code and everything it showed."""

    def run(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medtl", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        shown = capsys.readouterr()
        return stopped.value.code if isinstance(stopped.value.code, int) else 0, shown.out + shown.err

    return run
