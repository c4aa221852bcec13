"""One hospital of five lies, with real processes: it runs code of its own, the others the medtl installed there."""

import json
from pathlib import Path

import pytest

from medtl_core.privacy.ledger_report import balance, ledgers
from tests.deployed import copy_app
from tests.harness.processes import Deployment
from tests.test_private_deployed import PATIENCE, Place

pytestmark = [pytest.mark.deployed, pytest.mark.timeout(600), pytest.mark.usefixtures("clean_environment")]

NAMES = ("A&E", "King's College", "east", "liar", "north")
LIAR = """
import numpy as np
from flwr.clientapp import ClientApp

from client.honest import app as honest
from medtl_core.flower.records import pack


class Liar(ClientApp):
    def __call__(self, message, context):
        reply = honest(message, context)
        if reply.has_content() and message.metadata.message_type == "train.{task}":
            arrays = {{name: array.numpy() for name, array in reply.content["arrays"].items()}}
            reply.content["arrays"] = pack({{name: {lie} for name, array in arrays.items()}})
        return reply


app = Liar()
"""


@pytest.mark.parametrize(
    ("task", "lie", "secure"),
    [("secure_shares", "array ^ 1", True), ("private_statistics", "np.full_like(array, 1e308)", False)],
)
def test_a_hospital_that_lies_is_named_and_the_others_go_on_and_pay_once(
    tmp_path: Path, task: str, lie: str, secure: bool
) -> None:
    place = Place(tmp_path, NAMES)
    app = copy_app(tmp_path)
    (app / "client" / "app.py").rename(app / "client" / "honest.py")
    (app / "client" / "app.py").write_text(LIAR.format(task=task, lie=lie), encoding="utf-8")
    honest = [node for node in place.nodes if not node["hospital"].endswith("liar")]
    liar = {"hospital": str(place.states / "liar")}
    with Deployment(honest, home=place.home, liar=liar) as deployment:
        assert deployment.run(app, {**place.config, "secure-sum": secure}, timeout=PATIENCE) == "finished:completed"
    assert {*place.failures()} == {"liar"}
    assert json.loads((place.out / "result.json").read_text(encoding="utf-8"))["methods"].keys() == {"private-mean"}
    books = {book.site: (book.reserved, book.released) for book in map(balance, ledgers(place.states))}
    assert {name: books[name] for name in NAMES if name != "liar"} == dict.fromkeys({*NAMES} - {"liar"}, (1, 1))
