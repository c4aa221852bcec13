"""Names of methods and what they mean: `fedavg-20-adjusted` is FedAvg, 20 rounds, then post-hoc logit adjustment."""

import re
from dataclasses import dataclass

#: Gradient algorithms over the linear head.
ALGORITHMS = ("fedavg", "fedprox", "fedavgm", "fedadam", "scaffold")

_GRADIENT = re.compile(rf"({'|'.join(ALGORITHMS)})-([1-9][0-9]{{0,3}})(-adjusted)?")


@dataclass(frozen=True)
class Gradient:
    """A gradient method: algorithm, rounds, and whether the class prior is removed afterwards."""

    algorithm: str
    rounds: int
    adjusted: bool

    @property
    def name(self) -> str:
        """The method's name, e.g. "fedavg-20-adjusted"."""
        return f"{self.algorithm}-{self.rounds}" + ("-adjusted" if self.adjusted else "")


#: The gradient head that `auto` weighs against the closed-form heads.
RIVAL = Gradient("fedavg", 20, True)


def gradient_method(name: str) -> Gradient | None:
    """Returns what a gradient method's name says, or None for another kind of name.

    Example:
        >>> gradient_method("fedavg-20-adjusted")
        Gradient(algorithm='fedavg', rounds=20, adjusted=True)
    """
    match = _GRADIENT.fullmatch(name)
    return Gradient(match[1], int(match[2]), bool(match[3])) if match else None
