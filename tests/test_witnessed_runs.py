"""The server's witness through the real apps: a ledger that went back is refused by name, an honest one never."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message

from client.app import app as client_app
from medtl_core.config import settings
from medtl_core.errors import PrivacyError
from medtl_core.flower.grid import run_local
from medtl_core.privacy.journal import Journal
from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.policy import Policy
from medtl_core.privacy.witnesses import FILE
from server.app import app as server_app
from tests.hospital import made_hospital, peers_of
from tests.privacy.made import write_tables

NAMES = ("east", "north", "south", "west")
RUN: Mapping[str, Any] = {
    "data": "", "backbone": "table", "sites": len(NAMES), "shots": 20, "bootstrap": 20, "privacy": "mean",
    "epsilon": 0.5, "public-cases": 4, "quorum": 0.5,
}  # fmt: skip
POLICY = Policy(public_patients=40)


class Ward:
    """Hospitals with folders of their own, and one server's."""

    def __init__(self, folder: Path, place: Path, secure: bool) -> None:
        self.folder, self.data, self.runs, self.names, self.secure = folder, place, 0, list(NAMES), secure
        places = {"test-path": str(place / "test.csv"), "state": str(folder / "server")}
        self.values = {**RUN, **places, "secure-sum": secure}
        # in a secure sum one of the four may drop out, if nobody is taken for a colluder
        policy = replace(POLICY, secure_sum=secure, minimum_colluders=0)
        own = {"cache": str(place / "cache"), "policy": policy, "peers": peers_of(map(self.home, NAMES))}
        self.nodes = [made_hospital(self.home(name), name, place / f"{name}.csv", **own) for name in NAMES]

    def run(self, app: Any = client_app, **changes: Any) -> list[tuple[str, str]]:
        """One more run, under another agreement, with a server that starts anew; returns who failed, and how."""
        self.runs += 1
        out = self.folder / f"out{self.runs}"
        values = settings({**self.values, "folds": 2 + self.runs, "out": str(out), **changes}).public()
        run_local(server_app, app, node_configs=self.nodes, run_config=values, workers=1, wire=True)
        failures = json.loads((out / "result.json").read_text(encoding="utf-8"))["failures"]
        return [(row["site"], f"{row['code']}: {row['text']}") for row in failures]

    def home(self, name: str) -> Path:
        return self.folder / "hospitals" / name

    def stands(self) -> dict[str, tuple[int, str]]:
        """Where every hospital's ledger stands."""
        return {name: balance(self.home(name) / "privacy").witness for name in self.names}

    def remembered(self) -> dict[str, tuple[int, str]]:
        content = json.loads((self.folder / "server" / FILE).read_text(encoding="utf-8"))
        assert all(row["witness-ledger"] == "hospital" for row in content.values())
        return {name: (row["witness-seq"], row["witness-hash"]) for name, row in content.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hospitals' data."""
    folder = tmp_path_factory.mktemp("witnessed")
    write_tables(folder, *NAMES, patients=20)
    return folder


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["open", "secure"])
def made(request: pytest.FixtureRequest, tmp_path: Path, place: Path) -> Ward:
    return Ward(tmp_path, place, request.param)


def lacks(name: str) -> list[tuple[str, str]]:
    return [(name, "error: PrivacyError: the site's privacy policy or ledger refused the release")]


def test_honest_hospitals_are_remembered_and_a_ledger_put_back_from_a_copy_is_refused_by_name(made: Ward) -> None:
    assert made.run() == []
    first, (name, *others) = made.remembered(), made.names
    assert first == made.stands()
    shutil.copytree(made.home(name), made.folder / "copy")
    assert made.run() == []
    assert made.remembered() == made.stands()
    assert all(made.remembered()[one][0] > first[one][0] for one in made.names)
    newest = made.folder / "newest"
    made.home(name).rename(newest)
    shutil.copytree(made.folder / "copy", made.home(name))
    before = made.stands()[name]
    assert made.run() == lacks(name)
    assert made.stands()[name] == before  # nothing was spent
    assert made.remembered()[name] != before
    assert all(made.remembered()[other] == made.stands()[other] for other in others)
    shutil.rmtree(made.home(name))
    newest.rename(made.home(name))
    assert made.run() == []  # with the newest copy back it takes part again


def test_a_deleted_ledger_is_refused_by_name(made: Ward) -> None:
    made.run()
    name = made.names[1]
    shutil.rmtree(made.home(name) / ("privacy" if made.secure else "."))
    for _ in range(2):  # it does not even join, and nothing is begun anew by asking again
        ((_, why),) = made.run()
        assert why.startswith("error: PrivacyError")
        assert not (made.home(name) / "privacy").exists()


def test_a_server_that_claims_a_later_record_is_refused_and_nothing_is_spent(made: Ward) -> None:
    made.run()
    name, stands = made.names[2], made.stands()
    path = made.folder / "server" / FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    content[name]["witness-seq"] += 1
    path.write_text(json.dumps(content), encoding="utf-8")
    assert made.run() == lacks(name)
    assert made.stands()[name] == stands[name]
    assert all(made.stands()[other][0] > stands[other][0] for other in made.names if other != name)


def test_without_a_folder_a_server_notices_within_a_run_only(made: Ward) -> None:
    name = made.names[0]
    last = "train.secure_masked" if made.secure else "train.private_sums"

    def careless(message: Message, context: Context) -> Message:
        if message.metadata.message_type == last and Path(str(context.node_config["hospital"])).name == name:
            shutil.rmtree(made.home(name) / "privacy")
            with Journal(made.home(name) / "privacy") as journal:
                journal.begin()
        return client_app(message, context)

    said = made.run(careless, state="", privacy="auto")  # on a busy machine it is asked once more, and refuses again
    assert [*dict.fromkeys(said)] == lacks(name)
    assert made.run(state="", privacy="auto") == []
    assert not (made.folder / "server").exists()


def telling(name: str, tell: Callable[[ConfigRecord], Any]) -> Callable[[Message, Context], Message]:
    """The real ClientApp; one hospital's private answers tell something else of its ledger."""

    def app(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if (
            message.metadata.message_type.startswith("train.")
            and Path(str(context.node_config["hospital"])).name == name
        ):
            tell(reply.content.config_records["about"])
        return reply

    return app


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Ward:
    """One run was made, and the server remembers it."""
    made = Ward(tmp_path_factory.mktemp("known"), place, False)
    assert made.run() == []
    return made


@pytest.mark.parametrize(
    ("tell", "match"),
    [
        (lambda about: about.update({"witness-seq": 1}), "before a record that it has shown"),
        (lambda about: about.update({"witness-seq": 3, "witness-hash": "0" * 64}), "before a record"),
        (lambda about: about.update({"witness-seq": "9"}), "number from 1"),
        (lambda about: [about.pop(key) for key in list(about) if key.startswith("witness")], "does not say where"),
    ],
)
def test_an_answer_that_tells_it_wrongly_is_refused_by_the_server(
    known: Ward, tell: Callable[[ConfigRecord], Any], match: str
) -> None:
    name, before = known.names[0], known.remembered()
    (first, *more) = known.run(telling(name, tell))
    assert first[0] == name
    assert first[1].startswith("witness: ")
    assert match in first[1]
    assert {site for site, _ in more} <= {name}
    assert known.remembered()[name] == before[name]


def test_an_impostor_cannot_poison_what_the_server_knows_of_an_absent_hospital(known: Ward) -> None:
    name, before = known.names[1], known.remembered()
    (place,) = (number for number, home in enumerate(known.nodes) if Path(home["hospital"]).name == name)
    true, fake = known.nodes[place], known.folder / "impostor" / name
    known.nodes[place] = made_hospital(fake, name, known.data / "west.csv", cache=str(known.data / "cache"))
    (failure,) = known.run(telling(name, lambda about: about.update({"witness-seq": 2**52})))
    assert failure[0] == name
    assert failure[1].startswith("identity: node ")
    assert known.remembered()[name] == before[name]
    assert balance(fake / "privacy").reserved == 0
    known.nodes[place] = true
    assert known.run() == []
    assert known.remembered() == known.stands()


def test_a_damaged_memory_ends_the_run_before_anything_is_asked(known: Ward) -> None:
    stands, memory = known.stands(), known.folder / "server" / FILE
    whole = memory.read_bytes()
    memory.write_text("{", encoding="utf-8")
    with pytest.raises(PrivacyError, match="damaged"):
        known.run()
    assert known.stands() == stands
    memory.write_bytes(whole)
