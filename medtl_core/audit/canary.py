"""One patient in and out of a real release: what an attacker who knows everybody else can read from it.

The attacker's score is the likelihood ratio of the Gaussian claim, the best there is. Planted bugs stand beside the
real gate: an audit that would not see them says little.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from medtl_core.audit.two_run import LEVEL, Bounds, Float, two_run
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import noised, unscaled
from medtl_core.privacy.noise import Entropy, insecure_entropy
from medtl_core.privacy.plan import Plan, Step
from medtl_core.values import Array, Update

#: Numbers the gate is given at once. It widens the noise for the rounding of all of them: by half a percent at most.
_BLOCK = 100_000

#: Noises one clipped sum under a step of a plan, as the gate does.
Noising = Callable[[Bounded, Plan, int], Mapping[str, Array]]


@dataclass(frozen=True)
class Trial:
    """One release, and the patient whose presence is at stake.

    Attributes:
        plan: of the mechanism.
        step: index into its steps.
        without: the sums over everybody else.
        shift: by name, what the patient adds to them.
        noising: gives the noising function of a block of runs, which sees how often it was called in that block.
        releases: 1, or 2: the same sums again, the patient's part with the other sign.
    """

    plan: Plan
    step: int
    without: Bounded
    shift: Mapping[str, Array]
    noising: Callable[[int], Noising]
    releases: int = 1

    @property
    def planned(self) -> Step:
        """The step."""
        return self.plan.steps[self.step]

    @property
    def claim(self) -> float:
        """Returns mu of the claim: what any patient may show at most."""
        return math.sqrt(self.releases) / self.planned.one.noise_multiplier

    @property
    def exposure(self) -> float:
        """Returns mu of this patient: length of the shift in units of the claimed noise."""
        weights = _precision(self.planned)
        return math.sqrt(self.releases * sum(float((self.shift[n] ** 2).sum()) * weights[n] for n in weights))


def trial_of(plan: Plan, step: int, without: Bounded, with_: Bounded, entropy: Entropy) -> Trial:
    """Returns the trial of a release through the real gate."""
    arrays = without.update.arrays
    shift = {name: np.asarray(with_.update.arrays[name] - arrays[name], np.float64) for name in arrays}
    return Trial(plan, step, without, shift, lambda block: partial(_through_gate, entropy))


def observed(trial: Trial, present: bool, runs: int) -> Float:
    """Returns the attacker's score of every run, float64 [runs]: without the patient N(0, 1) if the claim is true."""
    names, weights = sorted(trial.shift), _precision(trial.planned)
    size = sum(trial.shift[name].size for name in names)
    block, found = max(_BLOCK // size, 1), []
    for first in range(0, runs, block):
        count = min(block, runs - first)
        score = np.zeros(count)
        noising = trial.noising(first)
        for sign in (1.0, -1.0)[: trial.releases]:
            base = {name: trial.without.update.arrays[name] for name in names}
            sums = {name: base[name] + sign * present * trial.shift[name] for name in names}
            repeated = {name: np.broadcast_to(sums[name], (count, *sums[name].shape)) for name in names}
            seen = noising(Bounded(Update(repeated), trial.without.sensitivity), trial.plan, trial.step)
            for name in names:
                moved = (seen[name] - base[name]).reshape(count, -1) @ trial.shift[name].ravel()
                score = score + sign * weights[name] * moved
        found.append(score / max(trial.exposure, 1e-12))
    return np.concatenate(found)


def judged(trials: Sequence[Trial], runs: int, delta: float, level: float = LEVEL) -> Bounds:
    """Returns what `runs` runs of all trials together, with and without the patient, prove."""
    length = math.sqrt(sum(trial.exposure**2 for trial in trials))
    scores = [
        np.asarray(sum(trial.exposure / length * observed(trial, present, runs) for trial in trials))
        for present in (False, True)
    ]
    return two_run(scores[0], scores[1], delta, level)


def _no_noise(trial: Trial) -> Trial:
    return replace(trial, noising=lambda block: lambda bounded, plan, step: bounded.update.arrays)


def _half_noise(trial: Trial) -> Trial:
    step = trial.planned
    halved = replace(step, noise={name: value / 2 for name, value in step.noise.items()})
    steps = tuple(halved if place == trial.step else other for place, other in enumerate(trial.plan.steps))
    weak, real = replace(trial.plan, steps=steps), trial.noising
    return replace(trial, noising=lambda block: lambda bounded, plan, step: real(block)(bounded, weak, step))


def _no_clip(trial: Trial) -> Trial:
    return replace(trial, shift={name: 10.0 * array for name, array in trial.shift.items()})


def _repeated_noise(trial: Trial) -> Trial:
    """Every release of a block starts a stream of the same key anew."""

    def noising(block: int) -> Noising:
        return lambda bounded, plan, step: _through_gate(insecure_entropy(block), bounded, plan, step)

    return replace(trial, noising=noising, releases=2)


#: What an audit must find: a bug by name -> the trial with it.
BUGS: Mapping[str, Callable[[Trial], Trial]] = {
    "no noise": _no_noise,
    "half noise": _half_noise,
    "no clip": _no_clip,
    "repeated noise": _repeated_noise,
}


def _through_gate(entropy: Entropy, bounded: Bounded, plan: Plan, step: int) -> Mapping[str, Array]:
    return unscaled(noised(bounded, plan, step, entropy), plan.steps[step])


def _precision(step: Step) -> dict[str, float]:
    """One over the claimed variance of each array's noise."""
    return {name: (step.noise[name] * step.sensitivity[name]) ** -2 for name in step.noise}
