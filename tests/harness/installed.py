"""The built wheel in an environment of its own, where the checkout cannot be seen."""

import os
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Installed:
    """An environment that holds the built wheel; what the wheel depends on is lent by the environment of the tests."""

    def __init__(self, folder: Path) -> None:
        self.python, self.work = folder / "env" / "bin" / "python", folder / "empty"
        self.work.mkdir()
        self.home = folder / "home"
        run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
        (site,) = (folder / "env" / "lib").glob("python*/site-packages")
        # a folder that a .pth file names is searched, but its own .pth files are not read: no editable install shows
        (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = (self.python, "-m", "pip")
        run(*pip, "wheel", "-q", "--no-deps", "-w", folder / "dist", ROOT, cwd=folder)
        run(*pip, "install", "-q", "--no-deps", "--no-index", *(folder / "dist").iterdir(), cwd=folder)
        for command in distribution("flwr").entry_points.select(group="console_scripts"):
            script = self.python.with_name(command.name)
            script.write_text(f"#!{self.python}\nfrom {command.module} import {command.attr}\n{command.attr}()\n")
            script.chmod(0o755)

    def medtl(self, *words: str | Path) -> str:
        """Runs the installed command in the empty folder and returns what it printed."""
        return run(self.python.with_name("medtl"), *words, cwd=self.work, home=self.home)


def run(*words: str | Path, cwd: Path, home: Path | None = None) -> str:
    """Runs a command without the checkout on its path, and returns what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"MEDTL_CACHE": str(home), "MEDTL_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout
