"""The record of a study and its file."""

import json
from pathlib import Path

import pytest

from medtl_core.errors import RunError
from medtl_core.evaluation.result import Result
from medtl_core.store import to_json

STORED = sorted(Path(__file__).parents[1].glob("samples/*/run/seed-*/result.json"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_a_stored_result_is_read_into_records_and_written_back_byte_for_byte(path: Path) -> None:
    result = Result.read(path)
    assert to_json(result.as_dict()) == path.read_text(encoding="utf-8")
    judgement = result.methods["discriminant"].judgement
    assert judgement.curves is not None
    assert judgement.by_site["server"].n == result.test_cases == sum(judgement.curves.reliability.count)
    assert result.methods["local"].judgement.curves is None
    assert result.exchanges[0].phase == "join"


@pytest.mark.parametrize("path", STORED[:1])
def test_another_schema_and_a_result_that_is_not_whole_are_refused(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    with pytest.raises(RunError, match="schema 2, this is schema 1"):
        Result.from_dict({**record, "schema": 2})
    with pytest.raises(RunError, match="not whole"):
        Result.from_dict({name: value for name, value in record.items() if name != "methods"})
    with pytest.raises(RunError, match="missing"):
        Result.read(path.with_name("other.json"))
