"""docs/backbones.md: its commands run, its recipe and its manifest are read."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from medtl_core.backbones.manifest import FACTS, described
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import read_assignments, settings
from medtl_core.features.spec import feature_spec
from medtl_core.recipes.recipe import find_recipe
from tests.house import ROOT
from tests.recipes.conftest import Call

PAGE = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    (text,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


def test_the_pages_commands_run_one_after_the_other(
    home: Path, recipe: Callable[..., Path], call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^medtl (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 7
    for words in map(shlex.split, commands):
        if words[0] == "simulate":
            values = settings(read_assignments(words[2:]))
            if "own:" not in values.backbone:
                assert feature_spec(values, ("identity",)).width == 64
            continue
        if words[1] == "fetch":  # the same command, from this machine's server
            text = recipe("/a.safetensors", licence=words[words.index("--accept-licence") + 1]).read_text()
            Path("mine.toml").write_text(text.replace("[mine]", f"[{words[2]}]"))
            words += [] if "--recipe" in words else ["--recipe", "mine.toml"]
        there = ["--to", str(tmp_path / "there")] if words[1] == "unpack" else []
        call(*words[1:], *there)
    assert (tmp_path / "there" / "resnet18.safetensors").read_bytes() == (home / "resnet18.safetensors").read_bytes()


def test_the_pages_recipe_and_manifest_are_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(block("toml"))
    mine = find_recipe("mine", tmp_path / "mine.toml")
    assert (mine.gate, mine.inside) == ("HF_TOKEN", "model")
    manifest = json.loads(block("json"))
    for facts, rich in ((mine.facts, ("blocks.5", "blocks.8", "norm.cls")), (manifest, ("layer2", "layer3"))):
        backbone = described(find_backbone(facts["architecture"]), facts, "the page")
        assert backbone.rich == rich and set(rich) <= set(backbone.taps)
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert set(FACTS) <= set(re.findall(r"`(\w+)`", " ".join(rows)))
