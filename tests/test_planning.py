"""From the words of a command to a plan: which scenario, data, settings and app, and which words are refused."""

from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from client.app import app as client_app
from medtl_core.cli.app_folder import find_app, is_app, write_app
from medtl_core.cli.plan import RunOrder, make_plan, name_data
from medtl_core.errors import ConfigError, DataError, RunError
from medtl_core.flower.run import load_apps

APP = '[project]\nname = "medtl"\n[tool.flwr.app]\npublisher = "medtl"\n'
COMPONENTS = '[tool.flwr.app.components]\nserverapp = "{}"\nclientapp = "client.app:app"\n'
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two scenarios; the current directory is another folder, with a scenario and data of its own."""
    scenarios = tmp_path / "app" / "simulations" / "scenarios"
    scenarios.mkdir(parents=True)
    (tmp_path / "app" / "pyproject.toml").write_text(APP)
    (scenarios / "quickstart.toml").write_text('data = "phantom"\nshots = 30\n')
    (scenarios / "dermoscopy.toml").write_text('data = "ham10000_sites"\nshots = 90\nseeds = 3\n')
    (tmp_path / "elsewhere" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("data", "manifest.csv").write_text("label,site,a\n" + "x,north,1\ny,north,2\nx,south,1\ny,south,2\n" * 3)
    Path("mine.toml").write_text('data = "phantom"\nshots = 7\n')
    return tmp_path / "app"


def test_without_a_word_the_quickstart_runs(app: Path) -> None:
    plan = make_plan(RunOrder(), app)
    assert (plan.name, plan.settings.data, plan.seeds, plan.wire) == ("quickstart", "phantom", 1, False)
    assert plan.workers >= 1
    assert plan.out.parent == Path.cwd() / "runs"
    assert plan.out.name.startswith("quickstart-")
    assert plan.app == app


def test_assignments_win_over_the_scenario(app: Path) -> None:
    words = ["shots=25", "sites=10", "seeds=10", "workers=2", "wire=true", "methods=ridge,fedavg-3"]
    plan = make_plan(RunOrder("quickstart", words), app)
    assert (plan.settings.shots, plan.settings.sites) == (25, 10)
    assert (plan.seeds, plan.workers, plan.wire) == (10, 2, True)
    assert [method.name for method in plan.methods] == ["ridge", "fedavg-3"]


@pytest.mark.parametrize(
    ("order", "seeds"),
    [
        (RunOrder("dermoscopy"), 3),
        (RunOrder("dermoscopy", seeds=7), 7),
        (RunOrder("dermoscopy", ["seeds=7"]), 7),
        (RunOrder("mine.toml"), 1),
    ],
)
def test_an_option_wins_over_the_scenario_file(app: Path, order: RunOrder, seeds: int) -> None:
    assert make_plan(order, app).seeds == seeds


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (RunOrder("dermoscpy"), "did you mean 'dermoscopy'"),
        (RunOrder(assignments=["shotz=5"]), "did you mean 'shots'"),
        (RunOrder(assignments=["shots=-1"]), "must not be negative"),
        (RunOrder(assignments=["shots=5", "shots=6"]), "set to 5 and to 6"),
        (RunOrder(assignments=["seeds=5"], seeds=2), "given as 2 and as 5"),
        (RunOrder(assignments=["methods=fedavgg-5"]), "unknown method"),
        (RunOrder(assignments=["seeds=0"]), "greater than 0"),
        (RunOrder(assignments=["seeds=two"]), "whole number"),
        (RunOrder(assignments=["workers=1.5"]), "whole number"),
        (RunOrder(assignments=["wire=maybe"]), "true or false"),
    ],
)
def test_wrong_words_are_refused_before_anything_starts(app: Path, order: RunOrder, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_plan(order, app)


def test_data_is_a_place_or_a_known_name(app: Path) -> None:
    assert name_data("data") == {"data": "", "data-path": str(Path.cwd() / "data")}
    assert name_data("phantom") == {"data": "phantom", "data-path": ""}
    with pytest.raises(DataError, match="did you mean 'phantom'"):
        name_data("fantom")


@pytest.mark.parametrize(
    ("scenario", "name", "data"),
    [("dermoscopy", "dermoscopy", "ham10000_sites"), ("quickstart", "quickstart", ""), (None, "data", "")],
)
def test_data_beside_a_scenario_keeps_what_the_scenario_names(app: Path, scenario: str, name: str, data: str) -> None:
    plan = make_plan(RunOrder(scenario, data="data"), app)
    assert (plan.name, plan.settings.data, plan.settings.data_path) == (name, data, str(Path.cwd() / "data"))


def test_places_become_absolute_and_out_too(app: Path) -> None:
    plan = make_plan(RunOrder("mine.toml", ["cache=off", "test-path=held", "out=here"]), app)
    assert (plan.name, plan.settings.shots) == ("mine", 7)
    assert plan.settings.cache == "off"
    assert plan.settings.test_path == str(Path.cwd() / "held")
    assert plan.out == Path.cwd() / "here"


def test_what_a_command_does_as_a_rule_gives_way_to_the_scenario(app: Path) -> None:
    assert make_plan(RunOrder(), app, {"shots": 5}).settings.shots == 30
    assert make_plan(RunOrder(assignments=["sites=8"]), app, {"sites": 7}).settings.sites == 8
    assert make_plan(RunOrder(), app, {"sites": 7}).settings.sites == 7


# --- the app's folder


def test_the_app_is_found_by_folder(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_app(app) == app
    with pytest.raises(ConfigError, match="not an app of medtl"):
        find_app(Path.cwd())
    monkeypatch.chdir(app)
    assert find_app() == app


@pytest.mark.parametrize("text", [APP.replace("medtl", "other"), "not toml ["])
def test_another_project_is_no_app(app: Path, text: str) -> None:
    assert is_app(app)
    (app / "pyproject.toml").write_text(text)
    assert not is_app(app)


def test_a_checkout_of_another_state_is_refused(app: Path) -> None:
    (app / "medtl_core").mkdir()
    (app / "medtl_core" / "__init__.py").write_text("")
    with pytest.raises(ConfigError, match="pip install -e"):
        find_app(app)


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's own
def test_the_written_app_is_one_that_flower_bundles(tmp_path: Path) -> None:
    from flwr.cli.build import build_fab_from_disk

    write_app(ROOT, tmp_path / "app")
    assert is_app(tmp_path / "app")
    with ZipFile(BytesIO(build_fab_from_disk(tmp_path / "app"))) as bundle:
        names = set(bundle.namelist())
    assert {"server/app.py", "client/app.py", "medtl_core/flower/run.py", "LICENSE"} <= names
    assert not any(name.startswith(("simulations", "tests")) for name in names)
    with pytest.raises(RunError, match="new or an empty folder"):
        write_app(ROOT, tmp_path / "app")
    with pytest.raises(ConfigError, match="Flower takes no app"):
        write_app(ROOT, tmp_path / "my_app")


@pytest.mark.parametrize(
    ("components", "words"),
    [
        ("", "does not name the apps"),
        (COMPONENTS.format("server.app:app"), "another package named 'server'"),
        (COMPONENTS.format("nowhere.app:app"), "nowhere/app.py"),
    ],
)
def test_apps_are_loaded_by_reference_and_from_nowhere_else(app: Path, components: str, words: str) -> None:
    assert load_apps(ROOT)[1] is client_app
    (app / "pyproject.toml").write_text(APP + components)
    with pytest.raises(RunError, match=words):
        load_apps(app)
