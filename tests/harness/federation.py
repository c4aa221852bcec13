"""A whole federation as real processes on loopback: coordinator, TLS, hospitals that were invited and have enrolled."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from medtl_core.deploy.enrolment import enrol
from medtl_core.deploy.invitation import Invitation, read_invitation
from medtl_core.flower.processes.children import Children, executables, free_ports
from medtl_core.flower.processes.loopback import SITE
from medtl_core.privacy.hospital import Hospital, Server, initialise
from medtl_core.privacy.identity import public_identity
from medtl_core.privacy.policy import Policy


class Federation:
    """A coordinator in `folder`/coordinator and hospitals in `folder`/sites/NAME; as a context it ends them all."""

    def __init__(self, folder: Path) -> None:
        self.children = Children(folder / "logs")
        self.folder, self.home = folder, folder / "coordinator"
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self.children.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.children.stop()

    def medtl(self, *words: str, timeout: float = 200.0) -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end."""
        command = [str(executables() / "medtl"), *words]
        env = self.children.environment("flwr")
        return subprocess.run(
            command, env=env, cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False
        )

    def coordinator(self, verb: str, *words: str, timeout: float = 200.0) -> "subprocess.CompletedProcess[str]":
        """Runs a command of the coordinator."""
        return self.medtl("coordinator", verb, str(self.home), *words, timeout=timeout)

    def begin(self) -> None:
        """Makes the coordinator's folder and starts it."""
        done = self.coordinator("init", "--name", "Drei Häuser", "--address", self.address)
        assert done.returncode == 0, done.stderr
        self.start_up()

    def start_up(self) -> None:
        """Starts the coordinator and waits until it is open."""
        self.children.start("up", ["medtl", "coordinator", "up", str(self.home)], self.children.environment("flwr"))
        self.children.wait("up", "open to hospitals at", 150.0)

    def invite(self, name: str) -> Invitation:
        """Invites a hospital."""
        path = self.folder / f"{name}.toml"
        done = self.coordinator("invite", name, "--out", str(path))
        assert done.returncode == 0, done.stderr
        return read_invitation(path)

    def join(self, names: Sequence[str], data: Path, policy: Policy) -> None:
        """Invites hospitals whose cases are `data`/NAME.csv, makes their folders, and lets them enrol and trust."""
        made = {}
        for name in names:
            folder, invitation = self.site(name), self.invite(name)
            folder.mkdir(parents=True, mode=0o700)
            key, public = node_key()
            for file, content in (("node.key", key), ("ca.crt", invitation.ca)):
                (folder / file).write_text(content, encoding="utf-8")
                (folder / file).chmod(0o600)
            server = Server(self.address, str(folder / "ca.crt"), str(folder / "node.key"))
            initialise(Hospital(folder, name, str(data / f"{name}.csv"), server=server, policy=policy))
            made[name] = public_identity(folder)
            enrol(invitation, public, made[name])
        for name in names:  # each writes the others' keys down, which came by another way
            path = self.site(name) / "hospital.toml"
            lines = [f"{json.dumps(one, ensure_ascii=False)} = {json.dumps(key)}" for one, key in made.items()]
            path.write_text(
                path.read_text(encoding="utf-8").rstrip() + "\n" + "\n".join(lines) + "\n", encoding="utf-8"
            )

    def start_site(self, name: str) -> None:
        """Starts a hospital's node."""
        env = self.children.environment(f"flwr-{name}", **{SITE: str(self.site(name))})
        self.children.start(f"site-{name}", ["medtl", "site", "run", str(self.site(name))], env)

    def site(self, name: str) -> Path:
        """Returns a hospital's folder."""
        return self.folder / "sites" / name

    def status(self) -> Mapping[str, Any]:
        """Returns what `status --json` says."""
        done = self.coordinator("status", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def tails(self) -> str:
        """Returns the ends of the logs."""
        return self.children.tails()


def node_key() -> tuple[str, str]:
    """Returns a new private key of a node, in the one form that Flower reads, and its public one."""
    key = ec.generate_private_key(ec.SECP384R1())
    none = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, none)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.decode(), key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
