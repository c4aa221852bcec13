"""One numeric thread per worker: hospitals run side by side, and one thread count keeps the bytes of a sum the same."""

import os
import sys
from functools import lru_cache


@lru_cache(maxsize=1)  # looking for the loaded libraries takes milliseconds; every message asks
def one_thread() -> None:
    """Sets BLAS and torch to one thread in this process.

    With several busy hospitals on one machine two threads each were 4 to 16 times slower (METHODS section 10); and a
    matrix product's last bits depend on the number of threads.
    """
    from threadpoolctl import threadpool_limits

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # for libraries that are loaded later
    threadpool_limits(limits=1)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
