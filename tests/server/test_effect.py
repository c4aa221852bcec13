"""A run that Flower started says in its log which settings nothing reads."""

from pathlib import Path

import pytest

from client.app import app as client_app
from medtl_core.config import settings
from medtl_core.flower.grid import LocalGrid, run_local
from server.app import app as server_app


@pytest.mark.parametrize(
    ("word", "value", "said"),
    [("local-epochs", 2, "local-epochs has no effect on these methods; fedavg"), ("alpha", 2.0, "partition=natural")],
)
def test_a_setting_that_nothing_reads_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    word: str,
    value: float,
    said: str,
) -> None:
    monkeypatch.setattr(LocalGrid, "settled", False)
    few = {"sites": 1, "shots": 12, "image-size": 32, "features": "4", "bootstrap": 1}
    chosen = settings({**few, "methods": "ridge", "out": str(tmp_path / "out"), word: value}).public()
    run_local(server_app, client_app, node_configs=[{"partition-id": 0, "num-partitions": 1}], run_config=chosen)
    assert said in caplog.text
    assert caplog.text.count("has no effect") == 1
