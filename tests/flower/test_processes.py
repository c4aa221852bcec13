"""What the harness of real processes promises: words arrive, and nothing outlives the context."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.harness.children import Children, marked, tail, words

values = st.text(st.characters(exclude_categories=["Cs"])) | st.integers(-(2**62), 2**62) | st.booleans()
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z-]{0,8}", fullmatch=True), values | finite, min_size=1, max_size=4))
@example({"path": "/srv/the \"old\" ward's/C:\\x=1 y='2'", "end": "a.toml", "line": "one\ntwo\x7f", "rate": 1e-05})
@examples(deadline=None, max_examples=50)
def test_words_come_back_from_flower_as_they_were(config: dict[str, str | int | float | bool]) -> None:
    assert parse_config_args([words(config)]) == config


DETACHED = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("\\x1b[31mstarted\\x1b[0m", flush=True)
time.sleep(60)
"""


def started(children: Children, code: str) -> subprocess.Popen[bytes]:
    """A process that has said that it has started."""
    command = [Path(sys.executable).name, "-c", code]
    process = children.start("python", command, children.environment("flwr"))
    end = time.monotonic() + 60
    while "started" not in tail(children.log("python")) and time.monotonic() < end:
        time.sleep(0.05)
    return process


def test_detached_processes_end_with_the_context(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Children(tmp_path) as children:
        process = started(children, DETACHED)
        assert len(marked(tmp_path)) == 2
        assert not children.ended()
        raise KeyError
    assert process.returncode is not None
    assert not marked(tmp_path)
    assert children.tails() == "--- python.log\nstarted"
