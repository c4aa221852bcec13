"""A secure sum among hospitals of their own: whom they trust, and what one liar or a dishonest server can do."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.secure import staged
from client.session import Session
from client.site import Node, Site, open_site
from medtl_core.config import Settings, settings
from medtl_core.errors import PrivacyError, RunError
from medtl_core.federation.hospitals import Request
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import find_method
from medtl_core.federation.secure_sum import STAGES
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.methods.private.planned_sums import noised_sum, plan_of
from medtl_core.privacy import masking
from medtl_core.privacy.gate import noise_of
from medtl_core.privacy.identity import own_identity
from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.policy import Policy
from medtl_core.privacy.roster import Roster, Standing, session_of
from medtl_core.values import Array, Released, Update
from server.testset import open_reference
from simulations.memory import MemoryHospitals
from simulations.secure_cost import CLASSES, COLUMNS, Case, write_table
from tests.hospital import made_hospital, peers_of

KEYS, SHARES, MASKED, SURVIVORS, UNMASK = STAGES
WIDTH, EPSILON = 2 * COLUMNS, 1e5
PUBLIC = {"mean": np.zeros(WIDTH), "scale": np.ones(WIDTH), "basis": np.eye(WIDTH)}
SHAPES = {"counts": (CLASSES,), "sums": (CLASSES, WIDTH)}
POLICY = Policy(max_epsilon=EPSILON, public_patients=2, secure_sum=True)
#: Who takes nobody for a colluder leaves room for one that drops out.
TRUSTING = replace(POLICY, minimum_colluders=0)
#: What a liar makes of its answer to a task.
Lie = Callable[[str, dict[str, Array]], dict[str, Array]]


@dataclass
class Ward:
    """Hospitals of their own, by name, each with its folder."""

    sites: dict[str, Site]
    study: Study

    @property
    def names(self) -> list[str]:
        return sorted(self.sites)

    def home(self, name: str) -> Path:
        home = self.sites[name].home
        assert home is not None
        return home

    def sum(self, lies: Mapping[str, Lie]) -> dict[str, Array]:
        """One private-mean of all of them, of whom some lie."""
        self.study.hospitals = Staged(self.sites, lies)
        method = find_method("private-mean")
        return noised_sum(self.study, method, 0, PUBLIC, SHAPES, config={"gram": False})  # type: ignore[arg-type]

    def counts(self, names: Sequence[str]) -> Array:
        """The true numbers of patients of each class at some hospitals."""
        return sum(np.bincount(self.sites[name].data.label, minlength=CLASSES) / 1.0 for name in names)

    def paid(self) -> dict[str, tuple[int, int]]:
        books = {name: site.home / "privacy" for name, site in self.sites.items() if site.home}
        found = {name: balance(book) for name, book in books.items() if (book / "head.json").is_file()}
        return {name: (book.reserved, book.released) for name, book in found.items()}


class Staged(MemoryHospitals):
    """Answers the stages, and keeps what was asked and told."""

    def __init__(self, wards: Mapping[str, Site], lies: Mapping[str, Lie]) -> None:
        super().__init__([site.data for site in wards.values()], quorum=0.2)
        self.wards, self.lies = wards, lies

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        released = staged(self.wards[site.name], request.task, arrays, request.config)
        lie = self.lies.get(site.name, lambda task, told: told)
        return replace(released, update=Update(lie(request.task, dict(released.update.arrays))))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], tuple[Settings, list[Site], Problem]]:
    folder = tmp_path_factory.mktemp("ward")

    @cache
    def hospitals(count: int, colluders: int) -> tuple[Settings, list[Site], Problem]:
        write_table(folder / f"table-{count}.csv", count)
        run = {**Case(count, "secure").settings(folder), "epsilon": EPSILON, "colluders": colluders}
        chosen = settings(run)
        reference = open_reference(chosen, workers=1)
        problem = Problem(reference.source.examples.task.classes, reference.spec.fingerprint, reference.spec.groups)
        return chosen, [open_site(chosen.of_site(), Node("", "", part)) for part in range(count)], problem

    return hospitals


@pytest.fixture
def made(tmp_path: Path, opened: Any) -> Callable[..., Ward]:
    """Makes hospitals that own their data and have exchanged identities; the `first` may say otherwise."""

    def ward(
        count: int = 5, colluders: int = 1, policy: Policy = POLICY, first: Mapping[str, Any] | None = None
    ) -> Ward:
        chosen, sites, problem = opened(count, colluders)
        homes = {site.data.name: tmp_path / site.data.name for site in sites}
        own = {"policy": policy, "peers": peers_of(homes.values())}
        for name, home in homes.items():
            words = {**own, **(first or {} if name == min(homes) else {})}
            made_hospital(home, name, Path(chosen.data_path), **words)
        wards = {site.data.name: replace(site, simulated=False, home=homes[site.data.name]) for site in sites}
        return Ward(wards, Study(MemoryHospitals([]), problem, chosen, ()))

    return ward


class Dishonest:
    """A server that asks every hospital whatever it likes, after it has the masked sums of all."""

    def __init__(self, ward: Ward) -> None:
        self.ward, self.names = ward, ward.names
        method = find_method("private-mean")
        self.plan = plan_of(method, ward.study)  # type: ignore[arg-type]
        self.config = {"method": method.name, "step": 0, "round": 1, "plan": self.plan.digest}
        self.config |= {"inner": "private_statistics", "gram": False}

    def masked(self) -> "Dishonest":
        """The sum up to its third stage, by the book."""
        keys = {name: self.ask(name, KEYS, {}) for name in self.names}
        self.roster = Roster.of(keys, self.plan.terms.colluders)
        self.config["roster"] = "/".join(self.names)
        parcels = [self.ask(name, SHARES, {})["parcels"] for name in self.names]
        all_ = np.ones(len(self.names), np.int64)
        for place, name in enumerate(self.names):
            self.ask(name, MASKED, {**PUBLIC, "present": all_, "parcels": np.stack([row[place] for row in parcels])})
        return self

    def ask(self, name: str, stage: str, arrays: Arrays) -> dict[str, Array]:
        roster = self.roster.arrays if hasattr(self, "roster") else {}
        return dict(staged(self.ward.sites[name], stage, {**roster, **arrays}, self.config).update.arrays)

    def standing(self, survivors: str) -> Standing:
        """That of hospitals by the digits of their places."""
        stays = [int(str(place) in survivors) for place in range(len(self.names))]
        return Standing(np.ones(len(stays), np.int64), np.array(stays))

    def sign(self, place: int, survivors: str) -> Array:
        return self.ask(self.names[place], SURVIVORS, self.standing(survivors).arrays)["signature"]

    def unmask(self, place: int, survivors: str, signatures: Mapping[int, Array]) -> Array:
        rows = np.stack([signatures.get(one, np.zeros(8, np.int64)) for one in range(len(self.names))])
        arrays = {**self.standing(survivors).arrays, "signatures": rows}
        return self.ask(self.names[place], UNMASK, arrays)["shares"]


def flipped(stage: str, name: str) -> Lie:
    """One bit of all rows is wrong."""
    return lambda task, told: {**told, name: told[name] ^ 1} if task == stage else told


def silent(stage: str) -> Lie:
    def lie(task: str, told: dict[str, Array]) -> dict[str, Array]:
        if task == stage:
            raise RunError("lost")
        return told

    return lie


@pytest.mark.parametrize(
    ("stage", "array", "summed"),
    [
        (KEYS, "signature", 4), (KEYS, "public", 4), (KEYS, "least", 4), (SHARES, "parcels", 4),
        (SURVIVORS, "signature", 5), (UNMASK, "shares", 5),
    ],
)  # fmt: skip
def test_one_liar_of_five_is_named_and_the_others_sum_and_pay_once(
    made: Any, stage: str, array: str, summed: int
) -> None:
    ward = made()
    liar = ward.names[1]
    sums = ward.sum({liar: flipped(stage, array)})
    assert {failure.site for failure in ward.study.hospitals.failures} == {liar}
    stayed = [name for name in ward.names if summed == 5 or name != liar]
    np.testing.assert_allclose(sums["counts"], ward.counts(stayed), atol=0.2)
    assert {name: paid for name, paid in ward.paid().items() if name != liar} == {
        name: (1, 1) for name in ward.names if name != liar
    }


def test_shares_that_never_gave_the_secret_end_the_sum_with_their_owners_name(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward, split = made(), masking.split
    secrets = iter(range(100))
    # the second hospital in name order splits another secret than the one that it has signed
    monkeypatch.setattr(
        masking, "split", lambda secret, *rest: split(secret[::-1] if next(secrets) in (2, 3) else secret, *rest)
    )
    with pytest.raises(RunError, match=f"{ward.names[1]!r} has signed"):
        ward.sum({})


def test_a_quarrel_of_two_leaves_one_out_and_names_the_sender(made: Any) -> None:
    """Nobody can tell which of the two lies; with nobody taken for a colluder one may be missing."""
    ward = made(policy=TRUSTING)
    sender, receiver = ward.names[:2]

    def lie(task: str, told: dict[str, Array]) -> dict[str, Array]:
        if task == SHARES:
            told["parcels"][1] ^= 1
        return told

    sums = ward.sum({sender: lie})
    assert [failure.site for failure in ward.study.hospitals.failures] == [sender]
    np.testing.assert_allclose(sums["counts"], ward.counts([n for n in ward.names if n != receiver]), atol=0.2)
    assert ward.paid()[receiver] == (0, 0)


@pytest.mark.parametrize(
    ("colluders", "policy", "given_up"), [(1, POLICY, True), (2, POLICY, False), (1, TRUSTING, False)]
)
def test_what_is_left_above_the_colluders_may_drop_out(
    made: Any, colluders: int, policy: Policy, given_up: bool
) -> None:
    """Colluders and drop-outs are together at most t, also if it is the server that leaves hospitals out."""
    ward = made(colluders=colluders, policy=policy)
    gone, *stayed = ward.names
    if given_up:
        with pytest.raises(RunError, match="given up and nothing was learnt"):
            ward.sum({gone: silent(MASKED)})
        return
    sums = ward.sum({gone: silent(MASKED)})
    np.testing.assert_allclose(sums["counts"], ward.counts(stayed), atol=0.2)


def test_who_left_before_anyone_masked_costs_nothing_but_its_noise(made: Any) -> None:
    ward = made()
    gone, *stayed = ward.names
    np.testing.assert_allclose(ward.sum({gone: silent(SHARES)})["counts"], ward.counts(stayed), atol=0.2)


def test_the_noise_is_shared_by_those_who_are_there(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[int] = []
    monkeypatch.setattr("medtl_core.privacy.gate.noise_of", lambda *told: shared.append(told[-1]) or noise_of(*told))
    ward = made(colluders=2)
    ward.sum({ward.names[0]: silent(SHARES)})
    assert shared == [4 - 2] * 4


@pytest.mark.parametrize(
    ("rules", "trust", "match"),
    [
        ({"secure_sum": False}, None, "secure_sum = true"),
        ({"minimum_colluders": 2}, None, "minimum_colluders=2"),
        ({}, {}, "exchanged no identity keys"),
        ({}, {"east": "0" * 64}, "must make as many"),
        ({}, dict.fromkeys(("east", "north", "south", "west"), "0" * 64), "must make as many"),  # one under four names
    ],
)
def test_a_hospital_that_does_not_trust_the_others_says_so_before_anyone_pays(
    made: Any, rules: dict[str, Any], trust: dict[str, str] | None, match: str
) -> None:
    """A server that poses as the other hospitals would get one share of the noise for the whole of it."""
    ward = made(first={"policy": replace(POLICY, **rules)} | ({} if trust is None else {"peers": trust}))
    for stage in STAGES:
        with pytest.raises(PrivacyError, match=match):
            Dishonest(ward).ask(ward.names[0], stage, {})
    assert not (ward.home(ward.names[0]) / "secure").exists()
    assert {*ward.paid().values()} <= {(0, 0)}


def test_nobody_is_masked_with_who_is_not_who_its_name_says(made: Any) -> None:
    ward = made()
    *others, stranger = ward.names
    (ward.home(stranger) / "identity.key").write_bytes(bytes(32))
    server = Dishonest(ward)
    server.roster = Roster.of({name: server.ask(name, KEYS, {}) for name in ward.names}, 1)
    server.config["roster"] = "/".join(ward.names)
    told = server.ask(others[0], SHARES, {})
    assert not told["parcels"].any() and told["strangers"].tolist() == [0, 0, 0, 0, 1]
    sums = ward.sum({})  # an honest server asks again without that one
    assert {failure.site for failure in ward.study.hospitals.failures} == {stranger}
    np.testing.assert_allclose(sums["counts"], ward.counts(others), atol=0.2)


def test_of_two_stories_about_who_is_there_a_mask_comes_off_in_one(made: Any) -> None:
    """Of four hospitals the last, 3, colludes: it signs and tells whatever the server likes."""
    server = Dishonest(made(4, policy=TRUSTING)).masked()
    signed = {place: server.sign(place, "013") for place in (0, 1, 3)}
    assert server.unmask(0, "013", signed).any()
    with pytest.raises(PrivacyError, match="changed survivors"):
        server.sign(1, "123")  # nobody signs twice
    with pytest.raises(PrivacyError, match="not among"):
        server.sign(2, "013")  # nor that it has left
    with pytest.raises(PrivacyError, match="too few hospitals survived"):
        server.sign(2, "23")
    identity = own_identity(server.ward.home(server.names[3]))
    statement = server.standing("123").statement(session_of_sum(server), server.roster.digest)
    forged = {2: server.sign(2, "123"), 3: masking.to_words(masking.signed(identity, statement)), 1: signed[1]}
    with pytest.raises(PrivacyError, match="have signed"):
        server.unmask(2, "123", forged)  # two of four are no quorum


def session_of_sum(server: Dishonest) -> str:
    site = server.ward.sites[server.names[0]]
    return session_of(site.agreement, server.plan.digest, 0, 1)


@pytest.mark.parametrize("everyone", ["012", "0123"])
def test_a_server_cannot_leave_hospitals_out_where_one_may_collude(made: Any, everyone: str) -> None:
    server = Dishonest(made(len(everyone))).masked()
    with pytest.raises(PrivacyError, match="too few hospitals survived"):
        server.sign(0, everyone[:-1])
    signed = {place: server.sign(place, everyone) for place in (0, 1, 2)}  # a quorum of three as of four
    with pytest.raises(PrivacyError, match="have signed"):
        server.unmask(0, everyone, {0: signed[0], 1: signed[1], 2: signed[2] ^ 1})
    assert server.unmask(0, everyone, signed).any()


def test_two_stories_at_once_are_one_story(made: Any) -> None:
    server = Dishonest(made(4, policy=TRUSTING)).masked()

    def sign(survivors: str) -> int:
        try:
            return len(server.sign(0, survivors))
        except PrivacyError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(map(bool, pool.map(sign, ["012", "013", "023", "0123"] * 2))) == 2


@pytest.mark.parametrize("hospitals", range(3, 30))
def test_two_quorums_share_an_honest_hospital(hospitals: int) -> None:
    for colluders in range((hospitals - 1) // 2 + 1):
        for count in range(max(hospitals - colluders, 1), hospitals + 1):
            quorum = Roster(tuple(map(str, range(count))), {}, colluders).quorum
            assert 2 * quorum - count > colluders
            assert colluders < quorum <= count
            assert hospitals <= 3 * colluders or quorum <= hospitals - colluders


def test_secrets_of_a_sum_that_was_given_up_go_after_a_week(made: Any) -> None:
    server = Dishonest(made(3)).masked()
    (path,) = (server.ward.home(server.names[0]) / "secure").glob("*.json")
    kept = json.loads(path.read_text(encoding="utf-8"))["secrets"]
    session = Session.of(path.parent, "another", server.names[0])
    session.begin()
    assert json.loads(path.read_text(encoding="utf-8"))["secrets"] == kept
    os.utime(path, (0, time.time() - 8 * 86_400))
    session.begin()
    assert not any(secret in path.read_text(encoding="utf-8") for secret in kept.values())
    with pytest.raises(PrivacyError, match="are gone"):
        assert Session.of(path.parent, session_of_sum(server), server.names[0]).secrets
