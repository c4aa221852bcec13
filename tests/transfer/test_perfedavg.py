"""Per-FedAvg: one meta-training for both methods, and the hospital's own step on its own disk."""

from pathlib import Path

import numpy as np

from medtl_core.calibrate import log_loss
from medtl_core.methods.hospitals import Request
from medtl_core.transfer.maml import Inner, gradient_step
from medtl_core.transfer.network import NAMES, Network
from tests.memory import DirectHospitals
from tests.transfer.personal_sites import study


def test_both_methods_share_one_meta_training_in_which_every_hospital_takes_part(tmp_path: Path) -> None:
    made = study(tmp_path, "perfedavg-2,perfedavg-2-personal")
    shared, personal = (made.outcome(method) for method in made.methods)
    assert isinstance(made.hospitals, DirectHospitals)
    tasks = [request.task for request in made.hospitals.asked]
    assert tasks.count("fit_meta") == 2 and tasks.count("onestep_finish") == 1
    assert isinstance(shared.heads[""], Network)
    assert personal.heads == {} and personal.personal == "perfedavg-2-personal"
    assert sorted(personal.facts["hospitals"]) == ["a", "b", "c", "d", "e"]  # one case, or one class, is enough
    assert set(personal.bill) == {"moments", "fit-perfedavg-2", "finish-perfedavg-2-personal"}


def test_the_own_step_is_one_step_on_all_cases_and_fits_them_better(tmp_path: Path) -> None:
    made = study(tmp_path, "perfedavg-2,perfedavg-2-personal")
    before = made.outcome(made.methods[0]).heads[""]
    made.outcome(made.methods[1])
    assert isinstance(before, Network) and isinstance(made.hospitals, DirectHospitals)
    site = made.hospitals.sites["a"]
    sent = {**before.arrays, "weight": np.ones(3)}
    moved = gradient_step(site, sent, Inner(1).config()).update.arrays
    after = Network({**before.arrays, **{name: moved[name] for name in NAMES}}, before.seen, before.classes, "features")
    ours, theirs = (log_loss(one.logits(site.values), site.label) for one in (after, before))
    assert ours < theirs


def test_what_a_hospital_keeps_is_judged_there(tmp_path: Path) -> None:
    made = study(tmp_path, "perfedavg-2-personal")
    made.outcome(made.methods[0])
    assert isinstance(made.hospitals, DirectHospitals)
    config = next(request for request in made.hospitals.asked if request.task == "onestep_finish").config
    sums = {reply.site: reply.arrays for reply in made.hospitals.ask(Request("evaluate_personal", {}, config))}
    assert sorted(sums) == ["a", "b", "c", "d", "e"]
    assert all(np.isfinite(array).all() for arrays in sums.values() for array in arrays.values())
