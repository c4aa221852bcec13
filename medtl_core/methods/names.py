"""Names of methods and what they mean: `fedavg-20-adjusted` is FedAvg, 20 rounds, then post-hoc logit adjustment."""

import re
from dataclasses import dataclass

from medtl_core.errors import ConfigError, did_you_mean

#: Gradient algorithms over the linear head.
ALGORITHMS = ("fedavg", "fedprox", "fedavgm", "fedadam", "scaffold")

#: Methods with a fixed name, in the order the summary shows them.
FIXED = (
    "local",
    "nearest-mean",
    "ridge",
    "discriminant",
    "discriminant-taps",
    "auto",
    "pooled-logistic",
    "ensemble-local",
    "ensemble-weighted",
    "ensemble-all",
)

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


def read_methods(text: str) -> tuple[str, ...]:
    """Returns the method names of a comma-separated list, checked and without repeats.

    Raises:
        ConfigError: a name is unknown (the nearest is suggested) or the list is empty.

    Example:
        >>> read_methods("ridge, fedavg-5")
        ('ridge', 'fedavg-5')
    """
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names:
        raise ConfigError("methods is empty; name at least one, e.g. methods=discriminant")
    for name in names:
        if name not in FIXED and gradient_method(name) is None:
            known = [*FIXED, *(f"{algorithm}-20" for algorithm in ALGORITHMS), RIVAL.name]
            raise ConfigError(f"unknown method {name!r}; {did_you_mean(name, known)}")
    return names
