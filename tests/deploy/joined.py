"""A hospital that has joined a federation, and what it says when it is looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner

from medtl_core.cli.app import app as command_line
from medtl_core.deploy.invitation import Invitation, invite
from tests.deploy.tls_made import DAY, Pair, Port, granted, made, opened
from tests.privacy.made import write_tables

Said = tuple[int, str]


def medtl(*words: object) -> Said:
    result = CliRunner().invoke(command_line, [*map(str, words)])
    return result.exit_code, result.output if result.exception is None else f"{result.output}{result.exception}"


@dataclass
class Joined:
    """A hospital's folder `own` with 20 cases in north.csv beside it, and its coordinator, which is up."""

    base: Path
    port: Port
    root: Pair

    @property
    def own(self) -> Path:
        return self.base / "own"

    def said(self, old: str, new: str, file: str = "own/hospital.toml") -> None:
        """Another word in a file."""
        path = self.base / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def lead_to(self, address: str) -> None:
        self.said(self.port.address, address)

    def invitation(self, expires: timedelta = DAY, hospital: str = "north") -> Path:
        """A new invitation, in a file."""
        path = self.base / f"invitation-{len(list(self.base.glob('invitation-*')))}.toml"
        self.invited(expires, hospital).write(path)
        return path

    def invited(self, expires: timedelta = DAY, hospital: str = "north") -> Invitation:
        return invite("made", self.port.address, hospital, datetime.now(UTC) + expires, self.root.pem)

    def init(self, *more: object) -> Said:
        return medtl(
            "site", "init", self.own, "--invitation", self.invitation(), "--data", self.base / "north.csv", *more
        )

    def check(self, *more: object) -> Said:
        return medtl("site", "check", self.own, *more)


@contextmanager
def hospital(base: Path, *, joined: bool = True, root: Pair | None = None) -> Iterator[Joined]:
    root = root or made("root")
    write_tables(base, "north", patients=20)
    with opened(Port(dict(granted())), base, made("server", root, ("127.0.0.1",))) as port:
        site = Joined(base, port, root)
        if joined:
            code, words = site.init("--public-patients", "20")
            assert code == 0, words
        yield site
