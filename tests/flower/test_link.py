"""What the coordinator uses of Flower's private names still does what it did."""

import io
import zipfile
from pathlib import Path

import pytest

from medtl_core.flower.link.task import bundle
from tests.deploy.coordinated import new_key

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern")  # Flower's own use of pathspec
def test_a_bundle_holds_the_names_of_the_settings_and_no_code() -> None:
    with zipfile.ZipFile(io.BytesIO(bundle(ROOT))) as archive:
        code = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
        assert set(code) == {"server/__init__.py", "server/app.py", "client/__init__.py", "client/app.py"}
        assert not any(code.values())
        assert b"secure-sum" in archive.read("pyproject.toml")


@pytest.mark.door  # reads Flower's whole SuperLink
def test_a_superlink_in_this_process_knows_keys_and_no_strangers() -> None:
    from flwr.supercore.heartbeat import make_task_heartbeat_fn_http
    from flwr.superlink.grid import HttpGrid

    from medtl_core.flower.link.superlink import CONTROL_PATHS, FLEET_PATHS, KEY, SIGNATURE, SuperLink

    link = SuperLink(b"0" * 32)
    (_, one), (_, two) = new_key(), new_key()
    node = link.register(one, "north")
    assert link.register(one, "north") == node != link.register(two, "south")
    assert link.app.state.enable_supernode_auth
    paths = {route.path for route in link.app.routes if hasattr(route, "path")} or set(link.app.openapi()["paths"])
    everything = " ".join([*paths, *link.app.openapi()["paths"]])
    assert f"{FLEET_PATHS}pull-messages" in everything and f"{CONTROL_PATHS}start-run" in everything
    assert "/v1/runtime/push-object" in everything and f"{FLEET_PATHS}push-object" in everything
    assert (KEY, SIGNATURE) == ("flwr-public-key", "flwr-signature")
    grid = HttpGrid("127.0.0.1:1", insecure=True, token="t")
    assert hasattr(grid, "_runtime_client") and hasattr(grid._retry_invoker, "max_time")
    assert callable(make_task_heartbeat_fn_http(grid._runtime_client))
