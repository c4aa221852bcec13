"""How this hospital answers: privately through the gate of its own ledger, or plainly where its policy allows that."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medtl_core.errors import PrivacyError
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.federation.registry import answer, find_method, private_task, private_training
from medtl_core.federation.tasks import Arrays, Config
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import Demand, release, train
from medtl_core.privacy.ledger import Identity, Key, Ledger, fingerprint
from medtl_core.privacy.noise import system_entropy
from medtl_core.privacy.plan import Terms
from medtl_core.privacy.policy import Policy, read_policy
from medtl_core.privacy.witnesses import HOSPITAL, METHOD, from_values
from medtl_core.values import Array, Released, Witness, digest

from .site import Site


@dataclass(frozen=True)
class Account:
    """Where a hospital keeps what private releases need.

    Attributes:
        home: its own folder, with the policy it wrote.
        ledger: folder of the ledger.
        policy: what it allows.
    """

    home: Path
    ledger: Path
    policy: Policy


def answered(site: Site, name: str, arrays: Arrays, config: Config) -> Released:
    """Returns the release this hospital makes for one message.

    Raises:
        PrivacyError: the message asks for something the policy, the agreed plan or the ledger does not allow.
    """
    if private_task(name) is not None or private_training(name) is not None:
        return _private(site, name, arrays, config)
    refuse_plain(site, name)
    return answer(name, site.data, arrays, config)


def refuse_plain(site: Site, name: str) -> None:
    """Refuses a task that is not private where the run or the hospital asks for privacy.

    Raises:
        PrivacyError: it does.
    """
    private = site.settings.privacy != "none"
    if private or (site.home is not None and read_policy(site.home).require_private):
        who = "this run" if private else "this hospital's policy"
        raise PrivacyError(f"{who} allows private releases only; {name!r} is not one")


def public_weight(site: Site) -> int:
    """Returns the number of cases this hospital tells: its own, or under privacy the public one of the run."""
    if site.settings.privacy == "none":
        return len(site.data.label)
    return _terms(site).cases


def account(site: Site, mechanism: str, terms: Terms) -> Account:
    """Returns the hospital's account. In a simulation every method has one of its own, as if it ran alone.

    Raises:
        PrivacyError: the hospital has no folder of its own, or its policy cannot be read.
    """
    if site.home is None:
        raise PrivacyError("privacy needs a folder of the hospital's own: set state-dir in its node config")
    if site.simulated:
        allowed = Policy(max_epsilon=terms.epsilon, delta=terms.delta)
        return Account(site.home, site.home / "privacy" / mechanism, read_policy(site.home, allowed))
    return Account(site.home, site.home / "privacy", read_policy(site.home))


def question_of(arrays: Mapping[str, Array], config: Config) -> str:
    """Returns the hash of what was asked; the same release for another question would be another release."""
    public = {key: value for key, value in config.items() if not key.startswith("witness")}
    hashes = {name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for name, array in arrays.items()}
    return digest({"arrays": hashes, "config": public})


def _private(site: Site, name: str, arrays: Arrays, config: Config) -> Released:
    if site.settings.secure_sum:
        raise PrivacyError("this run sums securely; a hospital's own noised sums do not leave it")
    case = opened(site, name, arrays, config)
    training = private_training(name)
    with case.ledger() as ledger:
        if training is not None:
            work = partial(training, site.data, arrays, config)
            released = train(case.demand, work, ledger, case.key, system_entropy())
        else:
            released = release(case.demand, case.task, ledger, case.key, system_entropy())
        return replace(released, witness=case.standing(ledger))


@dataclass(frozen=True)
class Case:
    """One private request, checked against settings and policy: all the gate needs.

    Attributes:
        demand: of the agreed plan.
        key: of the release.
        task: computes the clipped sums.
        ledger: opens the hospital's ledger, its witness checked.
        home: the hospital's own folder.
        owner: whose the ledger is, "hospital" or "method".
    """

    demand: Demand
    key: Key
    task: Callable[[], Bounded]
    ledger: Callable[[], AbstractContextManager[Ledger]]
    home: Path
    owner: str

    def standing(self, ledger: Ledger) -> Witness:
        """Returns what the server may remember of the opened ledger."""
        return Witness(self.owner, *ledger.witness)


def opened(site: Site, name: str, arrays: Arrays, config: Config) -> Case:
    """Returns the case of a request for the private task `name`.

    Raises:
        PrivacyError: the run has no privacy, the method is not private, the plan does not hold the task, the witness
            is malformed, or the policy refuses.
    """
    if site.settings.privacy == "none":  # else the true number of cases and the seconds of the work ride along
        raise PrivacyError(f"{name!r} is private, but this run has privacy=none; set privacy=auto")
    method = find_method(str(config["method"]))
    if not isinstance(method, PrivateMethod):
        raise PrivacyError(f"{method.name} is not a private method; it has no plan")
    terms = _terms(site)
    plan = method.plan(terms)
    demand = Demand(plan, int(config["step"]), int(config["round"]), str(config["plan"]))
    if not 0 <= demand.step < len(plan.steps) or plan.steps[demand.step].task != name:
        raise PrivacyError(f"the plan of {method.name} does not hold {name!r} as step {demand.step}")
    own = account(site, method.name, terms)
    own.policy.admit(plan, len(np.unique(site.data.patients)))
    identity = Identity(site.data.name, fingerprint(site.data.patients.tolist(), own.home))
    key = Key(site.agreement, plan.digest, demand.step, demand.number, question_of(arrays, config))

    owner, seen = METHOD if site.simulated else HOSPITAL, from_values(config)

    @contextmanager
    def ledger() -> Iterator[Ledger]:
        with Ledger(own.ledger, identity, own.policy) as book:
            if seen is not None and seen.ledger == owner:
                book.check_witness(seen.seq, seen.hash)
            yield book

    def task() -> Bounded:
        found = private_task(name)
        if found is None:
            raise PrivacyError(f"{name!r} is not a private sum")
        return found(site.data, arrays, config)

    return Case(demand, key, task, ledger, own.home, owner)


def _terms(site: Site) -> Terms:
    return terms_of(site.settings, site.data.values.shape[1], site.data.classes)
