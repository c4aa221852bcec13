"""A deployed hospital's folder: made once, read with everything that can be wrong, and what a run may order of it."""

import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flwr.app import Message
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from client.app import app as client_app
from client.site import Node
from medtl_core.cli.app import app as command_line
from medtl_core.config import Settings, settings
from medtl_core.errors import ConfigError, MedtlError, PrivacyError
from medtl_core.fingerprint import PROTOCOL_MARK
from medtl_core.flower import compat
from medtl_core.flower.records import encode_request
from medtl_core.privacy.hospital import Hospital, Server, read_hospital
from medtl_core.privacy.identity import trusted_peers
from medtl_core.privacy.journal import Journal
from medtl_core.privacy.policy import Policy, read_policy
from tests.hospital import made_hospital
from tests.privacy.made import write_tables

RUN: Mapping[str, Any] = {
    "data": "", "backbone": "table", "sites": 3, "shots": 20, "privacy": "mean", "public-cases": 20,
    "test-path": "/srv/server/test", "out": "/srv/server/out", "state": "/srv/server/state",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hospital's folder, initialised; its cases lie beside it."""
    write_tables(tmp_path, "north", patients=20)
    made_hospital(tmp_path / "own", "north", tmp_path / "north.csv")
    return tmp_path / "own"


def medtl(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(command_line, [*map(str, words)])
    return result.exit_code, result.output if result.exception is None else f"{result.output}{result.exception}"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_init_says_the_budget_it_writes_and_nothing_is_open_to_others(tmp_path: Path) -> None:
    write_tables(tmp_path, "north", patients=4)
    own, words = tmp_path / 'a folder\'s "name"', ("--name", " Saint-Luc: oncology", "--data", tmp_path / "north.csv")
    code, said = medtl("site", "init", own, "--name", "King's College", *words[2:], "--server", "fl.example:443")
    assert code == 0
    assert "epsilon 4 at delta 1e-05" in said and "takes part in runs without privacy" in said
    hospital = read_hospital(own)
    assert (hospital.name, hospital.server, hospital.policy) == ("King's College", Server("fl.example:443"), Policy())
    assert (hospital.data, hospital.cache) == (str(tmp_path / "north.csv"), str(own / "cache"))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [own, *own.rglob("*")]}
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())
    before = everything(own)
    assert "not written over" in medtl("site", "init", own, "--name", "north", *words[2:])[1]
    assert everything(own) == before


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "..", "x" * 81, "tab\t", " north"])
def test_a_name_that_is_none_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    write_tables(tmp_path, "north", patients=4)
    code, said = medtl("site", "init", tmp_path / "own", "--name", name, "--data", tmp_path / "north.csv")
    assert code != 0 and "name of a hospital" in said
    assert not (tmp_path / "own").exists()


def test_the_rules_of_an_older_folder_are_taken_over_and_its_ledger_stays(tmp_path: Path) -> None:
    write_tables(tmp_path, "north", patients=4)
    own, key = tmp_path / "own", "ab" * 32
    own.mkdir(mode=0o755)
    (own / "policy.toml").write_text("max_epsilon = 2\nmechanisms = ['private-mean']\nrequire_private = true\n")
    (own / "peers.json").write_text(f'{{"Zürich": "{key}"}}', encoding="utf-8")
    with Journal(own / "privacy") as journal:
        journal.append({"kind": "note", "text": "from before"})
    code, said = medtl("site", "init", own, "--name", "north", "--data", tmp_path / "north.csv")
    assert code == 0 and "epsilon 2 at" in said and "policy.toml.old" in said and "refuses runs without" in said
    rules = Policy(max_epsilon=2.0, mechanisms=("private-mean",), require_private=True)
    assert (read_policy(own), trusted_peers(own)) == (rules, {"Zürich": key})
    assert read_hospital(own).policy == rules
    assert {path.name for path in own.glob("p*")} == {"policy.toml.old", "peers.json.old", "privacy"}
    with Journal(own / "privacy") as journal:
        assert journal.head[0] == 1
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def said(old: str, new: str) -> Callable[[Path], None]:
    """Another word in the file."""

    def change(folder: Path) -> None:
        path = folder / "hospital.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


def instead(name: str, kind: str) -> Callable[[Path], object]:
    """A folder, a dangling link, or nothing, where something was or was not."""

    def change(folder: Path) -> object:
        place = folder / name
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        return {"folder": place.mkdir, "nothing": lambda: None, "text": lambda: place.write_text("")}.get(
            kind, lambda: place.symlink_to("nowhere")
        )()

    return change


OPEN = ('address = ""\ncertificate = ""\nkey = ""\ninsecure = false', 'address = "10.0.0.1:80"\ninsecure = true')
BROKEN: list[tuple[str, Callable[[Path], object], type[MedtlError], str]] = [
    ("mistyped", lambda folder: folder.rename(folder.with_name("ow")), ConfigError, "is it mounted"),
    ("no file", instead("hospital.toml", "nothing"), ConfigError, "is it mounted"),
    ("a folder", instead("hospital.toml", "folder"), ConfigError, "not a file"),
    ("a dangling link", instead("hospital.toml", "link"), ConfigError, "not a file"),
    ("empty", instead("hospital.toml", "text"), ConfigError, "lacks 'data'"),
    ("no TOML", said("[policy]", "[policy"), ConfigError, "cannot be read"),
    ("unknown word", said("weights =", "wieghts ="), ConfigError, "did you mean 'weights'"),
    ("unknown rule", said("max_releases", "max_release"), PrivacyError, "did you mean 'max_releases'"),
    ("no budget", said("max_epsilon = 4.0\n", ""), PrivacyError, "states no max_epsilon"),
    ("no rules", said("[policy]", "[server.policy]"), MedtlError, "policy"),
    ("a budget that is none", said("max_epsilon = 4.0", "max_epsilon = nan"), PrivacyError, "not a budget"),
    ("wrong type", said("max_epsilon = 4.0", "max_epsilon = true"), PrivacyError, "must be a float"),
    ("a huge number", said("max_epsilon = 4.0", f"max_epsilon = 1{'0' * 400}"), PrivacyError, "must be a float"),
    ("a table for a word", said('device = "auto"', "[device]"), ConfigError, "must be a str"),
    ("a word for a table", lambda f: (f / "hospital.toml").write_text("name = 'a'\npeers = 3"), ConfigError, "table"),
    ("another device", said('device = "auto"', 'device = "tpu"'), ConfigError, "cuda"),
    ("a name with a slash", said('"north"', '"north/2"'), ConfigError, "slash"),
    ("a peer's key", said("[peers]", '[peers]\nsouth = "abc"'), PrivacyError, "64 digits"),
    ("insecure from afar", said(OPEN[0], OPEN[1]), ConfigError, "insecure"),
    ("open to others", lambda folder: folder.chmod(0o770), ConfigError, "chmod 700"),
    ("a file open to others", lambda folder: (folder / "hospital.toml").chmod(0o622), ConfigError, "chmod 600"),
    ("a second policy", instead("policy.toml", "text"), PrivacyError, "beside"),
    ("a policy that is a folder", instead("policy.toml", "folder"), PrivacyError, "beside"),
    ("a policy that leads nowhere", instead("policy.toml", "link"), PrivacyError, "beside"),
    ("a second policy in capitals", instead("Policy.toml", "text"), PrivacyError, "beside"),
    ("second peers", instead("peers.json", "link"), PrivacyError, "beside"),
    ("the ledger gone", instead("privacy", "nothing"), PrivacyError, "Nothing is begun anew"),
    ("the ledger not mounted", instead("privacy", "folder"), PrivacyError, "Nothing is begun anew"),
    ("the ledger's lines gone", instead("privacy/ledger.jsonl", "nothing"), PrivacyError, "begun anew"),
    ("the ledger's head gone", instead("privacy/head.json", "nothing"), PrivacyError, "begun anew"),
    ("the site key gone", instead("site.key", "nothing"), PrivacyError, "begun anew"),
    ("the identity gone", instead("identity.key", "nothing"), PrivacyError, "begun anew"),
]


@pytest.mark.parametrize(("change", "error", "words"), [pytest.param(*rest, id=name) for name, *rest in BROKEN])
def test_a_folder_that_is_not_whole_does_not_start_and_nothing_is_begun_anew(
    folder: Path, change: Callable[[Path], object], error: type[MedtlError], words: str
) -> None:
    change(folder)
    before = everything(folder.parent)
    with pytest.raises(error, match=words):
        Node.of({"hospital": str(folder)})
    code, told = medtl("site", "run", folder)
    assert code == 1 and words in told
    assert everything(folder.parent) == before


def test_a_folder_whose_ledger_is_gone_is_not_initialised_again(folder: Path) -> None:
    shutil.rmtree(folder / "privacy")
    (folder / "hospital.toml").unlink()
    before = everything(folder)
    with pytest.raises(PrivacyError, match="Nothing is begun anew"):
        made_hospital(folder, "north", folder.parent / "north.csv")
    assert everything(folder) == before


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({}, "names no server"),
        ({"address": "fl.example:443"}, "certificate"),
        ({"address": "fl.example:443", "certificate": "gone.pem"}, "certificate"),
    ],
)
def test_a_node_does_not_start_without_a_server_it_can_trust(tmp_path: Path, server: dict, words: str) -> None:
    write_tables(tmp_path, "north", patients=4)
    made_hospital(tmp_path / "own", "north", tmp_path / "north.csv", server=Server(**server))
    code, told = medtl("site", "run", tmp_path / "own")
    assert code == 1 and words in told


@pytest.mark.parametrize("patients", [20, 21, 500])
def test_a_node_does_not_start_on_a_promise_of_more_patients_than_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patients: int
) -> None:
    write_tables(tmp_path, "north", patients=20)
    with (tmp_path / "north.csv").open("a") as table:
        table.write("\n0,patient-1000,north,train,1,1\n0,tested,north,test,1,1\n0,,north,train,1,1\n0,short\n")
    near, rules = Server("[::1]:1", insecure=True), Policy(public_patients=patients)
    made_hospital(tmp_path / "own", "north", tmp_path / "north.csv", server=near, policy=rules)
    monkeypatch.setattr("medtl_core.cli.site_run.installed_app", lambda: pytest.fail("it starts"))
    if patients == 20:
        with pytest.raises(pytest.fail.Exception, match="it starts"):
            medtl("site", "run", tmp_path / "own")
        return
    code, told = medtl("site", "run", tmp_path / "own")
    assert code == 1 and "more than the 20 patients here" in told


@pytest.mark.parametrize("address", ["10.0.0.1:80", "localhost.evil.example:80", "[::2]:80", "127.0.0.1.evil:80"])
def test_no_hospital_talks_openly_over_a_network(address: str) -> None:
    with pytest.raises(ConfigError, match="insecure"):
        Server(address, insecure=True)
    assert all(Server(near, insecure=True) for near in ("127.0.0.1:80", "localhost:80", "[::1]:80"))


def test_a_mistyped_folder_has_no_identity_to_pass_on(tmp_path: Path) -> None:
    assert medtl("site", "identity", tmp_path / "typo")[0] == 1
    assert not (tmp_path / "typo").exists()


def asked(folder: Path, group: str = PROTOCOL_MARK, **changes: Any) -> Message:
    """The answer of the real app to `join`."""
    compat.take_identity(1, 1)
    context = compat.node_context(1, 7, {"hospital": str(folder)}, {**RUN, **changes})
    message = Message(encode_request({}, {}), 7, "query.join", group_id=group)
    return client_app(compat.stamp(message, "m"), context)


def test_a_server_may_have_places_of_its_own_and_none_of_them_is_touched(folder: Path) -> None:
    before = everything(folder.parent)
    agreements = {
        str(asked(folder, **changes).content.config_records["about"]["agreement"])
        for changes in ({}, {"data-path": "/nowhere"}, {"out": "/else"}, {"public-images": "photos"})
    }
    assert len(agreements) == 1
    after = everything(folder.parent)
    written = {path.relative_to(folder).as_posix() for path in map(Path, after.keys() - before.keys())}
    assert written == {"sent/000000000001.jsonl", "sent/signed.json", "sent/lock"}  # what has left is written down
    assert {path: after[path] for path in before} == before
    asked(folder, **{"public-images": "/nowhere"})  # both sides agree on the word; only a server opens it


@pytest.mark.parametrize(
    "order",
    [{"cache": "{0}"}, {"cache": "off"}, {"weights": "{0}"}, {"backbone": "file:{0}"}, {"backbone": "random:file:{0}"}],
)
def test_under_privacy_a_run_that_names_a_place_here_is_refused(folder: Path, order: dict[str, str]) -> None:
    place = folder.parent / "web root"
    with pytest.raises(RuntimeError, match="medtl"):
        asked(folder, **{key: word.format(place) for key, word in order.items()})
    assert not place.exists()


def test_a_run_of_another_protocol_is_refused_with_both_versions(folder: Path) -> None:
    with pytest.raises(RuntimeError, match=f"speaks protocol-1, this site {PROTOCOL_MARK}"):
        asked(folder, "protocol-1")
    with pytest.raises(RuntimeError, match=f"no protocol that is known, this site {PROTOCOL_MARK}"):
        asked(folder, "<script>")
    with pytest.raises(RuntimeError, match="PrivacyError"):
        asked(folder, **{"another-word": "1"})


PLACE = st.text("ab /.:+'\"é~", min_size=1, max_size=9).map("/run/{}".format)


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries(dict.fromkeys(("cache", "weights", "data_path", "test_path", "out", "state"), PLACE)))
def test_no_place_of_a_run_reaches_a_hospitals_own_settings(tmp_path: Path, places: dict[str, str]) -> None:
    hospital = Hospital(tmp_path, "north", "/own/data", weights="w", cache="c")
    ordered = Node("north", hospital.data, -1, hospital).ordered(settings({}).replace(**places))
    named = {key: value for key, value in ordered.public().items() if value != settings({}).public()[key]}
    assert named == {
        "data-path": "/own/data", "weights": str(tmp_path / "w"), "cache": str(tmp_path / "c"),
        "test-path": "of the server",
    }  # fmt: skip
    assert ordered.agreed() == Settings().agreed()
