"""One hospital's side of a secure sum: a server that tells it an odd story learns nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.gate import answered
from client.secure import staged
from client.site import Node, Site, open_site
from medtl_core.config import settings
from medtl_core.errors import PrivacyError
from medtl_core.federation.private import terms_of
from medtl_core.federation.registry import find_method
from medtl_core.federation.secure_sum import STAGES
from medtl_core.privacy.identity import PEERS
from medtl_core.values import Array
from simulations.secure_cost import Case, write_table

CASE = Case(5, "secure", "private-mean")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    write_table(tmp_path / "table-5.csv", 5)
    chosen = settings(CASE.settings(tmp_path)).of_site()
    return open_site(chosen, Node("", "", 0)).keeping(str(tmp_path / "state"))


def config(site: Site, **changes: Any) -> dict[str, Any]:
    method = find_method("private-mean")
    plan = method.plan(terms_of(site.settings, site.data.values.shape[1], site.data.classes))  # type: ignore[attr-defined]
    base = {"method": method.name, "step": 0, "round": 1, "plan": plan.digest}
    return {**base, "inner": "private_statistics", "gram": False, **changes}


def roster(site: Site) -> tuple[dict[str, Array], str]:
    """The hospital's own keys four times, and the names of four."""
    keys = staged(site, STAGES[0], {}, config(site)).update.arrays
    parts = (("keys", "public"), ("identity", "identity"), ("signature", "signature"))
    return {f"roster-{name}": np.stack([keys[part]] * 4) for name, part in parts}, f"{site.data.name}/b/c/d"


def test_keys_are_the_same_when_they_are_asked_for_again(site: Site) -> None:
    first, again = (staged(site, STAGES[0], {}, config(site)).update.arrays["public"] for _ in range(2))
    assert first.tolist() == again.tolist()


def test_a_server_that_forges_the_roster_is_refused(site: Site) -> None:
    arrays, names = roster(site)
    for told, match in (
        ({"roster": names, "threshold": 4}, "not signed"),
        ({"roster": "a/b/c/d", "threshold": 4}, "does not name this hospital"),
        ({"roster": names, "threshold": 2}, "threshold"),
    ):
        with pytest.raises(PrivacyError, match=match):
            staged(site, STAGES[1], arrays, config(site, **told))


def test_only_trusted_identities_are_masked_with(site: Site) -> None:
    arrays, names = roster(site)
    assert site.home is not None
    (site.home / PEERS).write_text(json.dumps({site.data.name: "00"}))
    with pytest.raises(PrivacyError, match="identity key"):
        staged(site, STAGES[1], arrays, config(site, roster=names, threshold=4))


def test_a_hospital_does_not_release_its_own_noised_sum_beside_the_secure_one(site: Site) -> None:
    with pytest.raises(PrivacyError, match="sums securely"):
        answered(site, "private_statistics", {}, config(site))


def test_the_state_is_the_owners_alone(site: Site) -> None:
    staged(site, STAGES[0], {}, config(site))
    assert site.home is not None
    files = [path for path in site.home.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"identity.key", "site.key"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
