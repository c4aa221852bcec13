"""Integer noise from the operating system's entropy.

Floating-point Gaussian noise can be attacked through the gaps between doubles (Mironov, CCS 2012), and a seed that
anybody else knows cancels it. So sums are put on a grid, and the noise is a discrete Gaussian on the integers
(Canonne, Kamath and Steinke, NeurIPS 2020), drawn by their rejection from a discrete Laplace, which is itself made of
decisions with probability exp(-c), from the key stream of ChaCha20 under a key of the operating system.
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
Words = NDArray[np.uint64]
Bools = NDArray[np.bool_]

#: Noise beyond this would leave the range in which float64 sums of it are exact.
_LARGEST = 2.0**44
#: Draws in one go: what a processor's cache holds.
_BLOCK = 1 << 16
_BITS = 53
#: exp(-1) ... exp(-8) as shares of 2^64.
_POWERS = tuple(np.uint64(int(math.exp(-power) * 2.0**64)) for power in range(1, 9))


@dataclass(frozen=True)
class Entropy:
    """A stream of uniform bytes that nobody can predict or repeat.

    Attributes:
        draw: returns so many bytes.
        marked: whether it is the insecure stream of a test; whatever it touches must say so.
    """

    draw: Callable[[int], bytes] = field(repr=False)
    marked: bool = False

    def words(self, size: int) -> Words:
        """Returns integers, uniform below 2^64."""
        return np.frombuffer(self.draw(8 * size), dtype="<u8")

    def uniform(self, size: int) -> NDArray[np.float64]:
        """Returns numbers in [0, 1), multiples of 2^-53."""
        return (self.words(size) >> np.uint64(64 - _BITS)).astype(np.float64) * 2.0**-_BITS

    def signs(self, size: int) -> Bools:
        """Returns fair coins."""
        return np.unpackbits(np.frombuffer(self.draw(-(-size // 8)), np.uint8), count=size).astype(bool)


def system_entropy() -> Entropy:
    """Returns the stream of a fresh ChaCha20 key from the operating system (RFC 8439), 256 GiB long.

    The key is used for this stream alone, so that the nonce may be zero; its first bytes are the counter of blocks,
    which must begin at zero for the stream to have its whole length.
    """
    stream = Cipher(ChaCha20(os.urandom(32), bytes(16)), mode=None).encryptor()
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
        sigma above 2^16 and adds a millionth. Unit, adjacency and sensitivity belong to the caller.

        The stream is taken for uniform (ChaCha20). Each decision, taken with 53-bit uniforms or 64-bit words against
        float64 exponentials, has its probability up to a relative error of 2^-50, and no tail is cut off. So at every
        sigma allowed each x is drawn with its probability up to a relative error of (1 + x^2 / sigma^2) 2^-47: a total
        variation below 2^-47 per number, and a privacy loss that is off by less than d 2^-45 in the mean over a release
        of d numbers, 2^-25 for a million.

    Raises:
        PrivacyError: sigma is below 1 or beyond what exact sums can hold.
    """
    if not 1.0 <= sigma <= _LARGEST:
        raise PrivacyError(
            f"noise of standard deviation {sigma:.3g} grid steps is outside [1, 2^44]; choose another grid"
        )
    size = math.prod(shape)
    drawn = _drawn(size, lambda missing: _accepted(sigma, min(int(missing * 1.35) + 64, _BLOCK), entropy))
    return drawn.reshape(shape)


def _accepted(sigma: float, tries: int, entropy: Entropy) -> Ints:
    """Draws of a scale t near sigma, kept with probability exp(-(|x| - sigma^2/t)^2 / (2 sigma^2)); any t would do."""
    bits = round(math.log2(sigma))
    proposed = _laplace(bits, tries, entropy)
    excess = (np.abs(proposed) - sigma * sigma / 2.0**bits) / sigma
    return proposed[_happens(excess * excess / 2, entropy)]


def _laplace(bits: int, size: int, entropy: Entropy) -> Ints:
    """Discrete Laplace of scale t = 2^bits: magnitude U + t V, and a sign; negative zero is drawn again, or zero would
    count twice.
    """

    def signed(missing: int) -> Ints:
        count = missing + (missing >> max(bits, 3)) + 16
        magnitude = _remainders(bits, count, entropy) + (_geometric(count, entropy) << bits)
        negative = entropy.signs(count)
        kept = ~(negative & (magnitude == 0))
        return np.asarray(np.where(negative, -magnitude, magnitude)[kept])

    return _drawn(size, signed)


def _remainders(bits: int, size: int, entropy: Entropy) -> Ints:
    """U below t = 2^bits with probability proportional to exp(-U / t): uniform ones, kept with just that."""

    def kept(missing: int) -> Ints:
        below = (entropy.words(int(missing * 1.6) + 64) >> np.uint64(64 - bits)).astype(np.int64)
        return below[_below_one(below.astype(np.float64) * 2.0**-bits, entropy)]

    return _drawn(size, kept) if bits else np.zeros(size, np.int64)


def _happens(cost: NDArray[np.float64], entropy: Entropy) -> Bools:
    """Decides what has probability exp(-cost): the fraction of cost first, then exp(-1) for each of its whole ones."""
    whole = np.floor(cost)
    happens = _below_one(cost - whole, entropy)
    left = np.flatnonzero(happens & (whole > 0))
    happens[left] = _geometric(len(left), entropy) >= whole[left]
    return happens


def _below_one(cost: NDArray[np.float64], entropy: Entropy) -> Bools:
    """Decides what has probability exp(-cost), for costs in [0, 1)."""
    return np.asarray(entropy.uniform(len(cost)) < np.exp(-cost))


def _geometric(size: int, entropy: Entropy) -> Ints:
    """How often exp(-1) happens in a row: a word tells up to eight times, and eight are followed by another word."""
    words = entropy.words(size)
    counted = np.zeros(size, np.uint8)
    for threshold in _POWERS:
        counted += (words < threshold).view(np.uint8)
    often = counted.astype(np.int64)
    further = np.flatnonzero(counted == len(_POWERS))
    if len(further):
        often[further] += _geometric(len(further), entropy)
    return often


def _drawn(size: int, draw: Callable[[int], Ints]) -> Ints:
    """So many numbers of `draw`, which is told how many are missing and may give fewer or more."""
    parts = [np.zeros(0, np.int64)]
    while size > 0:
        part = draw(size)[:size]
        parts.append(part)
        size -= len(part)
    return np.concatenate(parts)
