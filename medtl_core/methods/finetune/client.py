"""One round of fine-tuning at a hospital: the suffix of the backbone and the head, by stochastic gradient descent.

Gradients come from one random label-preserving view of each case, which is augmentation; classifiers answer from the
mean over all views. What is trained travels, nothing else: the hospital knows the frozen rest.
"""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Self, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError, DivergedError
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.crossval import fold_of
from medtl_core.heads.linear import batches
from medtl_core.methods.balanced import find_loss
from medtl_core.methods.finetune.activations import Inputs, averaged
from medtl_core.methods.finetune.adapters import find_adapter
from medtl_core.methods.finetune.split_backbone import open_backbone
from medtl_core.methods.finetune.trainable_suffix import TrainableSuffix
from medtl_core.rng import stream
from medtl_core.runtime import CPU, processor
from medtl_core.values import Array, Released, Update

if TYPE_CHECKING:
    from torch import Tensor

Rows = NDArray[np.int64]

#: The learning rate falls by this factor from one block to the next deeper one below it (ULMFiT, Howard and Ruder,
#: ACL 2018).
DEPTH_DECAY = 2.6
#: Share of a hospital's patients that only watch, and how few of them are too few to stop anything.
_WATCHING, _TOO_FEW = 1 / 7, 10
#: What the server sends beside the trained arrays.
FIXED = ("mean", "scale", "counts")


@dataclass(frozen=True)
class TuningRecipe:
    """How a hospital trains for one round.

    Attributes:
        adapter: one of `adapters.ADAPTERS`.
        scope: one of `split_backbone.SCOPES`.
        loss: one of `balanced.LOSSES`, for the class counts of all hospitals.
        epochs: passes over the hospital's cases.
        batch_size: cases a step.
        rate: learning rate of the head; the backbone's is `rate` x `Adapter.rate` / `DEPTH_DECAY` ** depth.
        weight_decay: L2 coefficient on all that is trained.
        clip: largest norm of a step's gradient, of the head and of the backbone each.
    """

    adapter: str = "finetune"
    scope: str = "last"
    loss: str = "logit-adjusted"
    epochs: int = 5
    batch_size: int = 16
    rate: float = 0.05
    weight_decay: float = 1e-3
    clip: float = 5.0

    def config(self) -> dict[str, str | int | float | bool]:
        """Returns the recipe as flat values that travel."""
        return {name.replace("_", "-"): value for name, value in asdict(self).items()}

    @classmethod
    def read(cls, config: Config) -> Self:
        """Returns the recipe that `config` made flat."""
        return cls(**{e.name: type(getattr(cls, e.name))(config[e.name.replace("_", "-")]) for e in fields(cls)})


def tune(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Answers one round: the trained arrays under their names, after local training from where the server stands.

    Args:
        site: who trains.
        arrays: "head" float32 [C, d + 1] on standardised features, the adapter's arrays, and `FIXED`: "mean" and
            "scale" [d] of the features, "counts" [C] of all hospitals' cases.
        config: a `TuningRecipe`, with "round".

    Raises:
        DivergedError, DataError, ConfigError: the loss is not finite; there are no images; the recipe does not fit.
    """
    recipe = TuningRecipe.read(config)
    rng = stream(site.seed, "tune", recipe.adapter, recipe.scope, site.name, int(config["round"]))
    return _Training(site, recipe, arrays).run(rng)


TASKS = {"tune": tune}


@final
class _Training:
    """The loop: steps on the training cases, and after each epoch a look at the cases that only watch."""

    def __init__(self, site: SiteData, recipe: TuningRecipe, arrays: Arrays) -> None:
        opened = site.material if recipe.scope != "head" else None
        self._processor = processor(opened.settings.device) if opened else CPU
        place = self._processor.place
        self._trained = {name: _leaf(arrays[name], place) for name in sorted(arrays.keys() - set(FIXED))}
        self._deep = {name: tensor for name, tensor in self._trained.items() if name != "head"}
        self._recipe, self._head, self._rates = recipe, self._trained["head"], {"head": 1.0}
        fixed = (arrays["mean"], arrays["scale"], site.values)
        self._mean, self._scale, self._values = (self._head.new_tensor(value) for value in fixed)
        self._label = self._head.new_tensor(site.label).long()
        self._rows, self._watching = split(site.patients, site.label, site.seed)
        self._loss = find_loss(recipe.loss, arrays["counts"]).value
        if recipe.scope == "head":  # no image is opened
            return
        if site.material is None:
            raise DataError(f"hospital {site.name!r} holds features only; fine-tuning its backbone needs the images")
        backbone = open_backbone(site.material.settings, site.material.views, recipe.scope)
        self._adapter, self._views = find_adapter(recipe.adapter, backbone), len(backbone.spec.views)
        self._inputs, self._suffix = Inputs(backbone, site.material), TrainableSuffix(backbone)
        self._rates |= {name: self._adapter.rate / DEPTH_DECAY ** backbone.depth(name) for name in self._deep}

    def run(self, rng: np.random.Generator) -> Released:
        """Trains; where cases watch, the epoch they like best is kept, the start among the choices."""
        losses = []
        best, kept, least = 0, self._arrays(), self._watched()
        for epoch in range(1, self._recipe.epochs + 1):
            order = batches(len(self._rows), self._recipe.batch_size, rng=rng)
            losses.append(float(np.mean([self._step(self._rows[batch], rng) for batch in order])))
            loss = self._watched()
            if loss <= least:
                best, kept, least = epoch, self._arrays(), loss
        metrics = {"loss-first": losses[0], "loss-last": losses[-1], "epoch": float(best)}
        return Released(Update(kept), metrics=metrics)

    def _step(self, rows: Rows, rng: np.random.Generator) -> float:
        import torch

        for tensor in self._trained.values():
            tensor.grad = None
        with torch.autocast(self._processor.kind, dtype=torch.bfloat16, enabled=self._processor.half):
            features = self._features(rows, rng)
        loss = self._loss(self._logits(features.float()), self._label[rows])
        value = loss.item()
        if not np.isfinite(value):
            raise DivergedError("fine-tuning diverged (the loss is not finite); lower tune-rate")
        loss.backward()  # type: ignore[no-untyped-call]
        self._descend()
        return value

    def _features(self, rows: Rows, rng: np.random.Generator | None = None) -> "Tensor":
        """Features [b, d]: of a random view each, differentiable; without `rng`, means over all views, constant."""
        if self._recipe.scope == "head":
            return self._values[rows]
        self._suffix.place(self._adapter.effective(self._deep))
        if rng is None:
            return averaged(self._suffix, self._inputs, rows)
        return self._suffix(*self._inputs.batch(rows, rng.integers(self._views, size=len(rows))))

    def _logits(self, features: "Tensor") -> "Tensor":
        return ((features - self._mean) / self._scale) @ self._head[:, :-1].T + self._head[:, -1]

    def _watched(self) -> float:
        """Loss on the cases that only watch; 0 where there are none, so that the last epoch counts as the best."""
        import torch

        rows = self._watching
        if not len(rows):
            return 0.0
        with torch.no_grad():
            return float(self._loss(self._logits(self._features(rows)), self._label[rows]))

    def _descend(self) -> None:
        """Plain gradient descent, the tensors of one learning rate clipped together.

        Written out, because an optimiser of torch's reads its compiler, which takes as long as to import torch.
        """
        import torch

        groups: dict[float, list[Tensor]] = {}
        for name, tensor in self._trained.items():
            groups.setdefault(self._recipe.rate * self._rates[name], []).append(tensor)
        with torch.no_grad():
            for rate, tensors in groups.items():
                torch.nn.utils.clip_grad_norm_(tensors, self._recipe.clip)
                for tensor in tensors:
                    if tensor.grad is not None:
                        tensor.add_(tensor.grad.add(tensor, alpha=self._recipe.weight_decay), alpha=-rate)

    def _arrays(self) -> dict[str, Array]:
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self._trained.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise DivergedError("fine-tuning diverged (a trained tensor is not finite); lower tune-rate")
        return {name: np.array(array, np.float32, order="C") for name, array in arrays.items()}


def _leaf(array: Array, place: str) -> "Tensor":
    """A tensor to be trained; a kernel lies as the convolutions read it fastest."""
    import torch

    tensor = torch.tensor(array, device=place)
    if tensor.ndim == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor.requires_grad_()


def split(patients: Array, label: NDArray[np.int64], seed: int) -> tuple[Rows, Rows]:
    """Returns the rows to train on and the rows that only watch: a seventh of the patients, the same every round.

    A hospital whose seventh is fewer than ten patients trains on all its cases and stops nothing early.
    """
    fold = fold_of(patients, label, round(1 / _WATCHING), seed)
    watching = np.flatnonzero(fold == 0)
    if len(np.unique(patients[watching])) < _TOO_FEW:
        return np.arange(len(label)), watching[:0]
    return np.flatnonzero(fold != 0), watching
