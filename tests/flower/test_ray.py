import ast
from pathlib import Path

import pytest

from medtl_core.errors import RunError
from medtl_core.flower import compat
from simulations import ray


def test_the_private_simulation_still_takes_what_is_given() -> None:
    import flwr
    from flwr.supercore import telemetry
    from flwr.supercore.constant import NOOP_FEDERATION_ID

    wanted = {
        "num_supernodes", "exit_event", "client_app_attr", "server_app_attr", "app_dir", "is_app", "backend_config",
        "server_app_context", "run",
    }  # fmt: skip
    # read, not imported: that would take Ray and seconds
    tree = ast.parse((Path(flwr.__file__).parent / "simulation" / "run_simulation.py").read_text(encoding="utf-8"))
    (found,) = [x for x in tree.body if isinstance(x, ast.FunctionDef) and x.name == "_run_simulation"]
    assert wanted <= {argument.arg for argument in found.args.args}
    assert isinstance(telemetry.FLWR_TELEMETRY_ENABLED, str)
    assert telemetry.EventType.PYTHON_API_RUN_SIMULATION_LEAVE
    run = compat.empty_run(1)
    assert {"primary_task_id", "federation_id", "override_config"} <= vars(run).keys()
    assert isinstance(NOOP_FEDERATION_ID, type(run.federation_id))


def test_without_ray_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"medtl\[ray\]"):
        ray.run_ray(Path(), 2, {})
