"""Two hospitals that differ in one patient, asked the same things at the door: what can be told without any noise?

Both draw the same noise, a marked insecure stream that only this process can give them: it cancels in the difference of
their answers. Whatever is left beyond the stated sensitivity, and every difference in what, or whether, they answer, is
a leak that no noise covers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.audit.door import as_table, ledger_length
from medtl_core.audit.finding import FALSE, STANDS, Finding, caught
from medtl_core.audit.site import AuditedSite
from medtl_core.config import Value
from medtl_core.federation.hospitals import Request
from medtl_core.federation.private import PrivateMethod
from medtl_core.fingerprint import PROTOCOL_MARK
from medtl_core.flower.guard import failure
from medtl_core.flower.records import encode_request, wire_bytes
from medtl_core.privacy.gate import GRID
from medtl_core.privacy.noise import insecure_entropy
from medtl_core.privacy.plan import Step
from medtl_core.values import Array

#: Messages of the run that are repeated at hospitals without one patient each, about; and the fewest such hospitals.
_MESSAGES, _FEWEST = 48, 4
#: Beyond the stated sensitivity; sums of float64 in another order are no leak.
_SLACK = 1e-6
#: Words of an answer that differ for every hospital: of a chain under its own key, and a signature over its node.
_OF_NODE = ("witness-hash", "identity-signature")
#: Of the noise that cancels.
_SEED = 1
#: Numbers of patients that no hospital has: the square of one leaves float32, the other does so itself.
_FAR, _UNREADABLE = 1e30, 1e39
#: A number of a request that makes of such a patient what is no float64.
_HUGE = 1e300


@dataclass(frozen=True)
class Shown:
    """What a server sees of an answer but its noise: every word of it, and how many records it added to the ledger."""

    words: str
    records: int
    arrays: Mapping[str, Array]

    def shift(self, other: "Shown", step: Step) -> float:
        """Returns by how much the numbers differ, of the stated sensitivity and what rounding to the grid adds.

        Infinite where anything else differs: the words, the arrays' shapes, or the number of records.
        """
        if not self.alike(other):
            return float("inf")
        shifts = [
            float(np.linalg.norm(array)) / step.sensitivity[name] / (1 + GRID * array.size**0.5)
            for name, array in self.less(other).items()
        ]
        return max(shifts, default=0.0)

    def alike(self, other: "Shown") -> bool:
        """Returns whether nothing but the numbers differs."""
        return (self.words, self.records) == (other.words, other.records)

    def less(self, other: "Shown") -> dict[str, Array]:
        """Returns the difference of the numbers: the noise is gone where both drew the same."""
        return {name: array - other.arrays[name] for name, array in self.arrays.items()}


#: Something to ask: its name, a request (a "join" if it names no task), and the config of the run it belongs to.
Question = tuple[str, Request, Mapping[str, Value]]


@dataclass(frozen=True)
class Neighbours:
    """A hospital and what it answers in a run, beside what others answer that lack one of its patients each.

    Attributes:
        requests: of the run.
        whole: its answer to each of them.
        without: patient's number -> the answers without that patient.
    """

    requests: Sequence[Request]
    whole: Sequence[Shown]
    without: Mapping[int, Sequence[Shown]]


def neighbours(site: AuditedSite, requests: Sequence[Request]) -> Neighbours:
    """Returns what a hospital answers in a run, with each of its patients and without."""
    count = min(max(_MESSAGES // len(requests), _FEWEST), site.patients)
    gone = np.linspace(0, site.patients - 1, count).astype(int).tolist()
    homes = [site.deployed(), *(_without(site, patient).deployed() for patient in gone)]
    whole, *others = _answers(site, homes, requests, site.settings.public())
    return Neighbours(requests, whole, dict(zip(gone, others, strict=True)))


def door_finding(site: AuditedSite, method: PrivateMethod, run: Neighbours) -> Finding:
    """Returns what tells two neighbouring hospitals apart, in the run itself and under hostile questions."""
    steps = site.plan(method).steps
    of_run = [steps[int(request.config["step"])] for request in run.requests]
    told: dict[str, float] = {}

    def compare(question: str, step: Step, one: Shown, other: Shown) -> None:
        shift = one.shift(other, step)
        told[question] = max(told.get(question, 0.0), shift if shift >= 0 else float("inf"))  # NaN is told, too

    for answers in run.without.values():
        for step, one, other in zip(of_run, run.whole, answers, strict=True):
            compare(f"{step.task} as in the run", step, one, other)
    variants, pairs = _variants(site)
    homes = [variant.deployed() for variant in variants]
    seed = site.settings.seed + 1
    for name, request, config in _questions(site, run.requests):
        step = steps[int(request.config.get("step", 0))]
        seen = [answer for (answer,) in _answers(site, homes, [request], {**config, "seed": seed})]
        for with_it, without in pairs:
            compare(name, step, seen[with_it], seen[without])
        seed += any(answer.records for answer in seen)  # a release is not made twice: the next one is another run's
    first, *others = run.without.values()
    exchanged = max(first[place].shift(other[place], step) for other in others for place, step in enumerate(of_run))
    return _finding(told, len(run.without) + len(pairs), exchanged)


def _finding(told: Mapping[str, float], pairs: int, exchanged: float) -> Finding:
    """Returns the finding of shifts by question, and of what is found where two patients differ."""
    shift = max((shift for shift in told.values() if np.isfinite(shift)), default=0.0)
    apart = sorted(name for name, shift in told.items() if not shift <= 1 + _SLACK)
    return Finding(
        "door: one patient fewer",
        f"{len(told)} questions, hostile ones among them, to {pairs} pairs of hospitals that draw the same noise",
        "shift <= 1, told by 0",
        f"shift {shift:.4f}, told by {len(apart)}",
        f"{FALSE}: {'; '.join(apart[:3])}" if apart else STANDS,
        not apart,
        {"another patient comes in exchange": f"shift {exchanged:.2f}, {caught(exchanged > 1 + _SLACK)}"},
        {"shift": shift, "questions": len(told), "apart": apart},
    )


def _answers(
    site: AuditedSite, homes: Sequence[Path], requests: Sequence[Request], run: Mapping[str, Value]
) -> list[list[Shown]]:
    """What each of some hospitals answers to each request; all draw the same noise for the same one."""
    door = site.door
    with door.asked(run, homes) as grid, door.drawing(lambda: insecure_entropy(_SEED)):
        nodes: dict[int, list[Shown]] = {node: [] for node in grid.get_node_ids()}
        places = dict(zip(nodes, homes, strict=True))
        for request in requests:
            content = encode_request(request.arrays, request.config)
            kind = f"train.{request.task}" if request.task else "query.join"
            messages = [grid.create_message(content, kind, node, PROTOCOL_MARK) for node in nodes]
            before = {node: ledger_length(home) for node, home in places.items()}
            for reply in grid.send_and_receive(messages):
                node = reply.metadata.src_node_id
                nodes[node].append(_seen(reply, ledger_length(places[node]) - before[node]))
    return list(nodes.values())


def _seen(reply: Any, records: int) -> Shown:
    """What is in a message: of an error class and text, of an answer all but the bytes of its arrays."""
    if reply.has_error():
        fault = failure("", reply.error)
        return Shown(f"{fault.code}: {fault.text}", records, {})
    arrays = {name: array.numpy() for name, array in reply.content["arrays"].items()}
    about = {name: value for name, value in reply.content["about"].items() if name not in _OF_NODE}
    specs = {name: [array.dtype.name, array.shape] for name, array in arrays.items()}
    words = [specs, about, dict(reply.content["metrics"]), wire_bytes(reply.content)]
    return Shown(json.dumps(words, sort_keys=True), records, arrays)


def _without(site: AuditedSite, patient: int) -> AuditedSite:
    return site.keeping(site.owner != patient)


def _with(site: AuditedSite, value: float) -> AuditedSite:
    """The hospital with one patient more, all of whose numbers are `value`."""
    data, width = site.data, site.data.values.shape[1] // 2
    row = as_table(np.full((1, width), value))
    return replace(site, data=replace(
        data, values=np.concatenate([data.values, row]), label=np.append(data.label, 0),
        patients=np.append(data.patients, "one-patient-more"),
    ))  # fmt: skip


def _variants(site: AuditedSite) -> tuple[list[AuditedSite], list[tuple[int, int]]]:
    """Hospitals, and which two of them are neighbours.

    These differ in the outermost patient, in the only one of a class, or in one beyond all bounds.
    """
    last, label, owner = len(site.problem.classes) - 1, site.data.label, site.owner
    alone = owner == owner[label == last][0] if (label == last).any() else owner == 0
    rare = replace(site, data=replace(site.data, label=np.where(alone, last, np.where(label == last, 0, label))))
    beyond = [_with(site, value) for value in (_FAR, _UNREADABLE)]
    sites = [site, _without(site, _outermost(site)), rare, rare.keeping(~alone), *beyond]
    return sites, [(0, 1), (2, 3), (4, 0), (5, 0)]


def _outermost(site: AuditedSite) -> int:
    """The patient furthest out in the first direction."""
    return int(site.owner[site.data.values[:, 0].argmax()])


def _questions(site: AuditedSite, requests: Sequence[Request]) -> Iterator[Question]:
    label, owner = site.data.label, site.owner
    shown = int((label == label[owner == _outermost(site)][0]).sum())
    run, first = site.settings.public(), requests[0]
    words: dict[str, dict[str, Value]] = {
        "the run": {}, "min-cell": {"min-cell": shown}, "test-path": {"test-path": "/nowhere"},
        "cache": {"cache": "/nowhere"}, "public-cases": {"public-cases": site.patients},
    }  # fmt: skip
    for name, changed in words.items():
        config = {**run, **changed}
        yield f"{name}: join", Request(""), config
        yield f"{name}: {first.task}", first, config
    for request in {request.config["step"]: request for request in reversed(requests)}.values():
        for how, spoilt in _spoilt(site, request).items():
            yield f"{request.task}: {how}", spoilt, run


def _spoilt(site: AuditedSite, request: Request) -> dict[str, Request]:
    """The request and what a hostile server would make of it, by a name."""
    arrays, config = request.arrays, request.config
    spoilt: dict[str, Request] = {"as in the run": request, "overflow": _overflow(site, request)}
    for name, array in arrays.items():
        cells = np.arange(array.size).reshape(array.shape)
        others = {"not a number": np.where(cells == 0, np.nan, array), "huge": np.full_like(array, _HUGE)}
        if array.ndim == 1:
            others |= {
                f"of one row a {unit}": np.broadcast_to(array, (count, len(array)))
                for unit, count in (("case", len(site.owner)), ("patient", site.patients))
            }
        else:
            others |= {"without its last row": array[:-1]}
        spoilt |= {f"{name} {how}": replace(request, arrays={**arrays, name: other}) for how, other in others.items()}
    spoilt["no array"] = replace(request, arrays={})
    words = {"a word more": {**config, "rows": 1}, "another round": {**config, "round": 10**6}}
    return spoilt | {how: replace(request, config=changed) for how, changed in words.items()}


def _overflow(site: AuditedSite, request: Request) -> Request:
    """A map that leaves float64 for the outermost patient alone: to refuse then is to say that the patient is there."""
    seen, owner = site.data.values[:, 0].astype(np.float64), site.owner
    inner = seen[owner != _outermost(site)]
    centre = float(inner.min()) - 1.0
    most = float(np.finfo(np.float64).max) / ((float(inner.max()) + float(seen.max())) / 2 - centre)
    mean, scale, basis = (np.zeros_like(request.arrays[name]) for name in ("mean", "scale", "basis"))
    mean[0], basis[0] = centre, most**0.5
    return replace(request, arrays={**request.arrays, "mean": mean, "scale": scale + most**-0.5, "basis": basis})
