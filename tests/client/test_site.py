"""A hospital opens its own cases: in a simulation, from its own folder, and with everything that can be wrong."""

import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message
from PIL import Image

from client.app import app as client_app
from client.site import Node, OpenHospitals, Site, open_site
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, PrivacyError
from medtl_core.fingerprint import PROTOCOL_MARK
from medtl_core.flower import compat
from medtl_core.flower.records import encode_request
from medtl_core.privacy.hospital import Hospital
from medtl_core.privacy.policy import Policy
from medtl_core.values import Examples, Task
from tests.hospital import made_hospital
from tests.manifest import write_manifest

TASK = Task("toy", ("no", "yes"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data="", image_size=32, features="4", cache=str(tmp_path / "cache"))


@pytest.fixture
def hospital(tmp_path: Path) -> Callable[..., Node]:
    """Makes the node of a hospital whose folder holds cases of these labels and sides, each of a patient of its own."""

    def make(label: list[int], split: list[str], patient: str = "abc") -> Node:
        images = np.random.default_rng(3).integers(0, 255, (len(label), 32, 32, 1), dtype=np.uint8)
        columns = {
            "label": np.array(label), "patient": np.array(list(patient[: len(label)])), "split": np.array(split),
            "site": np.full(len(label), "own"), "image": images,
        }  # fmt: skip
        write_manifest(Examples(columns, TASK), tmp_path / "hospital")
        return Node("north", str(tmp_path / "hospital"), -1)

    return make


def test_own_folder_gives_training_cases_only_when_the_server_judges(hospital, settings: Settings) -> None:
    node = hospital([0, 1, 1], ["train", "train", "test"])
    site = open_site(settings, node)
    assert (site.data.name, site.data.label.tolist(), len(site.data.test_label)) == ("north", [0, 1], 0)
    judged = open_site(settings.replace(test="sites"), node)
    assert judged.data.test_label.tolist() == [1]
    assert judged.data.test_values.shape == (1, 120)
    assert judged.agreement != site.agreement


def test_min_cell_drops_small_classes_before_anything_is_summed(hospital, settings: Settings) -> None:
    node, strict = hospital([0, 0, 1], ["train"] * 3), settings.replace(min_cell=2, test_path="elsewhere")
    assert open_site(strict, node).data.label.tolist() == [0, 0]
    with pytest.raises(DataError, match="min-cell"):
        open_site(strict.replace(min_cell=3), node)


@pytest.mark.parametrize(
    ("split", "patient", "words"),
    [(["test", "test"], "ab", "no training case"), (["train", "test"], "ss", "of one patient")],
)
def test_sides_that_cannot_be_used_are_refused(
    hospital, settings: Settings, split: list[str], patient: str, words: str
) -> None:
    node = hospital([0, 1], split, patient)
    with pytest.raises(DataError, match=words):
        open_site(settings, node)


def test_a_missing_image_and_a_missing_folder_are_refused_by_name(hospital, settings: Settings, tmp_path: Path) -> None:
    node = hospital([0, 1], ["train", "train"])
    victim = next((tmp_path / "hospital").rglob("*.png"))
    victim.unlink()
    with pytest.raises(DataError, match=victim.name):
        open_site(settings.replace(test_path="elsewhere"), node)
    with pytest.raises(DataError, match="nowhere"):
        open_site(settings, Node("north", str(tmp_path / "nowhere"), -1))


# --- under privacy: each case by itself


@pytest.fixture
def private(settings: Settings) -> Settings:
    return settings.replace(privacy="auto", public_cases=4, sites=3)


def allowing(node: Node) -> Node:
    """The node of a hospital without patient ids, whose policy says that this is right."""
    policy = Policy(one_image_per_patient=True)
    return replace(node, hospital=Hospital(Path(node.data_path), "north", node.data_path, policy=policy))


def test_a_picture_that_cannot_be_read_costs_its_own_case_only(
    hospital, private: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = hospital([0, 1, 1], ["train"] * 3)
    whole = open_site(private, node)
    gone, broken, kept = sorted((tmp_path / "hospital").rglob("*.png"))
    gone.unlink()
    broken.write_bytes(broken.read_bytes()[:60])
    site = open_site(private, node)
    assert site.data.patients.tolist() == ["c"]
    assert (site.data.values == whole.data.values[2:]).all()
    assert site.data.material is not None and len(site.data.material) == 1  # nor is it looked at later
    assert site.agreement == whole.agreement
    assert site.patients is not None and site.patients.tolist() == ["a", "b", "c"]  # whose ledger it is
    assert gone.name in caplog.text and broken.name in caplog.text
    kept.unlink()
    nobody = open_site(private, node).data
    assert nobody.values.shape == (0, 120) and not len(nobody.label)


def test_nothing_is_held_out_but_what_a_row_says(hospital, private: Settings, tmp_path: Path) -> None:
    node = hospital([0, 1, 0], ["train", "test", "val"], "sst")
    assert open_site(private, node).data.patients.tolist() == ["s", "t"]  # a patient on both sides is no matter
    table = tmp_path / "hospital" / "manifest.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("\n".join(",".join(row[:3]) for row in rows))
    for chosen in (private, private.replace(test_path="elsewhere"), private.replace(shots=1, partition="even", seed=3)):
        assert open_site(chosen, node).data.patients.tolist() == ["s", "s", "t"]


def test_classes_are_stated_one_way(hospital, private: Settings, tmp_path: Path) -> None:
    node = hospital([0, 1, 1], ["train"] * 3)
    with pytest.raises(DataError, match="leave one of them out"):
        open_site(private.replace(data="phantom"), node)
    (tmp_path / "hospital" / "task.json").unlink()
    with pytest.raises(DataError, match=r"task\.json"):
        open_site(private, node)
    assert len(open_site(private.replace(privacy="none", test_path="elsewhere"), node).data.label) == 3
    assert not len(open_site(private.replace(data="phantom"), node).data.label)  # classes of another name


def test_without_patient_ids_the_hospital_itself_must_say_that_images_are_patients(
    private: Settings, tmp_path: Path
) -> None:
    folder, (one, two) = tmp_path / "hospital", np.random.default_rng(0).integers(0, 255, (2, 32, 32), dtype=np.uint8)
    for name in ("yes", "no", "perhaps", "empty"):
        (folder / name).mkdir(parents=True)
    for place, image in (("yes/1", one), ("no/2", two), ("perhaps/3", one)):
        Image.fromarray(image).save(folder / f"{place}.png")
    node = Node("north", str(folder), -1)
    with pytest.raises(DataError, match=r"task\.json"):
        open_site(private, allowing(node))
    (folder / "task.json").write_text('{"name": "toy", "classes": ["no", "yes"]}')
    with pytest.raises(PrivacyError, match="one_image_per_patient"):
        open_site(private, node)
    data = open_site(private, allowing(node)).data
    assert list(zip(data.patients.tolist(), data.label.tolist(), strict=True)) == [("no/2.png", 0), ("yes/1.png", 1)]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "neither hospital"),
        ({"data-path": "/x", "site-name": "north"}, "medtl site init DIR"),
        ({"state-dir": "/x", "partition-id": "0"}, "medtl site run DIR"),
        ({"hospital": "/x", "partition-id": "0"}, "nothing else"),
    ],
)
def test_node_config_is_checked(config: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Node.of(config)


def test_more_nodes_than_sites_are_refused(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="as many nodes as sites"):
        open_site(settings.replace(data="phantom", sites=2, shots=4), Node("", "", 2))


def test_a_process_opens_each_hospital_once_and_lets_go_of_another_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[int, int]] = []

    def slow(settings: Settings, node: Node, *store: object) -> Site:
        time.sleep(0.05)
        opened.append((settings.seed, node.part))
        return open_site(settings, node)

    monkeypatch.setattr("client.site.open_site", slow)
    run = {"data": "phantom", "sites": 2, "shots": 3, "image-size": 32, "features": "4", "cache": str(tmp_path)}
    hospitals = OpenHospitals()
    with ThreadPoolExecutor(4) as pool:
        first = list(pool.map(lambda part: hospitals.open(run, {"partition-id": part}), [0, 1, 0, 1]))
    assert sorted(opened) == [(0, 0), (0, 1)]
    assert first[0] is first[2]
    assert len(first[0].data.test_values) == 0
    # what no hospital sees may differ
    assert hospitals.open({**run, "methods": "ridge"}, {"partition-id": 0}) is first[0]
    assert hospitals.open({**run, "state": str(tmp_path)}, {"partition-id": 0}).data.state is not None
    one, other = (hospitals.open({**run, "seed": 1}, {"partition-id": part}).data for part in (0, 1))
    assert one.test_material is other.test_material  # of no case
    assert hospitals.open(run, {"partition-id": 0}) is not first[0]
    assert sorted(opened) == [(0, 0), (0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_hospital_that_could_not_be_opened_is_tried_again(hospital, tmp_path: Path) -> None:
    data = tmp_path / "hospital"
    data.mkdir()
    hospitals, config = OpenHospitals(), made_hospital(tmp_path / "own", "north", data)
    data.rmdir()
    run = {"data": "", "image-size": 32, "features": "4"}
    with pytest.raises(DataError):
        hospitals.open(run, config)
    hospital([0, 1], ["train", "train"])
    assert hospitals.open(run, config).data.label.tolist() == [0, 1]


def test_the_app_travels_to_another_process_without_its_hospitals() -> None:
    assert pickle.loads(pickle.dumps(client_app)) is client_app  # as Ray sends it to its workers


def test_a_run_that_judges_at_hospitals_is_refused_by_one_without_test_cases(
    tmp_path: Path, settings: Settings, hospital
) -> None:
    node, judging = hospital([0, 1] * 4, ["train"] * 8, "abcdefgh"), settings.replace(test="sites")
    assert len(open_site(judging, node).data.test_label)  # nobody judges elsewhere: some of its patients are held out
    with pytest.raises(DataError, match="marks no case as test"):
        open_site(judging.replace(test_path="of the server"), node)
    node_config = made_hospital(tmp_path / "own", "north", tmp_path / "hospital")
    words = {"data": "", "test": "sites", "test-path": "/srv/test", "image-size": 32, "features": "4", "sites": 1}
    compat.take_identity(1, 1)
    message = Message(encode_request({}, {}), 7, "query.join", group_id=PROTOCOL_MARK)
    with pytest.raises(RuntimeError, match="no test cases, and this run judges at the sites: give some"):
        client_app(compat.stamp(message, "m"), compat.node_context(1, 7, node_config, words))
