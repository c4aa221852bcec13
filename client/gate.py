"""How this hospital answers: privately through the gate of its own ledger, or plainly where its policy allows that."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medtl_core.errors import PrivacyError
from medtl_core.federation.private import PrivateMethod, PrivateTask, check_words, terms_of
from medtl_core.federation.registry import answer, find_method, private_task
from medtl_core.federation.tasks import Arrays, Config
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import Demand, release
from medtl_core.privacy.ledger import LEDGER, Identity, Key, Ledger, fingerprint
from medtl_core.privacy.noise import system_entropy
from medtl_core.privacy.plan import Terms
from medtl_core.privacy.policy import Policy, read_policy
from medtl_core.privacy.witnesses import HOSPITAL, METHOD, from_values
from medtl_core.values import Array, Released, Witness, digest

from .site import Site


def answered(site: Site, name: str, arrays: Arrays, config: Config) -> Released:
    """Returns the release this hospital makes for one message.

    Raises:
        PrivacyError: the message asks for something the policy, the agreed plan or the ledger does not allow.
    """
    if private_task(name) is not None:
        return _private_release(site, name, arrays, config)
    refuse_plain(site, name)
    return answer(name, site.data, arrays, config)


def refuse_plain(site: Site, name: str) -> None:
    """Refuses a task that is not private where the run or the hospital asks for privacy.

    Raises:
        PrivacyError: the run's settings or the hospital's policy ask for it.
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


def question_of(arrays: Mapping[str, Array], config: Config) -> str:
    """Returns the hash of what was asked; the same release for another question would be another release."""
    public = {key: value for key, value in config.items() if not key.startswith("witness")}
    hashes = {name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for name, array in arrays.items()}
    return digest({"arrays": hashes, "config": public})


@dataclass(frozen=True)
class PrivateRequest:
    """One private request, checked against settings and policy: all the gate needs.

    Attributes:
        site: the hospital.
        home: its own folder, with the policy it wrote.
        task: the private one, which gives the clipped sums.
        arrays, config: the message.
        demand: of the agreed plan.
        key: of the release.
        books: folder of the ledger.
        policy: what the hospital allows.
    """

    site: Site
    home: Path
    task: PrivateTask
    arrays: Arrays
    config: Config
    demand: Demand
    key: Key
    books: Path
    policy: Policy

    def sums(self) -> Bounded:
        """Returns the clipped sums, before any noise; for the gate alone."""
        return self.task(self.site.data, self.arrays, self.config)

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Opens the hospital's ledger, and checks what the server has seen of it."""
        patients = self.site.data.patients if self.site.patients is None else self.site.patients
        identity = Identity(self.site.data.name, fingerprint(patients.tolist(), self.home))
        seen = from_values(self.config)
        with Ledger(self.books, identity, self.policy, self.site.asker) as ledger:
            if seen is not None and seen.ledger == self._owner:
                ledger.check_witness(seen.seq, seen.hash)
            yield ledger

    def witness(self, ledger: Ledger) -> Witness:
        """Returns what the server may remember of the opened ledger."""
        return Witness(self._owner, *ledger.witness)

    @property
    def _owner(self) -> str:
        return METHOD if self.site.simulated else HOSPITAL


def private_request(site: Site, name: str, arrays: Arrays, config: Config) -> PrivateRequest:
    """Returns a request for the private task `name`. In a simulation every method has a ledger as if it ran alone.

    Guarantee:
        Whether it is refused depends on message, settings and policy; of a hospital that owns its data, on no patient.

    Raises:
        PrivacyError: the run has no privacy, the method is not private, the plan does not hold the task, arrays, values
            or witness are not what it is asked with, the hospital has no folder of its own, or its policy refuses or
            cannot be read.
    """
    if site.settings.privacy == "none":  # else the true number of cases and the seconds of the work ride along
        raise PrivacyError(f"{name!r} is private, but this run has privacy=none; set privacy=auto")
    check_words(config)
    method, task = find_method(str(config["method"])), private_task(name)
    if not isinstance(method, PrivateMethod) or task is None:
        raise PrivacyError(f"{method.name} is not a private method, or {name!r} not a private sum; it has no plan")
    terms = _terms(site)
    plan, step = method.plan(terms), int(config["step"])
    if not 0 <= step < len(plan.steps) or plan.steps[step].task != name:
        raise PrivacyError(f"the plan of {method.name} does not hold {name!r} as step {step}")
    if site.home is None:
        raise PrivacyError("privacy needs a folder for every hospital's ledger: name one with state=FOLDER")
    books = site.home / LEDGER / (method.name if site.simulated else "")
    default = Policy(terms.epsilon, terms.delta, secure_sum=True, minimum_colluders=0) if site.simulated else None
    policy = read_policy(site.home, default)
    policy.admit(plan, len(np.unique(site.data.patients)) if site.simulated else None)
    from_values(config)  # a malformed witness is refused before the ledger is touched
    shapes = task.admit(site.data, arrays, config, method, plan.steps[step])
    demand = Demand(plan, step, int(config["round"]), str(config["plan"]), shapes)
    key = Key(site.agreement, plan.digest, demand.step, demand.number, question_of(arrays, config))
    return PrivateRequest(site, site.home, task, arrays, config, demand, key, books, policy)


def _private_release(site: Site, name: str, arrays: Arrays, config: Config) -> Released:
    if site.settings.secure_sum:
        raise PrivacyError("this run sums securely; a hospital's own noised sums do not leave it")
    request = private_request(site, name, arrays, config)
    if not request.demand.shapes:
        raise PrivacyError(f"{name!r} was asked without its arrays")
    with request.ledger() as ledger:
        released = release(request.demand, request.sums, ledger, request.key, system_entropy())
        return replace(released, witness=request.witness(ledger))


def _terms(site: Site) -> Terms:
    return terms_of(site.settings, site.data.values.shape[1], site.data.classes)
