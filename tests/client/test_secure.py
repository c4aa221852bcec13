"""A secure sum through the real apps: the total, its drop-outs, its transcript, and a server that changes its story."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import secure
from client.app import app as client_app
from client.site import Site, open_site
from medtl_core.config import settings
from medtl_core.errors import PrivacyError, RunError
from medtl_core.federation.hospitals import Hospitals, Request
from medtl_core.federation.private import terms_of
from medtl_core.federation.registry import find_method
from medtl_core.federation.secure_sum import STAGES, secure_sum
from medtl_core.flower.grid import run_local
from medtl_core.privacy.gate import GRID
from medtl_core.privacy.identity import PEERS
from server.app import app as server_app

HOSPITALS = 5
RUN: dict[str, Any] = {
    "data": "phantom", "sites": HOSPITALS, "shots": 12, "image-size": 32, "features": "4", "bootstrap": 20,
    "methods": "private-mean-8", "privacy": "auto", "epsilon": 2.0, "secure-sum": True, "public-cases": 4,
    "public-images": "phantom", "quorum": 0.5,
}  # fmt: skip


class Heard:
    """Notes every message that the server sees of a run, and what the sum gave."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replies: dict[str, dict[str, dict[str, np.ndarray]]] = {}
        self.sums: dict[str, np.ndarray] = {}
        heard = self

        def listening(hospitals: Hospitals, request: Request, plan: Any) -> dict[str, np.ndarray]:
            ask = hospitals.ask

            def noted(inner: Request) -> Any:
                for reply in ask(inner):
                    heard.replies.setdefault(inner.task, {})[reply.site] = dict(reply.arrays)
                    yield reply

            monkeypatch.setattr(hospitals, "ask", noted)
            heard.sums = secure_sum(hospitals, request, plan)
            monkeypatch.setattr(hospitals, "ask", ask)
            return heard.sums

        monkeypatch.setattr("medtl_core.federation.private.secure_sum", listening)


def run(folder: Path, fault: Any = None, **changes: Any) -> dict[str, Any]:
    values = {**RUN, **changes, "out": str(folder / "out"), "state": str(folder / "state")}
    values["cache"] = str(folder.parent / "cache")
    nodes = [{"partition-id": part, "num-partitions": HOSPITALS} for part in range(HOSPITALS)]
    run_local(server_app, client_app, node_configs=nodes, run_config=settings(values).public(), workers=1, fault=fault)
    return values


def exact(values: dict[str, Any], leave_out: tuple[str, ...] = ()) -> np.ndarray:
    """The sum of class counts without noise, over the hospitals that stayed."""
    chosen = settings(values).of_site()
    counts = []
    for part in range(HOSPITALS):
        site = open_site(chosen, secure_node(part))
        if site.data.name not in leave_out:
            patients = np.unique(site.data.patients, return_index=True)[1]
            counts.append(np.bincount(site.data.label[patients], minlength=3))
    return np.sum(counts, axis=0)


def secure_node(part: int) -> Any:
    from client.site import Node

    return Node("", "", part)


def noise_of(values: dict[str, Any]) -> float:
    chosen = settings(values)
    plan = find_method("private-mean-8").plan(terms_of(chosen, 80, 3))  # type: ignore[attr-defined]
    return float(plan.steps[0].noise["counts"] * plan.terms.dilution)


def test_the_sum_is_the_sum_and_the_server_sees_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard(monkeypatch)
    values = run(tmp_path, epsilon=400.0)
    assert tuple(heard.replies) == STAGES
    noise = noise_of(values)
    assert np.abs(heard.sums["counts"] - exact(values)).max() < 5 * noise + 1e-3
    # the transcript: keys, parcels, masks and shares of masks; no vector of one hospital in the clear
    for site, arrays in heard.replies["secure_masked"].items():
        top = np.bincount((arrays["masked"].view(np.uint64) >> np.uint64(62)).astype(int), minlength=4)
        assert top.min() > 0, site
        small = np.abs(arrays["masked"].astype(float)) * GRID < 2.0**30
        assert small.mean() < 0.05, site  # in the clear every entry would be small
    first, second = (heard.replies["secure_masked"][name]["masked"] for name in sorted(heard.replies[STAGES[2]])[:2])
    assert (first != second).all()


def test_a_drop_out_of_five_gives_the_sum_of_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard(monkeypatch)
    gone = 1002

    def fault(node: int, message: Any) -> Exception | None:
        late = message.metadata.message_type in ("train.secure_masked", "train.secure_unmask")
        return OSError("power cut") if node == gone and late else None

    values = run(tmp_path, fault, epsilon=400.0)
    missing = set(heard.replies["secure_shares"]) - set(heard.replies["secure_masked"])
    assert len(missing) == 1
    assert np.abs(heard.sums["counts"] - exact(values, tuple(missing))).max() < 5 * noise_of(values) + 1e-3


def test_too_few_survivors_give_nothing(tmp_path: Path) -> None:
    def fault(node: int, message: Any) -> Exception | None:
        return (
            OSError("cut") if node in (1001, 1002) and message.metadata.message_type == "train.secure_masked" else None
        )

    with pytest.raises(RunError, match="given up and nothing was learnt"):
        run(tmp_path, fault)


def test_too_many_colluders_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="colluders"):
        run(tmp_path, colluders=3)


def test_a_restarted_run_is_answered_with_the_same_sealed_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run asks the same; hospitals answer with what they sealed, and no budget is spent twice."""
    heard = Heard(monkeypatch)
    run(tmp_path)
    first = {site: arrays["masked"].tobytes() for site, arrays in heard.replies["secure_masked"].items()}
    heard.replies.clear()
    run(tmp_path, out=str(tmp_path / "again"))
    assert {site: arrays["masked"].tobytes() for site, arrays in heard.replies["secure_masked"].items()} == first


@pytest.fixture
def site(tmp_path: Path) -> Site:
    values = {**RUN, "cache": str(tmp_path / "cache")}
    return open_site(settings(values).of_site(), secure_node(0)).keeping(str(tmp_path / "state"))


def config(site: Site, **changes: Any) -> dict[str, Any]:
    method = find_method("private-mean-8")
    plan = method.plan(terms_of(site.settings, site.data.values.shape[1], site.data.classes))  # type: ignore[attr-defined]
    base = {
        "method": method.name,
        "step": 0,
        "round": 1,
        "plan": plan.digest,
        "inner": "private_statistics",
        "gram": False,
    }
    return {**base, **changes}


def test_a_server_that_changes_the_roster_is_refused(site: Site) -> None:
    keys = secure.staged(site, STAGES[0], {}, config(site)).update.arrays
    assert secure.staged(site, STAGES[0], {}, config(site)).update.arrays["public"].tolist() == keys["public"].tolist()
    forged = {
        "roster-keys": np.stack([keys["public"]] * 4),
        "roster-identity": np.stack([keys["identity"]] * 4),
        "roster-signature": np.stack([keys["signature"]] * 4),
    }
    names = "/".join([site.data.name, "b", "c", "d"])
    with pytest.raises(PrivacyError, match="not signed"):
        secure.staged(site, STAGES[1], forged, config(site, roster=names, threshold=4))
    with pytest.raises(PrivacyError, match="does not name this hospital"):
        secure.staged(site, STAGES[1], forged, config(site, roster="a/b/c/d", threshold=4))
    with pytest.raises(PrivacyError, match="threshold"):
        secure.staged(site, STAGES[1], forged, config(site, roster=names, threshold=2))


def test_a_hospital_does_not_release_its_own_noised_sum_beside_the_secure_one(site: Site) -> None:
    from client.gate import answered

    with pytest.raises(PrivacyError, match="sums securely"):
        answered(site, "private_statistics", {}, config(site))


def test_only_trusted_identities_are_masked_with(site: Site) -> None:
    keys = secure.staged(site, STAGES[0], {}, config(site)).update.arrays
    assert site.home is not None
    (site.home / PEERS).write_text(json.dumps({site.data.name: "00"}))
    roster = {
        f"roster-{name}": keys[part][None]
        for name, part in (("keys", "public"), ("identity", "identity"), ("signature", "signature"))
    }
    many = {name: np.concatenate([array] * 4) for name, array in roster.items()}
    with pytest.raises(PrivacyError, match="identity key"):
        secure.staged(
            site, STAGES[1], many, config(site, roster="/".join([site.data.name, "b", "c", "d"]), threshold=4)
        )


def test_the_state_is_the_owners_alone(site: Site) -> None:
    secure.staged(site, STAGES[0], {}, config(site))
    assert site.home is not None
    files = [path for path in site.home.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"identity.key", "site.key"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
