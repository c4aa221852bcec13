"""Writes a head for another program and checks what was written: ONNX, `torch.export`, or weights alone.

A folder appears whole, with `manifest.json` beside the model, or not at all.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtl_core.data.synthetic.phantom import phantom
from medtl_core.data.views import square
from medtl_core.errors import ConfigError, RunError, WeightsError
from medtl_core.export import HAS
from medtl_core.predict.cases import NewCases, unlabelled
from medtl_core.rng import stream
from medtl_core.store import write_json
from medtl_core.values import Array
from medtl_core.versions import versions

if TYPE_CHECKING:
    from medtl_core.export.graph import Answering
    from medtl_core.predict.predictor import Predictor

#: Largest difference of a probability between the written file and `medtl predict`.
TOLERANCE = 1e-4
#: Cases on which they are compared.
CASES = 100
_OUTPUTS = ("logits", "probabilities")
_SIDE = 192

Inputs = Mapping[str, Array]
Runs = Callable[[Inputs], Array]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        model: the file.
        difference: largest difference of a probability from `medtl predict`, over the cases compared.
        cases: how many these were.
    """

    model: Path
    difference: float
    cases: int


def write(predictor: "Predictor", kind: str, folder: Path) -> Written:
    """Writes a head and its network in a form of `KINDS` into a new folder, reads it back and compares it.

    Raises:
        ConfigError: no file can hold what the head does or reads, or a package is missing.
        RunError: the folder exists already.
        WeightsError: what was written answers otherwise than `medtl predict`; nothing is left of it.
    """
    from medtl_core.export.graph import Answering

    ending, save = KINDS[kind]
    module = Answering(predictor)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise RunError(f"{folder} exists already; choose another name with --out") from None
    try:
        path = folder / f"model.{ending}"
        run = save(module, path)
        given, expected = _compared(predictor, module)
        difference = float(np.nanmax(np.abs(run(given) - expected)))
        if not difference <= TOLERANCE:
            raise WeightsError(
                f"the {kind} file answers otherwise than medtl predict: its probabilities differ by {difference:.1e}, "
                f"more than {TOLERANCE:g}, on {len(expected)} cases; nothing was kept of it"
            )
        written = Written(path, difference, len(expected))
        write_json(folder / "manifest.json", _manifest(predictor, module, kind, written))
    except BaseException:
        shutil.rmtree(folder)
        raise
    return written


def _onnx(module: "Answering", path: Path) -> Runs:
    import torch

    from medtl_core.export.graph import exported

    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter asks for it
    except ImportError:
        raise ConfigError("--to onnx needs ONNX; pip install 'medtl[export]'") from None
    names = {"input_names": [*module.inputs], "output_names": [*_OUTPUTS]}
    program: Any = torch.onnx.export(exported(module), dynamo=True, verbose=False, **names)
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda given: np.asarray(session.run([_OUTPUTS[1]], {name: given[name] for name in module.inputs})[0])


def _torch(module: "Answering", path: Path) -> Runs:
    import torch

    from medtl_core.export.graph import exported, in_order

    torch.export.save(exported(module), path)
    read = torch.export.load(path).module()
    return lambda given: np.asarray(read(*in_order(module, given))[1].detach().numpy())


def _safetensors(module: "Answering", path: Path) -> Runs:
    import torch
    from safetensors.torch import load_file, save_file

    from medtl_core.export.graph import in_order

    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)

    def run(given: Inputs) -> Array:
        module.load_state_dict(load_file(path))
        with torch.inference_mode():
            return np.asarray(module(*in_order(module, given))[1].numpy())

    return run


#: Form -> ending of the file, and what writes it and returns what runs the file.
KINDS: Mapping[str, tuple[str, Callable[["Answering", Path], Runs]]] = {
    "onnx": ("onnx", _onnx),
    "torch": ("pt2", _torch),
    "safetensors": ("safetensors", _safetensors),
}


def _compared(predictor: "Predictor", module: "Answering") -> tuple[Inputs, Array]:
    """Inputs of made-up cases, and the probabilities [n, C] that `medtl predict` gives of them; NaN of none told."""
    given, columns = dict[str, Array](), dict[str, Array]()
    for name, (kind, shape) in module.inputs.items():
        if name == "table":
            columns["table"] = _table(shape[0])
            given[name] = columns["table"].astype(kind)
        elif name.startswith("pixels"):
            columns["image"] = phantom(seed=1, size=_SIDE, patients=CASES)["image"][:CASES]
            grey = [np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2) for image in columns["image"]]
            given[name] = np.stack([square(image, shape[0]) for image in grey])
        elif name.startswith(HAS):
            given[name] = np.ones(CASES, bool)
        else:
            columns[name] = given[name] = _waves(*shape)
    if any(name.startswith(f"{HAS}pixels") for name in given):
        given, columns["image"] = _without_some(given, columns["image"])
    names = tuple(str(number) for number in range(CASES))
    answers = predictor.answers(NewCases(names, unlabelled(columns)))
    expected = np.full((CASES, len(predictor.classes)), np.nan)
    for row, answer in enumerate(answers):
        if answer.fault:
            raise WeightsError(f"medtl predict cannot answer the cases that the file is compared on: {answer.fault}")
        for name, share in answer.probabilities.items():
            expected[row, predictor.classes.index(name)] = share
    return given, expected


def _without_some(given: Inputs, images: Array) -> tuple[dict[str, Array], Array]:
    """The same, but every fifth case has no picture: its pixels are blank and do not count."""
    gone, column = np.arange(CASES) % 5 == 4, np.empty(CASES, object)
    column[:] = ["" if lacks else image for lacks, image in zip(gone, images, strict=True)]
    changed = {name: array.copy() for name, array in given.items()}
    for name, array in changed.items():
        if "pixels" in name:
            array[gone] = 0
    return changed, column


def _table(columns: int) -> Array:
    """Made-up rows of several magnitudes in which a tenth of the cells is missing."""
    dice = stream(0, "export")
    table = dice.normal(size=(CASES, columns)) * 10.0 ** dice.integers(0, 3, size=(CASES, 1))
    table[dice.random(table.shape) < 0.1] = np.nan
    return table


def _waves(samples: int, leads: int) -> Array:
    """Made-up signals: a few sines of several sizes and speeds in noise, and some that stand still for a while."""
    dice, time = stream(0, "export-waves"), np.arange(samples)[None, :, None]
    speed, size = np.exp(dice.uniform(-5, -1, (CASES, 1, leads))), np.exp(dice.uniform(-3, 3, (CASES, 1, leads)))
    waves = size * (np.sin(speed * time) + 0.3 * dice.normal(size=(CASES, samples, leads)))
    waves[::7, : samples // 3] = 0.5
    return waves.astype(np.float32)


def _manifest(predictor: "Predictor", module: "Answering", kind: str, written: Written) -> dict[str, Any]:
    """What another program must know."""
    told = versions()
    return {
        "schema": 1,
        "format": kind,
        "file": written.model.name,
        "sha256": hashlib.sha256(written.model.read_bytes()).hexdigest(),
        "notice": "Research software, not a medical device.",
        "head": {"version": predictor.version, "sha256": predictor.sha256},
        "features": {"fingerprint": predictor.classifier.fingerprint, "modality": predictor.modality},
        "classes": [*predictor.classes],
        "inputs": [
            {
                "name": name,
                "type": word,
                "shape": ["n", *shape],
                "made": _MADE["has" if name.startswith(HAS) else name.partition("_")[0]],
            }
            for name, (word, shape) in module.inputs.items()
        ],
        "columns": [*predictor.columns],
        "outputs": [{"name": name, "type": "float64", "shape": ["n", len(predictor.classes)]} for name in _OUTPUTS],
        "inside": "all between these inputs and the outputs: normalisation, every view and their mean, pooling, "
        "scaling, formulas of signals, the head with its temperature",
        "probabilities": "each class by itself, 1 / (1 + exp(-logit)): a case may have several"
        if module.findings
        else "of the classes, softmax of the logits: a case has one",
        "views": [*predictor.views],
        "prevalence": "each finding is as common as in training"
        if module.findings
        else "all classes are taken as equally common; add log(share x classes) to the logits for others",
        "conformal": None
        if predictor.conformal is None
        else {
            **predictor.conformal.as_facts(),
            "rule": "a class is likely where logit less logsumexp of the others' "
            "logits reaches its floor; null = always",
        },
        "checked": {"cases": written.cases, "largest_difference": written.difference, "tolerance": TOLERANCE},
        "versions": {name: told[name] for name in ("medtl", "torch", "numpy") if name in told},
    }


#: How each input is made, by the first word of its name.
_MADE = {
    "pixels": "RGB of 0 to 255, grey as three equal channels, the whole picture resized to this square by bilinear "
    "interpolation that averages where it shrinks (Pillow's BILINEAR); several pictures of a case: mean of logits",
    "table": "the columns in this order; NaN = missing; of NAME (UNIT, LOW to HIGH, about A by B) the value in that "
    "unit less A, divided by B; of NAME (flag) and NAME=WORD 1 where it is so, else 0",
    "signal": "the leads of `columns` in this order, at the rate and length that stand there (NAME@RATExSAMPLES), in "
    "the unit of training; no gaps",
    "has": "whether the case has this input at all; where it has not, the input's own values do not count",
}
