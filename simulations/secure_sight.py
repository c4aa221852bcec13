"""What only somebody who holds every hospital's disk could know of a secure sum: each hospital's own integers.

Benchmarks and tests compare with it what the server found. Nothing in the product can do this.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from flwr.app import Context, Message

from medtl_core.config import Settings
from medtl_core.federation.hospitals import Value
from medtl_core.flower.records import decode_request
from medtl_core.privacy import masking
from medtl_core.privacy.gate import GRID
from medtl_core.privacy.masking import Ints, Secrets
from medtl_core.privacy.plan import Plan
from medtl_core.values import Array

#: Answers a message for a hospital, as a ClientApp does.
Answer = Callable[[Message, Context], Message]


@dataclass
class Sight:
    """Keeps what hospitals are asked and what they send: task -> (question, reply) of every one that answered.

    `secrets` are those of the first sum, read from the hospitals' folders before a mask comes off: then they are gone.
    """

    answer: Answer
    seen: dict[str, list[tuple[Message, Message]]] = field(default_factory=dict)
    secrets: dict[str, Secrets] = field(default_factory=dict)

    def __call__(self, message: Message, context: Context) -> Message:
        """Lets the hospital answer."""
        reply, task = self.answer(message, context), message.metadata.message_type.partition(".")[2]
        if reply.has_content():
            self.seen.setdefault(task, []).append((message, reply))
        if task == "secure_masked" and not self.secrets:
            self.secrets = secrets_of(Path(str(context.run_config["state"])))
        return reply

    def sent(self, task: str) -> dict[str, dict[str, Array]]:
        """Returns the arrays of a task's replies, by hospital."""
        found = {}
        for _, reply in self.seen[task]:
            arrays, about = reply.content.array_records["arrays"], reply.content.config_records["about"]
            found[str(about["site"])] = {name: array.numpy() for name, array in arrays.items()}
        return found

    def asked(self, task: str) -> tuple[dict[str, Array], dict[str, Value]]:
        """Returns the arrays and values of one of a task's questions."""
        return decode_request(self.seen[task][-1][0])


@dataclass(frozen=True)
class Truth:
    """What the sum should have been.

    Attributes:
        differ: integers of the server's sum that are not the sum of the hospitals' own noised integers.
        rounding: what the fixed point changes: largest error of an entry of the hospitals' clipped sums, rounded and
            added without noise, over the array's largest entry; the worst array.
        noise: root mean square of the noise over its planned standard deviation.
    """

    summed: int
    numbers: int
    differ: int
    rounding: float
    noise: float


def secrets_of(state: Path) -> dict[str, Secrets]:
    """Returns the secrets of each hospital's only sum, by the name of its folder."""
    found = {}
    for path in state.rglob("secure/*.json"):
        kept = json.loads(path.read_text(encoding="utf-8"))["secrets"]
        found[path.parent.parent.name] = Secrets(*(bytes.fromhex(kept[part]) for part in ("seal", "pair", "own")))
    return found


def opened(
    masked: Mapping[str, Ints], secrets: Mapping[str, Secrets], present: Sequence[str], plan: Plan
) -> dict[str, Ints]:
    """Returns each hospital's noised integers from its masked ones, with everybody's secrets.

    `present` are the hospitals that had sent shares: their pairwise masks are in every vector.
    """
    public = {name: masking.public_key(secrets[name].pair) for name in present}
    order, clear = sorted(present), {}
    for name, vector in masked.items():
        me = order.index(name)
        keys = {
            place: {me: masking.agreed_key(secrets[name].pair, public[other], f"mask/{plan.digest}")}
            for place, other in enumerate(order)
            if other != name
        }
        clear[name] = masking.unmasked(vector, [secrets[name].own], keys)
    return clear


def truth(chosen: Settings, plan: Plan, sight: Sight, sums: Mapping[str, Array]) -> Truth:
    """Compares the server's sums with what the hospitals summed up."""
    task, names = plan.steps[0].task, sorted(sums)
    units = {name: plan.steps[0].sensitivity[name] * GRID for name in names}
    found = {name: np.rint(sums[name] / units[name]).astype(np.int64) for name in names}
    if chosen.secure_sum:
        present = sorted(sight.sent("secure_shares"))
        masked = {site: arrays["masked"] for site, arrays in sight.sent("secure_masked").items()}
        own = opened(masked, sight.secrets, present, plan)
        arrays, config = sight.asked("secure_masked")
    else:
        own = {
            site: np.concatenate([np.rint(sent[name] / units[name]).astype(np.int64).ravel() for name in names])
            for site, sent in sight.sent(task).items()
        }
        arrays, config = sight.asked(task)
    total = np.concatenate([found[name].ravel() for name in names])
    differ = int((total != np.sum(list(own.values()), axis=0)).sum())
    rounding, noise = _errors(_clipped(chosen, task, list(own), arrays, config), found, plan)
    return Truth(len(own), len(total), differ, rounding, noise)


def _clipped(
    chosen: Settings, task: str, names: Sequence[str], arrays: Mapping[str, Array], config: Mapping[str, Value]
) -> list[dict[str, Array]]:
    """The clipped float64 sums of the hospitals that stayed, without noise."""
    from client.site import Node, open_site
    from medtl_core.federation.registry import private_task

    work = private_task(task)
    if work is None:
        raise SystemExit(f"{task} is not a private sum")
    sites = [open_site(chosen.of_site(), Node("", "", part)) for part in range(chosen.sites)]
    return [dict(work(site.data, arrays, config).update.arrays) for site in sites if site.data.name in names]


def _errors(clipped: Sequence[Mapping[str, Array]], found: Mapping[str, Ints], plan: Plan) -> tuple[float, float]:
    """Relative error of the fixed point, and the noise over what was planned."""
    step, terms, worst, noises = plan.steps[0], plan.terms, 0.0, []
    share = len(clipped) / terms.honest if terms.secure else float(len(clipped))
    for name, integers in found.items():
        unit = step.sensitivity[name] * GRID
        exact = np.sum([one[name] for one in clipped], axis=0)
        whole = np.sum([np.rint(one[name] / unit) for one in clipped], axis=0)
        worst = max(worst, float(np.abs(whole * unit - exact).max() / np.abs(exact).max()))
        planned = step.noise[name] * (1.0 / GRID + np.sqrt(integers.size)) * np.sqrt(share)
        noises.append(((integers - whole) / planned).ravel())
    return worst, float(np.sqrt(np.mean(np.concatenate(noises) ** 2)))
