"""The hospital's own policy: a file the hospital writes, which always wins over what a server asks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl_core.errors import BudgetError, PatientsError, PrivacyError
from medtl_core.privacy.hospital_file import HOSPITAL, checked, is_deployed, kinds_of, read_toml, table_of
from medtl_core.privacy.plan import Plan

#: Name of the policy's file in the folder of a simulated hospital.
POLICY = "policy.toml"


@dataclass(frozen=True)
class Policy:
    """What the hospital allows.

    Attributes:
        max_epsilon: that all releases about its patients may cost together, over all runs and for ever.
        delta: at which they are counted; a plan with a larger delta is refused.
        max_releases: how many releases there may be.
        minimum_patients: with fewer public ones than this the hospital takes no part.
        public_patients: the number of patients it has made public, at most those it has; 0 = none: then a hospital that
            owns its data takes no part. A run that takes more for granted is refused without a look at the patients.
        mechanisms: names of private methods it takes part in; empty = every one medtl has.
        require_private: whether everything that is not private is refused, whatever the run's settings say.
        one_image_per_patient: whether data without patient ids may be summed privately, every case as a patient of its
            own. A patient with several cases is then protected less than promised.
        secure_sum: whether it takes part in secure sums, whose noise it shares with the hospitals it has exchanged
            identities with; without, its own noise alone keeps the promise.
        minimum_colluders: of those hospitals, how many may pool what they know with a dishonest server; a run whose
            `colluders` is below is refused, and what it is above is left for hospitals that drop out of a sum.
    """

    max_epsilon: float = 4.0
    delta: float = 1e-5
    max_releases: int = 1000
    minimum_patients: int = 2
    public_patients: int = 0
    mechanisms: tuple[str, ...] = ()
    require_private: bool = False
    one_image_per_patient: bool = False
    secure_sum: bool = False
    minimum_colluders: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.max_epsilon < float("inf") or not 0 < self.delta < 1:
            raise PrivacyError(f"policy: max_epsilon={self.max_epsilon}, delta={self.delta} are not a budget")
        if min(self.max_releases, self.minimum_patients - 1, self.public_patients, self.minimum_colluders) < 0:
            raise PrivacyError(
                "policy: max_releases, public_patients and minimum_colluders must not be negative, "
                "minimum_patients must be at least 1"
            )

    def check_promises(self, patients: int) -> None:
        """Refuses a policy that promises the public what the hospital does not have; a matter of its own, untold.

        Raises:
            PrivacyError: the hospital has fewer patients than it made public, or delta is not below one over them.
        """
        if patients < self.public_patients or self.delta * patients >= 1:
            raise PrivacyError(
                f"policy: public_patients={self.public_patients} is more than the {patients} patients here, or "
                f"delta={self.delta} is not below one over them; correct the policy"
            )

    def admit(self, plan: Plan, patients: int | None = None) -> None:
        """Refuses a plan the hospital does not take part in.

        Args:
            plan: of the run.
            patients: of a simulated hospital. None = the hospital owns its data: how many patients it has is looked at
                by itself alone, when it starts (`check_promises`), and never for an answer.

        Raises:
            PrivacyError: the mechanism is not allowed, delta is larger than the policy's, no number of patients is
                public, or the policy of a simulated hospital does not fit its patients.
            PatientsError: there are fewer public patients than the run takes for granted or the policy asks for.
            BudgetError: the plan alone promises less than the policy asks for.
        """
        if self.mechanisms and plan.mechanism not in self.mechanisms:
            allowed = ", ".join(self.mechanisms)
            raise PrivacyError(f"policy: mechanism {plan.mechanism!r} is not allowed here, only {allowed}")
        known = self.public_patients or patients
        if known is None:
            raise PrivacyError("policy: no number of patients is public; set public_patients to one you surely have")
        self.check_promises(known if patients is None else patients)  # whatever the run asks
        if known < max(self.minimum_patients, plan.terms.cases):
            raise PatientsError(
                f"policy: {known} patients; at least {max(self.minimum_patients, plan.terms.cases)} are needed: "
                f"public-cases (or else shots) is {plan.terms.cases}, the policy's minimum_patients "
                f"{self.minimum_patients}; lower the larger one"
            )
        if plan.terms.delta > self.delta:
            raise PrivacyError(f"policy: delta={plan.terms.delta} is above {self.delta}")
        if plan.terms.epsilon > self.max_epsilon:
            raise BudgetError(f"policy: epsilon={plan.terms.epsilon} is above the hospital's {self.max_epsilon}")


def read_policy(folder: Path, default: Policy | None = None) -> Policy:
    """Returns the policy of a hospital's folder.

    A deployed hospital states it in its `hospital.toml`, and no rule counts that does not stand there. A simulated one
    may have a `POLICY`; else the default holds.

    Raises:
        PrivacyError: it cannot be read, names an unknown rule or has a value of the wrong type or range, or a deployed
            hospital states no budget.
    """
    if is_deployed(folder):
        return deployed_policy(table_of(folder, "policy", PrivacyError), f"{folder / HOSPITAL} [policy]")
    if not os.path.lexists(os.path.join(folder, POLICY)):  # noqa: PTH118 - of every message
        return default or Policy()
    path = folder / POLICY
    return Policy(**checked(kinds_of(Policy), read_toml(path, PrivacyError), f"the policy {path}", PrivacyError))


def deployed_policy(table: Mapping[str, Any], where: str) -> Policy:
    """Returns the policy in the table of a deployed hospital, which must state the budget itself.

    Raises:
        PrivacyError: see `read_policy`.
    """
    for rule in ("max_epsilon", "delta"):
        if rule not in table:
            raise PrivacyError(f"{where} states no {rule}; a budget is never taken for granted: write it down")
    return Policy(**checked(kinds_of(Policy), table, where, PrivacyError))
