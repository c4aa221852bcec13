"""Which private mechanism, from public facts only: how much signal the budget buys for every direction and class.

The rule reads k = N mu / (d sqrt C), with N patients, mu of the budget (divided by sqrt K without secure sum), d public
directions and C classes: a class mean's length over the length of its noise, up to a constant (METHODS section 2.3).
Choosing costs nothing, because nothing private is looked at.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from medtl_core.methods.method import Method
from medtl_core.methods.outcome import Outcome
from medtl_core.methods.private import PrivateMethod, terms_of
from medtl_core.methods.study import Study
from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.transfer.prototypes import SIZE, Prototypes

#: Below the first, few directions; from the second on, the Gram matrix pays for itself.
FEW, MANY = 0.6, 1.2
#: Directions kept when the budget is small.
SMALL = 32


@final
@dataclass(frozen=True)
class PrivateAuto(PrivateMethod):
    """Two-round prototypes in the form that suits the budget.

    Guarantee:
        See PrivateMethod. The plan is that of the chosen prototypes; the choice depends on public facts only.
    """

    syntax: ClassVar[str] = "private-auto"
    example: ClassVar[str] = "private-auto"
    summary: ClassVar[str] = "private: prototypes with as many directions, and a Gram matrix, as the budget carries"
    test: ClassVar[str] = "server"

    def chosen(self, terms: Terms) -> Prototypes:
        """Returns the prototypes that suit the terms."""
        signal = strength(terms)
        return Prototypes(self.name, SMALL if signal < FEW else SIZE, cosine=signal < MANY)

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        return self.chosen(terms).plan(terms)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        return self.chosen(terms_of(study.settings, study.problem.width, len(study.problem.classes))).outcome(study)


def strength(terms: Terms) -> float:
    """Returns k = N mu / (d sqrt C), the signal of a class mean over its noise.

    Example:
        >>> terms = Terms(4.0, 1e-5, hospitals=10, colluders=1, cases=90, width=464, classes=7, secure=True)
        >>> round(strength(terms), 2)
        2.98
    """
    mu = mu_for(terms.epsilon, terms.delta) / terms.dilution
    return terms.hospitals * terms.cases * mu / (min(SIZE, terms.width) * math.sqrt(terms.classes))


METHODS: tuple[type[Method], ...] = (PrivateAuto,)
