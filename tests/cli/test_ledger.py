"""What the commands say of a hospital's ledger and receipts, for people: before runs, after them, and ahead."""

import json
import re
import shutil
from collections.abc import Mapping
from math import exp
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message

from client.app import app as client_app
from medtl_core.config import settings
from medtl_core.flower.grid import run_local
from medtl_core.flower.records import wire_bytes
from medtl_core.privacy.accounting import epsilon, most_right, mu_for
from medtl_core.privacy.plan import GaussianEvent
from medtl_core.privacy.policy import Policy
from medtl_core.privacy.receipt import Sent, payload_hash, read_receipts
from medtl_core.privacy.requester import Requester
from server.app import app as server_app
from tests.cli.conftest import Call
from tests.hospital import made_hospital, peers_of
from tests.privacy.made import write_tables

NAMES = ("east", "north", "south")
RUN: Mapping[str, Any] = {
    "data": "", "backbone": "table", "sites": 3, "shots": 40, "bootstrap": 20,
    "study": 'Chest\n"lungs" \x1b[2J' + "x" * 99,
}  # fmt: skip
PRIVATE: Mapping[str, Any] = {"privacy": "auto", "epsilon": 1.0, "public-cases": 40, "colluders": 0}
POLICY = Policy(public_patients=40, secure_sum=True, minimum_colluders=0)


class House:
    """Three hospitals with folders of their own, and everything the server heard of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.heard, self.runs = folder, list[tuple[str, Message]](), 0
        write_tables(folder / "data", *NAMES)
        peers = peers_of(folder / name for name in NAMES)
        self.nodes = [
            made_hospital(folder / name, name, folder / "data" / f"{name}.csv", policy=POLICY, peers=peers)
            for name in NAMES
        ]

    def __call__(self, message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        name = Path(str(context.node_config["hospital"])).name
        self.heard.append((name, reply))
        return reply

    def run(self, **changes: Any) -> None:
        self.runs += 1
        places = {"test-path": "data/test.csv", "state": "server", "out": f"out-{self.runs}"}
        values = {**RUN, **changes, **{key: str(self.folder / path) for key, path in places.items()}}
        run_local(server_app, self, node_configs=self.nodes, run_config=settings(values).public(), workers=1)  # type: ignore[arg-type]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> House:
    """The same after two private runs and a plain one; nobody changes it."""
    house = House(tmp_path_factory.mktemp("after"))
    house.run(**PRIVATE, **{"secure-sum": True})
    house.run(privacy="mean", epsilon=2.0, **{"public-cases": 40})
    house.run(methods="ridge", cache="off", study="")
    return house


#: What the two private runs cost together.
BOTH = epsilon([GaussianEvent(1 / mu_for(cost, 1e-5)) for cost in (1.0, 2.0)], 1e-5)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_before_the_first_run_nothing_is_spent_and_nothing_is_an_error(house: House, call: Call) -> None:
    north = house.folder / "north"
    before = everything(north)
    for folder in (north, north / "privacy"):  # the folder a person knows, and the one in it
        code, shown = call("ledger", "show", folder)
        assert (code, shown.split("\n")[0][:30]) == (0, "north: epsilon 0 of 4 spent on")
        assert call("ledger", "verify", folder)[0] == 0
    assert call("ledger", "statement", north)[0] == 0
    code, shown = call("site", "sent", north)
    assert code == 1 and "nothing was sent from it yet" in shown
    assert everything(north) == before


def test_a_ledger_says_when_which_study_who_asked_what_left_and_what_is_left(after: House, call: Call) -> None:
    north = after.folder / "north"
    code, shown = call("ledger", "show", north)
    assert code == 0 and all(len(line) <= 80 for line in shown.splitlines())
    assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", shown)) == 9
    words = " ".join(shown.split())
    named = "Chest 'lungs' [2J" + "x" * 63
    assert f'by the server\'s own words "{named}"' in words  # one line, 80 signs, none that steers a terminal
    assert "\x1b" not in shown
    for said in (
        "private-auto planned",
        "in a secure sum",
        "private-mean",
        "noised sum of patients' rows",
        "released (",
    ):
        assert said in words
    assert words.startswith(f"north: epsilon {BOTH:.4g} of 4 spent")
    assert f"{4 - BOTH:.4g} is left" in words and words.endswith(f"{4 - BOTH:.4g} left")
    stored = json.loads(call("ledger", "show", north, "--json")[1])
    assert [len(stored), len(stored[0]["history"])] == [1, 9]
    assert call("ledger", "show", after.folder)[1].count("privacy") == 3


@pytest.mark.parametrize("inner", ["", "privacy"])
def test_a_raise_works_on_the_folder_a_person_knows_and_harms_none(house: House, call: Call, inner: str) -> None:
    """Once it made an empty ledger in the folder, after which show and verify failed."""
    north, wrong = house.folder / "north", house.folder / "data"
    words = ("--epsilon", "12", "--reason", "board")
    before = everything(house.folder)
    for place in (wrong, house.folder / "misspelt", house.folder):
        assert call("ledger", "raise", place, *words)[0] == 1
    assert everything(house.folder) == before
    assert call("ledger", "raise", north / inner, *words) == (0, "north: 0 of 12 spent\n")
    for command in ("show", "verify"):
        assert call("ledger", command, north)[0] == 0
    assert "raised what may be spent to 12: board" in call("ledger", "show", north)[1]
    assert everything(house.folder).keys() == before.keys()


def test_a_plan_says_the_cost_before_a_run_and_spends_nothing(house: House, after: House, call: Call) -> None:
    words = [f"{key}={value}" for key, value in PRIVATE.items()] + ["sites=3", "secure-sum=true"]
    before = everything(house.folder)
    code, shown = call("ledger", "plan", house.folder, *words)
    assert code == 0 and shown.count("0 of 4 spent; the run would add 1 in 2 release(s), and leave 3") == 3
    assert everything(house.folder) == before
    (told,) = json.loads(call("ledger", "plan", after.folder / "north", *words, "--json")[1])
    wanted = epsilon([GaussianEvent(1 / mu_for(cost, 1e-5)) for cost in (1.0, 1.0, 2.0)], 1e-5)
    assert (told["spent"], told["after"]) == (pytest.approx(BOTH, rel=1e-6), pytest.approx(wanted, rel=1e-6))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"epsilon": 5}, "the hospital allows 4"),
        ({"public-cases": 41}, "40 patients; at least 41"),
        ({"delta": 0.001}, "delta=0.001 is above"),
        ({"secure-sum": True, "sites": 9}, "[peers] names 3 others"),
        ({"rule": "max_releases = 1"}, "max_releases = 1; 0 are made, the run asks for 2"),
        ({"rule": "mechanisms = ['private-mean']"}, "not allowed here, only private-mean"),
    ],
)
def test_a_plan_says_why_a_hospital_would_refuse(house: House, call: Call, changes: Any, why: str) -> None:
    asked = {**PRIVATE, "sites": 3, **changes}
    rule, file = asked.pop("rule", ""), house.folder / "north" / "hospital.toml"
    file.write_text(
        re.sub(rf"(?m)^{rule.partition(' ')[0]} = .*$", rule, file.read_text()) if rule else file.read_text()
    )
    words = [f"{key}={str(value).lower()}" for key, value in asked.items()]
    code, shown = call("ledger", "plan", house.folder / "north", *words)
    assert code == 1 and why in " ".join(shown.split())


def test_a_plan_refuses_what_would_have_no_effect(house: House, call: Call) -> None:
    code, shown = call("ledger", "plan", house.folder / "north", "epsilon=2")
    assert code == 1 and "epsilon has no effect with privacy=none" in shown
    assert "add 0 in 0 release(s)" in call("ledger", "plan", house.folder / "north", "shots=9")[1]
    file = house.folder / "north" / "hospital.toml"
    file.write_text(file.read_text().replace("require_private = false", "require_private = true"))
    assert "this run has no privacy" in call("ledger", "plan", house.folder / "north", "shots=9")[1]


def test_a_statement_is_one_page_to_sign_that_fetches_nothing(after: House, call: Call, tmp_path: Path) -> None:
    page = tmp_path / "statement.html"
    assert call("ledger", "statement", after.folder / "north", "--out", page)[0] == 0
    html, text = (
        page.read_text(encoding="utf-8"),
        " ".join(call("ledger", "statement", after.folder / "north")[1].split()),
    )
    assert "default-src 'none'" in html and not re.search(r"<script|src=|href=|@import|url\(", html)
    assert "@page { size: A4" in html and "Signature" in html
    bare = " ".join(re.sub(r"<[^>]+>", " ", html.partition("</style>")[2]).replace("&#39;", "'").split())
    for said in (
        f"epsilon = {BOTH:.4g} and delta = 1e-05", f"at most {exp(BOTH):.3g} times", "not a medical device",
        f"at most {100 * most_right(BOTH, 1e-5):.1f} times in 100",
    ):  # fmt: skip
        assert said in bare and said in text
    assert re.search(r"[0-9a-f]{64}", bare) and "east" in bare and "south" in bare
    assert "Chest &#39;lungs&#39;" in html and "<b>" not in html
    replies = sum(name == "north" for name, _ in after.heard)
    private = (1 + 2 * 5) + (1 + 1)  # join and two sums of five stages; join and one sum
    assert f"nothing is promised {replies - private}, by its receipts" in bare
    assert not re.search("compliant|certified|anonymous|GDPR|HIPAA", bare)
    assert call("ledger", "statement", after.folder)[0] == 1  # one hospital a page


def test_receipts_are_what_the_server_heard_and_a_server_cannot_switch_them_off(
    after: House, call: Call, tmp_path: Path
) -> None:
    north = after.folder / "north"
    told = [reply for name, reply in after.heard if name == "north"]
    records = read_receipts(north).records
    assert len(records) == len(told) > 7
    for record, reply in zip(records, told, strict=True):
        content = reply.content
        arrays = {name: (one.dtype, one.shape, one.data) for name, one in content.array_records["arrays"].items()}
        values = {**content.metric_records["metrics"], **content.config_records["about"]}
        assert record.body["sha256"] == payload_hash(Sent("", Requester(), arrays, values))
        assert record.body["bytes"] == wire_bytes(content)
        assert {name: row[1:] for name, row in record.body["arrays"].items()} == {
            name: list(shape) for name, (_, shape, _) in arrays.items()
        }
        assert "patient-" not in json.dumps(record.body)
    code, shown = call("site", "sent", north)
    assert code == 0 and all(len(line) <= 80 for line in shown.splitlines())
    words = " ".join(shown.split())
    for said in (
        "signed by the hospital's key", "secure_masked",
        "noised (private-auto), paid for by the ledger; under a secure sum",
        "the ledger stood at epsilon", "NOT private", "no noise; nothing is promised",
    ):  # fmt: skip
        assert said in words, said
    assert call("site", "sent", north, "99")[0] == 1
    copy = Path(shutil.copytree(north, tmp_path / "north"))
    (book,) = (copy / "sent").glob("*.jsonl")
    book.write_bytes(book.read_bytes().replace(b"secure_masked", b"secure_marked", 1))
    code, shown = call("site", "sent", copy)
    assert code == 1 and "was changed" in shown


def test_what_cannot_be_written_down_does_not_leave_and_a_refusal_is_written_too(house: House, call: Call) -> None:
    north = house.folder / "north"
    (north / "sent").write_text("in the way")
    house.run(methods="ridge")
    assert {name for name, _ in house.heard} == {"east", "south"}
    (north / "sent").unlink()
    file = north / "hospital.toml"
    file.write_text(file.read_text().replace("require_private = false", "require_private = true"))
    house.run(methods="ridge", folds=3)
    bodies = [record.body for record in read_receipts(north).records]
    assert [(body["kind"], body["task"]) for body in bodies] == [("refusal", "join")]
    assert bodies[0]["told"].startswith("[medtl PrivacyError]")
    assert "refused 1 times: [medtl PrivacyError]" in " ".join(call("site", "sent", north)[1].split())


def test_outbound_says_what_could_be_learnt_also_where_nothing_private_is_asked(call: Call) -> None:
    code, shown = call("site", "outbound")
    assert code == 0 and all(len(line) <= 80 for line in shown.splitlines())
    private, plain = shown.split("Without privacy")
    for part, least in ((private, 15), (plain, 7)):
        assert part.count("what it is:") == part.count("what could be learnt about a patient:") >= least
    assert "true number of cases" in " ".join(plain.split()) and "logistic_gradient" in plain
