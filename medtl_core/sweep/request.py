"""From the words of a command line to a checked sweep; nothing runs and nothing is written before all is known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from medtl_core.config import Settings, Value
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import all_methods, find_method
from medtl_core.federation.secure_sum import withstands
from medtl_core.flower.run import RunPlan
from medtl_core.sweep.cells import Sweep

Number = TypeVar("Number", int, float)

#: What runs when no mechanism is named.
MECHANISMS = "private-auto,private-prototypes,private-mean,private-gradient"

#: What a sweep does where nobody says otherwise.
USUAL: Mapping[str, Value] = {"secure-sum": True}

#: Settings that a sweep decides, and the option that says so.
_SWEPT: Mapping[str, str] = {"epsilon": "--epsilons", "privacy": "--mechanisms", "methods": "--mechanisms"}


def check_assignments(words: Sequence[str], shots: str) -> None:
    """Refuses settings, as `key=value` words, that a sweep decides.

    Raises:
        ConfigError: there is one; the message names the option to use.
    """
    for word in words:
        key = word.partition("=")[0].strip().replace("_", "-")
        if key in _SWEPT:
            raise ConfigError(f"{key} is what a sweep varies; use {_SWEPT[key]} instead of --set {word}")
        if key == "shots" and shots:
            raise ConfigError(f"shots are given by --shots {shots} and by --set {word}; keep one")


def read_sweep(plan: RunPlan, epsilons: str, mechanisms: str = MECHANISMS, shots: str = "") -> Sweep:
    """Returns the sweep of a plan.

    Args:
        plan: what all runs share.
        epsilons: separated by commas; "none" stands for the references, which always run.
        mechanisms: names separated by commas.
        shots: separated by commas; "" = those of the plan.

    Raises:
        ConfigError: an epsilon, mechanism or number of shots is not valid, or the hospitals cannot sum securely.
    """
    chosen, secure = plan.settings, plan.settings.secure_sum
    if secure and not withstands(chosen.sites, chosen.colluders):
        raise ConfigError(
            f"a secure sum of {chosen.sites} hospitals cannot withstand {chosen.colluders} colluders; take more sites "
            "or fewer colluders, or sweep without it: --set secure-sum=false"
        )
    decided_by_cells = {name: getattr(Settings, name) for name in (*_SWEPT, "secure_sum")}
    shared = replace(plan, settings=chosen.replace(**decided_by_cells))
    promised = read_numbers("--epsilons", epsilons, float, "0.5,1,2,4,8")
    if not promised:
        raise ConfigError(f"--epsilons {epsilons!r} names no number; e.g. --epsilons 0.5,1,2,4,8")
    cases = read_numbers("--shots", shots, int, "10,25,90") or (chosen.shots,)
    return Sweep(shared, promised, cases, read_mechanisms(mechanisms), secure)


def read_numbers(option: str, text: str, kind: type[Number], example: str) -> tuple[Number, ...]:
    """Returns the numbers of a comma-separated list, in order and without repeats; "none" is passed over.

    Raises:
        ConfigError: one is not of the kind, or not above 0.

    Example:
        >>> read_numbers("--epsilons", "4, 0.5,none", float, "0.5,1")
        (0.5, 4.0)
    """
    values = set()
    for word in (word for word in _words(text) if word != "none"):
        try:
            value = kind(word)
        except ValueError:
            value = kind(0)
        if not 0 < value < math.inf:
            whole = "whole " if kind is int else ""
            raise ConfigError(f"{option} {word!r} must be a {whole}number above 0; e.g. {option} {example}")
        values.add(value)
    return tuple(sorted(values))


def read_mechanisms(text: str) -> tuple[PrivateMethod, ...]:
    """Returns the private methods of a comma-separated list, without repeats.

    Raises:
        ConfigError: one is unknown (the nearest is suggested) or not private, or the list is empty.
    """
    known = {*MECHANISMS.split(","), *(kind.example for kind in all_methods() if issubclass(kind, PrivateMethod))}
    mechanisms = []
    for name in dict.fromkeys(_words(text)):
        try:
            method = find_method(name)
        except ConfigError:
            raise ConfigError(f"unknown mechanism {name!r}; {did_you_mean(name, known)}") from None
        if not isinstance(method, PrivateMethod):
            nearest = did_you_mean(f"private-{name}", known)
            raise ConfigError(
                f"{name!r} is not private and has no epsilon (references without privacy run in every sweep); {nearest}"
            )
        mechanisms.append(method)
    if not mechanisms:
        raise ConfigError("--mechanisms names none; e.g. --mechanisms private-auto,private-mean")
    return tuple(mechanisms)


def _words(text: str) -> Sequence[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
