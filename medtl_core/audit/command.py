"""`medtl audit`: attacks on what a hospital would send, beside bugs planted to see whether the attacks would find them.

The cases are those of one hospital; the releases come out of the real tasks, the real plan and the real gate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medtl_core.audit.door import Door
from medtl_core.audit.finding import Finding
from medtl_core.audit.membership import PLAIN, membership_plain, membership_private, plainly, privately
from medtl_core.audit.neighbours import door_finding, neighbours
from medtl_core.audit.origin import origin
from medtl_core.audit.site import AuditedData, open_data
from medtl_core.audit.trial import noise_finding, trials_of, two_run_findings
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import all_methods, find_method
from medtl_core.privacy.noise import Entropy, system_entropy

#: Settings that the audit makes itself, and the option that says them.
_OPTIONS = {"methods": "--method", "privacy": "--method", "epsilon": "--epsilon", "shots": "--shots"}


@dataclass(frozen=True)
class AuditOrder:
    """What is asked, as the command's options say; `data` as it was given, fewer `runs` where a release is large."""

    data: str = "phantom"
    method: str = "private-auto"
    assignments: Sequence[str] = ()
    epsilon: float = 4.0
    shots: int = 60
    heads: int = 64
    runs: int = 20_000


def audit(order: AuditOrder, source: Mapping[str, Any], app: Path, entropy: Entropy | None = None) -> dict[str, Any]:
    """Returns every finding, JSON-able; `source` are settings that name the data.

    Hospitals answer with the ClientApp of the folder `app`. Noise is of `entropy`, or the operating system's.

    Raises:
        MedtlError: the data, the method, a setting or the app cannot be used.
    """
    method = _method(order.method)
    for word in order.assignments:
        key = word.partition("=")[0].strip()
        if key in _OPTIONS:
            raise ConfigError(f"{key} is an option here; use {_OPTIONS[key]} instead of --set {word}")
    assignments = [*order.assignments, f"epsilon={order.epsilon}"]
    with Door.opened(app) as door:
        data = open_data(source, assignments, order.shots, entropy or system_entropy(), door)
        findings = _private(method, data, order) if method else _plain(data, order)
    site = data.site
    return {
        "data": order.data,
        "method": order.method,
        "epsilon": order.epsilon if method else None,
        "delta": site.plan(method).terms.delta if method else None,
        "patients": site.patients,
        "cases": len(site.data.label),
        "findings": [asdict(finding) for finding in findings],
    }


def _private(method: PrivateMethod, data: AuditedData, order: AuditOrder) -> list[Finding]:
    """The door, the noise, the releases, and what heads disclose, beside a head without privacy."""
    known = data.site.directions(method)
    site, pooled = data.site.on_directions(known), data.pooled.on_directions(known)
    plan, (requests, _) = site.plan(method), site.run(method)
    run = neighbours(site, requests)
    findings = [door_finding(site, method, run)]
    if trials := trials_of(plan, run, site.entropy):
        findings += [noise_finding(plan, trials, site.entropy), *two_run_findings(trials, plan, order.runs)]
    findings.append(membership_plain("discriminant", data.site, order.heads))
    findings.append(membership_private(method, site, order.heads))
    return findings + origin(method.name, data, privately(method, pooled))


def _plain(data: AuditedData, order: AuditOrder) -> list[Finding]:
    """What a head without privacy discloses."""
    name = order.method
    return [membership_plain(name, data.site, order.heads), *origin(name, data, plainly(name, data.pooled))]


def _method(name: str) -> PrivateMethod | None:
    if name in PLAIN:
        return None
    method = find_method(name)
    if isinstance(method, PrivateMethod):
        return method
    known = [*PLAIN, *(kind.example for kind in all_methods() if issubclass(kind, PrivateMethod))]
    raise ConfigError(f"{name!r} cannot be audited; {did_you_mean(name, known)}")
