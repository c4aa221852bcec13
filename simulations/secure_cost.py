"""What a secure sum costs, and whether it is exact: `python -m simulations.secure_cost`, or `make bench-secure`.

The same private release is made three times: openly, under a secure sum, and under a secure sum in which every fifth
hospital is cut off after it has shared its secrets, the dearest moment. The real ClientApp answers over the in-process
grid, one message after the other, each through Flower's wire format.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message

from medtl_core.events import Event
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.secure_sum import STAGES
from medtl_core.federation.study import Study
from medtl_core.methods.private.planned_sums import noised_sum, plan_of
from medtl_core.runtime import quiet
from medtl_core.values import Array
from simulations.intervals import markdown
from simulations.secure_sight import Sight, Truth, truth

METHOD = "private-mean"
CLASSES, COLUMNS, PATIENTS, TESTED = 3, 50, 12, 30
#: Stages of the drop-outs' silence: they have sent keys and shares, and nothing after.
_LATE = STAGES[2:]


@dataclass(frozen=True)
class Case:
    """One release: the first step of a private method, by hospitals of which a fifth may collude or drop out.

    `mode` is "open" (every hospital's own noised sums are sent), "secure", or "drop-out" (secure, a fifth is cut off).
    """

    hospitals: int
    mode: str
    method: str = METHOD

    @property
    def colluders(self) -> int:
        """Hospitals whose noise does not count, so also the drop-outs that are survived."""
        return max(1, self.hospitals // 5)

    @property
    def gone(self) -> int:
        """Hospitals that are cut off."""
        return self.colluders if self.mode == "drop-out" else 0

    def settings(self, folder: Path) -> dict[str, Any]:
        """Returns the flat settings of its run, over the table in `folder`."""
        return {
            "data": "", "data-path": str(folder / f"table-{self.hospitals}.csv"), "backbone": "table",
            "sites": self.hospitals, "shots": PATIENTS, "partition": "even", "methods": self.method,
            "privacy": self.method, "epsilon": 4.0, "public-cases": 2, "colluders": self.colluders,
            "secure-sum": self.mode != "open", "quorum": 0.5, "cache": str(folder / "cache"),
            "state": str(folder / f"state-{self.hospitals}-{self.mode}"),
        }  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One stage of a release, named by its task.

    Attributes:
        up, down: payload bytes a hospital sent and received, mean.
        cpu, wall: seconds a hospital worked on its answer, mean of those that answered.
        server: CPU seconds of the server for all hospitals, with its own share of Flower's work.
        seconds: from the first message to the server's result; simulated hospitals answer in turn.
    """

    stage: str
    up: float
    down: float
    cpu: float
    wall: float
    server: float
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What one release cost, and what its sum was."""

    case: Case
    rows: tuple[Row, ...]
    truth: Truth

    @property
    def total(self) -> tuple[Row, ...]:
        """All stages together; nothing if there is only one."""
        columns = zip(*(astuple(row)[1:] for row in self.rows), strict=True)
        return (Row("total", *map(sum, columns)),) if len(self.rows) > 1 else ()


def measure(case: Case, folder: Path) -> Cost:
    """Makes one release with the real ClientApp, in a folder for table and hospitals, and returns what it cost."""
    from medtl_core.config import settings
    from medtl_core.flower.grid import LocalGrid, LocalOptions

    write_table(folder / f"table-{case.hospitals}.csv", case.hospitals)
    chosen = settings(case.settings(folder))
    clock = _Clock()
    sight = Sight(clock.timed)

    def fault(node: int, message: Message) -> Exception | None:
        late = message.metadata.message_type.partition(".")[2] in _LATE
        return OSError("cut off") if late and node < 1000 + case.gone else None

    nodes = [{"partition-id": part, "num-partitions": case.hospitals} for part in range(case.hospitals)]
    options = LocalOptions(wire=True, fault=fault)
    app: Any = sight
    with quiet("flwr", logging.WARNING), LocalGrid(app, nodes, chosen.public(), options) as grid:
        study, method = _study(grid, chosen, clock)
        plan = plan_of(method, study)
        sums = _release(study, method)
        clock.stop()
    rows = tuple(clock.rows(study.hospitals.exchanges[1:], case.hospitals))
    return Cost(case, rows, truth(chosen, plan, sight, sums))


def _study(grid: Any, chosen: Any, clock: "_Clock") -> tuple[Study, PrivateMethod]:
    """What the ServerApp does before it obtains heads."""
    from medtl_core.events import Events
    from medtl_core.federation.outcome import Problem
    from medtl_core.federation.registry import find_method
    from medtl_core.fingerprint import agreement
    from medtl_core.flower.exchange import ExchangeTerms, GridHospitals
    from server.testset import open_reference

    reference = open_reference(chosen, workers=1)
    task, spec = reference.source.examples.task, reference.spec
    terms = ExchangeTerms(
        agreement(chosen, task.classes, spec.fingerprint), chosen.sites, chosen.quorum, chosen.deadline
    )
    hospitals = GridHospitals(grid, terms, Events(listener=clock.told))
    hospitals.join()
    method = find_method(chosen.methods)
    if not isinstance(method, PrivateMethod):
        raise SystemExit(f"{method.name} is not a private method; there is no noised sum to take")
    return Study(hospitals, Problem(task.classes, spec.fingerprint, spec.groups), chosen, (method,)), method


def _release(study: Study, method: PrivateMethod) -> dict[str, Array]:
    """Asks for the class counts and class sums, as the mechanism does."""
    from medtl_core.methods.private.public_pca import public_map

    map_ = public_map(study, 2 * COLUMNS)
    classes, size = len(study.problem.classes), map_.basis.shape[1]
    shapes = {"counts": (classes,), "sums": (classes, size)}
    return noised_sum(study, method, 0, map_.arrays, shapes, config={"gram": False})


class _Clock:
    """Times the hospitals' answers and, from one stage's beginning to the next, everything."""

    def __init__(self) -> None:
        self._work: list[tuple[str, float, float]] = []
        self._marks: list[tuple[float, float]] = []

    def timed(self, message: Message, context: Context) -> Message:
        """Lets the real ClientApp answer."""
        from client.app import app as client_app

        cpu, wall = time.thread_time(), time.perf_counter()
        reply = client_app(message, context)
        task = message.metadata.message_type.partition(".")[2]
        self._work.append((task, time.thread_time() - cpu, time.perf_counter() - wall))
        return reply

    def told(self, event: Event) -> None:
        """Hears the run's events; a stage begins with a "phase"."""
        if event["kind"] == "phase":
            self.stop()

    def stop(self) -> None:
        """Marks a beginning, or the end of the last stage."""
        self._marks.append((time.process_time(), time.perf_counter()))

    def rows(self, history: Sequence[Any], hospitals: int) -> list[Row]:
        """Returns one row a stage, from the exchanges that were booked."""
        asked = list(dict.fromkeys(task for task, _, _ in self._work if task != "join"))
        rows = []
        for place, (task, booked) in enumerate(zip(asked, history, strict=True)):
            work = np.array([row[1:] for row in self._work if row[0] == task])
            (cpu, wall), spent = work.mean(axis=0), np.subtract(self._marks[place + 1], self._marks[place])
            up, down = booked.bytes_up / len(work), booked.bytes_down / hospitals
            server = max(float(spent[0] - work[:, 0].sum()), 0.0)
            rows.append(Row(task, up, down, float(cpu), float(wall), server, float(spent[1])))
        return rows


def write_table(path: Path, hospitals: int) -> None:
    """A table of random numbers: what is measured is the sum, not what is learnt."""
    if path.is_file():
        return
    rng = np.random.default_rng(0)
    rows = 2 * hospitals * PATIENTS + TESTED
    lines = ["label,patient_id,site,split," + ",".join(f"c{column}" for column in range(COLUMNS))]
    for row, values in enumerate(rng.normal(size=(rows, COLUMNS))):
        split = "test" if row < TESTED else "train"
        lines.append(f"{row % CLASSES},p{row},s,{split}," + ",".join(f"{value:.4f}" for value in values))
    path.write_text("\n".join(lines), encoding="utf-8")


def table(costs: Sequence[Cost]) -> str:
    """Returns the costs as two Markdown tables: by stage, and what was summed (the goal of the fixed point is 1e-4)."""
    stages, sums = [], []
    for cost in costs:
        case, found = (str(cost.case.hospitals), cost.case.mode), cost.truth
        for row in (*cost.rows, *cost.total):
            sizes = (f"{row.up / 1e3:.2f}", f"{row.down / 1e3:.2f}")
            times = (f"{1e3 * seconds:.1f}" for seconds in (row.cpu, row.wall, row.server))
            stages.append((*case, row.stage, *sizes, *times, f"{row.seconds:.2f}"))
        counts = (str(found.summed), str(found.numbers), str(found.differ))
        sums.append((*case, *counts, f"{found.rounding:.1e}", f"{found.noise:.3f}"))
    costly = ("hospitals", "sum", "stage", "kB up", "kB down", "CPU ms", "wall ms", "server CPU ms", "seconds")
    summed = ("hospitals", "sum", "in the sum", "numbers", "differ", "fixed point", "noise / planned")
    note = "A hospital's figures are means over those that answered; server CPU and seconds are for all, in turn."
    return f"{note}\n\n{markdown(costly, stages)}\n\n{markdown(summed, sums)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; exits non-zero if a sum was not exact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hospitals", type=int, nargs="+", default=[5, 20, 50])
    chosen = parser.parse_args(arguments)
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("open", "secure"):  # imports, once for all
            measure(Case(3, mode), Path(folder))
        for hospitals in chosen.hospitals:
            costs += [measure(Case(hospitals, mode), Path(folder)) for mode in ("open", "secure", "drop-out")]
    print(table(costs))
    return int(any(cost.truth.differ or cost.truth.rounding > 1e-4 for cost in costs))


if __name__ == "__main__":
    sys.exit(main())
