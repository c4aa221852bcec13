"""Names that hospitals really have: they train, are saved and reported, whatever a disk or a page makes of them."""

import json
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client.app import app as client_app
from medtl_core.cli.data import faults_of
from medtl_core.cli.simulate import simulate
from medtl_core.config import Settings
from medtl_core.config import settings as chosen
from medtl_core.data.faults import Faults
from medtl_core.data.source import open_source
from medtl_core.errors import ConfigError, RunError
from medtl_core.flower.grid import run_local
from medtl_core.flower.run import RunPlan
from medtl_core.predict.saved import load_head
from medtl_core.store import file_names
from medtl_core.values import site_name
from server.app import app as server_app

ROOT = Path(__file__).resolve().parents[1]
DECOMPOSED = unicodedata.normalize("NFD", "Klinikum Süd")
NAMES = [
    "King's College",
    "A&E",
    "Saint-Luc: oncology",
    "St. Mary's",
    DECOMPOSED,
    "東京 大学",
    "north",
    "x" * 80,
]
WIDE = "字" * 80


def write_sites(path: Path, names: list[str]) -> Path:
    """Twelve cases of each hospital, and as many to test on."""
    rng, rows = np.random.default_rng(2), ["label,patient_id,site,split,a,b"]
    for place, name in enumerate(names):
        for number in range(24):
            a, b = rng.normal(2.0 * (number % 2) - 1.0, 1.0, 2)
            split = "test" if number < 12 else "train"
            rows.append(f'{number % 2},p{place}-{number},"{name}",{split},{a:.4f},{b:.4f}')
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def table_settings(path: Path, sites: int, **more: str) -> Settings:
    values = {"data": "", "data-path": str(path), "backbone": "table", "sites": sites, "shots": 12, "bootstrap": 10}
    return chosen({**values, "cache": "off", "methods": "local,ridge", **more})


def simulated(path: Path, out: Path, sites: int) -> None:
    simulate(RunPlan(table_settings(path, sites), 1, 1, False, out, ROOT, "names"))


def test_hospitals_of_any_name_train_are_saved_and_reported(tmp_path: Path) -> None:
    path, out = write_sites(tmp_path / "table.csv", [*NAMES, WIDE]), tmp_path / "out"
    simulated(path, out, sites=len(NAMES) + 1)
    result = json.loads((out / "seed-0" / "result.json").read_text(encoding="utf-8"))
    names = sorted(site_name(name) for name in [*NAMES, WIDE])
    assert (sorted(result["sites"]), result["failures"]) == (names, [])
    assert sorted(result["test"]["sites"]) == names
    files = [path.name for path in (out / "seed-0" / "heads").glob("local@*.safetensors")]
    assert len({unicodedata.normalize("NFC", name.casefold()) for name in files}) == len(names)
    heads = {load_head(out / "seed-0" / "heads" / name).facts["site"]: name for name in files}
    assert heads.keys() == {*names}
    assert heads["King's College"] == "local@King%27s College.safetensors"
    assert heads["Klinikum Süd"] == "local@Klinikum Süd.safetensors"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "A&amp;E" in page
    assert "A&E" not in page


@pytest.mark.parametrize("name", ["Cardiology/East", "a\\b", "..", "", "x" * 81, "a\u200bb", " a", "tab\there"])
def test_a_name_that_none_can_be_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name of a hospital"):
        site_name(name)


def test_it_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path, out = write_sites(tmp_path / "table.csv", [WIDE + "x", "north"]), tmp_path / "out"
    with pytest.raises(ConfigError, match="80 printable"):
        simulated(path, out, sites=2)
    assert (out / "events.jsonl").read_text(encoding="utf-8") == ""
    (fault,) = faults_of(open_source(table_settings(path, 2)).examples, Faults())
    assert "80 printable" in fault


def test_figures_are_kept_where_a_head_cannot_be_saved(tmp_path: Path) -> None:
    path, out = write_sites(tmp_path / "table.csv", ["north", "south"]), tmp_path / "out"
    out.mkdir()
    (out / "heads").write_text("in the way", encoding="utf-8")
    run_config = table_settings(path, 2, out=str(out)).public()
    nodes = [{"partition-id": part} for part in range(2)]
    with pytest.raises(RunError, match=r"3 of 3 heads could not be saved.*cannot be written"):
        run_local(server_app, client_app, node_configs=nodes, run_config=run_config)
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["methods"].keys() == {"local", "ridge"}


@given(names=st.sets(st.text(min_size=1, max_size=80), min_size=1, max_size=6))
@example(names={"north", "North", "NORTH", "no%72th", "north~43f853bb"})
@example(names={"ß", "ss", "SS", "ẞ"})
@example(names={".", "..", ".x", "~", "%7E"})
@settings(max_examples=25, deadline=None)
def test_files_of_different_names_are_different_on_every_disk(names: set[str]) -> None:
    files = file_names(names)
    assert files.keys() == names
    folded = {unicodedata.normalize("NFC", file.casefold()) for file in files.values()}
    assert len(folded) == len(names)
    for name, file in files.items():
        assert 0 < len(file.encode()) <= 228
        assert file[0] != "."
        assert not set(file) & set("/\\:*?\"<>|&'\0\n")
        if "~" not in file:
            assert unquote(file) == name
    assert files == file_names(sorted(names, reverse=True))


@pytest.mark.parametrize("name", ["local@phantom-a", "fedavg-20.adjusted", "taps@4+7", "auto@Haus (Süd), 2. Stock"])
def test_files_keep_the_names_they_have_had(name: str) -> None:
    assert file_names([name, "ridge"]) == {name: name, "ridge": "ridge"}
