"""What the finished runs of a sweep say together, in figures and in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medtl_core.evaluation.result import Result
from medtl_core.report.estimate import Estimate
from medtl_core.sweep.cells import Sweep
from medtl_core.sweep.rows import FIGURES, SweepRow
from medtl_core.versions import versions

#: Version of the layout of a sweep's `metrics.json`.
SCHEMA = 1
#: Follows a figure that is at chance.
MARK = "*"

_SUMS = {"secure": "secure sum", "open": "no secure sum"}


@dataclass(frozen=True)
class SweepPoint:
    """A method at one epsilon.

    Attributes:
        epsilon: promised; None without privacy.
        spent: the largest epsilon that any hospital's ledger accounts for, over all seeds.
        delta: of both.
        balanced_accuracy, auroc, worst_site: over seeds; with one seed, with the patient bootstrap of its run.
        bytes_up: sent by a hospital, in the mean.
        seeds: that are finished.
        at_chance: whether the balanced accuracy cannot be told from guessing, since its interval holds chance or lies
            below it; None where there is no interval.
    """

    epsilon: float | None
    spent: float | None
    delta: float | None
    balanced_accuracy: Estimate
    auroc: Estimate
    worst_site: Estimate
    bytes_up: int
    seeds: int
    at_chance: bool | None

    def as_dict(self) -> dict[str, Any]:
        """Returns what `metrics.json` keeps."""
        return {key: value.as_dict() if isinstance(value, Estimate) else value for key, value in vars(self).items()}


@dataclass(frozen=True)
class SweepLine:
    """A method at one number of shots and under one kind of sum ("secure", "open", "none"), in order of epsilon."""

    shots: int
    sum: str
    method: str
    points: tuple[SweepPoint, ...]

    @property
    def name(self) -> str:
        """The method, marked where its sum is open."""
        return f"{self.method} (open)" if self.sum == "open" else self.method

    def at(self, epsilon: float | None) -> SweepPoint | None:
        """Returns the point of an epsilon, None where no run of it is finished."""
        return next((point for point in self.points if point.epsilon == epsilon), None)


@dataclass(frozen=True)
class Findings:
    """What the finished runs of a sweep say together.

    Attributes:
        sweep: what was asked.
        results: of the finished runs; at least one.
        rows: of theirs, one a run and method.
        failed: name of a run -> why it failed.
        of: number of runs asked for.
    """

    sweep: Sweep
    results: tuple[Result, ...]
    rows: tuple[SweepRow, ...]
    failed: Mapping[str, str]
    of: int

    @property
    def study(self) -> Result:
        """A result of the sweep: data, classes, hospitals and test cases are those of all."""
        return self.results[0]

    @cached_property
    def lines(self) -> tuple[SweepLine, ...]:
        """By number of shots, those without privacy last."""
        groups: dict[tuple[int, str, str], dict[float, list[SweepRow]]] = {}
        for row in self.rows:
            points = groups.setdefault((row.shots, row.sum, row.method), {})
            points.setdefault(row.epsilon or 0.0, []).append(row)
        lines = [
            SweepLine(*key, tuple(_point(rows, self.chance) for _, rows in sorted(points.items())))
            for key, points in groups.items()
        ]
        return tuple(sorted(lines, key=lambda line: (line.shots, line.sum == "none")))

    @property
    def chance(self) -> float:
        """The balanced accuracy that guessing gives."""
        return 1 / len(self.study.classes)

    @property
    def seeds(self) -> list[int]:
        """Finished ones."""
        return sorted({row.seed for row in self.rows})

    @property
    def delta(self) -> list[float]:
        """Of all promises."""
        return sorted({row.delta for row in self.rows if row.delta is not None})

    @property
    def absent(self) -> int:
        """Answers that hospitals did not give."""
        return sum(len(result.failures) for result in self.results)

    @property
    def broken(self) -> dict[str, str]:
        """Runs that failed, and promises that a ledger says were broken, each with what happened."""
        broken = dict(self.failed)
        for row in self.rows:
            if row.spent is not None and row.epsilon is not None and row.spent > row.epsilon * (1 + 1e-9):
                name = f"{row.method}, epsilon {row.epsilon:g}, {row.shots} shots, seed {row.seed}"
                broken[name] = f"a ledger accounts for epsilon {row.spent:g}: more than was promised"
        return broken

    def public_cases(self, *shots: int) -> list[int]:
        """Returns the numbers of patients that hospitals are publicly known to have, for some numbers of shots."""
        return sorted({row.public_cases for row in self.rows if row.shots in shots and row.public_cases is not None})

    def of_shots(self, shots: int | None) -> list[SweepLine]:
        """Returns the lines of one number of shots, or of all."""
        return [line for line in self.lines if shots in (line.shots, None)]

    def private(self, shots: int | None = None) -> list[SweepLine]:
        """Returns the lines with privacy, of one number of shots or of all."""
        return [line for line in self.of_shots(shots) if line.sum != "none"]

    def references(self, shots: int) -> list[SweepLine]:
        """Returns the lines without privacy of one number of shots."""
        return [line for line in self.of_shots(shots) if line.sum == "none"]

    def as_dict(self) -> dict[str, Any]:
        """Returns what `metrics.json` keeps."""
        study, sweep = self.study, self.sweep
        return {
            "schema": SCHEMA,
            "name": sweep.plan.name,
            "data": {**vars(study.data), "folder": sweep.data},
            "classes": study.classes,
            "chance": self.chance,
            "hospitals": len(study.sites),
            "test_cases": study.test_cases,
            "shots": sweep.shots,
            "epsilons": sweep.epsilons,
            "seeds": self.seeds,
            "delta": self.delta,
            "public_cases": {shots: self.public_cases(shots) for shots in sweep.shots},
            "settings": sweep.shared_settings,
            "versions": versions(),
            "lines": [{**vars(line), "points": [point.as_dict() for point in line.points]} for line in self.lines],
            "sentences": list(sentences(self)),
            "done": len(self.results),
            "of": self.of,
            "failed": self.broken,
            "absent": self.absent,
        }


def _point(rows: Sequence[SweepRow], chance: float) -> SweepPoint:
    first = rows[0]
    # With one seed, how sure its figure is comes from the patient bootstrap of its run.
    intervals = first.outcome.judgement.intervals if len(rows) == 1 else {}
    judged = [row.outcome.judgement.figures for row in rows]
    figures = {key: Estimate.over([each[key] for each in judged], intervals.get(key)) for key in FIGURES}
    low = figures["balanced_accuracy"].low
    return SweepPoint(
        epsilon=first.epsilon,
        spent=max((row.spent for row in rows if row.spent is not None), default=None),
        delta=first.delta,
        **figures,
        bytes_up=round(sum(row.outcome.cost.bytes_up for row in rows) / len(rows)),
        seeds=len(rows),
        at_chance=None if low is None else low <= chance,
    )


def sentences(findings: Findings) -> Iterator[str]:
    """Yields one sentence for every mechanism, sum and number of shots: at which epsilons it is at chance."""
    clauses = {
        True: f"at chance at {{}} (its 95% interval is not above {findings.chance:.3f}: it cannot be told from "
        "guessing)",
        False: "above chance at {}",
        None: "not known at {}, where there is no interval",
    }
    lines = findings.private()
    for line in lines:
        place = f" with {line.shots} shots" if len({line.shots for line in lines}) > 1 else ""
        every = "every epsilon tried," if len({point.at_chance for point in line.points}) == 1 else "epsilon"
        words = []
        for kind, clause in clauses.items():
            epsilons = [f"{point.epsilon:g}" for point in line.points if point.at_chance is kind]
            words += [clause.format(f"{every} {listed(epsilons)}")] if epsilons else []
        yield f"{line.method} ({_SUMS[line.sum]}){place}: {'; '.join(words)}."


def listed(words: Sequence[str]) -> str:
    """Returns words as a list in a sentence.

    Example:
        >>> listed(["0.5", "1", "2"])
        '0.5, 1 and 2'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def summary_lines(findings: Findings) -> Iterator[str]:
    """Yields what must be said in words under the tables: where mechanisms are at chance, what was spent and broke."""
    study = findings.study
    yield (
        f"{len(study.sites)} hospitals, {study.test_cases} test cases, {len(study.classes)} classes, delta "
        f"{numbers(findings.delta)}"
    )
    yield f"ranges: {intervals(findings)}; {MARK} = at chance: the range is not above {findings.chance:.3f}"
    yield from sentences(findings)
    yield from remarks(findings)


def remarks(findings: Findings) -> Iterator[str]:
    """Yields what was spent, and what limits the findings: few seeds, absent answers, runs that broke or are left."""
    yield spending(findings)
    if len(findings.seeds) == 1:
        yield "one seed: intervals are a bootstrap over test patients, other training cases are not in them"
    if len(findings.seeds) == 2:
        yield "two seeds: a t-interval of two values is very wide; more seeds say more"
    if findings.absent:
        yield f"{findings.absent} answer(s) of hospitals are missing; the events of each run name them"
    for name, why in findings.broken.items():
        yield f"FAILED: {name}: {why}"
    if findings.of > len(findings.results) + len(findings.broken):
        yield f"{len(findings.results)} of {findings.of} runs are done; the same command goes on"


def spending(findings: Findings) -> str:
    """Returns one sentence: what the ledgers account for at each promised epsilon, at most."""
    spent = [(point.epsilon or 0.0, point.spent or 0.0) for line in findings.private() for point in line.points]
    most = dict(sorted(spent))
    words = ", ".join(f"{used:.4g} of {epsilon:g}" for epsilon, used in most.items())
    return f"spent, the most by any hospital's ledger: {words} promised" if words else "nothing was spent"


def intervals(findings: Findings) -> str:
    """Returns what the intervals are."""
    counts = sorted({point.seeds for line in findings.lines for point in line.points})
    if counts == [1]:
        return "95% patient bootstrap of one seed"
    alone = ", patient bootstrap where there is one" if counts[0] == 1 else ""
    return f"95% t-interval over {numbers(counts)} seeds{alone}"


def numbers(values: Sequence[float]) -> str:
    """Returns the ends of numbers in order.

    Example:
        >>> numbers([8, 9, 12]), numbers([8])
        ('8 to 12', '8')
    """
    return " to ".join(f"{value:g}" for value in dict.fromkeys([*values[:1], *values[-1:]])) or "–"  # noqa: RUF001


def shots_words(shots: int) -> str:
    """Returns a number of shots in words; 0 stands for all cases."""
    return f"{shots} shots" if shots else "all cases"
