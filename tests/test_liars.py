"""A hospital that lies, in a secure sum or an open one: it is named, the others go on, and pay once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.app import app as honest
from medtl_core.config import settings
from medtl_core.flower.grid import run_local
from medtl_core.flower.records import pack
from medtl_core.privacy.ledger_report import balance, ledgers
from server.app import app as server_app
from tests.test_private_deployed import Place

NAMES = ("A&E", "King's College", "east", "liar", "north")


class Liar(ClientApp):
    """Answers honestly for every hospital but the one called liar, which changes the arrays of one task."""

    def __init__(self, task: str, lie: Callable[[Any], Any]) -> None:
        super().__init__()
        self._task, self._lie = task, lie

    def __call__(self, message: Message, context: Context) -> Message:
        reply = honest(message, context)
        lies = message.metadata.message_type == f"train.{self._task}"
        if lies and str(context.node_config["hospital"]).endswith("liar") and reply.has_content():
            arrays = {name: array.numpy() for name, array in reply.content.array_records["arrays"].items()}
            reply.content["arrays"] = pack({name: self._lie(array) for name, array in arrays.items()})
        return reply


@pytest.mark.parametrize(
    ("task", "lie", "secure"),
    [
        ("secure_shares", lambda array: array ^ 1, True),
        ("private_statistics", lambda array: np.full_like(array, 1e308), False),
    ],
)
def test_a_hospital_that_lies_is_named_and_the_others_go_on_and_pay_once(
    tmp_path: Path, task: str, lie: Callable[[Any], Any], secure: bool
) -> None:
    place = Place(tmp_path, NAMES)
    chosen = settings({**place.config, "secure-sum": secure}).public()
    run_local(server_app, Liar(task, lie), node_configs=place.nodes, run_config=chosen, wire=True)
    assert {*place.failures()} == {"liar"}
    assert json.loads((place.out / "result.json").read_text(encoding="utf-8"))["methods"].keys() == {"private-mean"}
    books = {book.site: (book.reserved, book.released) for book in map(balance, ledgers(place.states))}
    assert {name: books[name] for name in NAMES if name != "liar"} == dict.fromkeys({*NAMES} - {"liar"}, (1, 1))
