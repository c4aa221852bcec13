"""Fetching weights on a connected machine: by HTTPS, when a person types it, and checked before anything is opened.

No run comes here. Proxies and certificates are those of the environment (`HTTPS_PROXY`, `REQUESTS_CA_BUNDLE`).
"""

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema

from medtl_core import __version__
from medtl_core.backbones.manifest import described
from medtl_core.backbones.zoo import find_backbone
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.recipes.installation import check_free, install, installed_from, sha256_of, staging
from medtl_core.recipes.recipe import Recipe
from medtl_core.store import expanded, file_of, locked, write_json

#: Seconds to connect, and between two bytes.
_PATIENCE = (20, 60)
_CHUNK = 1 << 16
#: Bytes between two words about how much has come.
_SAID = 50_000_000


def fetch(recipe: Recipe, accepted: str, folder: Path, progress: Callable[[int], None] = lambda size: None) -> Path:
    """Returns the place of a recipe's weights in a folder, fetched if they are not there.

    Args:
        recipe: of the weights.
        accepted: name of the licence that a person accepted.
        folder: where they go as NAME.safetensors and NAME.json; see `zoo.own_folder`.
        progress: hears now and then how many bytes have come.

    Raises:
        ConfigError: the licence is not accepted, a gate's token is not set, or other weights have the name.
        WeightsError: the file cannot be had, is not the one that is known, or does not fit its architecture. What came
            of a file whose connection broke off stays, and the next call goes on with it.
    """
    if accepted != recipe.licence:
        given = f"accepts {accepted!r}" if accepted else "accepts none"
        raise ConfigError(
            f"the weights of {recipe.name!r} come under {recipe.licence}, and this call {given}; read it "
            f"({recipe.licence_url or 'above'}), then say --accept-licence {recipe.licence}"
        )
    token, target = _token(recipe), file_of(folder / recipe.name, "safetensors")
    described(find_backbone(recipe.facts["architecture"]), recipe.facts, f"recipe {recipe.name}")
    with staging(folder) as stage, locked(folder / ".fetching"):
        if installed_from(folder / recipe.name) == recipe.sha256:
            return target
        check_free(folder / recipe.name)
        whole, file = stage / "whole", stage / target.name
        _download(recipe, folder / f".{recipe.sha256}.part", token, progress).replace(whole)
        if (sha := sha256_of(whole)) != recipe.sha256:
            raise WeightsError(
                f"the file at {recipe.url} is not the one that is known: SHA-256 {sha}, expected {recipe.sha256}; "
                "nothing was kept. Fetch it again; if it stays so, its owner has changed it"
            )
        _as_safetensors(recipe, whole, file)
        write_json(stage / f"{recipe.name}.json", {**recipe.facts, "sha256": sha256_of(file)})
        return install(stage / recipe.name, folder)


def _token(recipe: Recipe) -> str:
    """The token for a gate, from the environment variable of that name, or from the file that NAME_FILE names."""
    if not recipe.gate:
        return ""
    value, file = os.environ.get(recipe.gate, ""), os.environ.get(f"{recipe.gate}_FILE")
    if file and not value:
        try:
            value = expanded(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{recipe.gate}_FILE={file} cannot be read ({type(error).__name__})") from error
    if not re.fullmatch("[!-~]+", token := value.strip()):
        where = f" at {recipe.gate_url}" if recipe.gate_url else ""
        raise ConfigError(
            f"the weights of {recipe.name!r} lie behind a gate: ask for access{where}, then put your token into the "
            f"environment variable {recipe.gate}, or the name of a file that holds it into {recipe.gate}_FILE"
        )
    return token


class _NeverInTheOpen(HTTPAdapter):
    """Refuses plain HTTP, wherever an answer sends us."""

    def send(self, *args: Any, **options: Any) -> requests.Response:
        raise InvalidSchema("plain HTTP")


def _download(recipe: Recipe, part: Path, token: str, progress: Callable[[int], None]) -> Path:
    """Brings the file, behind what an earlier call brought of it; returns `part`."""
    begun = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"medtl/{__version__}", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={begun}-"} if begun else {}
    with requests.Session() as session:
        session.mount("http://", _NeverInTheOpen())
        auth = partial(_with, token) if token else None
        try:
            with session.get(recipe.url, headers=headers, stream=True, timeout=_PATIENCE, auth=auth) as answer:
                # where nothing is missing, whether it is the file, its hash says
                if not begun or answer.status_code != requests.codes.requested_range_not_satisfiable:
                    _receive(_checked(answer, recipe), recipe, part, progress)
        except requests.exceptions.RequestException as error:
            # its text may quote an address that is itself a key
            kind = "sent on to plain HTTP" if isinstance(error, InvalidSchema) else type(error).__name__
            stays = "; call again to go on where it stopped" if part.exists() else ""
            host = urlsplit(recipe.url).hostname
            raise WeightsError(f"{recipe.name!r} cannot be fetched from {host}: {kind}{stays}") from None
    return part


def _with(token: str, request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Shows the token to the recipe's host; `requests` takes it away where another host is asked."""
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _checked(answer: requests.Response, recipe: Recipe) -> requests.Response:
    if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
        remedy = f"the token in {recipe.gate} does not open it" if recipe.gate else "the recipe names no gate"
        asked = f"; ask for access at {recipe.gate_url}" if recipe.gate_url else ""
        raise WeightsError(f"{recipe.url} is closed to this call ({answer.status_code}): {remedy}{asked}")
    if not answer.ok:
        raise WeightsError(f"{recipe.url} cannot be had: the server answers {answer.status_code} {answer.reason}")
    return answer


def _receive(answer: requests.Response, recipe: Recipe, part: Path, progress: Callable[[int], None]) -> None:
    goes_on = answer.status_code == requests.codes.partial_content
    with part.open("ab" if goes_on else "wb") as stream:
        for chunk in answer.iter_content(_CHUNK):
            if stream.tell() + len(chunk) > recipe.bytes:
                part.unlink()
                raise WeightsError(f"{recipe.url} sends more than the {recipe.bytes:,} bytes that are known")
            stream.write(chunk)
            if stream.tell() % _SAID < _CHUNK:
                progress(stream.tell())


def _as_safetensors(recipe: Recipe, whole: Path, file: Path) -> None:
    """Moves safetensors, and converts a `.pth`; its SHA-256 has just been found to be the known one."""
    if urlsplit(recipe.url).path.endswith(".safetensors"):
        whole.replace(file)
        return
    import torch
    from safetensors.torch import save_file

    try:
        state = torch.load(whole, map_location="cpu", weights_only=True)
        state = state[recipe.inside] if recipe.inside else state
        save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, file)
    except Exception as error:
        raise WeightsError(
            f"the file of {recipe.name!r} does not hold a plain table of tensors ({type(error).__name__}); `inside` in "
            "its recipe may name the key under which one lies"
        ) from error
