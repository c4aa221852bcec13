"""The one open port of a federation: what hospitals may ask of it, and nothing else.

Flower answers hospitals and whoever submits runs at one port, and asks the latter for no password. Here two ASGI apps
stand before it: `Gateway`, for the world, lets through what registered SuperNodes ask, and takes and checks keys;
`Desk`, on loopback, lets through this machine's own processes, control calls only with the secret of the folder.
"""

import asyncio
import base64
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from medtl_core.deploy import enrolment
from medtl_core.deploy.enrolment import EnrolmentError
from medtl_core.deploy.overview import Contacts
from medtl_core.deploy.roster import ROSTER, Members, change_roster, read_roster, refusal
from medtl_core.deploy.told import keep, read_told
from medtl_core.deploy.versions import spoken
from medtl_core.errors import MedtlError
from medtl_core.values import site_name

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Pages = Callable[[str], tuple[str, bytes] | None]

#: Bytes that a request to enrol may have.
_LONGEST = 16_384
#: Seconds for which Flower takes a signed header for good: as long a second request with it is refused here.
_GOOD = 310.0
#: A question for messages names at most those that the asker waits for.
_LONGEST_QUESTION = 1_000_000
#: Seconds for which a question for messages is held where there is none; Flower's clients wait 30.
_HOLD = 12.0
#: Seconds without a further part after which a message counts as whole.
_SETTLED = 0.03
#: How paths end at which messages are asked for, and at which they and their arrays come.
_PULL, _PUSHES = "/pull-messages", ("/push-messages", "/push-object")
_LOG = logging.getLogger("medtl")


class Bell:
    """Rings when a message has come in whole: those who wait for one ask again then, and not several times a second."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()
        self._later: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Wakes all who wait, soon: a message and its arrays come one after the other."""
        if self._later is not None:
            self._later.cancel()
        self._later = asyncio.get_running_loop().call_later(_SETTLED, self._wake)

    async def wait(self, patience: float) -> None:
        """Returns at the next ring, or when patience is over."""
        rung = asyncio.Event()
        self._waiting.add(rung)
        with suppress(TimeoutError):
            await asyncio.wait_for(rung.wait(), patience)
        self._waiting.discard(rung)

    def _wake(self) -> None:
        for rung in self._waiting:
            rung.set()


class Gateway:
    """The ASGI app at the open port.

    Guarantee:
        Nothing passes but the fleet interface of a SuperLink, and that for keys alone that an invitation has let in;
        a signed header opens it once.
    """

    def __init__(self, link: Any, folder: Path, paths: str, headers: tuple[str, str], bells: tuple[Bell, Bell]) -> None:
        """Stands before a SuperLink.

        Args:
            link: the `SuperLink`.
            folder: of the coordinator.
            paths: beginning of the paths that SuperNodes ask at.
            headers: by which a SuperNode shows its key and its signature.
            bells: that ring for messages to hospitals, and for answers from them.
        """
        self._questions, self._answers = bells
        self._link, self._folder, self._paths = link, folder, paths
        self._key, self._signature = (header.encode() for header in headers)
        self._roster, self._read = Members(), -1
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self.contacts = Contacts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        try:
            if path.startswith(self._paths):
                await self._fleet(scope, receive, send)
            elif (method, path) == ("GET", "/health"):
                await answer(send, 200, {"status": "ok", **spoken()})
            elif (method, path) == ("POST", enrolment.PATH):
                await answer(send, 200, self._enrol(await _body(receive)))
            elif (method, path) == ("GET", enrolment.STANDING):
                await answer(send, 200, self._standing(scope))
            else:
                await answer(send, 403, {"reason": "closed", "message": "this port serves hospitals alone"})
        except EnrolmentError as error:
            _LOG.warning("refused at %s: %s", path, error.reason)
            # a SuperNode ends on 401; on 403 it would take its run for ended and ask again
            await answer(
                send, 401 if path.startswith(self._paths) else 403, {"reason": error.reason, "message": str(error)}
            )

    async def _fleet(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        name = self.roster().holder(_decoded(headers.get(self._key, b""))).name
        self._check_fresh(headers.get(self._signature, b""))

        path: str = scope["path"]
        if path.endswith(_PULL):
            status = await held(self._link.app, scope, receive, send, self._questions)
        else:
            status = await passed(self._link.app, scope, receive, send)
        if not status:
            self.contacts.left.add(name)  # its connection broke while it waited
        if status == 200:
            self.contacts.heard(name, goodbye=path.endswith("/deactivate-node"))
            if path.endswith(_PUSHES):
                self._answers.ring()

    def _check_fresh(self, signature: bytes) -> None:
        """Refuses a signed header that was here before: Flower's signature is of the time alone."""
        now = time.monotonic()
        while self._seen and next(iter(self._seen.values())) < now - _GOOD:
            self._seen.popitem(last=False)
        if signature in self._seen:
            raise refusal("replayed", "the hospital")
        self._seen[signature] = now

    def _enrol(self, body: bytes) -> dict[str, str]:
        try:
            asked = json.loads(body)
            name, token, key, identity = (str(asked[word]) for word in ("hospital", "token", "key", "identity"))
            name = site_name(name)
        except (ValueError, LookupError, TypeError, MedtlError) as error:
            raise refusal("malformed", "the hospital") from error
        now = datetime.now(UTC)
        member = change_roster(self._folder, lambda roster: roster.enrolled(name, token, key, identity, now)).member(
            name
        )
        _LOG.info("%s has enrolled", name)
        self.contacts.nodes[name] = str(self._link.register(member.key, name))
        return {"node": self.contacts.nodes[name]}

    def _standing(self, scope: Scope) -> dict[str, str]:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        headers = {key.decode("latin-1"): value for key, value in scope["headers"]}
        member = self.roster().holder(_decoded(headers.get(enrolment.KEY, b"")))
        name = parse_qs(scope["query_string"].decode("latin-1")).get("hospital", [""])[0]
        moment, now = headers.get(enrolment.TIME, b"").decode("latin-1"), datetime.now(UTC)
        told = headers.get(enrolment.TELLING, b"").decode("latin-1")
        key: Any = serialization.load_pem_public_key(member.key.encode())
        try:
            signature = base64.b64decode(headers.get(enrolment.SIGNATURE, b""), validate=True)
            key.verify(signature, enrolment.signed_words(name, moment, told), ec.ECDSA(hashes.SHA256()))
            datetime.fromisoformat(moment)
        except (ValueError, InvalidSignature) as error:
            raise refusal("unregistered", name) from error
        if name != member.name:
            raise refusal("other-name", name)
        if told and (said := read_told(told, moment)):
            keep(self._folder, name, said)
        return {"hospital": name, "time": now.isoformat()}

    def roster(self) -> Members:
        """Returns who may pass now: the file is read anew when another process has written it."""
        written = (self._folder / ROSTER).stat().st_mtime_ns
        if written != self._read:
            self._roster, self._read = read_roster(self._folder), written
        return self._roster

    def register_all(self) -> None:
        """Makes a SuperLink that has just begun know the keys of the roster, and no revoked one."""
        for member in self.roster().members.values():
            if member.registered:
                self.contacts.nodes[member.name] = str(self._link.register(member.key, member.name))


class Desk:
    """The ASGI app on loopback: the status page, what the person's own commands ask, and the ServerApp's requests."""

    def __init__(
        self, link: Any, control: str, secret: tuple[str, bytes], pages: Pages, bells: tuple[Bell, Bell]
    ) -> None:
        """Stands before the same SuperLink.

        Args:
            link: the `SuperLink`.
            control: beginning of the paths of control calls.
            secret: header that a control call must bear, and its value.
            pages: gives content type and content for a path, None where it has none.
            bells: as the gateway's.
        """
        self._questions, self._answers = bells
        self._link, self._control, self._pages = link, control, pages
        self._header, self._secret = secret[0].encode(), secret[1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"").rpartition(b":")[0]
            if host not in (b"127.0.0.1", b"localhost"):  # a web site's page that a browser here has opened
                await answer(send, 403, {"reason": "closed"})
                return
            if scope["path"].startswith(self._control) and headers.get(self._header) != self._secret:
                await answer(send, 403, {"reason": "closed", "message": "runs are started by medtl coordinator run"})
                return
            page = self._pages(scope["path"]) if scope["method"] == "GET" else None
            if page is not None:
                await _respond(send, 200, *page)
            elif scope["path"].endswith(_PULL):
                await held(self._link.app, scope, receive, send, self._answers)
            else:
                await passed(self._link.app, scope, receive, send)
                if scope["path"].endswith(_PUSHES):
                    self._questions.ring()
            return
        await self._link.app(scope, receive, send)


async def passed(app: Any, scope: Scope, receive: Receive, send: Send) -> int:
    """Lets an app answer, and returns with which status it did."""
    status = 0

    async def watched(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        await send(message)

    await app(scope, receive, watched)
    return status


async def held(app: Any, scope: Scope, receive: Receive, send: Send, bell: Bell) -> int:
    """Lets an app answer a question for messages; where there is none, it is asked once more when the bell has rung.

    Returns:
        With which status it answered.
    """
    body = await _body(receive, _LONGEST_QUESTION)
    said: list[MutableMapping[str, Any]] = []

    async def ask() -> bytes:
        said.clear()
        again = [{"type": "http.request", "body": body, "more_body": False}]

        async def repeat() -> MutableMapping[str, Any]:
            if not again:
                await asyncio.sleep(_HOLD)  # the app asks whether its client has gone: that is seen below
            return again.pop() if again else {"type": "http.disconnect"}

        async def keep(message: MutableMapping[str, Any]) -> None:
            said.append(message)

        await app(dict(scope, state=dict(scope.get("state", {}))), repeat, keep)
        return b"".join(message.get("body", b"") for message in said)

    if not await ask() and said[0].get("status") == 200:
        gone, rung = asyncio.ensure_future(receive()), asyncio.ensure_future(bell.wait(_HOLD))
        await asyncio.wait((gone, rung), return_when=asyncio.FIRST_COMPLETED)
        rung.cancel()
        if gone.done():  # a message must not be given to nobody
            return 0
        gone.cancel()
        await ask()
    for message in said:
        await send(message)
    return int(said[0].get("status", 0))


async def answer(send: Send, status: int, words: dict[str, str]) -> None:
    """Answers with JSON."""
    await _respond(send, status, "application/json", json.dumps(words).encode())


async def _respond(send: Send, status: int, kind: str, content: bytes) -> None:
    headers = {"content-type": kind, "content-length": str(len(content)), "cache-control": "no-store",
               "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}  # fmt: skip
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})


async def _body(receive: Receive, longest: int = _LONGEST) -> bytes:
    content = b""
    while True:
        message = await receive()
        content += bytes(message.get("body", b""))
        if len(content) > longest:
            raise refusal("malformed", "the hospital")
        if not message.get("more_body"):
            return content


def _decoded(header: bytes) -> str:
    try:
        return base64.b64decode(header, validate=True).decode("ascii")
    except ValueError:
        return ""
