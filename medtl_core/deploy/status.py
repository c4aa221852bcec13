"""How a hospital stands: what its node has written into its folder, its ledger, and both as lines and as one page."""

import html
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from medtl_core.deploy.checks_folder import left_of
from medtl_core.deploy.membership import Membership
from medtl_core.errors import MedtlError, PrivacyError
from medtl_core.flower.node.presence import CONTACT, FLOWER, MESSAGE, last_process, noted, running
from medtl_core.privacy.hospital import Hospital, read_hospital
from medtl_core.privacy.ledger_report import balance, history

#: Seconds without a word of the server after which a node counts as cut off: while it computes, it is heard every 30.
_SILENT = 45.0
#: Seconds after which a browser asks again.
_REFRESH = 5
#: Records of the ledger that the page shows, the newest.
_SHOWN = 20
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{refresh}"><title>{title}</title>
<meta name="viewport" content="width=device-width"><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}}
th{{text-align:left;font-weight:600;padding:.2rem 1.5rem .2rem 0;vertical-align:top;white-space:nowrap}}
td{{overflow-wrap:anywhere}}
@media(prefers-color-scheme:dark){{body{{color:#e6e9ee;background:#14181f}}}}
</style></head><body><main><h1>{title}</h1><table>{rows}</table>{ledger}
<p>Read from the hospital's own folder at {now}; this page is on this machine alone.</p></main></body></html>
"""


@dataclass(frozen=True)
class SiteStatus:
    """A hospital at this moment.

    Attributes:
        hospital: as its folder says.
        process: id of its node's process; 0 = none runs.
        contact: what the node noted of the server: `last`, when it answered, and `fault`.
        message: what the node noted of the last message: `run`, `stage`, `at`, `ended`, `fault`, `left_out`.
    """

    hospital: Hospital
    process: int
    contact: Mapping[str, Any]
    message: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path) -> "SiteStatus":
        """Returns how the hospital of a folder stands.

        Raises:
            MedtlError: see `read_hospital`.
        """
        hospital = read_hospital(folder)
        home = hospital.folder / FLOWER
        return cls(hospital, running(home), noted(home, CONTACT), noted(home, MESSAGE))

    @property
    def connected(self) -> bool:
        """Whether the node runs, and the server answers it and lets it in."""
        last = self.contact.get("last")
        well = isinstance(last, float) and time.time() - last < _SILENT and not self.contact.get("fault")
        return bool(self.process) and well

    def lines(self) -> dict[str, str]:
        """Returns what a person wants to know, by what it is."""
        lines = {"hospital": self.hospital.name, "server": self.hospital.server.address or "none is named"}
        with suppress(MedtlError):
            if membership := Membership.of(self.hospital):
                enrolled = "enrolled" if membership.enrolled else "not enrolled yet"
                lines["federation"] = f"{membership.invitation.federation}, {enrolled}"
        lines["node"] = self._node()
        lines["last contact"] = self._contact()
        lines |= self._run()
        left_out = [str(cause) for cause in self.message.get("left_out") or ()]
        lines["cases left out"] = "; ".join(left_out) or "none"
        return lines | self._privacy()

    def _node(self) -> str:
        if self.process:
            return f"process {self.process}, {'connected' if self.connected else 'not connected'}"
        left = last_process(self.hospital.folder / FLOWER)
        return f"does not run; process {left} ended without a word" if left else "does not run"

    def _contact(self) -> str:
        last, fault = self.contact.get("last"), self.contact.get("fault")
        said = _moment(last) if isinstance(last, float) else "never"
        return f"{said} ({fault})" if fault and not self.connected else said

    def _run(self) -> dict[str, str]:
        run, stage, fault = (str(self.message.get(word) or "") for word in ("run", "stage", "fault"))
        if not run:
            return {"run": "none yet"}
        at = _moment(float(self.message.get("at", 0.0)))
        if fault:
            return {"run": run, "stage": f"{stage}: refused or failed at {at}: {fault}"}
        if self.message.get("ended"):
            return {"run": run, "stage": f"{stage}: answered at {at}"}
        return {
            "run": run,
            "stage": f"{stage}: " + (f"at work since {at}" if self.process else f"broken off after {at}"),
        }

    def _privacy(self) -> dict[str, str]:
        try:
            account = balance(self.hospital.ledger, self.hospital.policy)
        except PrivacyError as error:
            return {"privacy": str(error)}
        left = f"{left_of(account):.3g} left for a new run"
        return {"epsilon": f"{account.spent:.3g} of {account.budget:.3g} spent at delta {account.delta:g}; {left}"}


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S %z}"


def page(folder: Path) -> str:
    """Returns the status page of a hospital: static HTML without a script, which loads itself again."""
    lines, ledger = {}, ""
    try:
        status = SiteStatus.of(folder)
        lines = status.lines()
        ledger = _records(status.hospital.ledger)
    except MedtlError as error:
        lines = lines or {"hospital": str(error)}  # a ledger at fault is told in the lines
    rows = "".join(
        f"<tr><th scope=row>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in lines.items()
    )
    title = html.escape(f"{lines['hospital'][:80]}: this hospital in its federation")
    return _PAGE.format(refresh=_REFRESH, title=title, rows=rows, ledger=ledger, now=_moment(time.time()))


def _records(folder: Path) -> str:
    """The newest records of a ledger as a table."""
    entries = reversed(history(folder, _SHOWN))
    cells = [(entry.at[:16], entry.asked, entry.mechanism, entry.what, f"{entry.left:.3g}") for entry in entries]
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    heads = "".join(f"<th scope=col>{head}</th>" for head in ("Ledger", "Asked by", "Mechanism", "Record", "Left"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
