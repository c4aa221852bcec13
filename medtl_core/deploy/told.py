"""What a hospital tells its coordinator of how it stands: the epsilon left, and what cost cases, if that is no secret.

It is sent with a signed question about its standing, after a message was answered and only where it has changed; the
coordinator keeps the newest in its folder, for `status` and the page.

Guarantee:
    What a ledger has spent depends on settings and policy, not on any patient. How many cases were left out does: it is
    told after a run without privacy alone, by a hospital whose policy allows such runs.
"""

import base64
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from medtl_core.deploy.checks_folder import left_of
from medtl_core.deploy.membership import Membership
from medtl_core.errors import MedtlError
from medtl_core.flower.node.presence import FLOWER, MESSAGE, note, noted
from medtl_core.privacy.hospital import read_hospital
from medtl_core.privacy.ledger_report import balance
from medtl_core.store import read_json, to_json, write_json

#: File in the hospital's folder for Flower, and in the coordinator's own, with what was told last.
TOLD = "told.json"
#: Characters of causes that are told, and that are kept.
_LONGEST = 300


@dataclass(frozen=True)
class Told:
    """What a hospital said last.

    Attributes:
        left: epsilon that a new run may have.
        budget: epsilon that its policy allows for ever.
        left_out: causes, with numbers of cases; "" = none, or it does not say.
        at: when it signed this, in ISO form.
    """

    left: float
    budget: float
    left_out: str = ""
    at: str = ""

    @property
    def epsilon(self) -> str:
        """The budget in words."""
        return f"{self.left:.3g} of {self.budget:.3g}"

    def header(self) -> str:
        """Returns it as the value of a header."""
        return base64.b64encode(
            to_json({"left": self.left, "budget": self.budget, "out": self.left_out}).encode()
        ).decode()


def told_by(folder: Path) -> Told:
    """Returns what the hospital of a folder tells now.

    Raises:
        MedtlError: its folder or ledger cannot be read.
    """
    hospital = read_hospital(folder)
    account, message = balance(hospital.ledger, hospital.policy), noted(folder / FLOWER, MESSAGE)
    open_run = message.get("privacy") == "none" and not hospital.policy.require_private
    causes = "; ".join(map(str, message.get("left_out") or ())) if open_run else ""
    return Told(round(left_of(account), 3), account.budget, causes[:_LONGEST])


def tell(membership: Membership) -> None:
    """Tells the coordinator what has changed since the last time; where it cannot be reached, another time will do."""
    home = membership.hospital.folder / FLOWER
    with suppress(MedtlError, OSError):
        words = told_by(membership.hospital.folder).header()
        if noted(home, TOLD).get("told") != words:
            membership.standing(words)
            note(home, TOLD, told=words)


def read_told(header: str, at: str) -> Told | None:
    """Returns what a hospital's header says; None = nothing that can be understood."""
    with suppress(ValueError, LookupError, TypeError):
        said = json.loads(base64.b64decode(header, validate=True))
        told = Told(float(said["left"]), float(said["budget"]), str(said["out"])[:_LONGEST], at)
        if math.isfinite(told.left) and math.isfinite(told.budget):
            return told
    return None


def kept(folder: Path) -> Mapping[str, Told]:
    """Returns what hospitals have told a coordinator, by name."""
    with suppress(MedtlError, TypeError, AttributeError):
        return {name: Told(**row) for name, row in read_json(folder / TOLD).items()}
    return {}


def keep(folder: Path, name: str, told: Told) -> None:
    """Keeps what a hospital told, unless something newer is there: an older request may be sent again."""
    known = kept(folder)
    if name not in known or known[name].at < told.at:
        write_json(folder / TOLD, {one: asdict(row) for one, row in {**known, name: told}.items()})
