"""Flower's SuperNode as a child of the resident process: `python -m medtl_core.flower.node.supernode PARENT ...`."""

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

#: Seconds of the SuperNode's longest pause between two looks for a message, and for the answer to one; Flower's own are
#: 3 and 0.5.
_PAUSE, _BRIEF = 0.2, 0.04
#: Seconds after a brief pause by which the next begins, unless a message was answered and another fetched meanwhile.
_BETWEEN = 0.005
#: Environment variable with the descriptor at which the resident process is told that there is something to answer.
BELL = "MEDTL_BELL"
#: Seconds that a process has to end by itself.
_PATIENCE = 5.0


def end_with(parent: int) -> None:
    """Lets this process end soon after its parent, even after one that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PAUSE)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Rest:
    """The SuperNode's pauses: brief while a message is answered, and before the first such the bell is rung."""

    def __init__(self, bell: int) -> None:
        self._bell, self._ended = bell, 0.0

    def __call__(self, seconds: float) -> None:
        """Pauses, less long than asked."""
        if seconds >= 1.0:
            time.sleep(_PAUSE)
            return
        if time.monotonic() - self._ended > _BETWEEN:
            os.write(self._bell, b".")
        time.sleep(min(seconds, _BRIEF))
        self._ended = time.monotonic()


if __name__ == "__main__":
    from medtl_core.flower.compat import run_supernode
    from medtl_core.flower.node.pace import ask_soon_again, beat_often
    from medtl_core.flower.node.presence import Contact

    ask_soon_again()
    beat_often()
    end_with(int(sys.argv[1]))
    contact = Contact(Path.cwd())  # it is started in the hospital's folder for Flower
    for name in ("httpx", "flwr"):  # each answer of the server is a line of httpx, each trouble one of Flower
        logging.getLogger(name).addHandler(contact)
    logging.getLogger("httpx").setLevel(logging.INFO)
    run_supernode(sys.argv[2:], Rest(int(os.environ.pop(BELL))))
