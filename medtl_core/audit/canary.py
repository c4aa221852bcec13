"""One patient in and out of real releases: is the noise there, and what can be read by who knows everybody else?

The attacker's score is the likelihood ratio of the Gaussian claim, the best there is. Every attack is repeated on bugs
planted on purpose: an audit that would not see them says little.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.site import AuditedSite, gated
from medtl_core.audit.two_run import LEVEL, Bounds, chi_square, gaussian_epsilon, one_run, two_run
from medtl_core.federation.hospitals import Request
from medtl_core.heads.statistics import Float
from medtl_core.privacy.accounting import epsilon as epsilon_of
from medtl_core.privacy.accounting import mu_of
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.noise import Entropy, insecure_entropy
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan, Step
from medtl_core.rng import stream
from medtl_core.values import Array, Update

#: Numbers the gate is given at once. It widens the noise for the rounding of all of them: by half a percent at most.
_BLOCK = 100_000
#: Numbers of noise that the noise test draws at least, and one arm of the two-run audit at most.
_NOISE, _BUDGET = 40_000, 20_000_000
#: Canaries of the one-run audit at most, and the share of noise left by the bug of the noise test.
_CANARIES, _SHORT = 1000, 0.97
#: Chance of error of each bound (an audit states several), and the p-value below which noise contradicts its claim.
_LEVEL, _SMALL = 0.01, 1e-3

#: Noises one clipped sum under a step of a plan, as the gate does; told the first run of a block of runs.
Gate = Callable[[Bounded, Plan, int, int], Mapping[str, Array]]


@dataclass(frozen=True)
class Trial:
    """One release, and the patient whose presence is at stake.

    Attributes:
        plan: of the mechanism.
        step: index into its steps.
        without: the sums over everybody else.
        shift: by name, what the patient adds to them.
        gate: what the sums pass.
        releases: 1, or 2: the same sums again, the patient's part with the other sign.
    """

    plan: Plan
    step: int
    without: Bounded
    shift: Mapping[str, Array]
    gate: Gate
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
        return math.sqrt(self.releases * _squared(self.shift, self.planned))


def trial_of(plan: Plan, step: int, without: Bounded, present: Bounded, entropy: Entropy) -> Trial:
    """Returns the trial of a release through the real gate."""
    shift = {name: np.asarray(array, np.float64) for name, array in shift_of(present, without).items()}
    return Trial(plan, step, without, shift, lambda sums, plan, step, block: gated(sums, plan, step, entropy))


def shift_of(present: Bounded, without: Bounded) -> dict[str, Array]:
    """Returns the difference of two sums, by name."""
    return {name: present.update.arrays[name] - array for name, array in without.update.arrays.items()}


def trials_of(site: AuditedSite, plan: Plan, requests: Sequence[Request]) -> list[Trial]:
    """Returns the trial of every release of a run, all of them about the patient who shows most."""
    shown = sum(exposed(site, request, plan.steps[_step(request)]) for request in requests)
    without = site.keeping(site.owner != int(np.argmax(shown)))
    return [
        trial_of(plan, _step(request), without.sums(request), site.sums(request), site.entropy) for request in requests
    ]


def exposed(site: AuditedSite, request: Request, step: Step) -> Float:
    """Returns the squared length of each patient's part in the answer, in units of the noise, float64 [patients]."""
    everybody, owner = site.sums(request), site.owner
    others = (site.keeping(owner != patient).sums(request) for patient in range(site.patients))
    return np.array([_squared(shift_of(everybody, without), step) for without in others])


def observed(trial: Trial, present: bool, runs: int) -> Float:
    """Returns the attacker's score of every run, float64 [runs]: without the patient N(0, 1) if the claim is true."""
    names, weights, base = sorted(trial.shift), _precision(trial.planned), trial.without.update.arrays
    block, scores = max(_BLOCK // sum(array.size for array in trial.shift.values()), 1), []
    for first in range(0, runs, block):
        count = min(block, runs - first)
        score = np.zeros(count)
        for sign in (1.0, -1.0)[: trial.releases]:
            sums = {name: base[name] + sign * present * trial.shift[name] for name in names}
            repeated = {name: np.broadcast_to(sums[name], (count, *sums[name].shape)) for name in names}
            seen = trial.gate(Bounded(Update(repeated), trial.without.sensitivity), trial.plan, trial.step, first)
            for name in names:
                moved = (seen[name] - base[name]).reshape(count, -1) @ trial.shift[name].ravel()
                score = score + sign * weights[name] * moved
        scores.append(score / max(trial.exposure, 1e-12))
    return np.concatenate(scores)


def bounds_of(trials: Sequence[Trial], runs: int, delta: float, level: float = LEVEL) -> Bounds:
    """Returns what `runs` runs of all trials together, with and without the patient, prove."""
    length = math.sqrt(sum(trial.exposure**2 for trial in trials))
    absent, present = (
        np.asarray(sum(trial.exposure / length * observed(trial, there, runs) for trial in trials))
        for there in (False, True)
    )
    return two_run(absent, present, delta, level)


def _no_noise(trial: Trial) -> Trial:
    return replace(trial, gate=lambda sums, plan, step, block: sums.update.arrays)


def _half_noise(trial: Trial) -> Trial:
    weak = weakened(trial.plan, trial.step, 0.5)
    return replace(trial, gate=lambda sums, plan, step, block: trial.gate(sums, weak, step, block))


def _no_clip(trial: Trial) -> Trial:
    return replace(trial, shift={name: 10.0 * array for name, array in trial.shift.items()})


def _repeated_noise(trial: Trial) -> Trial:
    """Every release of a block starts a stream of the same key anew."""
    return replace(
        trial, gate=lambda sums, plan, step, block: gated(sums, plan, step, insecure_entropy(block)), releases=2
    )


#: What an audit must find: a bug by name -> the trial with it.
BUGS: Mapping[str, Callable[[Trial], Trial]] = {
    "no noise": _no_noise,
    "half noise": _half_noise,
    "no clip": _no_clip,
    "repeated noise": _repeated_noise,
}


def weakened(plan: Plan, step: int, share: float) -> Plan:
    """Returns the plan with only a share of one step's noise: a bug to plant."""
    steps = list(plan.steps)
    steps[step] = replace(steps[step], noise={name: share * value for name, value in steps[step].noise.items()})
    return replace(plan, steps=tuple(steps))


def noise_finding(plan: Plan, trials: Sequence[Trial], entropy: Entropy) -> Finding:
    """The gate on zeros, under the plan and under one with 3 % less noise."""
    p_values = {}
    for share in (1.0, _SHORT):
        drawn: list[Float] = []
        while sum(len(noise) for noise in drawn) < _NOISE:
            drawn.extend(_standard_noise(trial, weakened(plan, trial.step, share), entropy) for trial in trials)
        noise = np.concatenate(drawn)
        p_values[share] = chi_square(noise, 1.0)
    p, short = p_values[1.0], p_values[_SHORT]
    held = p > _SMALL
    verdict = "the noise has the size it claims" if held else "THE NOISE IS NOT OF THE CLAIMED SIZE"
    tried = f"chi-square on {len(noise)} numbers that the gate adds to zeros"
    planted = {"3 % less noise": f"p = {short:.1g}, {_caught(short <= _SMALL)}"}
    numbers = {"p": p, "short_p": short, "count": len(noise)}
    return Finding("noise", tried, f"p > {_SMALL:g}", f"p = {p:.2g}", verdict, held, planted, numbers)


def _standard_noise(trial: Trial, plan: Plan, entropy: Entropy) -> Float:
    step = trial.planned
    zeros = Update({name: np.zeros_like(array) for name, array in trial.shift.items()})
    seen = gated(Bounded(zeros, step.sensitivity), plan, trial.step, entropy)
    return np.concatenate([(seen[n] / (step.noise[n] * step.sensitivity[n])).ravel() for n in sorted(seen)])


def two_run_findings(trials: Sequence[Trial], plan: Plan, wanted: int) -> list[Finding]:
    """Each kind of release alone, then all of them together; the planted bugs go into the costliest release."""
    delta, size = plan.terms.delta, sum(array.size for trial in trials for array in trial.shift.values())
    runs = max(min(wanted, _BUDGET // size), 400)
    costliest = max(trials, key=lambda trial: trial.claim)
    planted = {}
    for name, bug in BUGS.items():
        trial = bug(costliest)
        bound = gaussian_epsilon(bounds_of([trial], runs, delta, _LEVEL).mu, delta)
        claim = gaussian_epsilon(trial.claim, delta)
        planted[name] = f"epsilon >= {bound:.3g}, claimed {claim:.3g}, {_caught(bound > claim)}"
    findings = []
    for step, trial in sorted({trial.step: trial for trial in reversed(trials)}.items()):
        bugs = planted if step == costliest.step else {}
        bounds = bounds_of([trial], runs, delta, _LEVEL)
        findings.append(_two_run_finding(trial.planned.task, bounds, trial.claim, delta, bugs))
    together = bounds_of(trials, runs, delta, _LEVEL)
    return [*findings, _two_run_finding("all releases", together, mu_of(plan.events), delta, {})]


def _two_run_finding(what: str, bounds: Bounds, mu: float, delta: float, planted: Mapping[str, str]) -> Finding:
    claim, bound = gaussian_epsilon(mu, delta), gaussian_epsilon(bounds.mu, delta)
    held = bound <= claim * (1 + 1e-6) and bounds.epsilon <= claim
    tried = f"{2 * bounds.runs} releases with and without the patient who shows most; attacker knows all others"
    numbers = {"claim": claim, "epsilon": bound, "epsilon_any_mechanism": bounds.epsilon, "mu": bounds.mu}
    words = f"epsilon >= {bound:.3g} (any mechanism: {bounds.epsilon:.2g})"
    verdict = STANDS if held else FALSE
    return Finding(f"two runs: {what}", tried, f"epsilon {claim:.3g}", words, verdict, held, planted, numbers)


def one_run_finding(site: AuditedSite, requests: Sequence[Request], plan: Plan) -> Finding:
    """Many canaries, one for each class and public direction, in one release."""
    request = max(requests, key=lambda each: sum(a.size for a in site.sums(each).update.arrays.values()))
    step, base, delta = plan.steps[_step(request)], site.sums(request), plan.terms.delta
    name, parts = canaries(site, request, step)
    member = stream(site.settings.seed, "audit", "coins").random(len(parts)) < 0.5
    before = base.update.arrays[name]
    planted = before + (member @ parts).reshape(before.shape)
    bounded = Bounded(Update({**base.update.arrays, name: planted}), base.sensitivity)
    released = gated(bounded, plan, _step(request), site.entropy)[name]
    scores = [_untangled(parts, (seen - before).ravel()) for seen in (released, planted)]
    bound, bare = (one_run(score, member, delta, _LEVEL) for score in scores)
    claim = epsilon_of([step.one], delta)
    held = bound <= claim
    tried = f"{len(parts)} made-up patients in or out by coin, one {step.task}"
    bugs = {"no noise": f"epsilon >= {bare:.3g}, claimed {claim:.3g}, {_caught(bare > claim)}"}
    numbers = {"claim": claim, "epsilon": bound, "without_noise": bare, "canaries": len(parts)}
    claimed, words = f"epsilon {claim:.3g}", f"epsilon >= {bound:.3g}"
    return Finding("one run", tried, claimed, words, STANDS if held else FALSE, held, bugs, numbers)


def canaries(site: AuditedSite, request: Request, step: Step) -> tuple[str, Float]:
    """Returns the array in which made-up patients can be told apart best, and their parts in it, float64 [m, numbers].

    A canary lies along one public direction and has one class; its part comes out of the real task.
    """
    public = PublicMap.received(request.arrays)
    rows = public.mean + 10.0 * public.scale * public.basis.T
    each = [(row, label) for label in range(site.data.classes) for row in rows][:_CANARIES]
    without = site.sums(request)
    parts = [shift_of(site.joined(row, label).sums(request), without) for row, label in each]
    stacks = {name: np.stack([part[name].ravel() for part in parts]) for name in step.noise}
    sizes = {name: step.noise[name] * step.sensitivity[name] for name in step.noise}
    best = max(stacks, key=lambda name: _telling(stacks[name], sizes[name]))
    return best, stacks[best]


def _telling(parts: Float, sigma: float) -> float:
    """Signal over spread of a canary's score: noise, and the other canaries' coins."""
    pairs = parts @ parts.T
    own = np.diag(pairs)
    others = 0.25 * ((pairs**2).sum(axis=1) - own**2)
    return float((own / np.sqrt(sigma**2 * own + others + 1e-12)).mean())


def _untangled(parts: Float, seen: Float) -> Float:
    """Least squares of what was seen on the canaries' parts: one that lies close to others is not taken for them."""
    pairs = parts @ parts.T
    return np.asarray(np.linalg.solve(pairs + 1e-3 * np.trace(pairs) / len(pairs) * np.eye(len(pairs)), parts @ seen))


def _step(request: Request) -> int:
    return int(request.config["step"])


def _precision(step: Step) -> dict[str, float]:
    """One over the claimed variance of each array's noise."""
    return {name: (step.noise[name] * step.sensitivity[name]) ** -2 for name in step.noise}


def _squared(shift: Mapping[str, Array], step: Step) -> float:
    """Squared length of a patient's part, in units of the claimed noise."""
    return sum(float((shift[name] ** 2).sum()) * weight for name, weight in _precision(step).items())


def _caught(found: bool) -> str:
    return "found" if found else "NOT found"
