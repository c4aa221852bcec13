"""What a head says of one case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.evaluation.calibration import softmax
from medtl_core.federation.model import Classifier
from medtl_core.predict.alike import Near
from medtl_core.values import ABSENT, Array

#: What a case has none of whose findings is more probable than not.
NO_FINDING = "no finding"
_THERE = 0.5


def unseen(classifier: Classifier) -> tuple[str, ...]:
    """Returns the classes of which a classifier had no training case, of findings those it saw one way only.

    Few kinds do not say; then there are none.
    """
    seen = np.asarray(getattr(classifier, "seen", np.ones(len(classifier.classes)))) > 0
    return tuple(name for name, one in zip(classifier.classes, seen, strict=True) if not one)


@dataclass(frozen=True)
class Answer:
    """Probabilities of a case, or why there are none.

    Attributes:
        name: of the case: its file as given, or the row of its table.
        probabilities: of every class that the federation has seen; empty where the case cannot be answered.
        likely: the classes that hold the right one as often as the head promises; see `conformal`. Empty where the case
            is like none of them, or the head promises nothing.
        fault: why it cannot be; "" = it is.
        doubt: why the likeliest class should not be taken as the answer; "" = it may.
        over: the classes whose thresholds the case reaches; see `thresholds`.
        decided: the class that the threshold of a head of two classes names; "" = the largest probability names it.
        distance: to the training cases, as a share of what is not unlike them; None where the head does not know.
        findings: whether the classes are findings of which a case may have several; each probability is then its own.
        parts: what each column of a table adds to the logit of the likeliest class; see `reasons.column_parts`.
        alike: the most similar of the hospital's own cases, where it named some.
        map: a PNG file of where in a picture the answer comes from; empty where none was asked for.
    """

    name: str
    probabilities: Mapping[str, float] = field(default_factory=dict)
    likely: tuple[str, ...] = ()
    fault: str = ""
    doubt: str = ""
    over: tuple[str, ...] = ()
    decided: str = ""
    distance: float | None = None
    findings: bool = False
    parts: Mapping[str, float] = field(default_factory=dict)
    alike: tuple[Near, ...] = ()
    map: bytes = b""

    @property
    def largest(self) -> str:
        """The class of the largest probability, in doubt or not.

        Raises:
            ValueError: there is none.
        """
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def likeliest(self) -> str:
        """The class that a threshold or the largest share names, or findings over a half; "" = none, or in doubt."""
        if self.doubt or not self.probabilities:
            return ""
        if self.findings:
            return ", ".join(name for name, share in self.probabilities.items() if share >= _THERE) or NO_FINDING
        return self.decided or self.largest

    def as_dict(self) -> dict[str, Any]:
        """Returns the answer as it is written as JSON."""
        return {
            "case": self.name,
            "answer": self.likeliest or None,
            "probabilities": dict(self.probabilities),
            "likely": list(self.likely),
            "doubt": self.doubt or None,
            "fault": self.fault or None,
            **({"over": list(self.over)} if self.over or self.decided else {}),
            **({} if self.distance is None else {"distance": self.distance}),
            **({"parts": dict(self.parts)} if self.parts else {}),
            **({"alike": [vars(near) for near in self.alike]} if self.alike else {}),
        }


def log_prevalence(prevalence: Mapping[str, float], classes: Sequence[str]) -> Array:
    """Returns the log share of each class [C] where a head is used, less that of equally common classes.

    A head's answer takes all classes as equally common. Bayes' rule turns it into that of a place where they are not
    (Saerens et al., Neural Computation 2002, eq. 2.4). Without a prevalence nothing is changed.

    Raises:
        ConfigError: a class is unknown or left out, or the shares are not positive or do not sum to 1.

    Example:
        >>> log_prevalence({"ill": 0.5, "well": 0.5}, ("ill", "well")).tolist()
        [0.0, 0.0]
    """
    if not prevalence:
        return np.zeros(len(classes))
    for name in prevalence:
        if name not in classes:
            raise ConfigError(
                f"prevalence names {name!r}, which is no class of the head; {did_you_mean(name, classes)}"
            )
    left = [name for name in classes if name not in prevalence]
    if left:
        raise ConfigError(f"prevalence leaves out {left[0]!r}; name a share of every class")
    shares = np.asarray([prevalence[name] for name in classes], np.float64)
    if not (np.isfinite(shares).all() and (shares > 0).all() and abs(shares.sum() - 1) < 1e-3):
        raise ConfigError("prevalence must be positive shares that sum to 1")
    return np.asarray(np.log(shares * len(classes)))


def answers_of(
    names: Sequence[str], logits: Array, classes: Sequence[str], least: float, inside: Array | None = None
) -> list[Answer]:
    """Returns the answers of cases from their logits [n, C].

    Args:
        names: of the cases, n.
        logits: with the prevalence in.
        classes: C names, of those that some hospital has shown.
        least: probability below which the likeliest class is in doubt.
        inside: bool [n, C], the classes in each case's set; None = nothing is promised.
    """
    shares = softmax(logits) if len(logits) else np.zeros((0, len(classes)))
    sets = np.zeros(shares.shape, bool) if inside is None else inside
    answers = []
    for name, row, members in zip(names, shares, sets, strict=True):
        likely = tuple(classes[column] for column in np.flatnonzero(members).tolist())
        doubt = f"its likeliest class has a probability below {least:g}" if row.max() < least else ""
        if inside is not None and not likely:
            doubt = "it is like none of the classes: each one's cases have higher log-odds"
        answers.append(Answer(name, dict(zip(classes, map(float, row), strict=True)), likely, doubt=doubt))
    return answers


def placed(answers: Sequence[Answer], far: Array) -> list[Answer]:
    """Returns answers with their distances [n], as shares of the limit; those beyond it are in doubt.

    Example:
        >>> [answer.likeliest for answer in placed([Answer("a", {"ill": 1.0}), Answer("b", {"ill": 1.0})], [0.4, 3.0])]
        ['ill', '']
    """
    unlike = "it is unlike the training cases: {:.2f} times as far from them as nearly all of them are"
    return [
        replace(answer, distance=float(share), doubt=unlike.format(share) if share > 1 else answer.doubt)
        for answer, share in zip(answers, far, strict=True)
    ]


def findings_of(names: Sequence[str], odds: Array, classes: Sequence[str]) -> list[Answer]:
    """Returns the answers of cases from the log-odds [n, L] of findings; one that no hospital showed is not named."""
    told = np.flatnonzero((np.abs(odds) < -ABSENT / 2).any(axis=0)).tolist()
    shares = 0.5 * (1 + np.tanh(odds / 2))
    return [
        Answer(name, {classes[column]: float(row[column]) for column in told}, findings=True)
        for name, row in zip(names, shares, strict=True)
    ]
