"""Fetching weights on a connected machine: by HTTPS, when a person types it, and checked before anything is opened.

No run comes here. Proxies and certificates are those of the environment (`HTTPS_PROXY`, `REQUESTS_CA_BUNDLE`).
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from medtl_core import __version__
from medtl_core.backbones.manifest import BACKBONE_FILES, described
from medtl_core.backbones.zoo import find_backbone
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.recipes.installation import check_free, install, installed_from, sha256_of, staging
from medtl_core.recipes.recipe import Recipe
from medtl_core.store import file_of, locked, write_json

#: Seconds to connect, and between two bytes.
_PATIENCE = (20, 60)
_CHUNK = 1 << 16
#: What went wrong on the way, in words: an error of the library may quote an address that is itself a key.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (requests.exceptions.SSLError, "its certificate is not trusted here"),
    (requests.exceptions.ProxyError, "the proxy refused"),
    (requests.exceptions.InvalidSchema, "it was sent on to an address without HTTPS"),
    (requests.exceptions.TooManyRedirects, "it was sent on too often"),
    (requests.exceptions.Timeout, "no answer came in time"),
    (requests.exceptions.ChunkedEncodingError, "the connection broke off"),
    (requests.exceptions.ConnectionError, "it cannot be reached"),
)


def fetch(recipe: Recipe, accepted: str, folder: Path, progress: Callable[[int], None] = lambda size: None) -> Path:
    """Returns the place of a recipe's weights in a folder, fetched if they are not there.

    Args:
        recipe: of the weights.
        accepted: name of the licence that a person accepted.
        folder: where they go as NAME.safetensors and NAME.json; see `zoo.own_folder`.
        progress: hears how many bytes have come.

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
    token = _token(recipe)
    described(find_backbone(recipe.facts["architecture"]), manifest(recipe, ""), f"recipe {recipe.name}")
    with staging(folder) as stage, locked(folder / ".fetching"):
        stem, part = stage / recipe.name, folder / f".{recipe.sha256}.part"
        if installed_from(folder / recipe.name) == recipe.sha256:
            return file_of(folder / recipe.name, "safetensors")
        check_free(folder / recipe.name)
        _download(recipe, part, token, progress)
        whole = stage / "whole"
        part.replace(whole)
        if (sha := sha256_of(whole)) != recipe.sha256:
            raise WeightsError(
                f"the file at {recipe.url} is not the one that is known: SHA-256 {sha}, expected {recipe.sha256}; "
                "nothing was kept. Fetch it again; if it stays so, its owner has changed it"
            )
        file = file_of(stem, "safetensors")
        if recipe.is_safetensors:
            whole.replace(file)
        else:
            _convert(recipe, whole, file)
        write_json(file_of(stem, "json"), manifest(recipe, sha256_of(file)))
        return install(stem, folder)


def manifest(recipe: Recipe, sha256: str) -> dict[str, Any]:
    """Returns what stands beside a recipe's weights, whose SHA-256 is given."""
    origin = {"licence_text": recipe.licence_text, "source_sha256": recipe.sha256, "sha256": sha256}
    return {"schema": BACKBONE_FILES.schema, **recipe.facts, **origin}


def _token(recipe: Recipe) -> str:
    """The token for a gate, from the environment variable of that name, or from the file that NAME_FILE names."""
    if not recipe.gate:
        return ""
    value, file = os.environ.get(recipe.gate, ""), os.environ.get(f"{recipe.gate}_FILE")
    if file and not value:
        try:
            value = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{recipe.gate}_FILE={file} cannot be read ({type(error).__name__})") from error
    if not (token := value.strip()):
        where = f" at {recipe.gate_url}" if recipe.gate_url else ""
        raise ConfigError(
            f"the weights of {recipe.name!r} lie behind a gate: ask for access{where}, then put your token into the "
            f"environment variable {recipe.gate}, or the name of a file that holds it into {recipe.gate}_FILE"
        )
    return token


class _Bearer(AuthBase):
    """Shows a token to the host of the recipe; `requests` takes it away where another host is asked."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _NeverInTheOpen(HTTPAdapter):
    """Refuses plain HTTP, wherever an answer sends us."""

    def send(self, *args: Any, **options: Any) -> requests.Response:
        raise requests.exceptions.InvalidSchema("plain HTTP")


def _download(recipe: Recipe, part: Path, token: str, progress: Callable[[int], None]) -> None:
    """Brings the file, behind what an earlier call brought of it."""
    begun = part.stat().st_size if part.exists() else 0
    if begun == recipe.bytes:
        return
    headers = {"User-Agent": f"medtl/{__version__}", "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    host = urlsplit(recipe.url).hostname
    with requests.Session() as session:
        session.mount("http://", _NeverInTheOpen())
        auth = _Bearer(token) if token else None
        try:
            with session.get(recipe.url, headers=headers, stream=True, timeout=_PATIENCE, auth=auth) as answer:
                if begun and answer.status_code == requests.codes.requested_range_not_satisfiable:
                    return  # nothing is missing: whether it is the file, its hash says
                _check(answer, recipe, token)
                _receive(answer, recipe, part, progress)
        except requests.exceptions.RequestException as error:
            reason = next((words for kind, words in _REASONS if isinstance(error, kind)), type(error).__name__)
            stays = "; call again to go on where it stopped" if part.exists() else ""
            raise WeightsError(f"{recipe.name!r} cannot be fetched from {host}: {reason}{stays}") from None


def _check(answer: requests.Response, recipe: Recipe, token: str) -> None:
    if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
        remedy = f"the token in {recipe.gate} does not open it" if token else "the recipe names no gate"
        asked = f"; ask for access at {recipe.gate_url}" if recipe.gate_url else ""
        raise WeightsError(f"{recipe.url} is closed to this call ({answer.status_code}): {remedy}{asked}")
    if not answer.ok:
        raise WeightsError(f"{recipe.url} cannot be had: the server answers {answer.status_code} {answer.reason}")


def _receive(answer: requests.Response, recipe: Recipe, part: Path, progress: Callable[[int], None]) -> None:
    goes_on = answer.status_code == requests.codes.partial_content
    with part.open("ab" if goes_on else "wb") as stream:
        for chunk in answer.iter_content(_CHUNK):
            if stream.tell() + len(chunk) > recipe.bytes:
                break
            stream.write(chunk)
            progress(stream.tell())
        else:
            return
    part.unlink()
    raise WeightsError(f"{recipe.url} sends more than the {recipe.bytes:,} bytes that are known; nothing was kept")


def _convert(recipe: Recipe, whole: Path, file: Path) -> None:
    """Writes a `.pth` whose SHA-256 has just been found to be the known one as safetensors."""
    import torch
    from safetensors.torch import save_file

    try:
        state = torch.load(whole, map_location="cpu", weights_only=True)
        state = state[recipe.inside] if recipe.inside else state
        tensors = {_renamed(name, recipe.rename): tensor.clone().contiguous() for name, tensor in state.items()}
        save_file(tensors, file)
    except Exception as error:
        raise WeightsError(
            f"the file of {recipe.name!r} does not hold a plain table of tensors ({type(error).__name__}); `inside` in "
            "its recipe may name the key under which one lies"
        ) from error


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    begin = next((begin for begin in rename if name.startswith(begin)), "")
    return rename.get(begin, "") + name.removeprefix(begin)
