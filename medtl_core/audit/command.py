"""`medtl audit`: attacks on what a hospital would send, beside bugs planted to see whether the attacks would find them.

The cases are those of one hospital; the releases come out of the real tasks, the real plan and the real gate.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medtl_core.audit.attacks import noise_finding, one_run_finding, trials_of, two_run_findings
from medtl_core.audit.disclosure import leak_plain, leak_private, membership_plain, membership_private
from medtl_core.audit.finding import Finding
from medtl_core.audit.site import PLAIN, SHOTS, Hospital, open_hospital, rehearsal
from medtl_core.cli.plan import name_data
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import all_methods, find_method
from medtl_core.privacy.noise import Entropy, system_entropy

#: The head without privacy that a private one is held against.
_YARDSTICK = "discriminant"


@dataclass(frozen=True)
class Order:
    """What is asked.

    Attributes:
        data: folder, file or catalog name.
        method: a private method, or one of `PLAIN` for a head without privacy.
        assignments: further settings, `key=value`.
        epsilon: claimed.
        shots: cases of the hospital.
        heads: shadow heads of the membership attack.
        runs: of either kind in the two-run audit; fewer where a release is large.
    """

    data: str = "phantom"
    method: str = "private-auto"
    assignments: Sequence[str] = ()
    epsilon: float = 4.0
    shots: int = SHOTS
    heads: int = 64
    runs: int = 20_000


def audit(order: Order, entropy: Entropy | None = None) -> dict[str, Any]:
    """Returns every finding, JSON-able.

    Raises:
        MedtlError: the data, the method or a setting cannot be used.
    """
    method = _method(order.method)
    words = [*order.assignments, f"epsilon={order.epsilon}"]
    hospital = open_hospital(name_data(order.data), words, order.shots, entropy or system_entropy())
    findings = _private(method, hospital, order) if method else _plain(order.method, hospital, order)
    return {
        "data": order.data,
        "method": order.method,
        "epsilon": order.epsilon if method else None,
        "delta": hospital.plan(method).terms.delta if method else None,
        "patients": hospital.patients,
        "cases": len(hospital.site.label),
        "findings": [asdict(finding) for finding in findings],
    }


def _plain(name: str, hospital: Hospital, order: Order) -> list[Finding]:
    return [leak_plain(hospital), membership_plain(name, hospital, order.heads)]


def _private(method: PrivateMethod, hospital: Hospital, order: Order) -> list[Finding]:
    """The noise, the two audits, then what heads and updates disclose, each beside a head without privacy."""
    plan, part = hospital.plan(method), rehearsal(method, hospital)
    requests = part.run(hospital)[0].asked
    trials = trials_of(hospital, plan, requests)
    return [
        noise_finding(plan, trials, hospital.entropy),
        *two_run_findings(trials, plan, order.runs),
        one_run_finding(part, hospital, requests, plan),
        membership_plain(_YARDSTICK, hospital, order.heads),
        membership_private(part, hospital, order.heads),
        leak_plain(hospital),
        leak_private(part, hospital),
    ]


def _method(name: str) -> PrivateMethod | None:
    if name in PLAIN:
        return None
    method = find_method(name)
    if isinstance(method, PrivateMethod):
        return method
    known = [*PLAIN, *(kind.example for kind in all_methods() if issubclass(kind, PrivateMethod))]
    raise ConfigError(f"{name!r} cannot be audited; {did_you_mean(name, known)}")
