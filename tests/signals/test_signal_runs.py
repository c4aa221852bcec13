"""Signals from the simulation to an answer, through the real apps: privately, explained, and on a new machine."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.data.catalog import catalog
from medtl_core.data.synthetic.signals import drawn
from medtl_core.predict import load

RUN = ["data=heartbeats", "sites=5", "shots=16", "bootstrap=20", "cache=off"]


def main(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [*words])
    return done.exit_code, f"{done.output} {done.exception}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("beats") / "run"
    code, shown = main("simulate", "heartbeats", *RUN, "methods=local,discriminant", "--out", str(place), "--quiet")
    assert code == 0, shown
    return place


def figures(run: Path, method: str) -> dict[str, float]:
    result = json.loads((run / "seed-0" / "result.json").read_text(encoding="utf-8"))
    figures: dict[str, float] = result["methods"][method]["figures"]
    return figures


def test_the_demo_beats_a_hospital_alone(run: Path) -> None:
    assert figures(run, "discriminant")["balanced_accuracy"] > figures(run, "local")["balanced_accuracy"] > 0.5


def test_new_signals_are_answered_and_explained_by_spans_of_time(run: Path, tmp_path: Path) -> None:
    beats, head = drawn(catalog()["heartbeats"], train=2), run / "seed-0" / "heads" / "discriminant"
    for number in range(12):
        np.savez(tmp_path / f"{number:02d}.npz", signal=beats["signal"][number], fs=100)
    np.savez(tmp_path / "12.npz", signal=beats["signal"][0] * np.nan, fs=100)
    answers = [*load(head).answers([tmp_path])]
    assert len(answers) == 13 and "missing" in next(one.fault for one in answers if one.name.endswith("12.npz"))
    likeliest = [max(one.probabilities, key=one.probabilities.__getitem__) for one in answers if one.probabilities]
    told = [beats.task.classes.index(name) for name in likeliest]
    assert np.mean(np.asarray(told) == beats["label"][:12]) > 0.7
    (tmp_path / "x.edf").write_bytes(b"0       ")
    assert f"left as no case: {tmp_path / 'x.edf'}" in main("predict", str(head), str(tmp_path))[1]
    code, shown = main("predict", str(head), str(tmp_path / "00.npz"), "--maps", str(tmp_path / "maps"))
    assert code == 0, shown
    with next((tmp_path / "maps").iterdir()).open(newline="") as file:
        rows = [*csv.reader(file)][1:]
    assert len(rows) == 20 and all(part.endswith("of the time") for part, _ in rows)


@pytest.mark.slow
def test_identities_of_headers_and_file_names_appear_in_no_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wfdb, beats, place = pytest.importorskip("wfdb"), drawn(catalog()["heartbeats"], train=12), tmp_path / "data"
    place.mkdir()
    lines = ["signal,label,patient_id"]
    for number in range(48):
        name, values = f"QUENBY_884422_{number}", beats["signal"][number].astype(np.float64)
        wfdb.wrsamp(
            name, fs=100, units=["mV"], sig_name=["II"], p_signal=values[: 9 if number < 2 else None], fmt=["16"],
            comments=["name: QUENBY, MRN 884422"], write_dir=str(place),
        )  # fmt: skip
        lines.append(f"{name}.hea,{beats.task.classes[beats['label'][number]]},{number}")
    (place / "manifest.csv").write_text("\n".join(lines) + "\n")
    said = {"rate": 100, "seconds": len(beats["signal"][0]) / 100, "leads": ["II"]}
    (place / "task.json").write_text(json.dumps({"name": "t", "classes": [*beats.task.classes], "signal": said}))
    words = ["sites=2", "shots=10", "partition=even", "methods=ridge", "bootstrap=5", f"cache={tmp_path / 'cache'}"]
    code, shown = main(
        "simulate", "--data", str(place), "--out", str(tmp_path / "run"), "--wire", "backbone=signal:spectrum", *words
    )
    assert code == 0, shown
    printed = capfd.readouterr()
    files = [path for part in ("run", "cache") for path in (tmp_path / part).rglob("*") if path.is_file()]
    assert len(files) > 5
    told = [shown, printed.out, printed.err, *(path.name + path.read_bytes().decode("latin-1") for path in files)]
    assert not any(word in text for text in told for word in ("QUENBY", "884422"))


@pytest.mark.slow
def test_a_private_run_spends_what_was_promised(tmp_path: Path) -> None:
    words = ["privacy=auto", "epsilon=4", "secure-sum=true", "features=plain"]
    code, shown = main("simulate", "heartbeats", *RUN, *words, "--out", str(tmp_path / "run"), "--quiet")
    assert code == 0, shown
    assert "epsilon 4 of 4" in " ".join(shown.split())


@pytest.mark.slow
def test_a_head_of_other_machines_is_adapted_with_few_cases(tmp_path: Path) -> None:
    words = ["sites=3", "shots=20", "leave-out=press", "bootstrap=20", "cache=off", "methods=discriminant"]
    code, shown = main("simulate", "bearings", *words, "--out", str(tmp_path / "run"), "--quiet")
    assert code == 0, shown
    made = drawn(catalog()["bearings"], train=20)
    rows = made["site"] == "press"
    np.savez(
        tmp_path / "press.npz", signals=made["signal"][rows], fs=12_000, lead_names=np.asarray(["radial"]),
        label=np.asarray(made.task.classes)[made["label"][rows]], patient=made["patient"][rows],
        site=made["site"][rows], split=made["split"][rows],
    )  # fmt: skip
    head = tmp_path / "run" / "seed-0" / "heads" / "discriminant"
    code, shown = main(
        "adapt", str(head), "--data", str(tmp_path / "press.npz"), "--shots", "5", "--out", str(tmp_path / "own")
    )
    assert code == 0, shown


def test_what_trains_a_network_says_that_there_is_none(tmp_path: Path) -> None:
    code, shown = main("simulate", "heartbeats", *RUN, "methods=lora-last-5", "--out", str(tmp_path / "run"))
    assert code and "not one network" in " ".join(shown.split())
