"""A copy of the app for runs with real processes: whatever the checkout is called, and nothing is written into it."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from medtl_core.cli.app_folder import write_app
from medtl_core.flower.processes.children import marked
from medtl_core.flower.processes.loopback import SITE

ROOT = Path(__file__).resolve().parents[1]


def copy_app(folder: Path) -> Path:
    """Writes the app to `folder`/medtl, as `medtl app` does, and returns that."""
    write_app(ROOT, folder / "medtl")
    return folder / "medtl"


#: Environment variable: a file with TASK--SITE; while it is there, the server stays at that reply.
HOLD = "MEDTL_TEST_HOLD"
#: A ServerApp that writes down what hospitals send, array by array, and is otherwise the real one.
LISTENING = """
import os
import time
from pathlib import Path

import numpy as np
from flwr.serverapp import ServerApp

from server.app import app as server_app

app = ServerApp()


@app.main()
def main(grid, context):
    folder, pull = Path(context.run_config["out"]) / "transcript", grid.pull_messages
    folder.mkdir(parents=True)
    held = Path(os.environ.get("HOLD", "nothing-is-held"))

    def heard(ids):
        replies = list(pull(ids))
        for reply in replies:
            if reply.has_content():
                arrays, about = reply.content.array_records["arrays"], reply.content.config_records["about"]
                task = reply.metadata.message_type.partition(".")[2]
                np.savez(folder / f"{task}--{about['site']}.npz", **{name: one.numpy() for name, one in arrays.items()})
                while held.is_file() and held.read_text() == f"{task}--{about['site']}":
                    time.sleep(0.05)
        return replies

    grid.pull_messages = heard
    server_app(grid, context)
"""


def listening_app(folder: Path) -> Path:
    """Returns a copy of the app whose server keeps its transcript in `out`/transcript, as TASK--SITE.npz."""
    app = copy_app(folder)
    (app / "listening").mkdir()
    (app / "listening" / "__init__.py").write_text("", encoding="utf-8")
    (app / "listening" / "app.py").write_text(LISTENING.replace("HOLD", HOLD), encoding="utf-8")
    project = app / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    for old, new in (
        ("server.app:app", "listening.app:app"),
        ('"server/**/*.py"', '"server/**/*.py", "listening/*.py"'),
    ):
        assert old in text
        text = text.replace(old, new)
    project.write_text(text, encoding="utf-8")
    return app


#: A ServerApp that sends what `out`.ask says to every node, one message after another, and writes the answers down as
#: `out`: of each question one a node, in the order of their ids.
ASKING = """
import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


def shown(reply):
    if reply.has_error():
        return {"error": reply.error.reason}
    words = {name: dict(row) for name, row in reply.content.config_records.items()}
    arrays = {name: [one.dtype, *one.shape] for name, one in reply.content.array_records["arrays"].items()}
    return {"error": "", **words, "arrays": arrays}


@app.main()
def main(grid, context):
    out, answers = Path(context.run_config["out"]), []
    while len(nodes := sorted(grid.get_node_ids())) < context.run_config["sites"]:
        time.sleep(0.1)
    for kind, group, *more in json.loads(out.with_suffix(".ask").read_text()):
        arrays, config = more or ({}, {})
        sent = ArrayRecord({name: Array(np.array(value, np.float64)) for name, value in arrays.items()})
        content = RecordDict({"arrays": sent, "config": ConfigRecord(config)})
        wanted = dict(zip(grid.push_messages([Message(content, node, kind, group_id=group) for node in nodes]), nodes))
        found = {}
        while wanted:
            time.sleep(0.1)
            for reply in grid.pull_messages(list(wanted)):
                found[wanted.pop(reply.metadata.reply_to_message_id)] = shown(reply)
        answers.append([found[node] for node in nodes])
    out.write_text(json.dumps(answers))
"""


def asking_app(folder: Path) -> Path:
    """Returns a copy of the app whose server asks whatever it is told to ask."""
    app = copy_app(folder)
    (app / "server" / "app.py").write_text(ASKING, encoding="utf-8")
    return app


def node_processes(home: Path, hospital: Path) -> list[int]:
    """Returns the ids of a hospital's processes, oldest first: the resident, its SuperNode, and who answers now."""
    wanted, found = f"{SITE}={hospital}".encode(), []
    for pid in sorted(marked(home)):
        with suppress(OSError):  # ended meanwhile
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def kill_node(home: Path, hospital: Path) -> None:
    """Ends a hospital's node and whatever it has started, as a power cut would: SIGKILL, nobody is told."""
    for pid in node_processes(home, hospital):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for(path: Path, patience: float) -> None:
    """Returns once a file is there."""
    end = time.monotonic() + patience
    while not path.is_file():
        assert time.monotonic() < end, f"{path} did not appear in {patience} s"
        time.sleep(0.05)
