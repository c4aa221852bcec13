from dataclasses import replace
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
    """A checkout with two scenarios; the current directory is another folder."""
    scenarios = tmp_path / "app" / "simulations" / "scenarios"
    scenarios.mkdir(parents=True)
    (tmp_path / "app" / "pyproject.toml").write_text(APP)
    (scenarios / "quickstart.toml").write_text('data = "phantom"\nshots = 30\n')
    (scenarios / "dermoscopy.toml").write_text('data = "ham10000_sites"\nshots = 90\nseeds = 3\n')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "app"


def test_without_a_word_the_quickstart_runs(app: Path) -> None:
    plan = make_plan(RunOrder(), app)
    assert (plan.name, plan.settings.data, plan.seeds, plan.wire) == ("quickstart", "phantom", 1, False)
    assert plan.workers >= 1
    assert plan.out.parent == Path.cwd() / "runs"
    assert plan.out.name.startswith("quickstart-")
    assert plan.app == app


def test_assignments_win_over_the_scenario(app: Path) -> None:
    plan = make_plan(RunOrder("quickstart", ["shots=25", "sites=10", "seeds=10", "workers=2", "wire=true"]), app)
    assert (plan.settings.shots, plan.settings.sites) == (25, 10)
    assert (plan.seeds, plan.workers, plan.wire) == (10, 2, True)


def test_a_scenario_may_set_seeds_and_an_option_may_not_contradict_a_set(app: Path) -> None:
    assert make_plan(RunOrder("dermoscopy"), app).seeds == 3
    with pytest.raises(ConfigError, match="seeds is given as 2 and as 5"):
        make_plan(RunOrder("quickstart", ["seeds=5"], seeds=2), app)


def test_an_option_wins_over_the_scenario_file(app: Path) -> None:
    assert make_plan(RunOrder("dermoscopy", seeds=7), app).seeds == 7
    assert make_plan(RunOrder("dermoscopy", ["seeds=7"]), app).seeds == 7


def test_one_key_twice_is_refused(app: Path) -> None:
    with pytest.raises(ConfigError, match="shots is set to 5 and to 6"):
        make_plan(RunOrder(assignments=["shots=5", "shots=6"]), app)


@pytest.mark.parametrize(
    "word, words",
    [
        ("shotz=5", "did you mean 'shots'"),
        ("shots=-1", "must not be negative"),
        ("methods=fedavgg-5", "unknown method"),
        ("seeds=0", "greater than 0"),
        ("seeds=two", "whole number"),
        ("workers=1.5", "whole number"),
        ("wire=maybe", "true or false"),
    ],
)
def test_wrong_values_are_refused_before_anything_starts(app: Path, word: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_plan(RunOrder(assignments=[word]), app)


def test_an_unknown_scenario_suggests_a_known_one(app: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'dermoscopy'"):
        make_plan(RunOrder("dermoscpy"), app)


def test_a_scenario_may_be_a_file(app: Path) -> None:
    Path("mine.toml").write_text('data = "phantom"\nshots = 7\n')
    plan = make_plan(RunOrder("mine.toml"), app)
    assert (plan.name, plan.settings.shots) == ("mine", 7)


def test_data_is_a_place_or_a_known_name(app: Path) -> None:
    Path("data").mkdir()
    assert name_data("data") == {"data": "", "data-path": str(Path.cwd() / "data")}
    assert name_data("phantom") == {"data": "phantom", "data-path": ""}
    with pytest.raises(DataError, match="did you mean 'phantom'"):
        name_data("fantom")


def test_data_beside_a_scenario_keeps_what_the_scenario_names(app: Path) -> None:
    Path("data").mkdir()
    place = str(Path.cwd() / "data")
    assert make_plan(RunOrder("dermoscopy", data="data"), app).settings.data == "ham10000_sites"
    assert make_plan(RunOrder("quickstart", data="data"), app).settings.data == ""
    plan = make_plan(RunOrder(data="data"), app)
    assert (plan.name, plan.settings.data, plan.settings.data_path) == ("data", "", place)


def test_places_become_absolute_and_out_too(app: Path) -> None:
    plan = make_plan(RunOrder(assignments=["cache=off", "test-path=held", "out=here"]), app)
    assert plan.settings.cache == "off"
    assert plan.settings.test_path == str(Path.cwd() / "held")
    assert plan.out == Path.cwd() / "here"


def test_the_app_is_found_by_folder(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_app(app)
    assert find_app(app) == app
    with pytest.raises(ConfigError, match="not an app of medtl"):
        find_app(Path.cwd())
    monkeypatch.chdir(app)
    assert find_app() == app


def test_another_project_is_no_app(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(APP.replace("medtl", "other"))
    assert not is_app(tmp_path)
    (tmp_path / "pyproject.toml").write_text("not toml [")
    assert not is_app(tmp_path)


def test_a_checkout_of_another_state_is_refused(app: Path) -> None:
    (app / "medtl_core").mkdir()
    (app / "medtl_core" / "__init__.py").write_text("")
    with pytest.raises(ConfigError, match="pip install -e"):
        find_app(app)


def test_a_plan_carries_its_methods(app: Path) -> None:
    plan = make_plan(RunOrder(assignments=["methods=ridge,fedavg-3"]), app)
    assert [method.name for method in plan.methods] == ["ridge", "fedavg-3"]
    assert [method.name for method in replace(plan, settings=plan.settings.replace(methods="auto")).methods] == ["auto"]


def test_what_a_command_does_as_a_rule_gives_way_to_the_scenario(app: Path) -> None:
    assert make_plan(RunOrder(), app, {"shots": 5, "sites": 7}).settings.shots == 30
    assert make_plan(RunOrder(assignments=["sites=8"]), app, {"sites": 7}).settings.sites == 8
    assert make_plan(RunOrder(), app, {"sites": 7}).settings.sites == 7


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


def test_apps_are_loaded_by_reference_and_from_nowhere_else(app: Path) -> None:
    assert load_apps(ROOT).client is client_app
    with pytest.raises(RunError, match="does not name the apps"):
        load_apps(app)
    (app / "pyproject.toml").write_text(APP + COMPONENTS.format("server.app:app"))
    with pytest.raises(RunError, match="another package named 'server'"):
        load_apps(app)
    (app / "pyproject.toml").write_text(APP + COMPONENTS.format("nowhere.app:app"))
    with pytest.raises(RunError, match=r"has no nowhere/app.py"):
        load_apps(app)
