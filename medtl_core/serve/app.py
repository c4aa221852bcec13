"""The service: one page, and an endpoint that answers one file.

    GET  /            the page
    GET  /v1/head     what answers: version, classes, what its probabilities take for granted
    POST /v1/answers  the bytes of one image, scan or table -> what the head says of it (`?map=1`: with a map)

Nothing is stored, no cookie is set, no other host is named, and what a file is called never reaches the service.
"""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl_core.errors import ConfigError, DataError, MedtlError
from medtl_core.formats.measurements import in_words
from medtl_core.predict.answer import Answer
from medtl_core.predict.attribution import png_of
from medtl_core.predict.output import NOTICE, Heading
from medtl_core.predict.predictor import Predictor
from medtl_core.serve.guard import Guard
from medtl_core.serve.upload import TooLargeError, received

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from medtl_core.predict.attribution import Attributor
    from medtl_core.predict.gradcam import GradCam

#: Bytes of a file at most, unless said otherwise.
LIMIT = 100_000_000
_FILES = Path(__file__).parent
#: What a case is called in an answer: its file's name stays in the browser.
_CASE = "the file"


@dataclass(frozen=True)
class Service:
    """What answers, and under which terms.

    Attributes:
        predictor: the head.
        heading: what stands above its answers.
        prevalence: share of each class where it is used; none = all as equally common.
        least: probability below which the likeliest class is in doubt.
        limit: bytes of a file at most.
    """

    predictor: Predictor
    heading: Heading
    prevalence: Mapping[str, float] = field(default_factory=dict)
    least: float = 0.0
    limit: int = LIMIT

    def __post_init__(self) -> None:
        if len(self.predictor.settings.kinds) > 1:
            raise ConfigError("the head reads several kinds, and one file holds not all of them; use medtl predict")
        self.predictor.shift(self.prevalence, self.least)

    def about(self) -> dict[str, Any]:
        """Returns what answers, as JSON."""
        return {
            "head": self.heading.version,
            "sha256": self.predictor.sha256,
            "classes": self.heading.classes,
            "basis": self.heading.basis,
            "promise": self.heading.promises or None,
            "notice": NOTICE,
            "reads": "a table" if self.predictor.columns else "an image or a scan",
            "columns": in_words(self.predictor.columns),
        }

    def said(self, path: Path, attributor: "Attributor | GradCam | None") -> dict[str, Any]:
        """Returns what the head says of a file's cases, as JSON; with an attributor also where that comes from.

        Raises:
            DataError: it is no table, where the head reads one.
        """
        try:
            found = self.predictor.answers([path], prevalence=self.prevalence, least=self.least)
            answers = [_without(answer, path) for answer in found]
        except DataError as error:
            raise DataError(_unnamed(str(error), path)) from error
        picture = ""
        if attributor and len(answers) == 1 and answers[0].probabilities:
            picture = _map_of(attributor, path, answers[0].largest)
        head = {"head": self.heading.version, "notice": NOTICE}
        return {**head, "answers": [answer.as_dict() for answer in answers], "map": picture or None}


def application(service: Service, hosts: tuple[str, ...]) -> "ASGIApp":
    """Returns the service as an ASGI application that is known by these names of hosts.

    Raises:
        ConfigError: the extra `serve` is not installed.
    """
    try:
        from fastapi import FastAPI, Request, Response
        from fastapi.concurrency import run_in_threadpool
        from fastapi.responses import HTMLResponse, JSONResponse
    except ImportError:
        raise ConfigError("medtl serve needs FastAPI; pip install 'medtl[serve]'") from None
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    turn, attributor = asyncio.Lock(), _attributor(service.predictor)  # one file after the other: the network is shared

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(_page(service, maps=attributor is not None))

    @app.get("/page.css")
    def style() -> Response:
        return Response((_FILES / "page.css").read_bytes(), media_type="text/css")

    @app.get("/page.js")
    def script() -> Response:
        return Response((_FILES / "page.js").read_bytes(), media_type="text/javascript")

    @app.get("/v1/head")
    def head() -> JSONResponse:
        return JSONResponse(service.about())

    @app.post("/v1/answers")
    async def answers(request: Request) -> JSONResponse:
        drawn = attributor if request.query_params.get("map") == "1" else None
        try:
            async with received(request, service.limit, table=bool(service.predictor.columns)) as path, turn:
                return JSONResponse(await run_in_threadpool(service.said, path, drawn))
        except TooLargeError as error:
            return JSONResponse({"fault": str(error)}, 413, {"connection": "close"})
        except MedtlError as error:
            return JSONResponse({"fault": str(error)}, 422)

    return Guard(app, hosts)


def _page(service: Service, *, maps: bool) -> str:
    from jinja2 import Template

    template = Template((_FILES / "page.html").read_text(encoding="utf-8"), autoescape=True)
    return str(template.render(about=service.about(), maps=maps, limit=service.limit))


def _attributor(predictor: Predictor) -> "Attributor | GradCam | None":
    """What draws maps; None where the head's answers have none."""
    try:
        return predictor.attributor()
    except ConfigError:
        return None


def _without(answer: Answer, path: Path) -> Answer:
    """An answer without the name of the folder in which its file lay for a moment."""
    name = _CASE if answer.name == str(path) else answer.name
    return replace(answer, name=name, fault=_unnamed(answer.fault, path))


def _unnamed(words: str, path: Path) -> str:
    return words.replace(str(path), _CASE).replace(path.name, _CASE)


def _map_of(attributor: "Attributor | GradCam", path: Path, name: str) -> str:
    """A picture of where an answer comes from, as an address that holds it; "" where none can be made."""
    try:
        shown = attributor.explain(str(path), name)[0].shown()
    except (ConfigError, DataError):
        return ""
    return f"data:image/png;base64,{base64.b64encode(png_of(shown)).decode()}"
