"""The peers' job as users of plain torch, pfl and Flower would write it; nothing here reads medtl.

`python -m simulations.peer_loops NAME FOLDER` trains the job that lies in FOLDER by one of them, in a process of its
own, and leaves the head there. The job: hospitals with few small images each, a frozen random ResNet-18 up to its third
layer, its mean features standardised, a linear head trained for some rounds of FedAvg, then the accuracy on the test
images. Each runs the network once over each image, and takes the cases of a round in the order the job names.
"""

import sys
import time
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

Job = Mapping[str, Any]
#: Weight [C, d] and bias [C] on standardised features.
Weights = tuple["Tensor", "Tensor"]

#: torchvision's children of ResNet-18 up to `layer3`.
_DEPTH = 7
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@lru_cache(maxsize=1)
def read_job(folder: str) -> Job:
    """Returns the arrays of a job; see `simulations.peers`."""
    with np.load(Path(folder) / "job.npz") as stored:
        return dict(stored)


@lru_cache(maxsize=1)
def network(seed: int) -> "nn.Module":
    """Returns the frozen network."""
    import torch
    from torchvision.models import resnet18

    torch.manual_seed(seed)
    layers = list(resnet18(weights=None).eval().children())[:_DEPTH]
    return torch.nn.Sequential(*layers).requires_grad_(False).to(memory_format=torch.channels_last)


def features(job: Job, images: Any, batch: int = 64) -> "Tensor":
    """Returns the standardised features, float32 [n, d], of grey images uint8 [n, s, s]."""
    import torch

    body, rows = network(int(job["network_seed"])), []
    mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
    with torch.inference_mode():
        for part in torch.split(torch.from_numpy(images), batch):
            pixels = (part[:, None].float().div(255).expand(-1, 3, -1, -1) - mean) / std
            rows.append(body(pixels.contiguous(memory_format=torch.channels_last)).mean((2, 3)))
    return ((torch.cat(rows) - torch.from_numpy(job["mean"])) / torch.from_numpy(job["scale"])).clone()


@cache
def hospital(folder: str, number: int) -> tuple["Tensor", "Tensor"]:
    """Returns a hospital's features and labels, computed once a process."""
    import torch

    job = read_job(folder)
    return features(job, job["images"][number]), torch.from_numpy(job["labels"][number])


def trained(folder: str, number: int, round_: int, start: Weights) -> Weights:
    """Returns the head after one round at a hospital."""
    import torch

    job, (values, label) = read_job(folder), hospital(folder, number)
    head = torch.nn.Linear(values.shape[1], len(start[1]))
    with torch.no_grad():
        for parameter, array in zip((head.weight, head.bias), start, strict=True):
            parameter.copy_(array)
    optimiser = torch.optim.SGD(head.parameters(), lr=float(job["rate"]), weight_decay=float(job["decay"]))
    for rows in torch.split(torch.from_numpy(job["orders"][round_, number]), int(job["batch"])):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(values[rows]), label[rows]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return head.weight.detach(), head.bias.detach()


def zeros(job: Job) -> Weights:
    """Returns where training starts."""
    import torch

    classes = int(job["labels"].max()) + 1
    return torch.zeros(classes, len(job["mean"])), torch.zeros(classes)


def accuracy(job: Job, head: Weights) -> float:
    """Returns the share of the test images that a head names rightly."""
    answers = (features(job, job["test_images"]) @ head[0].T + head[1]).argmax(1).numpy()
    return float((answers == job["test_labels"]).mean())


def plain(folder: str) -> Weights:
    """A loop in plain torch."""
    job = read_job(folder)
    head = zeros(job)
    rounds, hospitals, _ = job["orders"].shape
    for round_ in range(rounds):
        heads = [trained(folder, number, round_, head) for number in range(hospitals)]
        head = sum(weight for weight, _ in heads) / hospitals, sum(bias for _, bias in heads) / hospitals
    return head


def flower(folder: str) -> Weights:
    """Flower's own FedAvg on its Ray simulation, two actors."""
    import torch
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    job, head = read_job(folder), dict[str, Any]()
    rounds, hospitals, cases = job["orders"].shape
    client, server = ClientApp(), ServerApp()

    @client.train()
    def train(message: Any, context: Any) -> Any:
        import torch

        from simulations import peer_loops

        torch.set_num_threads(1)
        arrays = message.content["arrays"].to_torch_state_dict()
        number, round_ = int(context.node_config["partition-id"]), int(message.content["config"]["server-round"]) - 1
        weight, bias = peer_loops.trained(folder, number, round_, (arrays["weight"], arrays["bias"]))
        content = {"arrays": ArrayRecord({"weight": weight, "bias": bias})}
        return Message(RecordDict({**content, "metrics": MetricRecord({"num-examples": cases})}), reply_to=message)

    @server.main()
    def main(grid: Any, context: Any) -> None:
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=hospitals, min_available_nodes=hospitals)
        start = ArrayRecord(dict(zip(("weight", "bias"), zeros(job), strict=True)))
        head.update(strategy.start(grid, start, num_rounds=rounds).arrays.to_torch_state_dict())

    resources: Any = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}}
    run_simulation(server, client, num_supernodes=hospitals, backend_config=resources)
    return torch.as_tensor(head["weight"]), torch.as_tensor(head["bias"])


def pfl(folder: str) -> Weights:
    """Apple's pfl: its FederatedAveraging and SimulatedBackend."""
    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams

    job, asked = read_job(folder), dict[int, int]()
    rounds, hospitals, cases = job["orders"].shape

    def cases_of(number: int) -> Any:
        values, label = hospital(folder, number)
        order = torch.from_numpy(job["orders"][asked.get(number, 0), number])
        asked[number] = asked.get(number, 0) + 1
        return Dataset(raw_data=(values[order], label[order]), user_id=str(number))

    users = FederatedDataset(cases_of, get_user_sampler("minimize_reuse", list(range(hospitals))))
    model = _pfl_model(job)
    FederatedAveraging().run(
        NNAlgorithmParams(rounds, rounds + 1, hospitals, 0), SimulatedBackend(users, None), model,
        model_train_params=NNTrainHyperParams(
            local_batch_size=int(job["batch"]), local_num_epochs=1, local_learning_rate=float(job["rate"])
        ),
        model_eval_params=NNEvalHyperParams(cases), callbacks=[],
    )  # fmt: skip
    head = model.pytorch_model
    return head.weight.detach(), head.bias.detach()


def _pfl_model(job: Job) -> Any:
    """The linear head as pfl wants it: with a loss, with metrics, and with both sides' optimisers."""
    import torch
    from pfl.metrics import Weighted
    from pfl.model.pytorch import PyTorchModel

    class Head(torch.nn.Linear):
        def loss(self, values: Any, label: Any) -> Any:
            return torch.nn.functional.cross_entropy(self(values), label)

        def metrics(self, values: Any, label: Any) -> Any:
            return {"loss": Weighted(float(self.loss(values, label)) * len(label), len(label))}

    start = zeros(job)
    head = Head(start[0].shape[1], len(start[1]))
    with torch.no_grad():
        head.weight.copy_(start[0])
        head.bias.copy_(start[1])
    local = partial(torch.optim.SGD, weight_decay=float(job["decay"]))
    return PyTorchModel(head, local, torch.optim.SGD(head.parameters(), lr=1.0))


LOOPS: Mapping[str, Callable[[str], Weights]] = {"plain": plain, "flower": flower, "pfl": pfl}


def note_spent(path: Path) -> None:
    """Writes this process's CPU seconds and peak memory in megabytes."""
    # not getrusage: its peak is inherited from the process that started this one
    status = Path("/proc/self/status").read_text(encoding="ascii")
    path.write_text(f"{time.process_time()} {int(status.split('VmHWM:')[1].split()[0]) / 1e3}", encoding="ascii")


def main() -> None:
    """Trains, judges and saves."""
    import torch

    name, folder = sys.argv[1:]
    torch.set_num_threads(1)
    head = LOOPS[name](folder)
    judged = accuracy(read_job(folder), head)
    np.savez(Path(folder) / f"{name}.npz", weight=head[0].numpy(), bias=head[1].numpy(), accuracy=judged)
    note_spent(Path(folder) / f"{name}.spent")


if __name__ == "__main__":
    main()
