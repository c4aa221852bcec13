"""Integer noise from the operating system's entropy.

Floating-point Gaussian noise can be attacked through the gaps between doubles (Mironov, CCS 2012), and a seed that
anybody else knows cancels it. So sums are put on a grid, and the noise is a discrete Gaussian on the integers
(Canonne, Kamath and Steinke, NeurIPS 2020), drawn by rejection from a discrete Laplace, from the key stream of ChaCha20
under a key of the operating system.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from medtl_core.errors import PrivacyError

Ints = NDArray[np.int64]

#: Noise beyond this would leave the range in which float64 sums of it are exact.
_LARGEST = 2.0**44
#: Draws in one go; more only cost memory.
_BLOCK = 1 << 20
_BITS = 53


@dataclass(frozen=True)
class Entropy:
    """A stream of uniform bytes that nobody can predict or repeat.

    Attributes:
        draw: returns so many bytes.
        marked: whether it is the insecure stream of a test; whatever it touches must say so.
    """

    draw: Callable[[int], bytes] = field(repr=False)
    marked: bool = False

    def uniform(self, size: int) -> NDArray[np.float64]:
        """Returns numbers in [0, 1), multiples of 2^-53."""
        words = np.frombuffer(self.draw(8 * size), dtype="<u8")
        return (words >> np.uint64(64 - _BITS)).astype(np.float64) * 2.0**-_BITS


def system_entropy() -> Entropy:
    """Returns the stream of a fresh ChaCha20 key from the operating system (RFC 8439)."""
    stream = Cipher(ChaCha20(os.urandom(32), os.urandom(16)), mode=None).encryptor()
    return Entropy(lambda count: stream.update(bytes(count)))


def insecure_entropy(seed: int) -> Entropy:
    """Returns a repeatable stream for tests. It protects nobody: everything it touches is marked.

    Example:
        >>> insecure_entropy(1).marked, system_entropy().marked
        (True, False)
    """
    rng = np.random.default_rng(seed)
    return Entropy(rng.bytes, marked=True)


def discrete_gaussian(sigma: float, shape: tuple[int, ...], entropy: Entropy) -> Ints:
    """Returns independent integers, each x with probability proportional to exp(-x^2 / (2 sigma^2)).

    Args:
        sigma: at least 1, so that variance and sigma^2 agree; in units of the grid.
        shape: of the array.
        entropy: from `system_entropy`.

    Guarantee:
        Added to an integer array that one patient moves by at most D in L2 norm, it is 1/2 (D/sigma)^2-concentrated DP,
        as the continuous Gaussian is (Canonne, Kamath and Steinke 2020, theorem 4). Its (epsilon, delta) curve is that
        of the continuous one up to the lattice, a relative difference of the order of 1/sigma^2: the gate draws with
        sigma above 2^16 and adds a millionth. Acceptance is decided with 53-bit uniforms: the distribution is off by
        less than 2^-50 in total variation per number. Unit, adjacency and sensitivity belong to the caller.

    Raises:
        PrivacyError: sigma is below 1 or beyond what exact sums can hold.
    """
    if not 1.0 <= sigma <= _LARGEST:
        raise PrivacyError(
            f"noise of standard deviation {sigma:.3g} grid steps is outside [1, 2^44]; choose another grid"
        )
    size = math.prod(shape)
    drawn = _drawn(size, lambda missing: _accepted(sigma, min(int(missing * 1.6) + 64, _BLOCK), entropy))
    return drawn.reshape(shape)


def _accepted(sigma: float, tries: int, entropy: Entropy) -> Ints:
    """Draws of scale t = floor(sigma) + 1, kept with probability exp(-(|x| - sigma^2/t)^2 / (2 sigma^2))."""
    scale = math.floor(sigma) + 1
    proposed = _laplace(scale, tries, entropy)
    log_keep = -((np.abs(proposed) - sigma * sigma / scale) ** 2) / (2 * sigma * sigma)
    return proposed[entropy.uniform(tries) < np.exp(log_keep)]


def _laplace(scale: int, size: int, entropy: Entropy) -> Ints:
    """Discrete Laplace: a geometric magnitude and a sign; negative zero is drawn again, or zero would count twice."""

    def signed(missing: int) -> Ints:
        count = missing + missing // max(scale, 8) + 16
        magnitude = np.floor(-scale * np.log1p(-entropy.uniform(count))).astype(np.int64)
        negative = entropy.uniform(count) < 0.5
        kept = ~(negative & (magnitude == 0))
        return np.asarray(np.where(negative, -magnitude, magnitude)[kept])

    return _drawn(size, signed)


def _drawn(size: int, draw: Callable[[int], Ints]) -> Ints:
    """So many numbers of `draw`, which is told how many are missing and may give fewer or more."""
    parts = [np.zeros(0, np.int64)]
    while size > 0:
        part = draw(size)[:size]
        parts.append(part)
        size -= len(part)
    return np.concatenate(parts)
