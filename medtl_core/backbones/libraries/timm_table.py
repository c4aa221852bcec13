"""Records of timm's networks, from its own tables or from a repository's `config.json` in the hub's cache.

timm is kept from the network: what is built here has no weights yet, and those are read from this machine.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from medtl_core.backbones.backbone import CLASS_TOKEN, Backbone
from medtl_core.backbones.manifest import described
from medtl_core.backbones.weights import hub_files
from medtl_core.config import Value, parsed, read_assignments
from medtl_core.errors import ConfigError, WeightsError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

#: What makes a network read images of any size: position embeddings are resampled to its grid of patches.
_ANY_SIZE: tuple[dict[str, bool], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False},
    {},
)
#: A network of any size reads a picture of this side where its own is larger.
_SIDE = 224
_HALF = (0.5, 0.5, 0.5)
#: Strides of the maps that "rich" reads of a network of several.
_MIDDLE = range(6, 24)
#: Arguments that say where weights are or what comes back, and nothing of the architecture.
_FOREIGN = re.compile(r"model_name|pretrained|checkpoint|cache|feature|out_ind|device|dtype|script|export|no_jit")
#: A word in the tag of timm's weights -> the public set they learnt from.
_SETS = {"in1k": "ImageNet-1k", "in12k": "ImageNet-12k", "in21k": "ImageNet-21k", "in22k": "ImageNet-22k"}


def _timm() -> Any:
    """The library, which asks no hub from now on."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import timm.layers
    import timm.models

    return timm


def build(arch: str, arguments: Mapping[str, Value]) -> "nn.Module":
    """Returns one of timm's networks, seeded by torch's random state; it reads images of any size where it can.

    Raises:
        ConfigError: timm does not build it with these arguments of its constructor.
    """
    timm = _timm()
    chosen: dict[str, Any] = dict(arguments)
    refused = next((f"{name!r} is no argument of a network's shape" for name in arguments if _FOREIGN.match(name)), "")
    if isinstance(layer := getattr(timm.layers, str(chosen.get("mlp_layer")), None), type):
        chosen["mlp_layer"] = layer
    for flexible in () if refused else _ANY_SIZE:
        try:
            return timm.create_model(arch, pretrained=False, **{**flexible, **chosen})  # type: ignore[no-any-return]
        except (TypeError, ValueError, RuntimeError, AssertionError, AttributeError, ArithmeticError) as error:
            refused = str(error)
    words = ", ".join(f"{name}={value}" for name, value in arguments.items())
    raise ConfigError(f"timm cannot build {arch!r} with {words or 'no arguments'}: {refused}")


@lru_cache(maxsize=64)
def timm_record(text: str) -> Backbone:
    """Returns the record of "ARCH" or "hf-hub:OWNER/NAME", each with ":KEY=VALUE" of its constructor behind.

    "rich" reads the maps of stride 8 and 16, or what comes closest, or three blocks of a network of one stride.

    Raises:
        ConfigError: timm does not know the architecture or its arguments, or where its features are.
        WeightsError: the repository's `config.json` is not in the hub's cache, or is damaged.
    """
    import torch

    models = _timm().models
    named, *words = text.removeprefix("hf-hub:").split(":")
    arch, arguments, facts = _of_hub(named) if text.startswith("hf-hub:") else (named, {}, {})
    if not models.is_model(arch):
        hint = did_you_mean(arch, models.list_models())
        raise ConfigError(f"timm has no architecture {arch!r}; {hint if 'mean' in hint else 'see timm.list_models()'}")
    arguments |= {name.replace("-", "_"): _constant(value) for name, value in read_assignments(words).items()}
    inputs = arguments.pop("in_chans", 3)
    with torch.device("meta"):
        network = build(arch, arguments)
    facts = facts or models.get_pretrained_cfg(arch).to_dict()
    size = facts.get("input_size", [_SIDE])[-1]
    info = getattr(network, "feature_info", None)
    rows = list(getattr(info, "info", info) or ())
    if not rows:
        raise ConfigError(f"timm's {arch!r} does not say where its features are; choose another backbone")
    known = {
        "size": min(size, _SIDE) if getattr(network, "dynamic_img_size", False) else size,
        "mean": [*facts.get("mean", _HALF)],
        "std": [*facts.get("std", _HALF)],
        "taps": _middle(rows),
        "channels": inputs,
        "licence": facts.get("license") or "",
        "trained_on": [name for word, name in _SETS.items() if word in (facts.get("tag") or "")],
    }
    base = Backbone(f"timm:{text}", "timm", arch, "hub", facts.get("hf_hub_id", ""), {}, {}, 0, _HALF, _HALF, (), ())
    base = replace(base, arguments=MappingProxyType(arguments))
    return described(base, known, f"timm:{text}", _modules(network, rows))


def _constant(text: Value) -> Value:
    """Text as the truth value or number that it looks like, as a constructor wants it."""
    words = (parsed(str(text), kind) for kind in (bool, int, float))
    return next((word for word in words if not isinstance(word, str)), text)


def _middle(rows: list[Any]) -> list[str]:
    """The blocks that "rich" reads."""
    blocks = [row["module"] for row in rows]
    middle = [row["module"] for row in rows if row["reduction"] in _MIDDLE] or blocks[-1:]
    if len(middle) > 3 or len({row["reduction"] for row in rows}) == 1:
        middle = list(dict.fromkeys(blocks[place] for place in (len(blocks) // 2 - 1, 3 * len(blocks) // 4 - 1, -1)))
    return middle


def _modules(network: "nn.Module", rows: list[Any]) -> dict[str, list[Any]]:
    """[path, channels] of every block and of its class token, where there is one: "11.cls", at the end "norm.cls"."""
    modules: dict[str, list[Any]] = {}
    token = getattr(network, "cls_token", None) is not None
    for row in rows:
        place = [row["module"], row["num_chs"]]
        modules[row["module"]] = place
        if token:
            modules[row["module"].rpartition(".")[2] + CLASS_TOKEN] = place
    if token and hasattr(getattr(network, "norm", None), "weight"):
        modules[f"norm{CLASS_TOKEN}"] = ["norm", rows[-1]["num_chs"]]
    return modules


def _of_hub(repository: str) -> tuple[str, dict[str, Value], Mapping[str, Any]]:
    """Architecture, arguments and facts of the weights, from a repository's `config.json`."""
    places = hub_files(repository, "config.json")
    if not places:
        raise WeightsError(
            f"config.json of {repository} is not in the hub's cache; on a connected machine run `hf download "
            f"{repository}` and bring the cache here, or describe the file as own:NAME"
        )
    try:
        facts = json.loads(places[0].read_text(encoding="utf-8"))
        weights = facts.get("pretrained_cfg") or {}
        shape = {"input_size": [_SIDE], "mean": _HALF, "std": _HALF}
        known = {name: [*(weights.get(name) or usual)] for name, usual in shape.items()}
        arguments = dict(facts.get("model_args") or {})
        return str(facts["architecture"]), arguments, {**weights, **known, "hf_hub_id": repository}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{places[0]} does not say which of timm's networks it describes: {error!r}") from error
