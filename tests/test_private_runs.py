"""Private runs through the real apps: what travels, what is paid, who sits out, and that no seed touches the noise."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord

from client.app import app as client_app
from client.site import Node, open_site
from medtl_core.config import settings
from medtl_core.errors import ConfigError, RunError
from medtl_core.federation.registry import chosen_methods, read_methods
from medtl_core.federation.secure_sum import STAGES
from medtl_core.flower.grid import run_local
from medtl_core.predict.saved import load_packed
from medtl_core.privacy.ledger_report import balance, ledgers
from medtl_core.privacy.outbound import DEFAULT_OUTBOUND, PRIVATE_OUTBOUND
from medtl_core.privacy.witnesses import FILE
from server.app import app as server_app
from tests.privacy.made import write_table

HOSPITALS = 5
RUN: Mapping[str, Any] = {
    "data": "", "backbone": "table", "sites": HOSPITALS, "shots": 30, "bootstrap": 20, "privacy": "auto",
    "epsilon": 4.0, "public-cases": 4, "quorum": 0.5,
}  # fmt: skip


class Listening:
    """The real ClientApp, and everything it ever sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []

    def __call__(self, message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        self.sent.append((message.metadata.message_type.partition(".")[2], reply))
        return reply


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table to be shared out, and room for the features."""
    folder = tmp_path_factory.mktemp("private")
    write_table(folder / "table.csv", HOSPITALS, 30)
    return folder


def prepared(folder: Path, place: Path, **changes: Any) -> dict[str, Any]:
    values = {**RUN, "data-path": str(place / "table.csv"), "cache": str(place / "cache"), **changes}
    return {**values, "out": str(folder / "out"), "state": str(folder / "state")}


def run(values: Mapping[str, Any], app: Any = client_app) -> dict[str, Any]:
    nodes = [{"partition-id": part, "num-partitions": HOSPITALS} for part in range(HOSPITALS)]
    run_local(server_app, app, node_configs=nodes, run_config=settings(dict(values)).public(), workers=1)
    return json.loads((Path(values["out"]) / "result.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("shots", "few"), [(6, True), (30, False)])
def test_the_default_sends_what_is_listed(tmp_path: Path, place: Path, shots: int, few: bool) -> None:
    heard = Listening()
    promised = ("privacy", "epsilon", "public-cases")
    values = {name: value for name, value in prepared(tmp_path, place).items() if name not in promised}
    assert run({**values, "methods": "auto", "shots": shots}, heard)["failures"] == []
    every, *rows = DEFAULT_OUTBOUND
    listed = {(row.task, frozenset(row.name.split(", "))) for row in rows}
    sent = {(name, frozenset(reply.content["arrays"])) for name, reply in heard.sent if name != "join"}
    assert sent <= listed
    assert {name for name, _ in sent} == {row.task for row in rows}
    said = {name for _, reply in heard.sent for record in ("about", "metrics") for name in reply.content[record]}
    assert said == {*every.name.split(", ")}
    assert any("labels" in arrays for _, arrays in sent) == few


def write_policy(values: Mapping[str, Any], part: int, text: str) -> str:
    """Gives one hospital a policy before the run; returns its name."""
    site = open_site(settings(dict(values)).of_site(), Node("", "", part)).keeping(str(values["state"]))
    assert site.home is not None
    site.home.mkdir(parents=True)
    (site.home / "policy.toml").write_text(text, encoding="utf-8")
    return site.data.name


@pytest.mark.parametrize("secure", [False, True])
def test_a_private_run_sends_only_what_is_listed_and_paid_for(tmp_path: Path, place: Path, secure: bool) -> None:
    values, heard = prepared(tmp_path, place, **{"secure-sum": secure, "partition": "size"}), Listening()
    result = run(values, heard)
    assert result["failures"] == []
    assert list(result["methods"]) == ["private-auto"]
    listed = {row.task: set[str]() for row in PRIVATE_OUTBOUND}
    for row in PRIVATE_OUTBOUND:
        listed[row.task] |= {*row.name.split(", ")}
    always, standing = ({*row.name.split(", ")} for row in PRIVATE_OUTBOUND if row.task == "every reply")
    tasks = {name for name, _ in heard.sent}
    assert tasks == {"join", *(STAGES if secure else ("private_mean", "private_sums"))}
    for name, reply in heard.sent:
        records = dict(reply.content.items())
        assert set(records) == {"arrays", "metrics", "about"}
        arrays, metrics, about = records["arrays"], records["metrics"], records["about"]
        assert isinstance(arrays, ArrayRecord) and isinstance(metrics, MetricRecord) and isinstance(about, ConfigRecord)
        assert set(arrays) <= listed.get(name, set()), name
        assert dict(metrics) == {}  # no loss, no accuracy, not even the seconds of the work
        assert about["weight"] == 4  # hospitals of very different size tell the same public number
        assert set(about) == (always if name in ("join", *STAGES[1::2], STAGES[4]) else always | standing)
        assert about["epsilon"] <= 4.0
        if name == "join":  # answers nothing about patients, and says so
            assert (about["mechanism"], about["epsilon"], about["delta"]) == ("public", 0.0, 0.0)
    found = [balance(folder) for folder in ledgers(Path(values["state"]))]
    assert len(found) == HOSPITALS
    assert all(2.0 < one.spent <= 4.0 and one.reserved == one.released == 2 for one in found)


def test_the_seed_never_makes_the_noise(tmp_path: Path, place: Path) -> None:
    first, second = (prepared(tmp_path / name, place, privacy="mean-8", seed=11) for name in ("one", "two"))
    results = [run(first), run(second)]
    assert all(list(result["methods"]) == ["private-mean-8"] for result in results)
    one, two = (
        load_packed(Path(values["out"]) / "heads" / "private-mean-8.json")[1].arrays for values in (first, second)
    )
    assert all(one[name].tobytes() == two[name].tobytes() for name in ("mean", "scale", "basis"))
    assert (one["weight"] != two["weight"]).all()
    assert (one["bias"] != two["bias"]).any()


@pytest.mark.parametrize("secure", [False, True])
def test_a_run_asked_again_gets_the_same_bytes(tmp_path: Path, place: Path, secure: bool) -> None:
    """Every method of a simulation has a ledger as if it ran alone."""
    values = prepared(tmp_path, place, methods="private-mean,private-gradient-1", **{"secure-sum": secure})
    heard, books = [], []
    for _ in range(2):
        listening, rows = Listening(), []
        assert run(values, listening)["failures"] == []
        for task, reply in listening.sent:
            arrays = {name: array.data for name, array in reply.content.array_records["arrays"].items()}
            about = reply.content.config_records["about"]
            rows.append((task, about["site"], about.get("witness-ledger"), arrays))
        heard.append(sorted(rows, key=lambda row: str(row[:3])))
        books.append({folder: (folder / "ledger.jsonl").read_bytes() for folder in ledgers(tmp_path / "state")})
    names = sorted(folder.name for folder in books[0])
    assert names == ["private-gradient-1"] * HOSPITALS + ["private-mean"] * HOSPITALS
    assert all(balance(folder).spent <= 4.0 for folder in books[0])
    assert books[0] == books[1]  # nothing was spent, nothing even written down
    assert heard[0] == heard[1]
    owners = {owner for task, _, owner, _ in heard[0] if task != "join"}
    assert owners == ({"method", None} if secure else {"method"})
    assert len(json.loads((tmp_path / "state" / FILE).read_text(encoding="utf-8"))) == 2 * HOSPITALS


@pytest.mark.parametrize(
    ("rule", "secure"),
    [
        ("max_epsilon = 1.0", False),
        ("max_epsilon = 1.0", True),
        ("max_releases = 0", True),
        ("mechanisms = ['private-auto']", False),
    ],
)
def test_a_hospital_that_may_not_spend_sits_out_by_name(tmp_path: Path, place: Path, rule: str, secure: bool) -> None:
    values = prepared(tmp_path, place, **{"secure-sum": secure, "privacy": "mean-8"})
    name = write_policy(values, 2, rule)
    result = run(values)
    word = "PrivacyError" if "mechanisms" in rule else "BudgetError"
    told = [(row["site"], row["text"].partition(":")[0]) for row in result["failures"]]
    assert told == [(name, word)]  # once: under secure sum it is not asked in the later stages
    assert 0.0 <= result["methods"]["private-mean-8"]["figures"]["balanced_accuracy"] <= 1.0
    for row in result["failures"]:  # a typed word and a fixed sentence: no number, path or name of a patient
        assert not any(character.isdigit() for character in row["text"]), row["text"]
        assert str(tmp_path) not in row["text"]
    books = {balance(book).site: balance(book) for book in ledgers(Path(values["state"]))}
    assert name not in books or books[name].reserved == 0
    assert sum(one.released for one in books.values()) == HOSPITALS - 1


def test_below_the_quorum_the_run_ends_and_says_who_refused(tmp_path: Path, place: Path) -> None:
    values = prepared(tmp_path, place, privacy="mean-8", quorum=1.0)
    name = write_policy(values, 0, "max_epsilon = 0.5")
    with pytest.raises(RunError, match=f"{name}.*BudgetError"):
        run(values)
    with pytest.raises(RunError, match="PrivacyError"):  # without folders of their own no hospital takes part
        run({**values, "state": ""})


@pytest.mark.parametrize(
    ("privacy", "methods", "names"),
    [
        ("auto", "ridge,fedavg-5", ["private-auto"]),
        ("auto", "", ["private-auto"]),
        ("mean-8", "ridge", ["private-mean-8"]),
        ("private-gradient-4", "local", ["private-gradient-4"]),
        ("auto", "private-mean,private-auto", ["private-mean", "private-auto"]),
        ("auto", "private-mean,ridge", ["private-auto"]),
    ],
)
def test_under_privacy_only_mechanisms_run(privacy: str, methods: str, names: list[str]) -> None:
    changed = {"privacy": privacy, **({"methods": methods} if methods else {})}
    assert [method.name for method in chosen_methods(settings({**RUN, **changed}))] == names


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"privacy": "mena"}, "did you mean 'private-"),
        ({"test": "sites"}, "test=server"),
        ({"min-cell": 2}, "min-cell=0"),
    ],
)
def test_what_privacy_has_not_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        chosen_methods(settings({**RUN, **changes}))


@pytest.mark.parametrize("methods", ["private-mean-8", "ridge,private-mean-8"])
def test_a_private_method_without_privacy_is_refused_by_both_sides(
    tmp_path: Path, place: Path, methods: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, heard = prepared(tmp_path, place, methods=methods, privacy="none"), Listening()
    with pytest.raises(ConfigError, match=r"names private-mean-8, but with privacy=none .* set privacy=auto"):
        run(values, heard)
    assert heard.sent == []
    monkeypatch.setattr("server.app.chosen_methods", lambda chosen: read_methods("private-mean-8"))
    with pytest.raises(RunError, match="PrivacyError"):  # hospitals do not rely on the server for it
        run(values)
    assert not list((tmp_path / "state").rglob("ledger.jsonl"))


@pytest.mark.parametrize("secure", [False, True])
def test_too_few_patients_are_told_with_the_setting_that_helps(tmp_path: Path, place: Path, secure: bool) -> None:
    values = prepared(tmp_path, place, privacy="mean-8", **{"public-cases": 31, "secure-sum": secure})
    with pytest.raises(RunError, match=r"PatientsError: .*set public-cases") as raised:
        run(values)
    events = (json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines())
    texts = {event["text"] for event in events if event["kind"] == "failure"}
    assert len(texts) == 1
    assert not any(character.isdigit() for character in "".join(texts))  # least of all how many there are
    assert str(raised.value).count("minimum_patients") == 3  # of the first three hospitals, each named once


def test_nothing_of_an_exception_leaves(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(site: Any) -> Any:
        raise ValueError(f"patient {site.data.patients[0]} has value {site.data.values[0, 0]}")

    monkeypatch.setattr("client.app.public_weight", broken)
    with pytest.raises(RunError) as raised:
        run(prepared(tmp_path, place, privacy="mean-8"))
    assert "PrivacyError: the site's privacy policy or ledger refused" in str(raised.value)  # not even the class
    assert "patient" not in str(raised.value)
    events = (tmp_path / "out" / "events.jsonl").read_text(encoding="utf-8")
    assert "has value" not in events
