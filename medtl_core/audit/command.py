"""`medtl audit`: attacks on what a hospital would send, beside bugs planted to see whether the attacks would find them.

The cases are those of one hospital; the releases come out of the real tasks, the real plan and the real gate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medtl_core.audit.canary import noise_finding, one_run_finding, trials_of, two_run_findings
from medtl_core.audit.finding import Finding
from medtl_core.audit.leak import leak_plain, leak_private
from medtl_core.audit.membership import PLAIN, membership_plain, membership_private
from medtl_core.audit.site import SHOTS, AuditedSite, open_hospital
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import all_methods, find_method
from medtl_core.privacy.noise import Entropy, system_entropy

#: The head without privacy that a private one is held against.
_YARDSTICK = "discriminant"


@dataclass(frozen=True)
class AuditOrder:
    """What is asked.

    Attributes:
        data: folder, file or catalog name, as it was given.
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


def audit(order: AuditOrder, source: Mapping[str, Any], entropy: Entropy | None = None) -> dict[str, Any]:
    """Returns every finding, JSON-able.

    Args:
        order: what is asked.
        source: settings that name the data of `order.data`.
        entropy: of the gate's noise; None = the operating system's.

    Raises:
        MedtlError: the data, the method or a setting cannot be used.
    """
    method = _method(order.method)
    assignments = [*order.assignments, f"epsilon={order.epsilon}"]
    site = open_hospital(source, assignments, order.shots, entropy or system_entropy())
    findings = _private(method, site, order) if method else _plain(site, order)
    return {
        "data": order.data,
        "method": order.method,
        "epsilon": order.epsilon if method else None,
        "delta": site.plan(method).terms.delta if method else None,
        "patients": site.patients,
        "cases": len(site.data.label),
        "findings": [asdict(finding) for finding in findings],
    }


def _plain(site: AuditedSite, order: AuditOrder) -> list[Finding]:
    return [leak_plain(site), membership_plain(order.method, site, order.heads)]


def _private(method: PrivateMethod, site: AuditedSite, order: AuditOrder) -> list[Finding]:
    """The noise, the two audits, then what heads and updates disclose, each beside a head without privacy."""
    plan, (requests, _) = site.plan(method), site.run(method)
    site = site.informed(requests[0])
    trials = trials_of(site, plan, requests)
    return [
        noise_finding(plan, trials, site.entropy),
        *two_run_findings(trials, plan, order.runs),
        one_run_finding(site, requests, plan),
        membership_plain(_YARDSTICK, site, order.heads),
        membership_private(method, site, order.heads),
        leak_plain(site),
        leak_private(method, site),
    ]


def _method(name: str) -> PrivateMethod | None:
    if name in PLAIN:
        return None
    method = find_method(name)
    if isinstance(method, PrivateMethod):
        return method
    known = [*PLAIN, *(kind.example for kind in all_methods() if issubclass(kind, PrivateMethod))]
    raise ConfigError(f"{name!r} cannot be audited; {did_you_mean(name, known)}")
