"""Attacks on the noised sums of a private method: is the noise there, and does a patient stay within the claim?

Each attack is repeated on bugs planted on purpose, so that its silence can be judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medtl_core.audit.canary import BUGS, Trial, judged, trial_of
from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.membership import patients_of
from medtl_core.audit.site import Hospital, Rehearsal, exposed, shift_of
from medtl_core.audit.two_run import Bounds, chi_square, one_run
from medtl_core.federation.hospitals import Request
from medtl_core.heads.statistics import Float
from medtl_core.privacy.accounting import epsilon as epsilon_of
from medtl_core.privacy.accounting import mu_of
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import noised, unscaled
from medtl_core.privacy.noise import Entropy
from medtl_core.privacy.plan import Plan
from medtl_core.rng import stream
from medtl_core.values import Update

#: Numbers of noise that the noise test draws at least, and one arm of the two-run audit at most.
_NOISE, _BUDGET = 40_000, 20_000_000
#: Canaries of the one-run audit at most, and the share of noise left by the bug of the noise test.
_CANARIES, _SHORT = 1000, 0.97
#: Chance of error of each bound: an audit states several.
_LEVEL = 0.01
#: A p-value below this contradicts the noise.
_SMALL = 1e-3


def trials_of(hospital: Hospital, plan: Plan, requests: Sequence[Request]) -> list[Trial]:
    """Returns the trial of every release of a run, all of them about the patient who shows most."""
    steps = [plan.steps[int(request.config["step"])] for request in requests]
    weights = [{n: (step.noise[n] * step.sensitivity[n]) ** -2 for n in step.noise} for step in steps]
    shown = sum(exposed(hospital, *pair) for pair in zip(requests, weights, strict=True))
    without = hospital.keeping(patients_of(hospital.site.patients) != int(np.argmax(shown)))
    return [
        trial_of(plan, int(one.config["step"]), without.sums(one), hospital.sums(one), hospital.entropy)
        for one in requests
    ]


def noise_finding(plan: Plan, trials: Sequence[Trial], entropy: Entropy) -> Finding:
    """The gate on zeros, under the plan and under one with 3 % less noise."""
    found = {}
    for share in (1.0, _SHORT):
        drawn: list[Float] = []
        while sum(len(part) for part in drawn) < _NOISE:
            drawn.extend(_standard_noise(trial, plan, share, entropy) for trial in trials)
        found[share] = (chi_square(np.concatenate(drawn), 1.0), sum(len(part) for part in drawn))
    (p, count), (short, _) = found[1.0], found[_SHORT]
    held = p > _SMALL
    verdict = "the noise has the size it claims" if held else "THE NOISE IS NOT OF THE CLAIMED SIZE"
    tried = f"chi-square on {count} numbers that the gate adds to zeros"
    planted = {"3 % less noise": f"p = {short:.1g}, {_caught(short <= _SMALL)}"}
    numbers = {"p": p, "short_p": short, "count": count}
    return Finding("noise", tried, f"p > {_SMALL:g}", f"p = {p:.2g}", verdict, held, planted, numbers)


def _standard_noise(trial: Trial, plan: Plan, share: float, entropy: Entropy) -> Float:
    step = trial.planned
    weak = replace(step, noise={name: share * value for name, value in step.noise.items()})
    zeros = Update({name: np.zeros_like(array) for name, array in trial.shift.items()})
    steps = tuple(weak if place == trial.step else other for place, other in enumerate(plan.steps))
    whole = unscaled(noised(Bounded(zeros, step.sensitivity), replace(plan, steps=steps), trial.step, entropy), step)
    return np.concatenate([(whole[n] / (step.noise[n] * step.sensitivity[n])).ravel() for n in sorted(whole)])


def two_run_findings(trials: Sequence[Trial], plan: Plan, wanted: int) -> list[Finding]:
    """Each kind of release alone, then all of them together; the planted bugs go into the costliest release."""
    delta, size = plan.terms.delta, sum(array.size for trial in trials for array in trial.shift.values())
    runs = max(min(wanted, _BUDGET // size), 400)
    costliest = max(trials, key=lambda trial: trial.claim)
    planted = {}
    for name, bug in BUGS.items():
        trial = bug(costliest)
        found, claim = judged([trial], runs, delta, _LEVEL).gaussian_epsilon(delta), _claimed(trial.claim, delta)
        planted[name] = f"epsilon >= {found:.3g}, claimed {claim:.3g}, {_caught(found > claim)}"
    findings: list[Finding] = []
    for trial in {trial.step: trial for trial in reversed(trials)}.values():
        bounds = judged([trial], runs, delta, _LEVEL)
        shown = planted if trial.step == costliest.step else {}
        findings.insert(0, _bounded_finding(f"two runs: {trial.planned.task}", bounds, trial.claim, plan, shown))
    whole = judged(trials, runs, delta, _LEVEL)
    findings.append(_bounded_finding("two runs: all releases", whole, mu_of(plan.events), plan, {}))
    return findings


def _caught(found: bool) -> str:
    return "found" if found else "NOT found"


def _claimed(mu: float, delta: float) -> float:
    return Bounds(0.0, mu, 1).gaussian_epsilon(delta)


def _bounded_finding(test: str, bounds: Bounds, mu: float, plan: Plan, planted: Mapping[str, str]) -> Finding:
    delta = plan.terms.delta
    claim, found = _claimed(mu, delta), bounds.gaussian_epsilon(delta)
    held = found <= claim * (1 + 1e-6) and bounds.epsilon <= claim
    tried = f"{2 * bounds.runs} releases with and without the patient who shows most; attacker knows all others"
    verdict = STANDS if held else FALSE
    numbers = {"claim": claim, "epsilon": found, "epsilon_any_mechanism": bounds.epsilon, "mu": bounds.mu}
    words = f"epsilon >= {found:.3g} (any mechanism: {bounds.epsilon:.2g})"
    return Finding(test, tried, f"epsilon {claim:.3g}", words, verdict, held, planted, numbers)


def one_run_finding(part: Rehearsal, hospital: Hospital, requests: Sequence[Request], plan: Plan) -> Finding:
    """Many canaries, one for each class and public direction, in one release."""
    request = max(requests, key=lambda one: sum(a.size for a in hospital.sums(one).update.arrays.values()))
    number = int(request.config["step"])
    step, rng = plan.steps[number], stream(hospital.settings.seed, "audit", "coins")
    name, parts = canaries(part, hospital, request, plan)
    member = rng.random(len(parts)) < 0.5
    base = hospital.sums(request)
    shape = base.update.arrays[name].shape
    planted = base.update.arrays[name] + (member @ parts).reshape(shape)
    bounded = Bounded(Update({**base.update.arrays, name: planted}), base.sensitivity)
    released = unscaled(noised(bounded, plan, number, hospital.entropy), step)[name]
    delta, claim = plan.terms.delta, epsilon_of([step.one], plan.terms.delta)
    scores = [_untangled(parts, (seen - base.update.arrays[name]).ravel()) for seen in (released, planted)]
    found, bare = (one_run(score, member, delta, _LEVEL) for score in scores)
    held = found <= claim
    tried = f"{len(parts)} made-up patients in or out by coin, one {step.task}"
    verdict = STANDS if held else FALSE
    planted_words = {"no noise": f"epsilon >= {bare:.3g}, claimed {claim:.3g}, {_caught(bare > claim)}"}
    numbers = {"claim": claim, "epsilon": found, "without_noise": bare, "canaries": len(parts)}
    claimed, words = f"epsilon {claim:.3g}", f"epsilon >= {found:.3g}"
    return Finding("one run", tried, claimed, words, verdict, held, planted_words, numbers)


def _untangled(parts: Float, seen: Float) -> Float:
    """Least squares of what was seen on the canaries' parts: one that lies close to others is not taken for them."""
    pairs = parts @ parts.T
    return np.asarray(np.linalg.solve(pairs + 1e-3 * np.trace(pairs) / len(pairs) * np.eye(len(pairs)), parts @ seen))


def canaries(part: Rehearsal, hospital: Hospital, request: Request, plan: Plan) -> tuple[str, Float]:
    """Returns the array in which made-up patients can be told apart best, and their parts in it, float64 [m, numbers].

    A canary lies along one public direction and has one class; its part comes out of the real task.
    """
    kept = request.arrays["basis"].shape[1]
    rows = part.map.mean + 10.0 * part.map.scale * part.map.basis[:, :kept].T
    classes = hospital.site.classes
    each = [(row, label) for label in range(classes) for row in range(kept)][:_CANARIES]
    without = hospital.sums(request)
    parts = [shift_of(hospital.joined(rows[row], label).sums(request), without) for row, label in each]
    step = plan.steps[int(request.config["step"])]
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
