"""Records through the real apps: trained, judged within sites, saved; hospitals that mean other columns are told."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.app import app as client_app
from client.site import Node, open_site
from medtl_core.cli.plan import RunOrder, make_plan
from medtl_core.config import Settings, settings
from medtl_core.errors import ConfigError
from medtl_core.evaluation.result import Result
from medtl_core.federation import registry
from medtl_core.flower.grid import run_local
from medtl_core.predict.saved import load_packed
from medtl_core.report.folder import write_report
from medtl_core.report.summary import summarise
from medtl_core.report.terminal import summary_table
from server.app import app as server_app
from tests.formats.clinic import SCHEMA, clinic, many
from tests.house import ROOT

PLAIN = SCHEMA.replace('site = "hospital"', 'site = "hospital"\nsplit = "split"')
FOLLOWED = (
    PLAIN.replace('label = "relapse"', 'event = "relapse"\ntime = "days"').replace('"no", "yes"', '"free", "relapsed"')
    + '[column.days]\ntype = "number"\nunit = "d"\nrange = [0, 9999]\n[labels]\n0 = "free"\n1 = "relapsed"\n'
)
HEAD = "patient,hospital,relapse,{}glucose,smoker,stage,split\n"


def folder(place: Path, *, event: bool = False) -> Path:
    lines = [line for seed, site in enumerate("abc") for line in many(site, 36, seed, event=event)]
    return clinic(place, HEAD.format("days," if event else "") + "\n".join(lines), FOLLOWED if event else PLAIN)


def run(data: Path, out: Path, **values: Any) -> Mapping[str, Any]:
    nodes = [{"partition-id": part, "num-partitions": 3} for part in range(3)]
    chosen = {"data": "", "data-path": str(data), "backbone": "table", "sites": 3, "shots": 0, "bootstrap": 20,
              "folds": 3, "out": str(out), "cache": "off"}  # fmt: skip
    run_local(server_app, client_app, node_configs=nodes, run_config=settings({**chosen, **values}).public(), workers=1)
    result: Mapping[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["failures"] == []
    return result


def test_a_folder_of_records_trains_and_leaves_a_head_that_can_be_read(tmp_path: Path) -> None:
    result = run(folder(tmp_path / "data"), tmp_path / "out", methods="records,ridge")
    assert result["methods"]["records"]["figures"]["auroc"] > 0.75
    kind, packed = load_packed(tmp_path / "out" / "heads" / "records.json")
    assert registry.unpack(kind, packed).pack().arrays.keys() == {"head", "centre", "scale"}
    assert result["classes"] == ["no", "yes"] and set(result["sites"]) == {"a", "b", "c"}


@pytest.mark.parametrize("test", ["server", "sites"])
def test_survival_is_told_by_concordance_pooled_and_for_each_hospital(tmp_path: Path, test: str) -> None:
    result = run(folder(tmp_path / "data", event=True), tmp_path / "out" / "seed-0", methods="local,cox", test=test)
    judged = result["methods"]["cox"]
    assert set(judged["figures"]) == {"concordance", "mean_of_sites", "worst_site"}
    assert judged["figures"]["concordance"] > 0.6
    assert all(0 <= row["concordance"] <= 1 for row in judged["by_site"].values()) and len(judged["by_site"]) == 3
    summary = summarise([Result.from_dict(result)])
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as shown:
        console.print(summary_table(summary))
    (tmp_path / "out" / "seed-0" / "result.json").write_text(json.dumps(result))
    write_report(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for site, row in judged["by_site"].items():
        assert f"{site} {row['concordance']:.3f}" in shown.get() and f"{row['concordance']:.3f}" in page
    assert "alanced accuracy" not in page.partition("How to read")[0]


def test_survival_without_times_is_refused_before_a_hospital_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cox"):
        run(folder(tmp_path / "data"), tmp_path / "out", methods="cox")


def test_records_need_no_word_about_backbone_or_methods(tmp_path: Path) -> None:
    for event, method in ((False, "records"), (True, "cox")):
        plan = make_plan(RunOrder(data=str(folder(tmp_path / method, event=event))), ROOT)
        assert (plan.settings.backbone, plan.settings.shots) == ("table", 0)
        assert method in plan.settings.methods.split(",")
    assert (
        make_plan(RunOrder(data=str(tmp_path / "cox"), assignments=["methods=ridge"]), ROOT).settings.methods == "ridge"
    )
    assert make_plan(RunOrder(), ROOT).settings.backbone == "lite0"


def test_hospitals_agree_on_units_ranges_and_vocabularies_and_the_log_names_the_column(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = Settings(data="", backbone="table", test_path="of the server", cache="off")
    lines = HEAD.format("") + "\n".join(many("a", 30))
    agreed = open_site(chosen, Node("a", str(clinic(tmp_path / "a", lines, PLAIN)), -1))
    own = PLAIN.replace("range = [1, 40]", 'range = [1, 40]\nwritten = "mg/dL"')
    rows = [line.split(",") for line in lines.splitlines()]
    mgdl = [
        [*row[:3], f"{float(row[3]) * 18.0156:.3f}", *row[4:]] if number else row for number, row in enumerate(rows)
    ]
    same = clinic(tmp_path / "b", "\n".join(map(",".join, mgdl)), own)
    assert open_site(chosen, Node("b", str(same), -1)).agreement == agreed.agreement
    for place, change in enumerate(('"I", "II"|"II", "I"', "[1, 40]|[1, 41]", '"mmol/L"|"umol/L"', "stage]|grade]")):
        schema = PLAIN.replace(*change.split("|")).replace("[column.grade]", '[column.grade]\nheader = "stage"')
        other = open_site(chosen, Node("c", str(clinic(tmp_path / f"{place}", lines, schema)), -1))
        assert other.agreement != agreed.agreement
    with caplog.at_level(logging.WARNING, "medtl"):
        other.compare(agreed.data.material.columns)  # type: ignore[union-attr]
    assert "stage=I" in caplog.text and "grade=I" in caplog.text


def test_under_privacy_a_bad_row_costs_that_row_only_and_ranges_are_the_schemas(tmp_path: Path) -> None:
    chosen = Settings(data="", backbone="table", privacy="auto", test_path="of the server", cache="off")
    lines = many("a", 30)
    whole = open_site(chosen, Node("a", str(clinic(tmp_path / "a", HEAD.format("") + "\n".join(lines), PLAIN)), -1))
    bad = [lines[0], "a1,a,perhaps,5.0,0,I,train", *lines[2:]]
    spoiled = open_site(chosen, Node("b", str(clinic(tmp_path / "b", HEAD.format("") + "\n".join(bad), PLAIN)), -1))
    np.testing.assert_array_equal(np.delete(whole.data.values, 0, axis=0), spoiled.data.values)
