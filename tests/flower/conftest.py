"""A toy hospital made of real Flower classes: it doubles what it gets, and a test may twist what it answers."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from medtl_core.events import Events
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.flower.exchange import ExchangeTerms, GridHospitals
from medtl_core.flower.grid import LocalGrid, LocalOptions
from medtl_core.flower.guard import guarded
from medtl_core.flower.records import decode_request, encode
from medtl_core.privacy.registration import Claim, introduction
from medtl_core.privacy.witnesses import Witnesses
from medtl_core.values import Released, Update

AGREED = "the same hash on both sides"


def no_twist(part: int, content: RecordDict) -> RecordDict:
    return content


@dataclass
class Toy:
    """What the toy hospitals do."""

    twist: Callable[[int, RecordDict], Any] = no_twist
    join_twist: Callable[[int, RecordDict], Any] = no_twist
    seconds: Mapping[int, float] = field(default_factory=dict)
    name: Callable[[int], str] = "h{:03d}".format
    homes: Mapping[int, Path] = field(default_factory=dict)
    asked: list[tuple[int, str]] = field(default_factory=list)

    def app(self) -> ClientApp:
        app = ClientApp()

        @app.query("join")
        @guarded
        def join(message: Message, context: Context) -> Message:
            part = int(str(context.node_config["partition-id"]))
            content = encode(Released(Update({})), agreement=AGREED, site=self.name(part), weight=10 + part)
            if part in self.homes:
                claim = Claim(self.name(part), AGREED, message.metadata.run_id, message.metadata.dst_node_id)
                content["about"].update(introduction(self.homes[part], claim))
            return Message(self.join_twist(part, content), reply_to=message)

        @app.train("double")
        @guarded
        def double(message: Message, context: Context) -> Message:
            part = int(str(context.node_config["partition-id"]))
            self.asked.append((part, message.metadata.message_type))
            time.sleep(self.seconds.get(part, 0.0))
            arrays, config = decode_request(message)
            arrays["x"] *= int(config["factor"])  # a client may change what it got: the others must not notice
            released = Released(Update({"x": arrays["x"] + part}), metrics={"loss": 0.5, "cpu-seconds": 0.25})
            content = encode(released, agreement=AGREED, site=self.name(part), weight=10 + part)
            return Message(self.twist(part, content), reply_to=message)

        return app


def request(shape: tuple[int, ...] = (2, 3), **more: Any) -> Request:
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    return Request("double", {"x": x}, {"factor": 2}, {"x": ArraySpec(shape)}, **more)


@dataclass
class Ward:
    """Joined hospitals and what they told."""

    hospitals: GridHospitals
    grid: LocalGrid
    events: list[Mapping[str, Any]]


@pytest.fixture
def ward() -> Iterator[Callable[..., Ward]]:
    """Makes joined toy hospitals; closes their grids."""
    grids: list[LocalGrid] = []

    def make(
        toy: Toy | None = None, count: int = 4, *, grid: type[LocalGrid] = LocalGrid, quorum: float = 0.5,
        deadline: float = 20.0, options: LocalOptions | None = None, join: bool = True,
        witnesses: Witnesses | None = None,
    ) -> Ward:  # fmt: skip
        nodes: Sequence[dict[str, int]] = [{"partition-id": part} for part in range(count)]
        grids.append(grid((toy or Toy()).app(), nodes, {}, options or LocalOptions(workers=2)))
        events: list[Mapping[str, Any]] = []
        terms = ExchangeTerms(AGREED, count, quorum, deadline)
        hospitals = GridHospitals(grids[-1], terms, Events(listener=events.append), witnesses)
        if join:
            hospitals.join()
        return Ward(hospitals, grids[-1], events)

    yield make
    for grid in grids:
        grid.close()


@pytest.fixture
def toy() -> type[Toy]:
    return Toy


@pytest.fixture
def ask() -> Callable[..., Request]:
    return request
