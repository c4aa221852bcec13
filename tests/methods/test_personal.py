"""The small network cut in parts: who trains what, what FedBN's own normalisation is, and where it is worth it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import log_prior
from medtl_core.federation.registry import answer, find_method, read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.network import BODY, HEAD, NAMES, Network, initial, recipe_config, standardised
from medtl_core.methods.personal.client import Visit
from medtl_core.methods.personal.partial import PULL, HeadPart, NormPart, own_moments
from medtl_core.methods.personal.server import Personal, identity_config
from medtl_core.methods.personal.state import PersonalState
from server.verdict import judge_all
from tests.memory import DirectHospitals, make_site
from tests.methods.personal_sites import PROBLEM, last_asked, study, with_state

CONFIG = {
    "method": "m", "classes": '["x", "y", "z"]', "fingerprint": "features", "agreement": "a", "epochs": 2,
    "batch-size": 8, "learning-rate": 0.05, "weight-decay": 0.0, "adjusted": False,
}  # fmt: skip


def visit(site: SiteData, *, seed: int = 0, **changes: object) -> Visit:
    arrays = initial(6, 3, rng=np.random.default_rng(seed))
    arrays["head.weight"] = np.random.default_rng(seed + 1).standard_normal((3, 64)).astype(np.float32) / 8
    mean, scale = site.values.mean(axis=0), site.values.std(axis=0) + 1.0
    more = {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32), "seen": np.ones(3, np.int64)}
    return Visit(site, {**arrays, **more}, {**CONFIG, **changes}, 1)


def test_fedper_trains_both_and_keeps_the_head() -> None:
    here = visit(make_site("a", 20))
    part = HeadPart((NAMES,))
    kept = {name: here.arrays[name] for name in HEAD}
    step = part.train(here, kept)
    assert set(step.shared) == set(BODY)
    assert set(step.kept) == set(HEAD)
    assert all((step.shared[name] != here.arrays[name]).any() for name in BODY)
    assert all((step.kept[name] != kept[name]).any() for name in HEAD)
    assert step.metrics["loss-after"] < step.metrics["loss-before"]


def test_fedrep_trains_the_head_under_the_old_body_first() -> None:
    here = visit(make_site("a", 20))
    kept = {name: here.arrays[name] for name in HEAD}
    head_only = HeadPart((HEAD,)).train(here, kept)
    both = HeadPart((HEAD, BODY), refit=True).train(here, kept)
    assert all(np.array_equal(head_only.kept[name], both.kept[name]) for name in HEAD)
    assert all(np.array_equal(head_only.shared[name], here.arrays[name]) for name in BODY)
    assert all((both.shared[name] != here.arrays[name]).any() for name in BODY)


def test_fedrep_fits_its_head_to_the_last_body_before_it_is_used() -> None:
    here = visit(make_site("a", 20))
    kept = {name: here.arrays[name] for name in HEAD}
    model = HeadPart((HEAD, BODY), refit=True).finish(here, kept).model
    assert isinstance(model, Network)
    assert all(np.array_equal(model.arrays[name], here.arrays[name]) for name in BODY)
    assert (model.arrays["head.weight"] != kept["head.weight"]).any()


def test_fedbn_keeps_its_normalisation_and_shares_the_network() -> None:
    here = visit(make_site("a", 20))
    part = NormPart()
    step = part.train(here, part.begin(here))
    assert set(step.shared) == set(NAMES)
    assert set(step.kept) == {"norm.gain", "norm.shift"}
    assert all(array.any() for array in step.kept.values())


def test_fedbn_folds_its_affine_map_into_the_hidden_layer() -> None:
    here, part = visit(make_site("a", 20)), NormPart()
    rng = np.random.default_rng(5)
    kept = {name: rng.normal(0, 0.3, 6).astype(np.float32) for name in ("norm.gain", "norm.shift")}
    model = part.finish(here, kept).model
    values = here.site.test_values
    mean, scale = own_moments(here)
    inputs = standardised(values, mean, scale) * (1 + kept["norm.gain"]) + kept["norm.shift"]
    hidden = np.tanh(inputs @ here.arrays["body.weight"].T + here.arrays["body.bias"])
    np.testing.assert_allclose(
        model.logits(values), hidden @ here.arrays["head.weight"].T + here.arrays["head.bias"], atol=1e-5
    )


def test_own_moments_by_hand() -> None:
    site = make_site("a", 30)
    here = visit(site)
    imagined = here.arrays["mean"] + here.arrays["scale"] * np.array([[1.0], [-1.0]] * 5)  # PULL = 10 pooled cases
    assert len(imagined) == PULL
    together = np.concatenate([site.values, imagined])
    mean, scale = own_moments(here)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scale, together.std(axis=0), rtol=1e-5)


def test_one_case_has_a_spread_all_the_same() -> None:
    here = visit(make_site("a", 1))
    assert (own_moments(here)[1] > 0.5 * here.arrays["scale"]).all()


def test_adjustment_removes_the_hospitals_own_prior() -> None:
    site = make_site("a", 20)
    site = replace(site, values=site.values[:11], label=site.label[:11], patients=site.patients[:11])
    kept = {name: visit(site).arrays[name] for name in HEAD}
    plain, moved = (HeadPart((NAMES,)).finish(visit(site, adjusted=flag), kept).model for flag in (False, True))
    difference = plain.logits(site.test_values) - moved.logits(site.test_values)
    np.testing.assert_allclose(difference, np.tile(log_prior(np.bincount(site.label, minlength=3)), (20, 1)), atol=1e-5)


@pytest.mark.parametrize("name", ["fedper", "fedrep", "fedbn"])
def test_personal_parts_learn(tmp_path: Path, name: str) -> None:
    found = judge_all(study(tmp_path, f"{name}-10,personal-local"), None)
    ours, floor = (verdict.judgement.figures["auroc"] for verdict in found.values())
    assert ours is not None
    assert floor is not None
    assert ours > max(floor, 0.9)


def test_where_hospitals_disagree_a_personal_head_wins(tmp_path: Path) -> None:
    """Two hospitals code the classes the other way round: no common head serves both, a common body does."""
    sites = [replace(make_site(name, 60), state=tmp_path / name) for name in "ab"]
    sites[1] = replace(sites[1], label=(2 - sites[1].label), test_label=(2 - sites[1].test_label))
    settings = Settings(test="sites")
    made = Study(DirectHospitals(sites), PROBLEM, settings, read_methods("network-20,fedper-20,fedrep-20"))
    found = {name: verdict.judgement.figures["balanced_accuracy"] for name, verdict in judge_all(made, None).items()}
    assert found["fedper-20"] > 0.85 > 0.75 > found["network-20"]  # type: ignore[operator]
    assert found["fedrep-20"] > 0.85  # type: ignore[operator]


def test_the_finished_model_on_disk_is_the_shared_body_and_the_kept_head(tmp_path: Path) -> None:
    made = study(tmp_path, "fedper-2")
    made.outcome(*made.methods)
    last = last_asked(made, "fedper_finish")
    site = with_state(tmp_path)[0]
    assert site.state is not None
    who = Visit(site, last.arrays, last.config, 3).identity
    state = PersonalState(site.state, who)
    kept, final = state.before(3), state.finished()
    assert kept is not None
    for name in BODY:
        np.testing.assert_array_equal(final.arrays[name], last.arrays[name])
    for name in HEAD:
        np.testing.assert_array_equal(final.arrays[name], kept.arrays[name])


def test_training_that_diverges_keeps_the_hospital_out_and_its_state_unwritten(tmp_path: Path) -> None:
    made = study(tmp_path, "fedbn-2", Settings(test="sites", learning_rate=1e30))
    (method,) = made.methods
    assert isinstance(method, Personal)
    opening = method.opening(made)
    arrays = {
        **made.moments.standardisation,
        **{name: value.astype(np.float32) for name, value in opening.start.items()},
    }
    config = {**identity_config(made, "fedbn-2"), **recipe_config(made), "round": 1}
    with pytest.raises(DataError, match="diverged"):
        answer("fedbn_round", with_state(tmp_path)[0], arrays, config)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_names_say_rounds_and_adjustment() -> None:
    method = find_method("fedrep-12-adjusted")
    assert isinstance(method, Personal)
    assert (method.rounds, method.adjusted) == (12, True)
