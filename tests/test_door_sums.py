"""Sums at a hospital's door with real processes: a server with two stories, the noise's source, whom a sum counts."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl_core.errors import RunError
from medtl_core.fingerprint import PROTOCOL_MARK
from medtl_core.privacy.ledger import LEDGER
from medtl_core.privacy.ledger_report import balance, ledgers
from medtl_core.privacy.policy import Policy
from tests.deployed import asking_app, copy_app
from tests.harness.processes import Deployment
from tests.hospital import made_hospital
from tests.privacy.made import write_tables
from tests.test_private_deployed import PATIENCE, POLICY, Place

pytestmark = [
    pytest.mark.deployed, pytest.mark.timeout(600), pytest.mark.usefixtures("clean_environment")
]  # fmt: skip

NAMES = ("east", "north", "south", "west")
#: A server that, once it has the masked sums, tells two of four hospitals that the first one has left, and asks each
#: two, and then everybody, to take the masks off by what was signed. It writes down who signed and who told a share.
TWO_STORIES = """
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from medtl_core.errors import RunError
from medtl_core.federation import secure_sum as sums
from medtl_core.privacy.roster import Standing
from server.honest import app as honest_app

honest = sums._signatures


def answers(exchange, *question, **only):
    try:
        return list(exchange.ask(*question, **only))
    except RunError:  # nobody answered
        return []


def stories(exchange, roster, standing):
    first, *others = roster.names
    left = Standing(standing.present, roster.flags(others))
    halves = [(standing, (first, others[0])), (left, tuple(others[1:]))]
    heard = {"signed": [], "told": []}
    signatures = {}
    for story, names in halves:
        for reply in answers(exchange, 3, roster, story.arrays, {"signature": (sums._SIGNATURE,)}, only=names):
            signatures[reply.site] = reply.arrays["signature"]
            heard["signed"].append(reply.site)
    nobody = np.zeros(sums._SIGNATURE, np.int64)
    for story, names in halves:
        for signers in (names, roster.names):
            rows = [signatures[name] if name in signers else nobody for name in roster.names]
            asked = {**story.arrays, "signatures": np.stack(rows)}
            expect = {"shares": (len(roster.names), sums._SHARE)}
            heard["told"] += [reply.site for reply in answers(exchange, 4, roster, asked, expect, only=names)]
    Path(OUT).write_text(json.dumps(heard))
    return honest(exchange, roster, left)


sums._signatures = stories
app = honest_app
"""


def test_a_server_that_tells_two_stories_takes_no_mask_off(tmp_path: Path) -> None:
    place, out = Place(tmp_path, NAMES, policy=replace(POLICY, minimum_colluders=0)), tmp_path / "heard.json"
    app = copy_app(tmp_path)
    (app / "server" / "app.py").rename(app / "server" / "honest.py")
    (app / "server" / "app.py").write_text(TWO_STORIES.replace("OUT", repr(str(out))), encoding="utf-8")
    with Deployment(place.nodes, home=place.home) as deployment, pytest.raises(RunError, match="signed who is in"):
        deployment.run(app, place.config, timeout=PATIENCE)
    heard = json.loads(out.read_text(encoding="utf-8"))
    assert sorted(heard["signed"]) == [*NAMES]  # each one story, and no story has three signatures
    assert heard["told"] == []
    assert {(book.reserved, book.released) for book in map(balance, ledgers(place.states))} == {(1, 1)}


#: Read by Python as it starts: the operating system gives noise the highest number that there is, and nothing else.
HIGHEST = """
import os
import shutil
import subprocess
import sys
import sys

urandom = os.urandom


def highest(count):
    if sys._getframe(1).f_globals.get("__name__") != "medtl_core.privacy.noise":
        return urandom(count)
    open(MARK, "a").close()
    return bytes([255]) * count


os.urandom = highest
"""


def test_no_number_of_the_operating_system_ends_the_noise_after_it_was_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, mark = Place(tmp_path, NAMES[:1]), tmp_path / "mark"
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(HIGHEST.replace("MARK", repr(str(mark))), encoding="utf-8")
    paths = [str(tmp_path / "start"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    with Deployment(place.nodes, home=place.home) as deployment:
        config = {**place.config, "secure-sum": False}
        assert deployment.run(copy_app(tmp_path), config, timeout=PATIENCE) == "finished:completed"
    assert mark.is_file()
    assert place.failures() == []
    (book,) = map(balance, ledgers(place.states))
    assert (book.reserved, book.released) == (1, 1)


def test_class_folders_say_nothing_of_patients_and_are_summed_only_where_the_hospital_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for place in (tmp_path / "a" / "well", tmp_path / "a" / "ill"):
        place.mkdir(parents=True)
        for number in range(12):  # six people, four pictures each
            Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(place / f"person-{number % 3}-{number}.png")
    (tmp_path / "a" / "task.json").write_text('{"name": "ill", "classes": ["well", "ill"]}', encoding="utf-8")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    said = Policy(public_patients=6, require_private=True, one_image_per_patient=True)
    rules = {"silent": Policy(public_patients=6, require_private=True), "said": said}
    nodes = [
        made_hospital(tmp_path / name, name, tmp_path / folder, policy=rules[name])
        for name, folder in zip(rules, "ab", strict=True)
    ]
    out = tmp_path / "out.json"
    values = {"data": "", "backbone": "lite0", "image-size": 32, "sites": 2, "shots": 6, "privacy": "mean"}
    out.with_suffix(".ask").write_text(json.dumps([("query.join", PROTOCOL_MARK)]), encoding="utf-8")
    with Deployment(nodes, home=tmp_path / "flower") as deployment:
        app, more = asking_app(tmp_path / "app"), {"public-cases": 6, "epsilon": 0.5, "out": str(out)}
        assert deployment.run(app, {**values, **more}, timeout=PATIENCE) == "finished:completed"
    ((*answers,),) = json.loads(out.read_text(encoding="utf-8"))
    joined = [answer for answer in answers if not answer["error"]]
    assert [answer["about"]["site"] for answer in joined] == ["said"]
    assert not (tmp_path / "silent" / LEDGER).exists() or balance(tmp_path / "silent" / LEDGER).reserved == 0


@pytest.mark.parametrize("fault", ["policy.toml", "privacy", "mistyped"])
def test_the_process_of_a_hospital_whose_folder_is_not_whole_does_not_start(tmp_path: Path, fault: str) -> None:
    write_tables(tmp_path, "north", patients=20)
    folder = tmp_path / "hospital"
    made_hospital(folder, "north", tmp_path / "north.csv", policy=POLICY)
    named = folder
    if fault == "policy.toml":
        (folder / fault).symlink_to(tmp_path / "nowhere")
    elif fault == "privacy":
        shutil.rmtree(folder / fault)
    else:
        named = tmp_path / "hospitol"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    command = [sys.executable, "-m", "medtl_core.cli.app", "site", "run", str(named)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    first, *_, last = ended.stderr.strip().splitlines()
    assert str(named) in first and last.startswith("error: ") and "Traceback" not in ended.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
