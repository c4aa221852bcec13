"""Groups and AUROC intervals from hospitals' sums: as from the cases, cells suppressed, and the same on both roads."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medtl_core.clinical.delong import areas, covariance, interval
from medtl_core.clinical.placements import Spread, placements, products
from medtl_core.clinical.ranking import class_odds, rankings, summed
from medtl_core.clinical.record import of_sums
from medtl_core.clinical.subgroups import OTHER, judged_groups, named_columns, stated_groups, summed_group, told_groups
from medtl_core.config import settings
from medtl_core.errors import ConfigError, MedtlError
from medtl_core.evaluation.federated import lower_edges, summarise
from medtl_core.evaluation.scores import select
from medtl_core.features.dataset import Material
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.held_out import group_scores
from medtl_core.values import Array, Examples, Scores, Task, Update
from simulations.summed import apart
from tests.clinical.test_runs import FINDINGS, run
from tests.test_multilabel_runs import write_cases

THREE = ("a", "b", "c")


def drawn(cases: int, classes: int, seed: int, per_patient: int = 1) -> Scores:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, cases)
    logits = rng.normal(size=(cases, classes)) + 1.2 * np.eye(classes)[label]
    site = np.asarray(["north", "south"])[np.arange(cases) // per_patient % 2]
    return Scores(logits, label, site, np.arange(cases) // per_patient)


def spread(methods: dict[str, Scores], names: tuple[str, ...]) -> Spread:
    """As the server asks and hospitals answer."""
    first = next(iter(methods.values()))
    told = {name: summed({"": summarise(scores)}, names) for name, scores in methods.items()}
    placed = np.stack([[placements(each) for each in rows.values()] for rows in told.values()])
    judged = list(range(1 if len(names) == 2 else 0, len(names)))
    total: dict[str, Array] = {}
    for site in ("north", "south"):
        parts = [select(scores, scores.site == site) for scores in methods.values()]
        odds = np.stack([class_odds(part.logits)[:, judged] for part in parts])
        inside = parts[0].label[:, None] == np.asarray(judged)
        sums = products(placed, odds, np.stack([inside, ~inside], axis=2), parts[0].group)
        total = {name: total.get(name, 0) + array for name, array in sums.items()}
    defined = np.asarray([all(each.support) for each in rankings(first, names).values()])
    return Spread.of(total, tuple(methods), defined)


@pytest.mark.parametrize("per_patient", [1, 3])
def test_of_scores_that_lie_on_the_bins_it_is_delong_with_patients_as_clusters(per_patient: int) -> None:
    scores = drawn(90, 2, 1, per_patient)
    margin = scores.logits[:, 1] - scores.logits[:, 0]
    edges = lower_edges()[1:]
    middle = np.append(edges, 2 * edges[-1])[np.searchsorted(edges, margin, side="right")] - 1e-6
    binned = replace(scores, logits=np.stack([np.zeros(90), middle], axis=1))
    found, exact = spread({"m": binned}, ("no", "yes")), areas(binned)
    np.testing.assert_allclose(found.variances[0], exact.variance, rtol=1e-9)
    np.testing.assert_allclose(found.covariance, covariance({"m": exact.macro[1]}), rtol=1e-9)


@pytest.mark.parametrize("per_patient", [1, 2])
def test_of_any_scores_it_is_close_for_classes_means_and_differences(per_patient: int) -> None:
    one = drawn(400, 3, 2, per_patient)
    noise = np.random.default_rng(3).normal(size=one.logits.shape)
    methods = {"one": one, "other": replace(one, logits=one.logits + 0.7 * noise)}
    found, exact = spread(methods, THREE), {name: areas(scores) for name, scores in methods.items()}
    for row, part in zip(found.variances, exact.values(), strict=True):
        np.testing.assert_allclose(row, part.variance, rtol=5e-3)
    table = covariance({name: part.macro[1] for name, part in exact.items()})
    np.testing.assert_allclose(found.covariance, table, rtol=5e-3)
    sums = {name: {"s": summarise(scores)} for name, scores in methods.items()}
    record = of_sums(sums, THREE, spreads=[found])
    area, part = exact["one"].macro
    ends = interval(area, float((part**2).sum()))
    assert ends is not None and record.methods["one"].area == pytest.approx(area, abs=1e-3)
    assert (record.methods["one"].low, record.methods["one"].high) == pytest.approx(ends, abs=2e-3)
    (test, _), gain = record.against("one")["other"], area - exact["other"].macro[0]
    assert test.low < gain < test.high
    assert of_sums(sums, THREE).methods["one"].low is None  # without what patients add nothing is said of a mean


def test_a_class_without_a_case_or_with_one_patient_has_no_interval() -> None:
    scores = drawn(60, 3, 4)
    gone = replace(scores, label=np.where(scores.label == 2, 0, scores.label))
    found = spread({"m": gone}, THREE)
    assert np.isnan(found.variances[0][2]) and not np.isnan(found.variances[0][:2]).any()
    assert found.covariance[0, 0] == pytest.approx((areas(gone).macro[1] ** 2).sum(), rel=2e-2)
    alone = replace(gone, label=np.where(np.arange(60) == 7, 2, gone.label))
    assert np.isnan(spread({"m": alone}, THREE).covariance[0, 0]) and np.isnan(areas(alone).macro[1]).all()


def test_summed_areas_of_kept_scores_are_within_two_thousandths(tmp_path: Path) -> None:
    run(tmp_path, keep_scores=True)
    assert max(worst for worst, _ in apart(tmp_path / "seed-0").values()) < 2e-3


# ---- groups ----------------------------------------------------------------------------------------------------------


def examples(sex: list[str], age: list[float]) -> Examples:
    cases = len(sex)
    words = {name: np.full(cases, "x") for name in ("patient", "site", "split")}
    columns = {"label": np.zeros(cases, np.int64), "sex": np.asarray(sex), "age": np.asarray(age), **words}
    return Examples(columns, Task("t", ("no", "yes")))


def test_a_hospital_leaves_out_small_groups_and_the_one_that_a_sum_would_tell() -> None:
    mixed = examples(["f"] * 20 + ["m"] * 15 + ["d"] * 3, [50.0] * 38)
    rows = told_groups(mixed, (), "sex:f|m|d")
    assert stated_groups("sex:f|m|d") == {"sex": ("f", "m", "d", OTHER)}
    assert rows.sum(axis=1).tolist() == [20, 0, 0, 0]  # 3 are too few, and 15 would be told by the difference
    both = told_groups(examples(["f"] * 20 + ["m"] * 15 + ["d"] * 3 + [""] * 4, [50.0] * 42), (), "sex:f|m|d")
    assert both.sum(axis=1).tolist() == [20, 15, 0, 0]
    assert told_groups(mixed, (), "weight:<60").sum() == 0  # it has no such column


def test_bands_of_numbers_and_the_usual_ones_of_ages() -> None:
    mixed = examples(["f"] * 44, [10.0] * 11 + [18.0] * 11 + [41.0] * 11 + [float("nan")] * 11)
    assert told_groups(mixed, (), "age").sum(axis=1).tolist() == [11, 11, 11, 0, 0, 11]
    assert told_groups(mixed, (), "age:<18<41").sum(axis=1).tolist() == [11, 11, 11, 11]
    assert set(named_columns(mixed, (), "age:<18<41")["age"]) == {"below 18", "18 to below 41", "41 and more", OTHER}
    assert set(named_columns(mixed, (), "sex:m")["sex"]) == {OTHER}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("sex", "state them, sex:a"), ("bmi:<30<25", "rising"), ("bmi:<x", "rising"), ("sex:|", "state 1 to 12")],
)
def test_groups_that_are_not_well_stated_are_refused(wanted: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        stated_groups(wanted)


def test_a_group_from_sums_has_the_figures_of_its_cases() -> None:
    scores = drawn(120, 2, 5)
    column = np.asarray(["f", "m"])[np.arange(120) % 2]
    (exact,) = [group for group in judged_groups(scores, {"sex": column})["sex"] if group.value == "m"]
    found = summed_group("m", summarise(select(scores, column == "m")), ("no", "yes"))
    assert (found.cases, found.confusion) == (exact.cases, exact.confusion)
    assert found.area == pytest.approx(exact.area, abs=2e-3)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=5e-3)
    empty = summarise(select(scores, column == "neither"))
    assert summed_group("d", empty, ("no", "yes")) == replace(found, value="d", cases=0, area=None, low=None,
                                                              high=None, confusion=())  # fmt: skip
    wide = summed_group("m", Update(summarise(drawn(200, 3, 6)).arrays), THREE)
    area, part = areas(drawn(200, 3, 6)).macro
    assert wide.low is not None and wide.low < (interval(area, float((part**2).sum())) or (0, 0))[0]


def test_hospitals_tell_the_groups_that_the_server_would_judge(tmp_path: Path) -> None:
    words = {"sites": 5, "methods": "discriminant,fedavg-2"}
    central = run(tmp_path / "here", **words, subgroups="site")
    there = run(tmp_path / "there", **words, test="sites", subgroups="site:phantom-a|phantom-b")
    exact = {group.value: group for group in central.methods["discriminant"].groups["site"]}
    told = {group.value: group for group in there.methods["discriminant"].groups["site"]}
    assert set(told) == {"phantom-a", "phantom-b", OTHER}
    for name in ("phantom-a", "phantom-b"):
        assert told[name].cases == exact[name].cases and told[name].confusion == exact[name].confusion
    for name in ("discriminant", "fedavg-2"):
        here, beyond = central.methods[name], there.methods[name]
        assert (beyond.low, beyond.high) == pytest.approx((here.low, here.high), abs=5e-3)
    rows = [list(central.compared).index(name) for name in there.compared]
    expected = np.asarray(central.covariance)[np.ix_(rows, rows)]
    np.testing.assert_allclose(np.asarray(there.covariance), expected, rtol=0.05)
    page = (tmp_path / "there" / "report.html").read_text()
    assert "phantom-b" in page and "DeLong (AUROC) and Wilson" in page
    with pytest.raises(MedtlError, match="state them"):
        run(tmp_path / "refused", test="sites", subgroups="site")


def test_a_model_has_groups_and_intervals_in_exchanges_of_its_own(tmp_path: Path) -> None:
    words = {"sites": 5, "methods": "discriminant,network-2"}
    central = run(tmp_path / "here", **words, subgroups="site")
    there = run(tmp_path / "there", **words, test="sites", subgroups="site:phantom-a|phantom-b")
    exact = {group.value: group for group in central.methods["network-2"].groups["site"]}
    told = {group.value: group for group in there.methods["network-2"].groups["site"]}
    for name in ("phantom-a", "phantom-b"):
        assert (told[name].cases, told[name].confusion) == (exact[name].cases, exact[name].confusion)
    here, beyond = central.methods["network-2"], there.methods["network-2"]
    assert (beyond.low, beyond.high) == pytest.approx((here.low, here.high), abs=5e-3)
    assert there.compared == ("discriminant",)  # what two methods differ by is told of heads in one exchange
    result = json.loads((tmp_path / "there" / "seed-0" / "result.json").read_text(encoding="utf-8"))
    phases = [row["phase"] for row in result["phases"]]
    assert {"groups", "groups-network-2", "auroc-intervals", "auroc-intervals-network-2"} <= {*phases}
    assert set(result["methods"]["network-2"]["intervals"]) == {"auroc", "balanced_accuracy"}


def test_findings_have_groups_and_intervals_at_hospitals_each_by_the_cases_it_is_known_of(tmp_path: Path) -> None:
    write_cases(tmp_path / "data")
    words = {**FINDINGS, "data-path": f"{tmp_path / 'data'}", "methods": "auto,fedavg-2"}
    central = run(tmp_path / "here", **words, subgroups="site")
    there = run(tmp_path / "there", **words, test="sites", subgroups="site:east|north|south")
    for name in ("auto", "fedavg-2"):
        here, beyond = central.methods[name], there.methods[name]
        assert (beyond.low, beyond.high) == pytest.approx((here.low, here.high), abs=0.02)
        for finding, row in here.classes.items():
            told = beyond.classes[finding]
            assert (told.low, told.high) == pytest.approx((row.low, row.high), abs=0.02)
    groups = {group.value: group for group in there.methods["auto"].groups["site"]}
    assert [*groups] == ["east", "north", "south", OTHER]
    # Of 20 test cases a hospital a fifth is unknown of each finding; what is told is the best known one's.
    assert all(11 <= groups[name].cases < 20 and groups[name].confusion == () for name in ("east", "north", "south"))
    assert groups[OTHER].cases == 0
    result = json.loads((tmp_path / "there" / "seed-0" / "result.json").read_text(encoding="utf-8"))
    labels = result["methods"]["auto"]["by_label"]
    assert set(labels["edema"]["intervals"]) == {"auroc", "balanced_accuracy"}


def test_of_a_finding_known_of_few_cases_of_a_group_nothing_is_told() -> None:
    labels = np.full((40, 2), -1, np.int8)
    labels[:, 0] = np.arange(40) % 2
    labels[:5, 1] = 1  # five women's, and all men's
    labels[20:, 1] = np.arange(20) % 2
    mixed = examples(["f"] * 20 + ["m"] * 20, [50.0] * 40)
    cases = Examples({**mixed.columns, "labels": labels}, Task("t", ("x", "y"), "multi-label"))
    width = np.zeros((40, 2), np.float32)
    material = Material(cases, settings({"backbone": "table"}), ())
    site = SiteData("s", width, np.zeros(40, np.int64), np.arange(40).astype(str), width, np.zeros(40, np.int64),
                    np.arange(40).astype(str), 2, 0, test_material=material)  # fmt: skip
    sums = group_scores(site, {"heads": np.zeros((1, 2, 3))}, {"groups": "sex:f|m"}).update.arrays
    told = sums["sums"][0, :, :, 0].tolist()  # by group, then by finding
    assert told == [[20, 0], [20, 0], [0, 0]]  # 20 men of the second would be told by a difference
