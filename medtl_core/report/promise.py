"""What a private run promises to the patients, in words: the first lines of its summary and of its report."""

from collections.abc import Mapping, Sequence
from math import exp
from pathlib import Path
from typing import Any

from medtl_core.evaluation.result import Result
from medtl_core.privacy.ledger import LEDGER
from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.policy import Policy

#: Settings that mean nothing without privacy.
WORDS = ("epsilon", "delta", "secure-sum", "colluders", "public-cases", "public-images")

#: Above which e^epsilon is written as it stands.
_LARGEST = 100.0


def promise_lines(results: Sequence[Result], folder: Path | None = None) -> tuple[str, ...]:
    """Returns what a run promises; nothing where it has no privacy.

    Args:
        results: of its repetitions.
        folder: of the run, with the ledgers of simulated hospitals; those of others are at the hospitals.

    Raises:
        PrivacyError: a ledger is damaged.
    """
    chosen = results[0].settings
    if chosen.get("privacy", "none") == "none":
        return ()
    names, epsilon, delta = list(results[0].methods), float(chosen["epsilon"]), delta_of(results[0])
    each = ", for each method by itself" if len(names) > 1 else ""
    several = ", in each repetition" if len(results) > 1 else ""
    colluders, sites = chosen["colluders"], chosen["sites"]
    secure = (
        f"The server sees only sums over the hospitals; at most {colluders} of {sites} may collude with it or drop out."
        if chosen["secure-sum"]
        else "There is no secure sum: every hospital adds the whole noise by itself and trusts nobody."
    )
    return (
        f"Private: every patient of every hospital is promised epsilon {epsilon:g} at delta {delta:g}{each}{several}. "
        f"Whoever sees all that was sent can change the odds that a patient is in at most {odds_words(epsilon)} times.",
        f"Mechanism: {', '.join(names)}; Gaussian noise on whole numbers. {secure}",
        _spent(folder, epsilon, delta),
        f"It rests on one identifier for each patient, sound computers at the hospitals, and at least "
        f"{chosen['public-cases'] or chosen['shots']} patients at each.",
    )


def odds_words(epsilon: float) -> str:
    """Returns e to the power of epsilon in words; a float ends at e^709.

    Example:
        >>> odds_words(1.0), odds_words(1e6)
        ('2.72', 'e^1e+06')
    """
    return f"{exp(epsilon):.3g}" if epsilon < _LARGEST else f"e^{epsilon:g}"


def delta_of(result: Result) -> float:
    """Returns the delta of a private run: the one its methods were calibrated for, where the setting leaves it open."""
    stated = (method.facts.get("delta") for method in result.methods.values())
    return float(result.settings["delta"] or next((delta for delta in stated if delta), 0.0))


def _spent(folder: Path | None, epsilon: float, delta: float) -> str:
    """What the ledgers of simulated hospitals account for, read from their disk and checked."""
    books = sorted(folder.glob(f"seed-*/state/*/*/{LEDGER}/*/ledger.jsonl")) if folder else []
    if not books:
        return "What was spent stands in the ledgers at the hospitals: medtl ledger show DIR, there."
    most = max(balance(book.parent, Policy(delta=delta)).spent for book in books)
    return f"Ledgers: at most epsilon {most:.4g} of {epsilon:g} was spent by any hospital ({len(books)} ledgers read)."


def shown_settings(result: Result) -> Mapping[str, Any]:
    """Returns the settings as they were run: the methods that ran, the true delta, and no word that had no effect."""
    shown = {**result.settings, "methods": ",".join(result.methods)}
    if shown.get("privacy", "none") == "none":
        return {name: value for name, value in shown.items() if name not in WORDS}
    return {**shown, "delta": delta_of(result)}
