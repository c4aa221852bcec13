"""`medtl select`: what is judged, the real road from plan to ranking, and orders that cannot be carried out."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medtl_core.backbones.zoo import find_backbone
from medtl_core.cli import app as cli
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.plan import RunOrder
from medtl_core.cli.select import read_sources, select
from medtl_core.cli.simulate import simulate
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.errors import ConfigError, DataError, RunError, WeightsError
from medtl_core.flower.run import RunPlan
from medtl_core.methods.taps import SCORES
from medtl_core.store import read_json, write_json
from tests.manifest import write_manifest

pytestmark = pytest.mark.usefixtures("one_torch_thread")

APP = find_app(Path(__file__).resolve().parents[1])
SMALL = ("sites=2", "shots=12", "image-size=32", "views=one")


def stored(plan: RunPlan) -> None:
    """Writes what a run would leave: the deeper the tap, the better, with 0.01 a seed on top."""
    names = [method.name for method in plan.methods]
    for seed in range(plan.seeds):
        methods: dict[str, Any] = {}
        for rank, name in enumerate(names):
            methods[name] = {"facts": {"taps": name[5:], "scores": dict.fromkeys(SCORES, rank / 10 + seed / 100)}}
        (plan.out / f"seed-{seed}").mkdir(parents=True)
        write_json(plan.out / f"seed-{seed}" / "result.json", {"methods": methods})
    write_json(plan.out / "config.json", {"settings": plan.settings.public(), "seeds": plan.seeds})
    write_json(plan.out / "metrics.json", {})


@pytest.fixture
def order(tmp_path: Path) -> RunOrder:
    return RunOrder(None, SMALL, "phantom", 1, out=tmp_path / "run")


# --- what is judged


def test_rich_means_at_least_four_taps_and_the_rich_ones_together_all_every_and_a_list_itself() -> None:
    names = "lite0,torchvision:squeezenet1_1,torchvision:mobilenet_v2,torchvision:resnet18,torchvision:convnext_tiny"
    for name, candidates in read_sources(names).items():
        *taps, joined = candidates
        backbone = find_backbone(name)
        assert joined == "+".join(backbone.rich)
        assert len(taps) >= 4 and set(backbone.rich) < set(taps) and taps[-1] == list(backbone.taps)[-1]
    every, named = (read_sources(text, "all")["lite0"] for text in ("lite0", "lite0@10+4"))
    assert every[:-1] == tuple(find_backbone("lite0").taps)
    assert named == ("4", "10")


@pytest.mark.parametrize(
    ("text", "taps", "words"),
    [
        ("lite1", "rich", "did you mean 'lite0'"),
        ("lite0@4+99", "rich", "no tap '99'"),
        ("lite0,lite0@4", "rich", "named twice"),
        ("table", "rich", "no taps"),
        (" , ", "rich", "empty"),
        ("lite0", "richest", "did you mean 'rich'"),
    ],
)
def test_unknown_words_are_refused(text: str, taps: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_sources(text, taps)


# --- the real road


def test_the_ranking_comes_from_the_real_apps(order: RunOrder) -> None:
    found = select(read_sources("random:squeezenet1_1@3+7"), order, APP, simulate)["candidates"]
    assert sorted(row["taps"] for row in found) == ["3", "7"]
    assert all(set(row["scores"]) == set(SCORES) for row in found)
    assert found[0]["scores"]["cv-loss"] >= found[1]["scores"]["cv-loss"]
    assert order.out and read_json(order.out / "selection.json")["candidates"] == found


def test_what_is_done_is_not_run_again_and_other_settings_are_refused(order: RunOrder) -> None:
    plans: list[RunPlan] = []

    def counted(plan: RunPlan) -> None:
        plans.append(plan)
        if (plan.out / "config.json").exists():
            raise RunError("already in use")
        stored(plan)

    both, order = read_sources("random:squeezenet1_1,random:resnet18"), replace(order, seeds=2)
    first, second = (select(both, order, APP, counted) for _ in range(2))
    assert [plan.out.name for plan in plans] == ["random-squeezenet1_1", "random-resnet18"]
    assert first == second
    # the deepest taps are the best of both, then come the joined ones; scores are means over the seeds
    assert [row["scores"]["cv-loss"] for row in first["candidates"][:2]] == pytest.approx([0.405, 0.405])
    settings = plans[0].settings
    assert (settings.features, settings.partition) == ("4+7+10+12", "natural")  # as the catalog has the phantom
    assert settings.methods.endswith("taps@7+10+12")
    with pytest.raises(RunError, match="already in use"):
        select(both, replace(order, assignments=(*SMALL, "partition=even")), APP, counted)
    assert plans[-1].settings.partition == "even"


def test_the_command_prints_the_ranking(
    order: RunOrder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    select(read_sources("random:squeezenet1_1"), order, APP, stored)
    words = ["select", "--data", "phantom", "--backbones", "random:squeezenet1_1", "--sites", "2", "--shots", "12"]
    words += ["--set", "image-size=32", "--set", "views=one", "--out", str(order.out)]
    for last in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["medtl", *words, *last])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    # shares are in percent
    assert ["random:squeezenet1_1", "7+10+12", "0.40", "0.40", "40.0", "40.0"] in [
        [*row[:2], *sorted(row[2:])] for row in rows
    ]
    assert f"run folder  {order.out}\n" in shown
    assert json.loads(shown[shown.index("{\n") :])["candidates"][0]["taps"] == "7+10+12"


def test_where_nobody_names_backbones_those_with_weights_are_compared_and_the_others_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["medtl", "select", "--data", "nowhere"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = " ".join(capsys.readouterr().err.split())
    assert stopped.value.code == 1 and "error: there is no folder or file 'nowhere'" in said  # and none of weights
    for name in ("torchvision:squeezenet1_1", "torchvision:mobilenet_v2"):
        assert f"{name} is not compared: its weights are not here" in said


# --- orders that cannot be carried out


def test_missing_weights_stop_it_before_anything_runs(
    order: RunOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ran: list[RunPlan] = []
    with pytest.raises(WeightsError, match="resnet18' are not here"):
        select(read_sources("random:squeezenet1_1,torchvision:resnet18"), order, APP, ran.append)
    with pytest.raises(WeightsError, match="does not exist"):
        select(read_sources("lite0"), order, APP, ran.append, str(tmp_path / "nowhere"))
    assert ran == []


def test_a_setting_that_select_decides_is_refused(order: RunOrder) -> None:
    with pytest.raises(ConfigError, match="features is set"):
        select(read_sources("lite0"), replace(order, assignments=("features=plain",)), APP, stored)


def test_data_with_one_class_are_refused(order: RunOrder, tmp_path: Path) -> None:
    pool = phantom(size=32, patients=60)
    write_manifest(pool.take(pool["label"] == 1), tmp_path / "alike")
    alike = replace(order, data=str(tmp_path / "alike"), assignments=("sites=2", "shots=3", *SMALL[2:]))
    with pytest.raises(DataError, match="class"):
        select(read_sources("random:squeezenet1_1@7"), alike, APP, simulate)
