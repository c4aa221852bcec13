"""Which private mechanism, from public facts only: as many directions, and a Gram matrix, as the budget carries.

The rule reads the signal S = N mu / sqrt C, with N patients, mu of the budget (over sqrt K without secure sum) and C
classes: how long a class sum is over the noise in one of its directions, up to a constant. The noise of a sum grows
with every direction kept, what a direction tells shrinks, so the number kept follows S.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from medtl_core.config import Settings
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.federation.study import Study
from medtl_core.methods.private.prototypes import Prototypes
from medtl_core.methods.private.public_pca import BUILT_IN, has_public
from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.plan import Plan, Terms

#: Directions for each unit of signal, by where they come from: photographs of anything; public images of the task's own
#: kind, whose later directions tell more; or a table, two directions a column (value, whether missing) and in no order;
#: the fewest; and the signal from which on the Gram matrix pays for itself (tables at the end of results-privacy.md).
GENERAL, OWN_KIND, COLUMNS, FEWEST, GRAM_FROM = 0.6, 1.2, 2.5, 16, 50.0


@final
@dataclass(frozen=True)
class PrivateAuto(PrivateMethod):
    """Two-round prototypes in the form that suits the budget.

    Guarantee:
        See PrivateMethod. The plan is that of the chosen prototypes; the choice depends on public facts only and costs
        nothing.
    """

    syntax: ClassVar[str] = "private-auto"
    example: ClassVar[str] = "private-auto"
    summary: ClassVar[str] = "private: prototypes with as many directions, and a Gram matrix, as the budget carries"

    def chosen(self, terms: Terms, share: float = GENERAL) -> Prototypes:
        """Returns the prototypes that suit the terms; the plan depends on the Gram matrix, not on the directions."""
        amount = signal(terms)
        size = min(max(round(share * amount), FEWEST), Prototypes.DIRECTIONS)
        return Prototypes(self.name, size, cosine=amount < GRAM_FROM)

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        return self.chosen(terms).plan(terms)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        terms = terms_of(study.settings, study.problem.width, len(study.problem.classes))
        return self.chosen(terms, share_of(study.settings)).outcome(study)


def signal(terms: Terms) -> float:
    """Returns S = N mu / sqrt C."""
    return terms.patients * mu_for(terms.epsilon, terms.delta) / (terms.dilution * math.sqrt(terms.classes))


def share_of(settings: Settings) -> float:
    """Returns how many directions a unit of signal carries, by where the directions come from."""
    public = GENERAL if settings.public_images in BUILT_IN else OWN_KIND
    return public if has_public(settings) else COLUMNS


METHODS: tuple[type[Method], ...] = (PrivateAuto,)
