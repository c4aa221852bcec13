import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from medtl_core.errors import RunError
from medtl_core.report import folder, numerals, page, summary
from tests.report import made_up

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Collects elements and complains about unbalanced ones."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def rendered(results: list[dict] | None = None) -> str:  # type: ignore[type-arg]
    results = results if results is not None else made_up.results()
    return page.render(summary.aggregate(results), results)


def test_the_page_is_well_formed_with_unique_ids() -> None:
    reader = read(rendered())
    assert len(reader.ids) == len(set(reader.ids))
    named = {word for _, attrs in reader.seen for word in (attrs.get("aria-labelledby") or "").split()}
    assert named <= set(reader.ids)
    assert ("html", {"lang": "en"}) in reader.seen


def test_nothing_is_fetched() -> None:
    html = rendered()
    reader = read(html)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in reader.seen}
    assert not any(name in attrs for _, attrs in reader.seen for name in ("src", "srcset", "onclick", "onload"))
    assert "url(" not in html and "@import" not in html
    assert "default-src 'none'" in html


def test_both_themes_and_paper_are_served() -> None:
    html = rendered()
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_every_page_says_it_is_no_medical_device() -> None:
    assert "Research software, not a medical device." in read(rendered()).text


def test_the_synthetic_banner_shows_for_the_phantom_only() -> None:
    assert "Synthetic data." in read(rendered(made_up.results(1, "phantom"))).text
    assert "Synthetic data." not in read(rendered()).text
    told = made_up.results(1)
    told[0]["data"]["synthetic"] = True
    assert "Synthetic data." in read(rendered(told)).text


def test_tables_hold_the_numbers_of_the_plots() -> None:
    results = made_up.results()
    metrics = summary.aggregate(results)
    text = read(page.render(metrics, results)).text
    for method in metrics["methods"].values():
        for figure in ("balanced_accuracy", "auroc"):
            # Once in the plot, once in the table at least.
            assert text.count(numerals.figure(method[figure]["mean"])) >= 2
            assert numerals.spread(method[figure]) in text
        assert numerals.size(method["bytes_up"]) in text


def test_the_lead_says_what_came_out() -> None:
    results = made_up.results(1)
    figures = results[0]["methods"]["auto"]["figures"]
    text = read(rendered(results)).text
    assert f"auto reached a balanced accuracy of {figures['balanced_accuracy']:.3f}" in text
    assert "With 90 training cases at each of 8 hospitals" in text
    assert "Each hospital sent 624 kB" in text


def test_a_method_picked_on_the_test_cases_is_called_so() -> None:
    results = made_up.results(1)
    del results[0]["methods"]["auto"]
    assert "best federated method on these very test cases" in read(rendered(results)).text


def test_names_from_hospitals_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>\"'&"
    results = made_up.results(1)
    one = results[0]
    one["sites"][evil] = 5
    one["classes"] = [evil, "b"]
    one["failures"] = [{"site": evil, "code": evil, "text": evil}]
    record = one["methods"].pop("ridge")
    record["by_site"][evil] = {"balanced_accuracy": 0.5, "auroc": 0.5, "n": 3}
    record["curves"]["roc"][evil] = [[0, 1], [0, 1]]
    one["methods"] = {"auto": record, evil: record}
    one["phases"][0]["phase"] = evil
    one["settings"]["note"] = evil
    reader = read(rendered(results))
    assert "script" not in {tag for tag, _ in reader.seen}


def test_places_on_the_machine_are_not_shown() -> None:
    assert "secret" not in rendered()


def test_the_same_results_give_the_same_page() -> None:
    assert rendered() == rendered()


def test_failures_are_counted() -> None:
    text = read(rendered()).text
    assert "Hospitals that did not answer" in text
    assert "deadline: no answer within 600 s" in text
    assert "Hospitals that did not answer" not in read(rendered(made_up.results(1))).text


def test_a_run_judged_by_sums_has_no_curve_and_still_a_page() -> None:
    results = made_up.results(1)
    one = results[0]
    one["test"] = {"cases": 0, "sites": []}
    one["phases"] = []
    for record in one["methods"].values():
        record |= {"curves": {}, "by_site": {}, "intervals": {}}
    text = read(rendered(results)).text
    assert "by sums over the cases that each hospital holds back" in text
    assert "By site" not in text
    assert "Calibration Does" not in text


def test_many_sites_are_listed_and_the_largest_drawn() -> None:
    results = made_up.results(1)
    record = results[0]["methods"]["auto"]
    results[0]["methods"] = {"auto": record}
    record["by_site"] = {f"s{i:02}": {"balanced_accuracy": 0.5, "auroc": 0.5, "n": i} for i in range(30)}
    record["curves"]["roc"] |= {f"s{i:02}": [[0, 1], [0, 1]] for i in range(30)}
    html = rendered(results)
    assert "the table lists all 30" in html
    assert "29 test cases" in html
    assert ">5 test cases" not in html


def test_a_run_folder_is_rendered_from_its_results(tmp_path: Path) -> None:
    for one in made_up.results():
        place = tmp_path / f"seed-{one['seed']}"
        place.mkdir()
        (place / "result.json").write_text(json.dumps(one))
    (tmp_path / "config.json").write_text('{"name": "dermoscopy"}')
    metrics = folder.write_report(tmp_path)
    assert metrics["name"] == "dermoscopy"
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert "dermoscopy</h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_deployed_run_keeps_its_result_in_the_folder_itself(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(made_up.result(0)))
    assert folder.write_report(tmp_path)["seeds"] == [0]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no seed"):
        folder.write_report(tmp_path)
    (tmp_path / "FAILED").write_text("RunError: x")
    with pytest.raises(RunError, match="the run failed"):
        folder.write_report(tmp_path)
    with pytest.raises(RunError, match="no run folder"):
        folder.write_report(tmp_path / "missing")


def test_a_damaged_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"schema": 1')
    with pytest.raises(RunError, match="cannot be read as JSON"):
        folder.write_report(tmp_path)
