"""One numeric thread per worker: hospitals run side by side, and one thread count keeps the bytes of a sum the same."""

import os
import sys


def one_thread() -> None:
    """Sets BLAS and torch to one thread in this process.

    With several busy hospitals on one machine two threads each were 4 to 16 times slower (METHODS section 10); and a
    matrix product's last bits depend on the number of threads.
    """
    from threadpoolctl import threadpool_limits

    os.environ["OMP_NUM_THREADS"] = "1"  # for torch, should it be loaded later
    threadpool_limits(limits=1)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
