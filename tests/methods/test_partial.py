"""The small network cut in parts: who trains what, what FedBN's own normalisation is, and where it is worth it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from medtl_core.config import Settings
from medtl_core.errors import DataError
from medtl_core.federation.hospitals import Request
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.models.network import BODY, HEAD, NAMES
from medtl_core.methods.personal.client import LocalRound
from medtl_core.methods.personal.fedbn import PULL, own_moments
from server.verdict import judge_all
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site
from tests.methods.personal_sites import ask, message, study, with_state


def kept(site: SiteData, method: str, what: str) -> dict[str, np.ndarray]:
    """A hospital's personal arrays on its disk."""
    assert site.state is not None
    arrays: dict[str, np.ndarray] = load_file(site.state / f"{method}.{what}.safetensors")
    return arrays


def test_fedper_trains_both_and_keeps_the_head(tmp_path: Path) -> None:
    site, request = with_state(tmp_path)[0], message("fedper-2", "_round")
    released = ask(site, request, round=1)
    assert set(released.update.arrays) == set(BODY)
    assert all((released.update.arrays[name] != request.arrays[name]).any() for name in BODY)
    assert kept(site, "fedper-2", "round-1").keys() == set(HEAD)
    assert kept(site, "fedper-2", "round-1")["head.weight"].any()
    assert released.metrics["loss-after"] < released.metrics["loss-before"] == pytest.approx(np.log(3), abs=0.2)


def test_fedrep_trains_the_head_under_the_old_body_first(tmp_path: Path) -> None:
    request = message("fedrep-2", "_round")
    site, other = with_state(tmp_path)[0], with_state(tmp_path / "other")[0]
    released = ask(site, request, round=1)
    assert all((released.update.arrays[name] != request.arrays[name]).any() for name in BODY)
    # finishing trains the head alone, from where a hospital begins, under the body that is sent
    alone = {**request.arrays, "seen": np.ones(3, np.int64)}
    ask(other, Request("fedrep_finish", alone, request.config), round=1)
    head, final = kept(site, "fedrep-2", "round-1"), kept(other, "fedrep-2", "final")
    assert all(np.array_equal(head[name], final[name]) and head[name].any() for name in HEAD)


def test_the_finished_model_is_the_shared_body_and_the_kept_head_which_fedrep_fits_once_more(tmp_path: Path) -> None:
    for method in ("fedper-2", "fedrep-2"):
        site, finish = with_state(tmp_path)[0], message(method, "_finish")
        ask(site, message(method, "_round"))
        ask(site, finish)
        final, before = kept(site, method, "final"), kept(site, method, "round-2")
        assert all(np.array_equal(final[name], finish.arrays[name]) for name in BODY)
        assert all(np.array_equal(final[name], before[name]) for name in HEAD) == (method == "fedper-2")


def test_fedbn_keeps_its_normalisation_and_folds_it_into_the_hidden_layer(tmp_path: Path) -> None:
    site, request, finish = with_state(tmp_path)[0], message("fedbn-2", "_round"), message("fedbn-2", "_finish")
    assert set(ask(site, request).update.arrays) == set(NAMES)
    norm = kept(site, "fedbn-2", "round-2")
    assert norm.keys() == {"norm.gain", "norm.shift"} and all(array.any() for array in norm.values())
    ask(site, finish)
    final, moments = kept(site, "fedbn-2", "final"), own_moments(LocalRound(site, finish.arrays, finish.config))
    inputs = (site.test_values - moments["mean"]) / moments["scale"]
    folded = inputs @ final["body.weight"].T + final["body.bias"]
    apart = (inputs * (1 + norm["norm.gain"]) + norm["norm.shift"]) @ finish.arrays["body.weight"].T
    np.testing.assert_allclose(folded, apart + finish.arrays["body.bias"], atol=1e-4)


def test_own_moments_by_hand() -> None:
    site, sent = make_site("a", 30), {"mean": np.linspace(2, 4, 6), "scale": np.linspace(1, 3, 6)}
    imagined = sent["mean"] + sent["scale"] * np.array([[1.0], [-1.0]] * 5)
    assert len(imagined) == PULL  # pooled cases
    together, moments = np.concatenate([site.values, imagined]), own_moments(LocalRound(site, sent, {}))
    np.testing.assert_allclose(moments["mean"], together.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(moments["scale"], together.std(axis=0), rtol=1e-5)
    lone = own_moments(LocalRound(make_site("a", 1), sent, {}))
    assert (lone["scale"] > 0.5 * sent["scale"]).all()  # one case has a spread all the same


def test_a_normalisation_of_ones_own_learns(tmp_path: Path) -> None:
    verdicts = judge_all(study(tmp_path, "fedbn-5,personal-local"), None)
    ours, floor = (verdict.judgement.figures["auroc"] or 0.0 for verdict in verdicts.values())
    assert ours > max(floor, 0.9)


def test_where_hospitals_disagree_a_personal_head_wins(tmp_path: Path) -> None:
    """Two hospitals code the classes the other way round: no common head serves both, a common body does."""
    sites = [replace(make_site(name, 60), state=tmp_path / name) for name in "ab"]
    sites[1] = replace(sites[1], label=(2 - sites[1].label), test_label=(2 - sites[1].test_label))
    methods = read_methods("network-8,fedper-8,fedrep-8")
    made = Study(MemoryHospitals(sites), PROBLEM, Settings(test="sites"), methods)
    accuracy = {name: verdict.judgement.figures["balanced_accuracy"] for name, verdict in judge_all(made, None).items()}
    assert accuracy["fedper-8"] > 0.85 > 0.75 > accuracy["network-8"]  # type: ignore[operator]
    assert accuracy["fedrep-8"] > 0.85  # type: ignore[operator]


def test_training_that_diverges_keeps_the_hospital_out_and_its_state_unwritten(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="diverged"):
        ask(with_state(tmp_path)[0], message("fedbn-2", "_round"), **{"learning-rate": 1e30})
    assert list(tmp_path.rglob("*.safetensors")) == []
