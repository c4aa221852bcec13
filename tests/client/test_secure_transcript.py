"""All that a curious server sees of a secure sum, also of a drop-out, and what one with odd stories is refused."""

import json
from collections.abc import Mapping
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import Context, Message

from client.app import app as client_app
from client.gate import answered
from client.secure import staged
from client.site import Node, Site, open_site
from medtl_core.config import Settings, settings
from medtl_core.errors import PrivacyError, RunError
from medtl_core.federation.private import terms_of
from medtl_core.federation.registry import find_method
from medtl_core.federation.secure_sum import STAGES
from medtl_core.flower.grid import run_local
from medtl_core.flower.records import decode_request
from medtl_core.privacy import masking
from medtl_core.privacy.ledger_report import balance, ledgers
from medtl_core.privacy.plan import Plan
from server.app import app as server_app
from simulations.secure_cost import COLUMNS, Case, write_table
from simulations.secure_sight import Sight, opened

#: Of five of whom one may collude, four must stand behind a list of survivors.
METHOD, HOSPITALS, QUORUM = "private-mean", 5, 4


class Losing:
    """Loses the last answers of some hospitals on their way; the server still gets to see them."""

    def __init__(self, *gone: int) -> None:
        self.sight, self.gone = Sight(client_app), gone

    def __call__(self, message: Message, context: Context) -> Message:
        reply = self.sight(message, context)
        if context.node_id in self.gone and message.metadata.message_type.endswith(STAGES[2:]):
            raise OSError("lost")
        return reply


def simulate(folder: Path, app: Any, **changes: Any) -> Settings:
    case = Case(HOSPITALS, "secure", METHOD)
    write_table(folder / f"table-{HOSPITALS}.csv", HOSPITALS)
    chosen = settings({**case.settings(folder), "out": str(folder / "out"), "bootstrap": 20, **changes})
    nodes = [{"partition-id": part, "num-partitions": HOSPITALS} for part in range(HOSPITALS)]
    run_local(server_app, app, node_configs=nodes, run_config=chosen.public(), workers=1)
    return chosen


def plan_of(chosen: Settings) -> Plan:
    return find_method(METHOD).plan(terms_of(chosen, 2 * COLUMNS, 3))  # type: ignore[attr-defined,no-any-return]


class Seen:
    """One run's transcript and, beside it, the truth it must not hold."""

    def __init__(self, folder: Path, gone: tuple[int, ...]) -> None:
        losing = Losing(*gone)
        self.chosen, self.sight = simulate(folder, losing), losing.sight
        self.plan, self.secrets = plan_of(self.chosen), self.sight.secrets
        self.names = sorted(self.secrets)
        sent = self.sight.sent("secure_masked")
        self.masked = {name: sent[name]["masked"] for name in self.names}
        self.own = opened(self.masked, self.secrets, self.names, self.plan)
        survivors = self.sight.asked("secure_survivors")[0]["survivors"]
        self.stayed = [name for name, flag in zip(self.names, survivors, strict=True) if flag]
        shares = self.sight.sent("secure_unmask")
        held = {place: {self.names.index(name): masking.to_bytes(shares[name]["shares"][place]) for name in self.stayed}
                for place in range(HOSPITALS)}  # fmt: skip
        self.joined = {
            self.names[place]: masking.joined(dict(list(parts.items())[:QUORUM])) for place, parts in held.items()
        }

    def stripped(self) -> dict[str, np.ndarray]:
        """Masked vectors without every mask that the server can work out."""
        public = {name: masking.public_key(self.secrets[name].pair) for name in self.names}
        clear = {}
        for name, vector in self.masked.items():
            own = [self.joined[name]] if name in self.stayed else []
            partners = [other for other in self.names if other != name and {other, name} - set(self.stayed)]
            keys = {}
            for other in partners:
                known, far = (name, other) if name not in self.stayed else (other, name)
                key = masking.agreed_key(self.joined[known], public[far], f"mask/{self.plan.digest}")
                keys[self.names.index(other)] = {self.names.index(name): key}
            clear[name] = masking.unmasked(vector, own, keys)
        return clear


@pytest.fixture(scope="module", params=[(), (1002,)], ids=["all", "drop-out"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return Seen(tmp_path_factory.mktemp("seen"), request.param)


def words(arrays: Mapping[str, np.ndarray]) -> set[int]:
    """Every eight bytes in a row, at every offset."""
    found: set[int] = set()
    for array in arrays.values():
        content = np.ascontiguousarray(array).tobytes()
        for offset in range(8):
            found |= set(np.frombuffer(content[offset : offset + (len(content) - offset) // 8 * 8], "<i8").tolist())
    return found


def test_the_run_is_what_the_tests_below_take_it_for(seen: Seen) -> None:
    answers = {task: len(pairs) for task, pairs in seen.sight.seen.items()}
    # a drop-out that is still there does not help to take off masks once it was left out
    assert answers == {**dict.fromkeys(["join", *STAGES[:3]], HOSPITALS), **dict.fromkeys(STAGES[3:], len(seen.stayed))}
    assert len(seen.stayed) in (HOSPITALS, HOSPITALS - 1)
    assert all(np.abs(own).max() < 2**40 for own in seen.own.values())  # noised integers, and no mask on them


@pytest.mark.parametrize("task", ["join", *STAGES])
def test_no_message_holds_a_number_of_one_hospital(seen: Seen, task: str) -> None:
    clear = set(chain.from_iterable(own.tolist() for own in seen.own.values()))
    for name, sent in seen.sight.sent(task).items():
        values = hospital(seen.chosen, name).data.values
        private = words({"single": values, "double": values.astype(np.float64)})
        told = words(sent) - {0}
        assert not told & clear, f"{task} of {name} holds a noised number without its mask"
        assert not told & private, f"{task} of {name} holds a feature"


def test_what_the_server_can_take_off_leaves_only_the_sum_of_all_that_stayed(seen: Seen) -> None:
    clear = seen.stripped()
    wanted = np.sum([seen.own[name] for name in seen.stayed], axis=0)
    np.testing.assert_array_equal(np.sum([clear[name] for name in seen.stayed], axis=0), wanted)
    some = chain.from_iterable(combinations(seen.names, count) for count in range(1, HOSPITALS + 1))
    for chosen in (names for names in some if set(names) != set(seen.stayed)):
        found, truth = (np.sum([kind[name] for name in chosen], axis=0) for kind in (clear, seen.own))
        assert not (found == truth).any(), chosen
        assert (np.abs(found.astype(np.float64)) > 2.0**48).mean() > 0.9, chosen  # uniform modulo 2^64


def test_of_every_hospital_one_secret_is_opened_and_never_both(seen: Seen) -> None:
    for name, secret in seen.joined.items():
        kept = seen.secrets[name]
        assert secret == (kept.own if name in seen.stayed else kept.pair)
    told = words({str(place): reply["shares"] for place, reply in enumerate(seen.sight.sent(STAGES[4]).values())})
    for kept in seen.secrets.values():
        whole = {int(word) for key in (kept.own, kept.pair, kept.seal) for word in np.frombuffer(key, "<i8")}
        assert not whole & told  # shares, not secrets


def hospital(chosen: Settings, name: str) -> Site:
    sites = (open_site(chosen.of_site(), Node("", "", part)) for part in range(HOSPITALS))
    return next(site for site in sites if site.data.name == name).keeping(chosen.state)


def question(seen: Seen, stage: str) -> tuple[Site, dict[str, np.ndarray], dict[str, Any]]:
    """What the first hospital that stayed was asked."""
    name = seen.stayed[0]
    pairs = seen.sight.seen[stage]
    asked = next(asked for asked, reply in pairs if reply.content.config_records["about"]["site"] == name)
    arrays, config = decode_request(asked)
    return hospital(seen.chosen, name), arrays, dict(config)


@pytest.mark.parametrize("stage", STAGES)
def test_the_same_question_gets_the_same_answer(seen: Seen, stage: str) -> None:
    site, arrays, config = question(seen, stage)
    again = staged(site, stage, arrays, config).update.arrays
    for name, array in seen.sight.sent(stage)[seen.stayed[0]].items():
        np.testing.assert_array_equal(again[name], array)


def test_who_told_its_last_keeps_no_secret(seen: Seen) -> None:
    """A later copy of its folder, with all that the server has, opens nothing."""
    for name, kept in seen.secrets.items():
        (path,) = Path(seen.chosen.state).rglob(f"{name}/secure/*.json")
        state, content = json.loads(path.read_text(encoding="utf-8")), path.read_text(encoding="utf-8")
        told = name in seen.stayed
        assert ("secrets" not in state) == ("parcels" not in state["facts"]) == told
        assert all((secret.hex() in content) != told for secret in (kept.seal, kept.pair, kept.own))


def test_a_server_that_changes_who_is_there_is_refused(seen: Seen) -> None:
    """Both secrets of one hospital could be joined from two different stories."""
    for stage, flags in ((STAGES[2], "present"), *product(STAGES[3:], ("present", "survivors"))):
        site, arrays, config = question(seen, stage)
        other = arrays[flags].copy()
        last = seen.names.index(seen.stayed[-1])
        other[last] = 1 - other[last]
        if other.sum() < QUORUM:  # with too few it refuses for that alone
            other = np.ones_like(other)
        with pytest.raises(PrivacyError, match=r"changed|not among those present|have signed"):
            staged(site, stage, {**arrays, flags: other}, config)


def test_a_forged_roster_is_refused(seen: Seen) -> None:
    site, arrays, config = question(seen, STAGES[1])
    for forged, told, match in (
        ({"roster-signature": arrays["roster-signature"] ^ 1}, {}, "not signed"),
        ({"roster-least": arrays["roster-least"][:-1]}, {}, "as int64"),
        ({}, {"roster": "/".join(reversed(seen.names))}, "not signed"),
        ({}, {"roster": "a/b/c/d/e"}, "does not name this hospital"),
        ({}, {"roster": "/".join([*seen.names, "f"])}, "does not name this hospital"),
    ):
        with pytest.raises(PrivacyError, match=match):
            staged(site, STAGES[1], {**arrays, **forged}, {**config, **told})


def test_the_state_is_the_owners_alone(seen: Seen) -> None:
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path(seen.chosen.state).rglob("*/*/*/*") if path.is_file())


def test_a_hospital_does_not_release_its_own_noised_sum_beside_the_secure_one(seen: Seen) -> None:
    site, arrays, config = question(seen, STAGES[2])
    with pytest.raises(PrivacyError, match="sums securely"):
        answered(site, str(config["inner"]), arrays, config)


def test_one_liar_of_five_is_named_and_the_run_goes_on_without_it(tmp_path: Path) -> None:
    def lying(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if message.metadata.message_type.endswith(STAGES[1]) and context.node_id == 1000:
            arrays = reply.content.array_records["arrays"]
            arrays["parcels"] = FlowerArray(arrays["parcels"].numpy() ^ 1)
        return reply

    chosen = simulate(tmp_path, lying)
    result = json.loads((Path(chosen.out) / "result.json").read_text(encoding="utf-8"))
    (liar,) = {(failure["site"], failure["code"]) for failure in result["failures"]}
    assert liar[1] == "parcels"
    books = {one.site: (one.reserved, one.released) for one in map(balance, ledgers(Path(chosen.state)))}
    assert books == {name: (0, 0) if name == liar[0] else (1, 1) for name in books} and len(books) == HOSPITALS


def test_without_enough_survivors_there_is_no_sum(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="given up and nothing was learnt"):
        simulate(tmp_path, Losing(1001, 1002))


def test_too_many_colluders_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    losing = Losing()
    with pytest.raises(RunError, match="colluders"):
        simulate(tmp_path, losing, colluders=3)
    assert set(losing.sight.seen) == {"join"}


def test_who_cannot_pay_says_so_before_the_others_have_paid(tmp_path: Path) -> None:
    """Two of five have no budget: the sum is given up when keys are asked for, and nobody's budget is touched."""
    write_table(tmp_path / f"table-{HOSPITALS}.csv", HOSPITALS)
    chosen = settings({**Case(HOSPITALS, "secure", METHOD).settings(tmp_path), "bootstrap": 20})
    for part in (1, 3):
        home = open_site(chosen.of_site(), Node("", "", part)).keeping(chosen.state).home
        assert home is not None
        home.mkdir(parents=True)
        (home / "policy.toml").write_text("max_releases = 0", encoding="utf-8")
    with pytest.raises(RunError, match=r"sent keys.*given up"):
        simulate(tmp_path, client_app)
    books = [balance(book) for book in ledgers(Path(chosen.state))]
    assert len(books) == HOSPITALS
    assert all(book.reserved == 0 for book in books)
