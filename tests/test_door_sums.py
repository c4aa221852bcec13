"""Sums at a hospital's door: a server with two stories, the noise's source, whom a sum counts, folders at fault."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from client.app import app as client_app
from medtl_core.cli.app import app as command_line
from medtl_core.config import settings
from medtl_core.errors import MedtlError, RunError
from medtl_core.federation import secure_sum as sums
from medtl_core.fingerprint import PROTOCOL_MARK
from medtl_core.flower.grid import run_local
from medtl_core.privacy.ledger import LEDGER
from medtl_core.privacy.ledger_report import balance, ledgers
from medtl_core.privacy.policy import Policy
from medtl_core.privacy.roster import Roster, Standing
from server.app import app as server_app
from tests.deployed import ASKING
from tests.hospital import made_hospital
from tests.privacy.made import write_tables
from tests.test_private_deployed import POLICY, Place

NAMES = ("east", "north", "south", "west")


def run(place: Place, **values: Any) -> None:
    """A run with hospitals of their own in this process, every message through Flower's wire format."""
    chosen = settings({**place.config, **values}).public()
    run_local(server_app, client_app, node_configs=place.nodes, run_config=chosen, wire=True)


def test_a_server_that_tells_two_stories_takes_no_mask_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells two of four that the first has left, and asks each two, then all, to take masks off as was signed."""
    place, honest = Place(tmp_path, NAMES, policy=replace(POLICY, minimum_colluders=0)), sums._signatures
    heard: dict[str, list[str]] = {"signed": [], "told": []}

    def answers(exchange: sums._Exchange, *question: Any, only: Sequence[str]) -> Iterator[Any]:
        try:
            yield from exchange.ask(*question, only=only)
        except RunError:  # nobody answered
            return

    def stories(exchange: sums._Exchange, roster: Roster, standing: Standing) -> Any:
        first, *others = roster.names
        left = Standing(standing.present, roster.flags(others))
        halves = [(standing, (first, others[0])), (left, tuple(others[1:]))]
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
        return honest(exchange, roster, left)

    monkeypatch.setattr(sums, "_signatures", stories)
    with pytest.raises(RunError, match="signed who is in"):
        run(place)
    assert sorted(heard["signed"]) == [*NAMES]  # each one story, and no story has three signatures
    assert heard["told"] == []
    assert {(book.reserved, book.released) for book in map(balance, ledgers(place.states))} == {(1, 1)}


def test_no_number_of_the_operating_system_ends_the_noise_after_it_was_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operating system gives noise the highest number that there is, and nothing else."""
    place, urandom, asked = Place(tmp_path, NAMES[:1]), os.urandom, []

    def highest(count: int) -> bytes:
        if sys._getframe(1).f_globals.get("__name__") != "medtl_core.privacy.noise":
            return urandom(count)
        asked.append(count)
        return bytes([255]) * count

    monkeypatch.setattr(os, "urandom", highest)
    run(place, **{"secure-sum": False})
    assert asked and place.failures() == []
    (book,) = map(balance, ledgers(place.states))
    assert (book.reserved, book.released) == (1, 1)


@pytest.mark.slow  # reads torch
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
    more, server = {"public-cases": 6, "epsilon": 0.5, "out": str(out)}, dict[str, Any]()
    exec(ASKING, server)
    chosen = settings({**values, **more}).public()
    run_local(server["app"], client_app, node_configs=nodes, run_config=chosen)
    ((*answers,),) = json.loads(out.read_text(encoding="utf-8"))
    joined = [answer for answer in answers if not answer["error"]]
    assert [answer["about"]["site"] for answer in joined] == ["said"]
    assert not (tmp_path / "silent" / LEDGER).exists() or balance(tmp_path / "silent" / LEDGER).reserved == 0


@pytest.mark.parametrize("fault", ["policy.toml", "privacy", "mistyped"])
def test_a_hospital_whose_folder_is_not_whole_does_not_start(tmp_path: Path, fault: str) -> None:
    named, before = spoilt(tmp_path, fault), kept(tmp_path)
    ended = CliRunner().invoke(command_line, ["site", "run", str(named)])
    assert ended.exit_code == 1 and isinstance(ended.exception, MedtlError | SystemExit)
    assert str(named) in ended.output + str(ended.exception)
    assert kept(tmp_path) == before


@pytest.mark.deployed
def test_the_process_of_such_a_hospital_ends_in_words(tmp_path: Path) -> None:
    named, before = spoilt(tmp_path, "privacy"), kept(tmp_path)
    command = [sys.executable, "-m", "medtl_core.cli.app", "site", "run", str(named)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    first, *_, last = ended.stderr.strip().splitlines()
    assert str(named) in first and last.startswith("error: ") and "Traceback" not in ended.stderr
    assert kept(tmp_path) == before


def spoilt(base: Path, fault: str) -> Path:
    """A hospital's folder with a fault, by the name that a person types."""
    write_tables(base, "north", patients=20)
    folder = base / "hospital"
    made_hospital(folder, "north", base / "north.csv", policy=POLICY)
    if fault == "policy.toml":
        (folder / fault).symlink_to(base / "nowhere")
    elif fault == "privacy":
        shutil.rmtree(folder / fault)
    else:
        return base / "hospitol"
    return folder


def kept(base: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in base.rglob("*") if path.is_file()}
