"""A hospital's door with real processes: whoever may submit a run chooses messages and settings, never the code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.config import settings
from medtl_core.federation.private import terms_of
from medtl_core.federation.registry import find_method
from medtl_core.fingerprint import PROTOCOL_MARK
from medtl_core.flower.processes.children import tail
from medtl_core.flower.processes.loopback import SITE, Deployment
from medtl_core.privacy.ledger import LEDGER
from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.policy import Policy
from tests.deployed import asking_app, node_processes
from tests.hospital import made_hospital
from tests.privacy.made import write_tables

pytestmark = [
    pytest.mark.deployed, pytest.mark.door, pytest.mark.timeout(600), pytest.mark.usefixtures("clean_environment")
]  # fmt: skip

JOIN = ("query.join", PROTOCOL_MARK)
RUN: dict[str, Any] = {"data": "", "backbone": "table", "sites": 1, "shots": 20, "public-cases": 20, "privacy": "auto"}
#: What a foreign bundle would do wherever it is imported: it leaves a mark that tells whose process it was in.
MARKING = """
import os as _os, pathlib as _pathlib
(_pathlib.Path({folder!r}) / ("at-" + (_os.environ.get({site!r}) and "hospital" or "server"))).write_text("here")
"""
THIEF = """
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def steal(message, context):
    home = Path(str(context.node_config["hospital"]))
    loot = {name: (home / name).read_bytes().hex() for name in ("identity.key", "hospital.toml")}
    return Message(RecordDict({"loot": ConfigRecord(loot)}), reply_to=message)


app.query("join")(steal)
app.query("loot")(steal)
"""


class Door:
    """One hospital that allows next to nothing, its node, and whoever may submit a run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.data = folder, folder / "flower", folder / "north.csv"
        write_tables(folder, "north", patients=20)
        policy = Policy(max_epsilon=0.01, max_releases=0, require_private=True)
        self.hospital = folder / "north"
        self.deployment = Deployment([made_hospital(self.hospital, "north", self.data, policy=policy)], home=self.home)

    def ask(self, app: Path, *questions: tuple[str, str]) -> list[dict[str, Any]]:
        """One run of an app; returns what its server was answered."""
        out = self.folder / f"{app.parent.name}.json"
        out.with_suffix(".ask").write_text(json.dumps(questions), encoding="utf-8")
        values = {**RUN, "test-path": str(self.folder / "test.csv"), "out": str(out)}
        assert self.deployment.run(app, values, timeout=300) == "finished:completed"
        return [answer for (answer,) in json.loads(out.read_text(encoding="utf-8"))]

    def processes(self) -> list[int]:
        return node_processes(self.home, self.hospital)

    def log(self) -> str:
        return tail(self.home / "site-north.log", lines=10_000)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    made = Door(tmp_path_factory.mktemp("door"))
    with made.deployment:
        end = time.monotonic() + 120
        while "SuperNode ID" not in made.log():
            assert time.monotonic() < end, made.log()
            time.sleep(0.2)
        yield made


def test_a_bundle_with_other_code_is_neither_unpacked_nor_run_nor_installed(door: Door) -> None:
    app, marks = asking_app(door.folder / "thief"), door.folder / "marks"
    marks.mkdir()
    marking = MARKING.format(folder=str(marks), site=SITE)
    (app / "client" / "app.py").write_text(marking + THIEF, encoding="utf-8")
    core = app / "medtl_core" / "__init__.py"
    core.write_text(core.read_text(encoding="utf-8") + marking, encoding="utf-8")
    server = app / "server" / "app.py"
    server.write_text("import medtl_core\n" + server.read_text(encoding="utf-8"), encoding="utf-8")
    package = door.folder / "package"
    package.mkdir()
    (package / "setup.py").write_text(marking + "from setuptools import setup; setup(name='mark')", encoding="utf-8")
    project = app / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace("dependencies = [", f'dependencies = [\n  "mark @ {package.as_uri()}",', 1))
    joined, stolen, old, newer = door.ask(
        app, JOIN, ("query.loot", PROTOCOL_MARK), ("query.join", ""), ("query.join", "protocol-7")
    )
    assert [path.name for path in marks.iterdir()] == [
        "at-server"
    ]  # where whoever submits a run runs code of their own
    assert joined["about"]["site"] == "north"
    assert joined.keys() == {"error", "about", "arrays"}
    assert stolen.keys() == old.keys() == newer.keys() == {"error"}
    assert f"speaks protocol-7, this site {PROTOCOL_MARK}" in newer["error"]
    assert f"this site {PROTOCOL_MARK}" in old["error"]
    assert "is not unpacked" in door.log()
    assert not list(door.hospital.rglob("*.py"))  # no file of the bundle anywhere in the hospital's folder


def test_nobody_else_on_the_machine_takes_the_hospitals_messages(door: Door) -> None:
    _, node, *_ = door.processes()
    words = Path(f"/proc/{node}/cmdline").read_text(encoding="utf-8").split("\0")
    address = f"127.0.0.1:{words[words.index('--port') + 1]}"
    guess = f"from medtl_core.flower import compat; compat.task_source({address!r}, b'a guess')()"
    refused = subprocess.run([sys.executable, "-c", guess], capture_output=True, text=True, check=False)
    assert "401" in refused.stderr


def kill_answering(door: Door, before: int, delay: float) -> None:
    """Kills who answers the next message, some seconds after it has begun; nobody, where it has ended by then."""
    started = time.monotonic()
    while len(found := door.processes()) < before + 2:
        assert time.monotonic() - started < 200, door.log()
        time.sleep(0.005)
    time.sleep(delay)
    with suppress(ProcessLookupError):
        os.kill(found[-1], signal.SIGKILL)


def test_a_killed_process_costs_one_message_and_the_node_hears_of_it_at_once(door: Door) -> None:
    safe = door.data.rename(door.folder / "safe.csv")
    header, *rows = safe.read_text(encoding="utf-8").splitlines()
    door.data.write_text("\n".join([header, *rows * 20_000]), encoding="utf-8")  # takes seconds to read
    before = len(door.processes())
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(door.ask, asking_app(door.folder / "killed"), JOIN, JOIN)
        kill_answering(door, before, 0.1)
        safe.replace(door.data)
        killed = time.monotonic()
        lost, found = running.result()
    assert "died" in lost["error"]
    assert found["about"]["site"] == "north"
    assert time.monotonic() - killed < 50  # Flower alone notices after a minute
    assert len(door.processes()) == before


def test_whenever_a_process_is_killed_its_message_has_one_answer(door: Door) -> None:
    before, delays = len(door.processes()), np.linspace(0, 0.3, 12)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(door.ask, asking_app(door.folder / "whenever"), *[JOIN] * (len(delays) + 1))
        for delay in delays:
            kill_answering(door, before, delay)
            while len(door.processes()) > before and not running.done():
                time.sleep(0.005)
        answers = running.result()
    assert {answer["error"] for answer in answers} <= {"", "the process that answered died"}
    assert {answer["about"]["site"] for answer in answers if not answer["error"]} == {"north"}


def test_the_node_ends_with_a_resident_that_was_killed(door: Door) -> None:
    resident, *others = door.processes()
    assert others
    os.kill(resident, signal.SIGKILL)
    end = time.monotonic() + 60
    while door.processes():
        assert time.monotonic() < end, door.log()
        time.sleep(0.1)


#: What tells two hospitals apart whatever their patients are: their names, keys and the hashes of their ledgers.
OWN = ("site", "witness-hash", "identity", "identity-signature")
WIDTH, PATIENTS = 4, 24


def hostile_questions(values: dict[str, Any]) -> list[list[Any]]:
    """What a server may ask to learn of one patient from who answers: the right question, overflow, NaN, shapes."""
    plan = find_method("private-mean").plan(terms_of(settings(values), WIDTH, 2))  # type: ignore[attr-defined]
    config = {"method": "private-mean", "step": 0, "round": 1, "plan": plan.digest, "gram": False}
    right = {"mean": [0.0] * WIDTH, "scale": [1.0] * WIDTH, "basis": np.eye(WIDTH).tolist()}
    wide, big = np.zeros((WIDTH, 1)), 1e306
    wide[0] = np.sqrt(big)
    asked = [
        right,
        {**right, "scale": [1 / np.sqrt(big)] * WIDTH, "basis": wide.tolist()},
        {**right, "mean": [float("nan")] * WIDTH},
        *({**right, "mean": [[0.0] * WIDTH] * cases} for cases in (PATIENTS - 1, PATIENTS)),
        {**right, "head": [[0.0] * WIDTH]},
        {},
    ]
    return [[*JOIN], *(["train.private_statistics", PROTOCOL_MARK, arrays, config] for arrays in asked)]


def test_real_hospitals_that_differ_in_one_patient_are_not_told_apart(tmp_path: Path) -> None:
    write_tables(tmp_path, "north", patients=PATIENTS - 1)
    rows = (tmp_path / "north.csv").read_text(encoding="utf-8")
    (tmp_path / "south.csv").write_text(f"{rows}\n1,patient-extreme,south,train,9e12,-97.31", encoding="utf-8")
    policy = Policy(public_patients=20, require_private=True)
    nodes = [
        made_hospital(tmp_path / name, name, tmp_path / f"{name}.csv", policy=policy) for name in ("north", "south")
    ]
    out, place = tmp_path / "out.json", tmp_path / "place"
    base = {**RUN, "sites": 2, "privacy": "mean", "epsilon": 0.5, "out": str(out)}
    runs = [(base, hostile_questions(base)), (base | {"min-cell": 12}, [JOIN]), (base | {"cache": str(place)}, [JOIN])]
    kind, mark, arrays, config = hostile_questions(base)[1]
    keys = ["train.secure_keys", mark, arrays, config | {"inner": kind.partition(".")[2]}]
    runs.append((base | {"secure-sum": True}, [keys]))
    with Deployment(nodes, home=tmp_path / "flower") as deployment:
        for number, (values, questions) in enumerate(runs):
            out.with_suffix(".ask").write_text(json.dumps(questions), encoding="utf-8")
            app = asking_app(tmp_path / f"run-{number}")
            assert deployment.run(app, values, timeout=300) == "finished:completed"
            for question, pair in zip(questions, json.loads(out.read_text(encoding="utf-8")), strict=True):
                one, other = ({**answer, "about": without(answer.get("about", {}))} for answer in pair)
                assert one == other, question
                assert bool(one["error"]) == (number > 0 or question not in questions[:2]), question
    assert not place.exists()
    first, second = (balance(tmp_path / name / LEDGER) for name in ("north", "south"))
    assert (first.reserved, first.released, first.spent) == (second.reserved, second.released, second.spent)
    assert first.released == 1


def without(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name not in OWN}
