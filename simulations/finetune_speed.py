"""The speed of fine-tuning: `python -m simulations.finetune_speed`. Every ratio is of two things measured in this run.

A federated epoch goes through the real apps over the in-process grid with one worker: messages, a private copy of the
trained part for every hospital and round, aggregation. Beside it stands the loop one would write by hand in plain torch
for the same images and hospitals: the same folded network, steps, batch sizes, random views and clipping, one thread.

The frozen prefix (and decoding) is left out on both sides in the lines "epoch": its activations are in memory. In the
line "first epoch" it is included on both sides. Hospitals hold so few cases that none is set aside to watch. What is
compared is CPU seconds of the whole process, since other work on the machine stretches wall time; the two sides take
turns, and the fastest of some repetitions counts.
"""

import copy
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl_core.data.views import views_of
from simulations.probe import local
from simulations.speed import SHARED, Line, printed

if TYPE_CHECKING:
    from torch import Tensor, nn

_SITES, _CASES, _BATCH, _CLIP, _SIZE = 10, 60, 16, 5.0, 128
_RATE, _BODY_RATE, _DEEPER = 0.02, 0.002, 2.6
_REPETITIONS = 3
#: Stage and block of EfficientNet-Lite0's agreed taps.
_TAPS, _CHANNELS = ((2, 1), (3, 2), (4, 2)), (40, 80, 112)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the scopes asked for and prints their ratios."""
    return printed({scope: partial(measured, scope) for scope in ("last", "all")}, __doc__, arguments)


def measured(scope: str) -> list[Line]:
    """The epoch of one scope with the prefix in memory, and, where there is a prefix, the first one with it."""
    import torch

    from client.app import app as client_app

    torch.set_num_threads(1)
    rounds: dict[str, list[float]] = {"ours": [], "theirs": [], "our first": [], "their first": []}
    with tempfile.TemporaryDirectory() as folder:
        values = _scenario(scope, Path(folder) / "cache")
        plain, sites = _plain(values, scope)
        _federated(values, Path(folder) / "warm")  # features, network and page cache
        for number in range(_REPETITIONS):
            client_app.hospitals.close()  # hospitals opened anew know no activations
            first, again = _federated(values, Path(folder) / str(number))
            started = time.process_time()
            hospitals = [plain.hospital(images, label) for images, label in sites]
            plain.epoch(hospitals)
            rounds["their first"].append(time.process_time() - started)
            started = time.process_time()
            plain.epoch(hospitals)
            rounds["theirs"].append(time.process_time() - started)
            rounds["ours"].append(again)
            rounds["our first"].append(first)
    detail = f"{_SITES} hospitals, {sum(len(label) for _, label in sites)} images of {_SIZE} pixels, one thread"
    lines = [_line(f"epoch of scope {scope}", rounds["ours"], rounds["theirs"], detail)]
    if scope != "all":
        lines.append(_line(f"first epoch of scope {scope}", rounds["our first"], rounds["their first"], detail))
    return lines


def _line(name: str, ours: list[float], theirs: list[float], detail: str) -> Line:
    value = min(ours) / min(theirs)
    return Line(f"{name}: medtl / plain torch", value, "<= 1.10", f"{min(ours):.2f} s / {min(theirs):.2f} s, {detail}")


def _scenario(scope: str, cache: Path) -> dict[str, Any]:
    """Real dermoscopy where it lies, else the phantom."""
    data = {"data": SHARED.name, "data-path": str(SHARED)} if SHARED.is_dir() else {"data": "phantom"}
    return {
        **data, "sites": _SITES, "shots": _CASES, "image-size": _SIZE, "cache": str(cache), "tune-epochs": 1,
        "batch-size": _BATCH, "tune-rate": _RATE, "methods": f"finetune-{scope}-2", "bootstrap": 1,
    }  # fmt: skip


def _federated(values: dict[str, Any], out: Path) -> list[float]:
    """CPU seconds of this process in each round of training: messages, hospitals and aggregation."""
    stamps: list[float] = []

    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] in ("phase", "exchange") and str(event["phase"]).startswith("tune-"):
            stamps.append(time.process_time())

    local({**values, "out": str(out)}, workers=1, listener=listen)
    return [after - before for before, after in zip(stamps[::2], stamps[1::2], strict=True)]


# --- plain torch


@dataclass(frozen=True)
class Hospital:
    """What the plain loop holds of one hospital.

    Attributes:
        inputs: of the trained part, float32 [n, views, c, h, w] or pixels uint8 [n, views, s, s, 3].
        shallow: pooled taps of the frozen part, float32 [n, views, ds].
    """

    inputs: "Tensor"
    shallow: "Tensor"
    label: "Tensor"


@dataclass(frozen=True)
class Plain:
    """The loop one would write by hand, of EfficientNet-Lite0; the scope trained is "last" or "all"."""

    network: "nn.Module"
    scope: str
    views: tuple[str, ...]
    classes: int

    def hospital(self, images: list[Any], label: "Tensor") -> Hospital:
        """Decodes the images and runs the frozen prefix, all views of an image in one pass."""
        import torch

        inputs, shallow = [], []
        for image in images:
            maps = torch.from_numpy(views_of(image, _SIZE, self.views))
            found = []
            with torch.no_grad():
                if self.scope == "last":
                    maps = _stem(self.network, maps)
                    for place, block in _blocks(self.network, "all")[:-1]:
                        maps = block(maps)
                        found += [_pooled(maps)] if place in _TAPS else []
            inputs.append(maps)
            shallow.append(torch.cat(found, dim=1) if found else torch.zeros(len(maps), 0))
        return Hospital(torch.stack(inputs), torch.stack(shallow), label)

    def epoch(self, hospitals: list[Hospital]) -> "dict[str, Tensor]":
        """One federated epoch: each hospital trains from the same start, then the weighted mean."""
        total = sum(len(hospital.label) for hospital in hospitals)
        mean: dict[str, Tensor] = {}
        for hospital in hospitals:
            for name, tensor in self._trained(hospital).items():
                mean[name] = mean.get(name, 0) + tensor * (len(hospital.label) / total)
        return mean

    def _trained(self, hospital: Hospital) -> "dict[str, Tensor]":
        import torch
        from torch.nn import functional

        body = copy.deepcopy(self.network).requires_grad_()
        head = torch.nn.Linear(2 * sum(_CHANNELS), self.classes)
        torch.nn.init.zeros_(head.weight)
        groups = [list(block.parameters()) for _, block in _blocks(body, self.scope)]
        if self.scope == "all":
            groups.insert(0, list(body.get_submodule("conv_stem").parameters()))
        rates = [_BODY_RATE / _DEEPER ** (len(groups) - 1 - depth) for depth in range(len(groups))]
        grouped: list[dict[str, Any]] = [{"params": list(head.parameters()), "lr": _RATE}]
        grouped += [{"params": group, "lr": rate} for group, rate in zip(groups, rates, strict=True)]
        optimiser = torch.optim.SGD(grouped, weight_decay=1e-3)
        for rows in torch.split(torch.randperm(len(hospital.label)), _BATCH):
            views = torch.randint(len(self.views), (len(rows),))
            maps, found = hospital.inputs[rows, views], [hospital.shallow[rows, views]]
            maps = _stem(body, maps) if self.scope == "all" else maps
            for place, block in _blocks(body, self.scope):
                maps = block(maps)
                found += [_pooled(maps)] if place in _TAPS else []
            loss = functional.cross_entropy(head(torch.cat(found, dim=1)), hospital.label[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for group in optimiser.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], _CLIP)
            optimiser.step()
        trained = {name: value for name, value in body.named_parameters() if value.grad is not None}
        return {name: value.detach() for name, value in [*trained.items(), *head.named_parameters()]}


def _plain(values: dict[str, Any], scope: str) -> tuple[Plain, list[tuple[list[Any], "Tensor"]]]:
    """The loop, and every hospital's images, as files or arrays, with their labels."""
    import torch

    from medtl_core.backbones.frozen import freeze
    from medtl_core.backbones.networks import load_network
    from medtl_core.backbones.zoo import find_backbone
    from medtl_core.config import settings
    from medtl_core.data.shared import shared_parts, shared_source
    from medtl_core.features.extract import images_of

    chosen = settings(values)
    source = shared_source(chosen)
    network = freeze(load_network(find_backbone("lite0"))[0], torch.rand(1, 3, _SIZE, _SIZE))
    parts = [source.examples.take(part.train) for part in shared_parts(chosen).sites]
    plain = Plain(
        network.to(memory_format=torch.channels_last), scope, source.entry.views, len(source.examples.task.classes)
    )
    return plain, [(list(images_of(part)), torch.tensor(part["label"])) for part in parts]


def _blocks(network: "nn.Module", scope: str) -> "list[tuple[tuple[int, int], nn.Module]]":
    """(stage, block) and module of the trained part, up to the deepest tap."""
    blocks: Any = network.get_submodule("blocks")
    found = [((stage, number), blocks[stage][number]) for stage in range(5) for number in range(len(blocks[stage]))]
    return found[-1:] if scope == "last" else found


def _stem(network: "nn.Module", pixels: "Tensor") -> "Tensor":
    images = pixels.float().mul_(2 / 255).sub_(1).permute(0, 3, 1, 2)
    maps: Tensor = network.get_submodule("bn1")(network.get_submodule("conv_stem")(images))
    return maps


def _pooled(maps: "Tensor") -> "Tensor":
    import torch

    flat = maps.flatten(2)
    mean = flat.mean(dim=2, keepdim=True)
    return torch.cat([mean[:, :, 0], (flat - mean).square().mean(dim=2).clamp_min(1e-12).sqrt()], dim=1)


if __name__ == "__main__":
    raise SystemExit(main())
