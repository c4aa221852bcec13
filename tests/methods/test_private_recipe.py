"""The usual recipe: noised steps at every hospital, averaged heads, and no secure sum."""

import numpy as np
import pytest

from medtl_core.errors import ConfigError
from medtl_core.federation.registry import find_method
from medtl_core.methods.private.gradient import clipped_gradient
from medtl_core.methods.private.local_sgd import RATE, STEPS, private_training
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import by_patient, unit
from tests.memory import make_site
from tests.methods.exact_hospitals import SETTINGS, exact_study


def test_a_hospitals_steps_use_the_noised_gradient_and_the_public_number_of_cases() -> None:
    site = make_site("a", 9)
    head, asked = np.zeros((3, 6)), list[Bounded]()

    def noising(bounded: Bounded) -> dict[str, np.ndarray]:
        asked.append(bounded)
        return {"gradient": bounded.update.arrays["gradient"] + 1.0}  # noise of 1 everywhere

    map_ = {"mean": np.zeros(6), "scale": np.ones(6), "basis": np.eye(6), "head": head}
    found = private_training(site, map_, {"steps": 2, "cases": 20}, noising)["head"]
    own = by_patient(unit(site.values.astype(np.float64)), site.label, site.patients)
    for _ in range(2):
        head = head - RATE * ((clipped_gradient(head, own) + 1.0) / 20 + 1e-2 * head)
    np.testing.assert_allclose(found, head, rtol=1e-12)
    assert [bounded.sensitivity for bounded in asked] == [{"gradient": 1.0}] * 2


def test_the_server_averages_the_heads() -> None:
    study = exact_study("private-sgd-1")
    model = study.outcome(find_method("private-sgd-1")).heads[""]
    map_ = {"mean": np.zeros(6), "scale": np.ones(6), "basis": np.eye(6), "head": np.zeros((3, 6))}
    config = {"steps": STEPS, "cases": 20}
    heads = [
        private_training(site, map_, config, lambda bounded: dict(bounded.update.arrays))["head"]
        for site in study.hospitals.sites.values()  # type: ignore[attr-defined]
    ]
    np.testing.assert_allclose(model.weight, np.mean(heads, axis=0), rtol=1e-12)  # type: ignore[union-attr]


def test_secure_sum_is_refused_before_anyone_is_asked() -> None:
    study = exact_study("private-sgd", SETTINGS.replace(secure_sum=True))
    with pytest.raises(ConfigError, match="has no secure sum"):
        study.outcome(find_method("private-sgd"))
    assert study.hospitals.asked == []  # type: ignore[attr-defined]
