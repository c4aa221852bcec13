"""Reptile: its server step, and FedAvg as the special case."""

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import find_method, read_methods
from medtl_core.federation.study import Study
from medtl_core.methods.network import NAMES, Network, start_of
from medtl_core.methods.reptile import Reptile
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 6),))


def trained(name: str) -> tuple[Network, Study]:
    hospitals = DirectHospitals([make_site("a", 20), make_site("b", 12)])
    study = Study(hospitals, PROBLEM, Settings(), read_methods(name))
    found = study.outcome(study.methods[0]).heads[""]
    assert isinstance(found, Network)
    return found, study


def test_rate_one_is_federated_averaging_to_the_bit() -> None:
    reptile, fedavg = trained("reptile-3-rate-1")[0], trained("network-3")[0]
    for name in NAMES:
        assert reptile.arrays[name].tobytes() == fedavg.arrays[name].tobytes()


def test_one_round_goes_the_stated_part_of_the_way() -> None:
    (part, study), (whole, _) = trained("reptile-1-rate-0.25"), trained("network-1")
    start = start_of(study)
    for name in NAMES:
        expected = start[name] + 0.25 * (whole.arrays[name] - start[name])
        np.testing.assert_allclose(part.arrays[name], expected, atol=1e-6)


def test_names_carry_rounds_and_rate() -> None:
    assert find_method("reptile-20") == Reptile("reptile-20", 20, 0.5)
    assert find_method("reptile-5-rate-0.3") == Reptile("reptile-5-rate-0.3", 5, 0.3)
    with pytest.raises(ConfigError, match="unknown method"):
        find_method("reptile-5-rate-")
