"""`medtl select`: what is judged, the real road from plan to ranking, and orders that cannot be carried out."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medtl_core.cli import app as cli
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.ranking import Candidate, agreement, ranked
from medtl_core.cli.select import Selection, read_sources, select
from medtl_core.cli.simulate import simulate
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.errors import ConfigError, DataError, RunError, WeightsError
from medtl_core.flower.run import RunPlan
from medtl_core.methods.transferability import SCORES
from medtl_core.report.terminal import agreement_table, ranking_table
from medtl_core.store import read_json, write_json
from tests.manifest import write_manifest

pytestmark = pytest.mark.usefixtures("one_torch_thread")

APP = find_app(Path(__file__).resolve().parents[1])
SMALL = ("sites=3", "shots=12", "image-size=64", "views=one")


def stored(plan: RunPlan) -> None:
    """Writes what a run would leave: the deeper the tap, the better, with 0.01 a seed on top."""
    names = [method.name for method in plan.methods]
    for seed in range(plan.seeds):
        methods: dict[str, Any] = {}
        for rank, name in enumerate(names):
            facts = {"taps": name[5:], "width": rank, "scores": dict.fromkeys(SCORES, rank / 10 + seed / 100)}
            methods[name] = {"facts": facts, "figures": {"balanced_accuracy": rank / 20, "ece": None}}
        (plan.out / f"seed-{seed}").mkdir(parents=True)
        write_json(plan.out / f"seed-{seed}" / "result.json", {"methods": methods})
    write_json(plan.out / "config.json", {"settings": plan.settings.public(), "seeds": plan.seeds})
    write_json(plan.out / "metrics.json", {})


def order(tmp_path: Path, backbones: str = "random:squeezenet1_1", **changes: Any) -> Selection:
    return Selection("phantom", read_sources(backbones), changes.pop("words", SMALL), out=tmp_path / "run", **changes)


# --- what is judged


def test_rich_means_at_least_four_taps_and_the_rich_ones_together_all_every_and_a_list_itself() -> None:
    names = "lite0,torchvision:squeezenet1_1,torchvision:mobilenet_v2,torchvision:resnet18,torchvision:convnext_tiny"
    for source in read_sources(names):
        assert len(source.taps) >= 4
        assert set(source.backbone.rich) < set(source.taps)
        assert source.taps[-1] == list(source.backbone.taps)[-1]
        assert source.candidates == (*source.taps, "+".join(source.backbone.rich))
    every, named = (read_sources(text, "all")[0] for text in ("lite0", "lite0@10+4"))
    assert every.taps == tuple(every.backbone.taps)
    assert named.candidates == ("4", "10")


@pytest.mark.parametrize(
    ("text", "taps", "words"),
    [
        ("lite1", "rich", "did you mean 'lite0'"),
        ("lite0@4+99", "rich", "no tap '99'"),
        ("lite0,lite0@4", "rich", "named twice"),
        ("table", "rich", "no backbone"),
        (" , ", "rich", "empty"),
        ("lite0", "richest", "did you mean 'rich'"),
    ],
)
def test_unknown_words_are_refused(text: str, taps: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_sources(text, taps)


# --- the real road


def test_the_ranking_comes_from_the_real_apps(tmp_path: Path) -> None:
    found = select(order(tmp_path, "random:squeezenet1_1@3+7", measure=True), APP, simulate)
    assert [row["taps"] for row in found["by_seed"]] == ["3", "7"]
    for row in found["candidates"]:
        assert set(row["scores"]) == set(SCORES)
        assert 0 <= row["measured"]["balanced_accuracy"] <= 1
    losses = [row["scores"]["cv-loss"] for row in found["candidates"]]
    assert losses == sorted(losses, reverse=True)
    assert read_json(tmp_path / "run" / "selection.json")["candidates"] == found["candidates"]
    assert [row["score"] for row in found["agreement"]] == list(SCORES)


def test_what_is_done_is_not_run_again_and_other_settings_are_refused(tmp_path: Path) -> None:
    runs: list[str] = []

    def counted(plan: RunPlan) -> None:
        runs.append(plan.out.name)
        if (plan.out / "config.json").exists():
            raise RunError("already in use")
        stored(plan)

    both = order(tmp_path, "random:squeezenet1_1,random:resnet18", seeds=2)
    first, second = (select(both, APP, counted) for _ in range(2))
    assert runs == ["random-squeezenet1_1", "random-resnet18"]
    assert first == second
    with pytest.raises(RunError, match="already in use"):
        select(order(tmp_path, words=(*SMALL, "alpha=0.9"), seeds=2), APP, counted)


def test_settings_are_the_users_and_figures_show_only_when_asked_for(tmp_path: Path) -> None:
    plans: list[RunPlan] = []
    chosen = order(tmp_path, words=(*SMALL, "partition=even"))
    found = select(chosen, APP, lambda plan: (plans.append(plan), stored(plan)))
    assert plans[0].settings.partition == "even"
    assert plans[0].settings.features == "4+7+10+12"
    assert plans[0].settings.methods.endswith("taps@7+10+12")
    assert found["agreement"] == []
    assert all(row["measured"] == {} for row in found["candidates"])


def test_the_command_prints_the_ranking_and_the_agreement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    select(order(tmp_path), APP, stored)
    words = ["select", "--data", "phantom", "--backbones", "random:squeezenet1_1", "--sites", "3", "--shots", "12"]
    words += ["--set", "image-size=64", "--set", "views=one", "--measure", "--out", str(tmp_path / "run")]
    for last in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["medtl", *words, *last])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
    shown = capsys.readouterr().out
    assert "random:squeezenet1_1 7+10+12" in " ".join(shown.split())
    assert "Spearman" in shown and f"run folder  {tmp_path / 'run'}\n" in shown
    found = json.loads(shown[shown.index("{\n") :])
    assert found["agreement"][0]["spearman"] == 1.0


# --- orders that cannot be carried out


def test_missing_weights_stop_it_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ran: list[RunPlan] = []
    with pytest.raises(WeightsError, match="resnet18' are not here"):
        select(order(tmp_path, "random:squeezenet1_1,torchvision:resnet18"), APP, ran.append)
    with pytest.raises(WeightsError, match="does not exist"):
        select(order(tmp_path, "lite0", weights=str(tmp_path / "nowhere")), APP, ran.append)
    assert ran == []


def test_a_setting_that_select_decides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="features is set"):
        select(order(tmp_path, words=("features=plain",)), APP, stored)


def test_data_with_one_class_are_refused(tmp_path: Path) -> None:
    pool = phantom(size=64, patients=60)
    write_manifest(pool.take(pool["label"] == 1), tmp_path / "alike")
    words = ("sites=2", "shots=3", "image-size=64", "views=one")
    alike = Selection(str(tmp_path / "alike"), read_sources("random:squeezenet1_1@7"), words, out=tmp_path / "run")
    with pytest.raises(DataError, match="class"):
        select(alike, APP, simulate)


# --- order and agreement


def made(backbone: str, taps: str, seed: int, score: float, measured: float) -> Candidate:
    return Candidate(backbone, taps, seed, 8, {"cv-loss": score}, {"balanced_accuracy": measured})


def test_agreement_by_hand() -> None:
    candidates = [
        made("a", "1", 0, 0.1, 0.50), made("a", "2", 0, 0.3, 0.70), made("b", "1", 0, 0.2, 0.60),
        made("a", "1", 1, 0.3, 0.50), made("a", "2", 1, 0.2, 0.70), made("b", "1", 1, 0.1, 0.60),
    ]  # fmt: skip
    (row,) = agreement(candidates)
    assert (row["score"], row["candidates"]) == ("cv-loss", 3)
    assert [row[key] for key in ("spearman", "kendall", "regret")] == pytest.approx([0.25, 1 / 3, 0.1])


def test_ranked_averages_over_seeds() -> None:
    rows = ranked([made("a", "1", 0, 0.1, 0.5), made("a", "1", 1, 0.3, 0.7), made("b", "1", 0, 0.9, 0.4)], "cv-loss")
    assert [(row["backbone"], row["scores"]["cv-loss"]) for row in rows] == [("b", 0.9), ("a", pytest.approx(0.2))]
    assert rows[1]["measured"]["balanced_accuracy"] == pytest.approx(0.6)


def test_tables_show_what_was_found() -> None:
    row = {"score": "logme", "candidates": 4, "spearman": None, "kendall": 0.5, "regret": 0.034}
    found = {"candidates": ranked([made("lite0", "4", 0, -0.5, 0.625)], "cv-loss"), "agreement": [row]}
    console = Console(width=100)
    with console.capture() as text:
        console.print(ranking_table(found), agreement_table(found))
    assert {"lite0", "62.5", "-0.50", "logme", "3.4", "-"} <= set(text.get().replace("│", " ").split())
