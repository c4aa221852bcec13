"""Private training of a small torch network on rows of length one: the general case beside the closed forms.

Full-batch descent of all hospitals' patients together; every patient's gradient is computed by Opacus, clipped, summed,
and noised at the gate (Abadi et al., CCS 2016, with all patients in every step). With a linear head it is
`private-gradient` with a bias; the hidden layer shows what more parameters cost: noise grows with their root.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.calibrate import log_prior
from medtl_core.errors import WeightsError
from medtl_core.heads.statistics import Float
from medtl_core.material import Material
from medtl_core.methods.method import Method
from medtl_core.methods.model import Model, Packed
from medtl_core.methods.outcome import Outcome
from medtl_core.methods.private import PrivateMethod, PrivateTask, bill_of, noised_sum, plan_of
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.privacy.samplegrad import Cases, clipped_sum, parted
from medtl_core.rng import stream
from medtl_core.transfer.network import BODY, HEAD, initial
from medtl_core.transfer.noisy_gradient import CLIP, RATE, counted_descent
from medtl_core.transfer.public import PublicMap, public_map, received
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import nn

# Clip and step are those of `noisy_gradient`, tried here on scikit-learn's digits and on Gaussian classes that share a
# large mean, with and without the hidden layer: a step of 8 is a little better on the first and swings on the second.
#: Public directions kept, and width of the hidden layer: few, because noise grows with them.
SIZE, HIDDEN = 32, 16

_MAP = ("mean", "scale", "basis")


def network_of(arrays: Mapping[str, Array]) -> "nn.Module":
    """Returns the torch network of named arrays: a linear head, behind a tanh layer where `BODY` is among them."""
    import torch
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in ("body", "head"):
        if f"{layer}.weight" in arrays:
            rows, columns = arrays[f"{layer}.weight"].shape
            layers[layer] = nn.Linear(columns, rows, dtype=torch.float64)
            if layer == "body":
                layers["bend"] = nn.Tanh()
    network = nn.Sequential(layers)
    network.load_state_dict({name: torch.from_numpy(arrays[name].astype(np.float64)) for name in names_of(arrays)})
    return network


def names_of(arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """Returns the network's arrays among others, in torch's order: weight before bias, body before head."""
    return tuple(name for name in (*reversed(BODY), *reversed(HEAD)) if name in arrays)


def private_network(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Summed clipped gradient [D] of all patients at the network in the message.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity `CLIP`, see `samplegrad.clipped_sum`. Public: map and network, the
        latter made of earlier private releases.
    """
    rows = received(arrays).rows(site.values)
    return clipped_sum(network_of(arrays), Cases(rows, site.label, site.patients), CLIP)


@final
@dataclass(frozen=True)
class RowNetwork(Model):
    """A hidden layer and a head on rows of length one (see `transfer.public`).

    Attributes:
        map: from features to rows.
        arrays: `BODY` and `HEAD`, or `HEAD` alone, float64.
    """

    kind: ClassVar[str] = "row-network"

    map: PublicMap
    arrays: Mapping[str, Array]
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        rows = self.map.rows(values)
        if "body.weight" in self.arrays:
            rows = np.tanh(rows @ self.arrays["body.weight"].T + self.arrays["body.bias"])
        return np.asarray(rows @ self.arrays["head.weight"].T + self.arrays["head.bias"])

    def pack(self) -> Packed:
        """See Model."""
        return Packed({**self.map.arrays, **self.arrays}, {}, self.classes, self.fingerprint, self.facts)

    @classmethod
    def unpack(cls, packed: Packed) -> "RowNetwork":
        """See Model."""
        found = packed.arrays
        if set(found) not in ({*_MAP, *HEAD}, {*_MAP, *BODY, *HEAD}):
            raise WeightsError(f"a row network holds {sorted({*_MAP, *HEAD})} and perhaps a body, not {sorted(found)}")
        own = {name: found[name] for name in names_of(found)}
        width = found["basis"].shape[-1]
        for layer in ("body", "head"):
            if f"{layer}.weight" in own:
                rows, columns = own[f"{layer}.weight"].shape
                if columns != width or own[f"{layer}.bias"].shape != (rows,):
                    raise WeightsError("the arrays of the row network do not fit together")
                width = rows
        if width != len(packed.classes) or not found["mean"].shape == found["scale"].shape == found["basis"].shape[:1]:
            raise WeightsError("the arrays of the row network do not fit its classes or its map")
        return cls(PublicMap(*(found[name] for name in _MAP)), own, packed.classes, packed.fingerprint, packed.facts)


@final
@dataclass(frozen=True)
class PrivateNetwork(PrivateMethod):
    """Federated private descent on a torch network, with post-hoc logit adjustment by noisy counts.

    Guarantee:
        See PrivateMethod. One release of class counts, then `rounds` releases of a clipped gradient sum.

    Attributes:
        rounds: of descent.
        hidden: whether there is a hidden layer.
    """

    syntax: ClassVar[str] = r"private-network-(?P<rounds>[1-9][0-9]{0,2})(?P<hidden>-hidden)?"
    example: ClassVar[str] = "private-network-2"
    summary: ClassVar[str] = "private: a small torch network (`-hidden`: one hidden layer), clipped patient by patient"
    test: ClassVar[str] = "server"

    rounds: int
    hidden: bool = False

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        return counted_descent(self.name, terms, "private_network", self.rounds)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        map_, classes = public_map(study, SIZE), len(study.problem.classes)
        terms = plan_of(self, study).terms
        counts = noised_sum(study, self, 0, map_.arrays, {"counts": (classes,)})["counts"]
        public = float(terms.patients)
        counts = np.maximum(counts, 0.2 * public / classes)
        cases = max(public, float(counts.sum()))  # hospitals may have more patients than is public
        arrays = self.start(map_.basis.shape[1], classes, study.settings.seed)
        shapes = {name: array.shape for name, array in arrays.items()}
        size = sum(math.prod(shape) for shape in shapes.values())
        for number in range(1, self.rounds + 1):
            sent = {**map_.arrays, **arrays}
            slope = noised_sum(study, self, 1, sent, {"gradient": (size,)}, number=number)["gradient"]
            arrays = {name: arrays[name] - RATE * part / cases for name, part in parted(slope, shapes).items()}
        arrays["head.bias"] = arrays["head.bias"] - log_prior(counts)
        facts: dict[str, Any] = {"epsilon": terms.epsilon, "delta": terms.delta, "parameters": size}
        model = RowNetwork(map_, arrays, study.problem.classes, study.problem.fingerprint, facts)
        return Outcome({"": model}, bill_of(self, study), 0.0, facts)

    def start(self, width: int, classes: int, seed: int) -> dict[str, Array]:
        """Returns the network before training, public: a random body, a zero head."""
        if not self.hidden:
            return {"head.weight": np.zeros((classes, width)), "head.bias": np.zeros(classes)}
        made = initial(width, classes, rng=stream(seed, "private-network", "initial"), hidden=HIDDEN)
        return {name: made[name].astype(np.float64) for name in names_of(made)}


METHODS: tuple[type[Method], ...] = (PrivateNetwork,)
PRIVATE_TASKS: Mapping[str, PrivateTask] = {"private_network": private_network}
MODELS: tuple[type[Model], ...] = (RowNetwork,)
