"""One patient in and out of real releases: is the noise there, and what can be read by who knows everybody else?

The attacker's score is the likelihood ratio of the Gaussian claim, the best there is. Every attack is repeated on bugs
planted on purpose: an audit that would not see them says little.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medtl_core.audit.finding import FALSE, STANDS, Finding, caught
from medtl_core.audit.neighbours import Neighbours, Shown
from medtl_core.audit.two_run import chi_square, gaussian_epsilon, two_run
from medtl_core.heads.statistics import Float
from medtl_core.privacy.accounting import mu_of
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import noised, unscaled
from medtl_core.privacy.noise import Entropy
from medtl_core.privacy.plan import Plan, Step
from medtl_core.values import Array, Update

#: Numbers the gate is given at once. It widens the noise for the rounding of all of them: by half a percent at most.
_BLOCK = 100_000
#: Numbers of noise that the noise test draws at least, and one arm of the two-run audit at most.
_NOISE, _BUDGET = 40_000, 20_000_000
#: Share of noise left by the bug of the noise test, and the p-value below which noise contradicts its claim.
_SHORT, _SMALL = 0.97, 1e-3
#: Chance of error of each bound; an audit states several.
LEVEL = 0.01

#: Noises one clipped sum under a step of a plan, as the gate does.
Gate = Callable[[Bounded, Plan, int], Mapping[str, Array]]


@dataclass(frozen=True)
class Trial:
    """One release, and the patient whose presence is at stake.

    Attributes:
        step: index into the steps of the mechanism's plan.
        shift: by name, what the patient adds to the sums over everybody else, which the attacker knows.
        gate: what the sums pass.
    """

    plan: Plan
    step: int
    shift: Mapping[str, Array]
    gate: Gate

    @property
    def planned(self) -> Step:
        """The step."""
        return self.plan.steps[self.step]

    @property
    def claim(self) -> float:
        """Returns mu of the claim: what any patient may show at most."""
        return 1.0 / self.planned.one.noise_multiplier

    @property
    def exposure(self) -> float:
        """Returns mu of this patient: length of the shift in units of the claimed noise."""
        return float(np.linalg.norm(in_noise(self.shift, self.planned)))


def in_noise(sums: Mapping[str, Array], step: Step, runs: int = 1) -> Float:
    """Returns the arrays of some runs one behind the other, in units of the claimed noise, float64 [runs, numbers]."""
    sigma = {name: step.noise[name] * step.sensitivity[name] for name in sorted(step.noise)}
    return np.concatenate([(sums[name] / sigma[name]).reshape(runs, -1) for name in sigma], axis=1)


def trial_of(plan: Plan, step: int, shift: Mapping[str, Array], entropy: Entropy) -> Trial:
    """Returns the trial of a release through the real gate."""
    return Trial(plan, step, shift, lambda sums, plan, step: gated(sums, plan, step, entropy))


def gated(bounded: Bounded, plan: Plan, step: int, entropy: Entropy) -> dict[str, Array]:
    """Returns what the gate lets out of clipped sums, float64, in the units they were summed in."""
    return unscaled(noised(bounded, plan, step, entropy), plan.steps[step])


def trials_of(plan: Plan, run: Neighbours, entropy: Entropy) -> list[Trial]:
    """Returns the trial of every release of a run, all of them about the patient who shows most.

    What a patient adds is the difference of answers at the door, the same noise in both. There are none where no
    hospital without a patient answers as the whole one does.
    """

    def trials(answers: Sequence[Shown]) -> list[Trial]:
        return [
            trial_of(plan, int(request.config["step"]), one.less(other), entropy)
            for request, one, other in zip(run.requests, run.whole, answers, strict=True)
        ]

    able = [answers for answers in run.without.values() if all(map(Shown.alike, run.whole, answers))]
    return max(map(trials, able), key=lambda one: sum(trial.exposure**2 for trial in one), default=[])


def observed(trial: Trial, present: bool, runs: int) -> Float:
    """Returns the attacker's score of every run, float64 [runs]: without the patient N(0, 1) if the claim is true."""
    shift = in_noise(trial.shift, trial.planned)[0]
    block, scores = max(_BLOCK // len(shift), 1), []
    for count in (min(block, runs - first) for first in range(0, runs, block)):
        repeated = {
            name: np.broadcast_to(present * moved, (count, *moved.shape)) for name, moved in trial.shift.items()
        }
        seen = trial.gate(Bounded(Update(repeated), trial.planned.sensitivity), trial.plan, trial.step)
        scores.append(in_noise(seen, trial.planned, count) @ shift)
    return np.concatenate(scores) / max(trial.exposure, 1e-12)


def bound_of(trials: Sequence[Trial], runs: int, level: float = LEVEL) -> float:
    """Returns the lower bound of mu that `runs` runs of all trials together, with and without the patient, prove."""
    length = math.sqrt(sum(trial.exposure**2 for trial in trials))
    absent, present = (
        np.asarray(sum(trial.exposure / length * observed(trial, there, runs) for trial in trials))
        for there in (False, True)
    )
    return two_run(absent, present, level)


def _half_noise(trial: Trial) -> Trial:
    weak = weakened(trial.plan, trial.step, 0.5)
    return replace(trial, gate=lambda sums, plan, step: trial.gate(sums, weak, step))


#: What an audit must find: a bug by name -> the trial with it.
BUGS: Mapping[str, Callable[[Trial], Trial]] = {
    "no noise": lambda trial: replace(trial, gate=lambda sums, plan, step: sums.update.arrays),
    "half noise": _half_noise,
    "no clip": lambda trial: replace(trial, shift={name: 10.0 * array for name, array in trial.shift.items()}),
}


def weakened(plan: Plan, step: int, share: float) -> Plan:
    """Returns the plan with only a share of one step's noise: a bug to plant."""
    steps = list(plan.steps)
    steps[step] = replace(steps[step], noise={name: share * value for name, value in steps[step].noise.items()})
    return replace(plan, steps=tuple(steps))


def noise_finding(plan: Plan, trials: Sequence[Trial], entropy: Entropy) -> Finding:
    """The gate on zeros, under the plan and under one with 3 % less noise."""
    p_values = []
    for share in (1.0, _SHORT):
        drawn: list[Float] = []
        while sum(noise.size for noise in drawn) < _NOISE:
            for trial in trials:
                zeros = Update({name: np.zeros_like(array) for name, array in trial.shift.items()})
                sums, less = Bounded(zeros, trial.planned.sensitivity), weakened(plan, trial.step, share)
                drawn.append(in_noise(gated(sums, less, trial.step, entropy), trial.planned)[0])
        p_values.append(chi_square(np.concatenate(drawn), 1.0))
    (p, short), count = p_values, sum(noise.size for noise in drawn)
    verdict = "the noise has the size it claims" if p > _SMALL else "THE NOISE IS NOT OF THE CLAIMED SIZE"
    tried = f"chi-square on {count} numbers that the gate adds to zeros"
    planted = {"3 % less noise": f"p = {short:.1g}, {caught(short <= _SMALL)}"}
    numbers = {"p": p, "short_p": short, "count": count}
    return Finding("noise", tried, f"p > {_SMALL:g}", f"p = {p:.2g}", verdict, p > _SMALL, planted, numbers)


def two_run_findings(trials: Sequence[Trial], plan: Plan, wanted: int) -> list[Finding]:
    """Each kind of release alone, then all of them together; the planted bugs go into the costliest release."""
    delta, size = plan.terms.delta, sum(array.size for trial in trials for array in trial.shift.values())
    runs = max(min(wanted, _BUDGET // size), 400)

    def finding(what: str, tried: Sequence[Trial], mu: float, planted: Mapping[str, str]) -> Finding:
        claim, bound = gaussian_epsilon(mu, delta), gaussian_epsilon(bound_of(tried, runs), delta)
        held = bound <= claim * (1 + 1e-6)
        how = f"{runs} releases with and without the patient who shows most; attacker knows all others"
        words, verdict = (f"epsilon {claim:.3g}", f"epsilon >= {bound:.3g}"), STANDS if held else FALSE
        numbers = {"claim": claim, "epsilon": bound}
        return Finding(f"two runs: {what}", how, *words, verdict, held, planted, numbers)

    costliest = max(trials, key=lambda trial: trial.claim)
    claim, bugs = gaussian_epsilon(costliest.claim, delta), {}
    for name, bug in BUGS.items():
        bound = gaussian_epsilon(bound_of([bug(costliest)], runs), delta)
        bugs[name] = f"epsilon >= {bound:.3g}, claimed {claim:.3g}, {caught(bound > claim)}"
    kinds = sorted({trial.step: trial for trial in reversed(trials)}.items())
    each = [
        finding(trial.planned.task, [trial], trial.claim, bugs if step == costliest.step else {})
        for step, trial in kinds
    ]
    return [*each, finding("all releases", trials, mu_of(plan.events), {})]
