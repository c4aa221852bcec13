"""The speed of answers: `make bench-predict`. Every ratio is of two things measured in turn in one run, in CPU time.

One case after start-up over the bare forward pass of its views, decoded and normalised before; a hundred cases over the
best of a grid of plain torch loops that decode, resize and run the same network. From the shell to the first answer is
printed in seconds. Pictures are real dermoscopy where it lies, else the phantom's.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from medtl_core.config import Settings, settings
from medtl_core.data.images import decode
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.data.views import normalised, views_of
from medtl_core.features.spec import backbone_spec, feature_facts
from medtl_core.predict.predictor import Predictor, load
from medtl_core.predict.saved import save_head
from medtl_core.runtime import one_thread
from medtl_core.values import Head
from simulations.speed import SHARED, Line, Work, best_loop, plain_pass, printed, seconds_of

#: Pictures of the long call, and how often the short ones are measured in turn.
_CASES, _TURNS = 100, 30
_VIEWS = ("identity", "flip-h")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts asked for and prints their ratios."""
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        images, made = _images(Path(folder)), {}
        for size in (128, 224):
            made[size] = _predictor(Path(folder), size)
        parts = {
            "start": lambda: [_start(Path(folder) / "128", images[0])],
            "one": lambda: [_one(predictor, images) for predictor in made.values()],
            "hundred": lambda: [_hundred(predictor, images) for predictor in made.values()],
        }
        return printed(parts, __doc__, arguments)


def _images(folder: Path) -> list[str]:
    """A hundred files."""
    from PIL import Image

    if SHARED.is_dir():
        found = sorted(path for path in SHARED.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        return [str(path) for path in found[:: max(len(found) // _CASES, 1)][:_CASES]]
    for number, pixels in enumerate(phantom(seed=1, size=192, patients=_CASES)["image"][:_CASES]):
        Image.fromarray(pixels[:, :, 0]).save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(_CASES)]


def _predictor(folder: Path, size: int) -> Predictor:
    """A head of random weights on real features: answers cost what any affine head's do."""
    chosen = _settings(size)
    spec = backbone_spec(chosen, _VIEWS)
    weight = np.random.default_rng(0).normal(scale=0.01, size=(3, spec.width))
    facts = {"features": {**feature_facts(chosen, _VIEWS), "columns": [], "modality": "not stated"}}
    head = Head(weight, np.zeros(3), "made", ("a", "b", "c"), spec.fingerprint, facts)
    return load(save_head(head, folder, str(size)))


def _settings(size: int) -> Settings:
    return settings({"image-size": size, "cache": "off"})


def _work(predictor: Predictor) -> tuple[Work, Any]:
    from medtl_core.backbones.extractor import load_extractor
    from medtl_core.backbones.zoo import find_backbone

    spec = backbone_spec(predictor.settings, predictor.views)
    extractor = load_extractor(find_backbone(predictor.settings.backbone), "", spec.taps, spec.pooling)
    return Work(extractor, spec.size, len(spec.views)), spec


def _start(head: Path, image: str) -> Line:
    """A new process, from the shell to its answer, beside one that only imports torch."""
    began = time.perf_counter()
    words = [sys.executable, "-m", "medtl_core.cli.app", "predict", str(head), image]
    subprocess.run(words, check=True, capture_output=True)
    whole, began = time.perf_counter() - began, time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    bare = time.perf_counter() - began
    return Line("medtl predict, shell to answer / import torch", whole / bare, "", f"{whole:.2f} s / {bare:.2f} s")


def _one(predictor: Predictor, images: Sequence[str]) -> Line:
    """A single case, file to answer, and the bare pass, in turn; medians."""
    import torch

    work, spec = _work(predictor)
    batch = normalised(torch.from_numpy(views_of(images[0], spec.size, spec.views)), spec.mean, spec.std)

    def bare() -> None:
        with torch.inference_mode():
            work.extractor(batch)

    def whole() -> None:
        list(predictor.answers(images[:1]))

    whole()
    bare()
    rows = [
        (seconds_of(whole).cpu, seconds_of(bare).cpu, seconds_of(lambda: decode(images[0])).cpu) for _ in range(_TURNS)
    ]
    answer, forward_pass, decoded = (1e3 * median(row) for row in zip(*rows, strict=True))
    return Line(
        f"one answer / bare forward pass, {spec.size} px", answer / forward_pass, "<= 1.3",
        f"{answer:.1f} ms / {forward_pass:.1f} ms CPU; decoding alone {decoded:.1f} ms", floor=True,
    )  # fmt: skip


def _hundred(predictor: Predictor, images: Sequence[str]) -> Line:
    """A hundred cases in one call, over the plain loop that took least CPU; the better of two turns each."""
    work, spec = _work(predictor)
    loop = best_loop(lambda loop, some: plain_pass(work, loop, some), images)
    rows = [
        (seconds_of(lambda: list(predictor.answers(images))).cpu, plain_pass(work, loop, images).cpu) for _ in range(3)
    ]
    answers, plain = (min(row) for row in zip(*rows, strict=True))
    return Line(
        f"{len(images)} answers / best plain loop, {spec.size} px", answers / plain, "<= 1.15",
        f"{answers:.2f} s / {plain:.2f} s CPU, {1e3 * answers / len(images):.1f} ms a case; {loop}", floor=True,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
