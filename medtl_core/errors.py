"""The error family of medtl.

Every message says what was wrong, where, and what to do. Text that may leave a hospital carries no values, paths or
identities: `public_text` gives the sentence that may be sent, the exception's own text stays in the building.
"""

import difflib
from collections.abc import Collection, Iterable


class MedtlError(Exception):
    """Base of all errors a user of medtl can act on."""

    #: A sentence without patient values, paths or identities; the only text that may cross the wire.
    public_text = "the site met an error; its own log has the details"


class ConfigError(MedtlError):
    """A setting is unknown, out of range or contradicts another one."""

    public_text = "the site refused the configuration; its own log names the setting"


class ProtocolError(MedtlError):
    """The run's messages are of another version than this hospital's; both versions are public."""

    def __init__(self, asked: str, spoken: str) -> None:
        self.public_text = f"the run speaks {asked}, this site {spoken}; install one version of medtl on both"
        super().__init__(self.public_text)


class DataError(MedtlError):
    """Input data cannot be used: missing, unreadable, mislabelled or leaking.

    `args` are all causes that were found together, a sentence each; the text is the first one, and how many follow.
    """

    public_text = "the site's data could not be used; its own log names the file or row"

    def __str__(self) -> str:
        others = len(self.args) - 1
        return f"{self.args[0]} ({others} more: `medtl data check` names all)" if others > 0 else super().__str__()


class DivergedError(DataError):
    """Training left the finite numbers: the hospital sits out this round, and says why."""

    public_text = "the site's training diverged and it sits this round out; lower tune-rate, or learning-rate of a head"


class WeightsError(MedtlError):
    """Backbone weights are missing, corrupt or of another architecture."""

    public_text = "the site could not load the agreed backbone weights"


class ReplyError(MedtlError):
    """A hospital's reply breaks the agreement (shape, dtype, finiteness, weight, run)."""

    public_text = "a reply broke the agreement and was refused"


class StateError(MedtlError):
    """A hospital's personal state on its own disk cannot be read, written or used."""

    public_text = "the site's personal state could not be used; its own log names the file"


class RunError(MedtlError):
    """A run cannot go on: no quorum, no usable reply, or an output folder in use."""

    public_text = "the run could not go on"


class PrivacyError(MedtlError):
    """A release would break a promise, or its accounting cannot be trusted: nothing is sent."""

    public_text = "the site's privacy policy or ledger refused the release"


class PatientsError(PrivacyError):
    """The hospital has fewer patients than the run takes as public, or than its policy asks for: it sits out."""

    public_text = (
        "fewer patients than this run or the site's policy needs: set public-cases (unset: shots) to a number that "
        "every hospital surely has, or lower minimum_patients there"
    )


class BudgetError(PrivacyError):
    """The hospital's privacy budget does not cover what was asked: the site sits out."""

    public_text = "the site's privacy budget does not cover this; the site sits out"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a short hint naming the closest known word, or the list of known words."""
    options = {word.casefold(): word for word in sorted(known)}
    close = difflib.get_close_matches(name.casefold(), options, n=1)
    return f"did you mean {options[close[0]]!r}?" if close else f"known: {', '.join(options.values())}"


def positive(**values: float) -> None:
    """Raises ConfigError naming the first keyword whose value is not greater than zero."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{name.replace('_', '-')}={value} must be greater than 0")


def not_negative(**values: float) -> None:
    """Raises ConfigError naming the first keyword whose value is less than zero, or no number."""
    for name, value in values.items():
        if not value >= 0:
            raise ConfigError(f"{name.replace('_', '-')}={value} must not be negative")


def one_of(name: str, value: str, options: Collection[str]) -> None:
    """Raises ConfigError where a setting's word is none of its options."""
    if value not in options:
        raise ConfigError(f"{name}={value!r} is not known; {did_you_mean(value, options)}")
