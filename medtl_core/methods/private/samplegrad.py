"""Every patient's own gradient of a torch network, clipped: the only place that knows Opacus.

Opacus gives the gradient of every case in one backward pass. It knows no patients, clips cases, draws its own noise and
lets a frozen BatchNorm in training mode collect averages of private images, which would leave with its buffers. Here
the cases of a patient are averaged before clipping in float64, such a norm is refused, and only the gate draws noise.
Its rule for convolutions is silently wrong on maps that lie "channels last" in memory, and builds every pair of
channels of a depthwise one; so torch's own derivative is taken in its place (`force_functorch`).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import PrivacyError
from medtl_core.privacy.bounded import Bounded
from medtl_core.values import Array, Update

if TYPE_CHECKING:
    from torch import Tensor, nn

Float = NDArray[np.float64]


class Rows(Protocol):
    """An array, or something that reads rows [b, ...] for positions int64 [b] only when they are asked for."""

    def __getitem__(self, rows: Any, /) -> Any:
        """See class."""


@dataclass(frozen=True)
class Cases:
    """Inputs of a network [n, ...], labels int64 [n], patients str [n] and weights of the log-loss float64 [n]."""

    values: Rows
    label: NDArray[np.int64]
    patients: Array
    weight: Float


def clipped_sum(network: "nn.Module", cases: Cases, clip: float, units: Float, *, batch: int) -> Bounded:
    """Returns "gradient" [D]: the sum over patients of the clipped gradients of their mean weighted log-loss.

    All patients take part (full batch). The trainable parameters lie one behind the other, in the network's order; a
    patient's gradient is clipped as one vector.

    Args:
        network: gives logits [n, C]; it is copied and stays as it is.
        cases: of the hospital, of any number of patients.
        clip: largest length of one patient's gradient.
        units: float64 [D], positive: in which each parameter is counted. Half the unit halves its part of a gradient,
            before clipping.
        batch: cases that pass the network at once, for memory alone: about ten arrays [batch, D] of float64.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity `clip`: a patient adds one vector no longer than `clip`, or zeros
        where it is not finite, and no layer mixes cases. Public: the network's parameters, made of earlier private
        releases.

    Raises:
        PrivacyError: a norm would mix or remember cases, or `clip` or `batch` is none.
    """
    check_network(network)
    owner = np.unique(cases.patients, return_inverse=True)[1]
    if not (batch > 0 and clip > 0 and np.isfinite(clip)):
        raise PrivacyError(f"clip={clip} and batch={batch} must be positive numbers")
    total = np.zeros(len(units))
    for patients in _chunks(np.bincount(owner), batch):
        sums = _means(network, cases, owner, patients, batch)
        sums *= units
        length = np.sqrt(np.einsum("pd,pd->p", sums, sums))  # without another array of their size
        wild = ~np.isfinite(length)
        sums[wild], length[wild] = 0.0, 0.0  # a factor 0 * infinity would be NaN, and NaN would pass into the sum
        total += (clip / np.maximum(length, clip)) @ sums
    return Bounded(Update({"gradient": total}), {"gradient": clip})


def _chunks(sizes: NDArray[np.int64], batch: int) -> Iterator[range]:
    """Patients one behind the other, as many at once as have `batch` cases together; one has to be enough.

    Example:
        >>> list(_chunks(np.array([2, 1, 5, 1, 1]), 3))
        [range(0, 2), range(2, 3), range(3, 5)]
    """
    first, held = 0, 0
    for patient, size in enumerate(sizes):
        if held and held + size > batch:
            yield range(first, patient)
            first, held = patient, 0
        held += int(size)
    yield range(first, len(sizes))


def _means(network: "nn.Module", cases: Cases, owner: NDArray[np.int64], patients: range, batch: int) -> Float:
    """Each of some patients' mean gradient over their cases, [p, D]."""
    rows = np.flatnonzero((owner >= patients.start) & (owner < patients.stop))
    size = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    sums: Float = np.zeros((len(patients), size))
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        slopes = _case_gradients(network, cases.values[part], cases.label[part])
        slopes *= cases.weight[part, None]
        np.add.at(sums, owner[part] - patients.start, slopes)
    sums /= np.bincount(owner[rows] - patients.start, minlength=len(patients))[:, None]
    return sums


def check_network(network: "nn.Module") -> None:
    """Refuses layers whose output or state would mix patients: a BatchNorm of any kind that is trained or trainable.

    Opacus matches exact types and so misses subclasses such as timm's; and it takes frozen ones in training mode.
    """
    from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

    for path, module in network.named_modules():
        trainable = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        # InstanceNorm normalises every case by itself, unless it keeps running statistics
        mixes = isinstance(module, _NormBase) and (isinstance(module, _BatchNorm) or module.track_running_stats)
        if mixes and (module.training or trainable):
            raise PrivacyError(
                f"{path or 'the network'} ({type(module).__name__}) averages over patients: freeze it in eval mode, or "
                "use GroupNorm"
            )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise PrivacyError("the network has nothing to train; set requires_grad on what should learn")


def _case_gradients(network: "nn.Module", values: NDArray[np.floating[Any]], label: NDArray[np.int64]) -> Float:
    """Each case's own gradient, [n, D], by Opacus in one backward pass."""
    import torch
    from opacus.grad_sample import GradSampleModule
    from torch.nn import functional

    copied = copy.deepcopy(network).double()
    for module in copied.modules():  # Opacus looks only at layers in training mode; a frozen norm or dropout stays
        module.training |= any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    wrapped = GradSampleModule(copied, loss_reduction="sum", force_functorch=True)
    # inputs that ask for a gradient: without, torch warns of Opacus' hooks on the first layer
    inputs = torch.from_numpy(np.asarray(values, np.float64)).requires_grad_()
    loss = functional.cross_entropy(wrapped(inputs), torch.from_numpy(np.asarray(label)), reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]
    trained = [parameter for parameter in copied.parameters() if parameter.requires_grad]
    slopes: Float = torch.cat([_sample(parameter, len(label)) for parameter in trained], dim=1).numpy()
    wrapped.to_standard_module()  # Opacus' hooks refer to each other and would keep every gradient
    return slopes


def _sample(parameter: "Tensor", cases: int) -> "Tensor":
    sample: Any = getattr(parameter, "grad_sample", None)
    if sample is None or len(sample) != cases:
        raise PrivacyError("a trainable parameter has no gradient of every case; the network cannot be trained so")
    return sample.reshape(cases, -1).detach()  # type: ignore[no-any-return]
