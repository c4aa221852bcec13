"""Flower's SuperNode as a child of the resident process: `python -m medtl_core.flower.node.supernode PARENT ...`."""

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

#: Seconds of the SuperNode's longest pause between two looks for a message; Flower's own is 3.
_PAUSE = 0.2
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


if __name__ == "__main__":
    from medtl_core.flower.compat import run_supernode
    from medtl_core.flower.node.presence import Contact

    end_with(int(sys.argv[1]))
    contact = Contact(Path.cwd())  # it is started in the hospital's folder for Flower
    for name in ("httpx", "flwr"):  # each answer of the server is a line of httpx, each trouble one of Flower
        logging.getLogger(name).addHandler(contact)
    logging.getLogger("httpx").setLevel(logging.INFO)
    run_supernode(sys.argv[2:], _PAUSE)
