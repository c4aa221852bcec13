"""docs/extending.md, executed: the file it shows, put into a copy of the app, is a method like any other."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.deployed import ROOT, copy_app


def test_one_new_file_is_a_new_method(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (command,) = re.findall(r"^medtl simulate (.*)$", page, re.MULTILINE)
    app = copy_app(tmp_path)
    (app / "medtl_core" / "transfer" / "direction.py").write_text(code, encoding="utf-8")
    words = [*command.split(), "sites=3", "shots=12", "image-size=32", "features=4", "--json", "--app", "."]
    done = subprocess.run(
        [sys.executable, "-c", "from medtl_core.cli.app import main; main()", "simulate", *words],
        cwd=app, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    methods = json.loads(done.stdout)["methods"]
    assert set(methods) == {"direction", "nearest-mean", "discriminant"}
    assert methods["direction"]["balanced_accuracy"]["mean"] > 0.4  # chance is a third
    assert methods["direction"]["rounds"] == 2
