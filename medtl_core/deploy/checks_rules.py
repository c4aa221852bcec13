"""What may be wrong with a hospital's rules: names nobody knows, rules that contradict each other, and its peers."""

from collections.abc import Iterator
from pathlib import Path

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.names import alike, missing
from medtl_core.data.source import read_cases
from medtl_core.deploy.check import Check, CheckResult, Subject
from medtl_core.errors import ConfigError, MedtlError, PrivacyError
from medtl_core.privacy.hospital import Hospital
from medtl_core.privacy.hospital_file import HOSPITAL
from medtl_core.privacy.identity import IDENTITY, public_identity

#: Hospitals that a secure sum needs at least.
_LEAST = 3


def _rules(subject: Subject) -> Iterator[CheckResult]:
    hospital = subject.hospital
    if hospital is None:
        return
    rules, where = hospital.policy, f"{subject.folder / HOSPITAL} [policy]"
    known = rules.public_patients
    if not known and rules.require_private:
        yield CheckResult(
            f"{where}: require_private = true with public_patients = 0 takes part in no run at all",
            "write into public_patients a number of patients that the hospital surely has and may tell",
        )
    elif not known:
        yield CheckResult("it takes part in no private run until [policy] says public_patients", "", "note")
    if 0 < known < rules.minimum_patients:
        yield CheckResult(
            f"{where}: public_patients = {known} is below minimum_patients = {rules.minimum_patients}",
            "lower minimum_patients, or raise public_patients if there are so many",
        )
    if known and rules.delta * known >= 1:
        yield CheckResult(
            f"{where}: delta = {rules.delta:g} is not below one over {known} patients",
            f"write delta = {0.1 / known:.0e}",
        )
    if not rules.max_releases:
        yield CheckResult(f"{where}: max_releases = 0 allows no private run", "raise it; 1000 is usual")
    yield from _mechanisms(hospital, where)


def _mechanisms(hospital: Hospital, where: str) -> Iterator[CheckResult]:
    if not hospital.policy.mechanisms:
        return
    from medtl_core.federation.private import PrivateMethod
    from medtl_core.federation.registry import find_method

    for name in hospital.policy.mechanisms:
        try:
            private = isinstance(find_method(name), PrivateMethod)
        except ConfigError as error:
            yield CheckResult.of(f"{where}: mechanisms: {error}", "spell it as `medtl methods` does", "fault")
            continue
        if not private:
            yield CheckResult(
                f"{where}: mechanisms: {name!r} is not a private method", "name those that `medtl methods` has"
            )


def _patients(subject: Subject) -> Iterator[CheckResult]:
    """More patients promised to the public than there are."""
    hospital = subject.hospital
    if hospital is None or not hospital.policy.public_patients:
        return
    try:
        hospital.policy.check_promises(count_patients(Path(hospital.data)))
    except PrivacyError as error:
        yield CheckResult.of(error, "correct the policy")
    except MedtlError as error:
        yield CheckResult.of(error, f"medtl data check {hospital.data} names every fault")


def count_patients(data: Path) -> int:
    """Returns how many patients a hospital's own data hold to train on, for its own eyes: an upper bound, if rows fail.

    Data that do not say whose each case is have as many patients as cases. Too many cases at fault are refused.
    """
    faults = Faults()
    examples = read_cases(data, None, Settings(data="", data_path=str(data)), faults).examples
    faults.check(str(data), len(examples))
    patient = examples["patient"][examples["split"] != "test"]
    return len({*patient[~missing(patient)].tolist()})


def _peers(subject: Subject) -> Iterator[CheckResult]:
    """Whom the hospital trusts in a secure sum."""
    hospital = subject.hospital
    if hospital is None:
        return
    rules, peers, where = hospital.policy, hospital.peers, f"{subject.folder / HOSPITAL} [peers]"
    print_keys = (
        "write there what `medtl site identity` prints at each hospital, passed on by another way than the server"
    )
    for group in alike(peers):
        yield CheckResult(
            f"{where}: {' and '.join(map(repr, group))} look alike", "keep the one that the hospital is called"
        )
    twice = sorted(name for name, key in peers.items() if list(peers.values()).count(key) > 1)
    if twice:
        yield CheckResult(f"{where}: {' and '.join(map(repr, twice))} have one key", print_keys)
    if peers and (subject.folder / IDENTITY).is_file():
        own = public_identity(subject.folder)
        if hospital.name not in peers:
            yield CheckResult(f"{where} lacks {hospital.name!r} itself", f'add this line: "{hospital.name}" = "{own}"')
        elif peers[hospital.name] != own:
            yield CheckResult(
                f"{where}: the key of {hospital.name!r} is not this folder's", f"it is {own}; correct that line"
            )
    least = max(_LEAST, 2 * rules.minimum_colluders + 1)
    if rules.secure_sum and len(peers) < least:
        yield CheckResult(
            f"{where} names {len(peers)} hospitals, and a secure sum under these rules needs {least}",
            f"{print_keys}; or set secure_sum = false",
        )


CHECKS = (
    Check("rules", _rules, quick=True),
    Check("peers", _peers, quick=True),
    Check("patients", _patients, quick=True, seconds=45.0),
)
