"""A medical source: `medtl pretrain` fine-tunes a backbone on one public set and registers it as `own:NAME`.

What a network learns from its cases leaves with its weights, so this is for public data only: a set of the catalog, or
one that the user declares public. Norm layers keep their statistics: the network trains in evaluation mode, and its
file is read like any other backbone's.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from medtl_core.backbones.backbone import Backbone
from medtl_core.backbones.own import check_name, register
from medtl_core.backbones.weights import weights_sha
from medtl_core.backbones.zoo import find_backbone
from medtl_core.cli import console
from medtl_core.cli.plan import name_data
from medtl_core.cli.trainer import ALL, Lesson, Progress, sides, train
from medtl_core.config import settings
from medtl_core.data.leak import check_leaks
from medtl_core.data.source import Source, open_source
from medtl_core.errors import ConfigError, DataError, RunError, did_you_mean
from medtl_core.features.extract import images_of
from medtl_core.store import write_sealed
from medtl_core.versions import versions

if TYPE_CHECKING:
    from torch import nn


def open_public(data: str, *, declared: bool) -> Source:
    """Returns the cases to learn from.

    Args:
        data: folder, file or catalog name.
        declared: whether the user says that the cases are public.

    Raises:
        ConfigError: the set is not one of the catalog, and nobody says that it is public.
        DataError: the data cannot be used, leak from training to test, are a table, or show fewer than two classes.
    """
    source = open_source(settings(name_data(data)))
    if source.entry.name == "own" and not declared:
        raise ConfigError(
            f"{data} is not a known public set. What the network learns from these cases leaves with its weights: add "
            "--public only if anyone may have the cases; never for patients entrusted to you"
        )
    images_of(source.examples)
    parts = sides(source.examples)
    check_leaks(source.examples, parts)
    shown = len(np.unique(source.examples["label"][parts["train"]]))
    if shown < 2:
        raise DataError(f"{data}: the training cases show {shown} class(es); a source needs at least two")
    return source


def pretrain(
    source: Source, lesson: Lesson, out: Path, *, progress: Progress = lambda epoch, loss, accuracy: None
) -> dict[str, Any]:
    """Trains, writes `out` and its manifest beside it, registers both, and returns the manifest.

    Equal settings give equal bytes on one machine with one number of threads.

    Args:
        source: from `open_public`.
        lesson: how.
        out: NAME.safetensors; the source is then called own:NAME.
        progress: told after each epoch.

    Raises:
        ConfigError: the name, the backbone or the tap cannot be used.
        WeightsError: the starting weights are missing or damaged.
        RunError: the file is there already, cannot be written, or training left the finite numbers.
    """
    name = _check_out(out)
    backbone = find_backbone(lesson.backbone)
    start = {"backbone": backbone.name, "sha256": weights_sha(backbone, lesson.weights)}
    network = _prepared(backbone, lesson, len(source.examples.task.classes))
    history = train(network, backbone, source, lesson, progress)
    content = _packed(network, backbone)
    made = {"name": f"own:{name}", "arch": backbone.identity, "start": start, "history": history}
    try:
        sealed = write_sealed(out.with_suffix(""), content, {"schema": 1, **made, **_origin(source, lesson)})
    except OSError as error:
        raise RunError(f"{out} cannot be written ({error.strerror}); choose another place with --out") from error
    register(name, content, sealed)
    return sealed


def _origin(source: Source, lesson: Lesson) -> dict[str, Any]:
    """What a manifest says of the cases, the settings and the machine."""
    import torch

    entry = source.entry
    return {
        "data": {key: getattr(entry, key) for key in ("name", "title", "modality", "licence", "citation", "url")},
        "notes": list(source.notes),
        "classes": list(source.examples.task.classes),
        "cases": {side: len(rows) for side, rows in sides(source.examples).items()},
        "settings": {key: value for key, value in asdict(lesson).items() if key != "weights"},
        "versions": {**versions(), "threads": torch.get_num_threads()},
        "warning": "The weights hold what was learnt from the cases: they are as public as the cases are.",
    }


def _check_out(out: Path) -> str:
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out.name} must end in .safetensors, e.g. {out.stem or 'source'}.safetensors")
    if out.exists():
        raise RunError(f"{out} is there already; choose another name with --out, or remove it")
    if not out.absolute().parent.is_dir():
        raise RunError(f"the folder {out.absolute().parent} does not exist; make it first")
    return check_name(out.stem)


def _prepared(backbone: Backbone, lesson: Lesson, classes: int) -> "nn.Module":
    """The network with a new classifier; what shall not be trained takes no gradient."""
    import torch

    from medtl_core.backbones.networks import new_classifier

    if lesson.after not in (ALL, *backbone.taps):
        hint = did_you_mean(lesson.after, [ALL, *backbone.taps])
        raise ConfigError(f"backbone {backbone.name!r} has no tap {lesson.after!r}; {hint}")
    network = new_classifier(backbone, lesson.weights, classes, lesson.seed)
    network = network.eval().to(memory_format=torch.channels_last)
    if lesson.after != ALL:
        inside = f"{backbone.taps[lesson.after]}."
        names = [name for name, _ in network.named_parameters()]
        last = max((place for place, name in enumerate(names) if name.startswith(inside)), default=-1)
        for _, parameter in list(network.named_parameters())[: last + 1]:
            parameter.requires_grad_(False)
    return network


def _packed(network: "nn.Module", backbone: Backbone) -> bytes:
    """The network's tensors under the library's own names; one entry of metadata, so that the bytes have one order."""
    from safetensors.torch import save

    state = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    faulty = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if faulty:
        raise RunError(f"training left numbers that are not finite in {faulty[0]!r}; lower --learning-rate")
    return save(state, {"arch": backbone.identity})


def pretrain_command(
    data: Annotated[str, typer.Option(metavar="DIR", help="Folder or file of ONE PUBLIC set, or its catalog name.")],
    out: Annotated[Path, typer.Option(metavar="NAME.safetensors", help="New file; it is then called own:NAME.")],
    backbone: Annotated[str, typer.Option(help="Where it starts.")] = "lite0",
    epochs: Annotated[int, typer.Option(help="Passes over the training cases.")] = 5,
    after: Annotated[str, typer.Option(metavar="TAP", help="Train only what is deeper than this tap.")] = "all",
    weights: Annotated[str, typer.Option(metavar="PATH", help="File or folder with the starting weights.")] = "",
    image_size: Annotated[int, typer.Option(help="Pixels a side; 0 = the backbone's own.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at its highest.")] = 3e-4,
    seed: Annotated[int, typer.Option(help="Of the first values, the order and the augmentation.")] = 0,
    public: Annotated[bool, typer.Option("--public", help="Declare that anyone may have these cases.")] = False,
) -> None:
    """Fine-tune a backbone on one public set and register it as a source, own:NAME.

    Never on entrusted patients: what the network learns from its cases leaves with its weights.
    """
    lesson = Lesson(backbone, weights, epochs, after, image_size, batch_size, learning_rate, seed=seed)
    source = open_public(data, declared=public)
    say = partial(console.say, console.console_of(stderr=True))
    say("WARNING: for public cases only. What the network learns from them leaves with its weights.")
    say(f"cases: {source.entry.title}; licence, to be kept for what is made from them: {source.entry.licence}")

    def tell(epoch: int, loss: float, accuracy: float | None) -> None:
        shown = "none held out" if accuracy is None else f"held-out balanced accuracy {100 * accuracy:.1f}"
        say(f"epoch {epoch} of {epochs}: loss {loss:.3f}, {shown}")

    made = pretrain(source, lesson, out, progress=tell)
    console.show(f"weights   {out.absolute()}", f"sha256    {made['sha256']}", f"backbone  {made['name']}")


COMMANDS = {"pretrain": console.command(pretrain_command)}
