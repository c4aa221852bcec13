"""What a run would cost a hospital, before it: by its ledger, its rules, and the plan that the run's settings give."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtl_core.errors import PrivacyError
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.hospital_file import is_deployed
from medtl_core.privacy.identity import trusted_peers
from medtl_core.privacy.journal import read_journal
from medtl_core.privacy.ledger import budget_of, events_of, of_kind
from medtl_core.privacy.ledger_report import balance, policy_of
from medtl_core.privacy.plan import Plan
from medtl_core.privacy.policy import Policy


@dataclass(frozen=True)
class Forecast:
    """What a run would come to at one hospital.

    Attributes:
        site: the hospital.
        spent, after: epsilon before and after the run.
        budget: that may be spent.
        releases: of the run.
        refused: every reason for which the hospital would not take part; none = it would.
    """

    site: str
    spent: float
    after: float
    budget: float
    releases: int
    refused: tuple[str, ...]

    @property
    def cost(self) -> float:
        """Epsilon that the run adds: costs add up in squares, so a run costs less of what is left than it promises."""
        return self.after - self.spent


def forecast(folder: Path, plans: Sequence[Plan]) -> Forecast:
    """Returns what a run of some plans would cost the hospital of a ledger; nothing is written, and nothing spent.

    A run that was answered before under the same settings costs nothing; that is not looked at here.

    Args:
        folder: of the ledger.
        plans: of the run's methods; none = a run without privacy.

    Raises:
        PrivacyError: the ledger or the rules cannot be read.
    """
    records = read_journal(folder)
    policy, home = policy_of(folder, records), folder.resolve().parent
    before, budget = events_of(records), budget_of(records, policy)
    after = epsilon([*before, *(event for plan in plans for event in plan.events)], policy.delta)
    releases, done = sum(step.count for plan in plans for step in plan.steps), len([*of_kind(records, "reserve")])
    refused = [reason for plan in plans for reason in _rules(policy, plan, home)]
    if not plans and policy.require_private:
        refused.append("policy: require_private = true; this run has no privacy")
    if not after <= budget * (1 + 1e-9):
        refused.append(f"it would bring epsilon to {after:.4g}; the hospital allows {budget:.4g}")
    if done + releases > policy.max_releases:
        refused.append(f"policy: max_releases = {policy.max_releases}; {done} are made, the run asks for {releases}")
    site, spent = balance(folder).site, epsilon(before, policy.delta)
    return Forecast(site, spent, after, budget, releases, tuple(dict.fromkeys(refused)))


def _rules(policy: Policy, plan: Plan, home: Path) -> Iterator[str]:
    """What stands against a plan, as a hospital's own process would say it."""
    deployed = is_deployed(home)
    try:
        policy.admit(plan, None if deployed else plan.terms.cases)
    except PrivacyError as error:
        yield str(error)
    if not plan.terms.secure or not deployed:
        return
    peers: Mapping[str, str] = trusted_peers(home) or {}
    if not policy.secure_sum:
        yield "policy: secure sums are not allowed here; secure_sum = true allows them"
    if plan.terms.colluders < policy.minimum_colluders:
        yield f"policy: colluders={plan.terms.colluders} is below minimum_colluders={policy.minimum_colluders}"
    if plan.terms.hospitals > len(peers) + 1:
        yield f"a secure sum of {plan.terms.hospitals} hospitals; [peers] names {len(peers)} others"
