"""A shell completes medtl's words: bash is asked as it asks itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli

ROOT = Path(__file__).resolve().parents[2]


def completed(folder: Path, words: str) -> list[str]:
    """What bash offers after these words, with a `medtl` of this checkout on its path."""
    tool = folder / "medtl"
    tool.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m medtl_core.cli.app "$@"\n')
    tool.chmod(0o755)
    script = CliRunner().invoke(cli.app, ["completion", "bash"]).stdout
    parts = words.split(" ")
    asked = (
        f"COMP_WORDS=({' '.join(repr(part) for part in parts)})\nCOMP_CWORD={len(parts) - 1}\n_medtl_completion medtl\n"
    )
    (folder / "ask.sh").write_text(script + asked + 'printf "%s\\n" "${COMPREPLY[@]}"\n')
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", "ask.sh"], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return ended.stdout.split()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    assert completed(tmp_path, "medtl pre") == ["predict"]
    assert {"--prevalence"} == {*completed(tmp_path, "medtl predict --prev")}
    assert completed(tmp_path, "medtl ledger sh") == ["show"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str) -> None:
    ended = CliRunner().invoke(cli.app, ["completion", shell])
    assert ended.exit_code == 0 and "_MEDTL_COMPLETE" in ended.stdout
    assert CliRunner().invoke(cli.app, ["completion", f"{shell}x"]).exit_code == 1
