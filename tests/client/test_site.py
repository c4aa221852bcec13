"""A hospital opens its own cases: in a simulation, from its own folder, and with everything that can be wrong."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from client.site import Node, OpenHospitals, Site, open_site
from medtl_core.config import Settings
from medtl_core.data.manifest import write_manifest
from medtl_core.errors import ConfigError, DataError
from medtl_core.values import Examples, Task

TASK = Task("toy", ("no", "yes"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data="", image_size=32, features="4", cache=str(tmp_path / "cache"))


def own_folder(tmp_path: Path, label: list[int], patient: list[str], split: list[str]) -> Path:
    images = np.random.default_rng(3).integers(0, 255, (len(label), 32, 32, 1), dtype=np.uint8)
    columns = {
        "label": np.array(label), "patient": np.array(patient), "split": np.array(split),
        "site": np.full(len(label), "own"), "image": images,
    }  # fmt: skip
    folder = tmp_path / "hospital"
    write_manifest(Examples(columns, TASK), folder)
    return folder


def node(folder: Path) -> Node:
    return Node.of({"data-path": str(folder), "site-name": "north"})


def test_own_folder_gives_training_cases_only_when_the_server_judges(tmp_path: Path, settings: Settings) -> None:
    folder = own_folder(tmp_path, [0, 1, 1], ["a", "b", "c"], ["train", "train", "test"])
    site = open_site(settings, node(folder))
    assert (site.data.name, site.data.label.tolist(), len(site.data.test_label)) == ("north", [0, 1], 0)
    judged = open_site(settings.replace(test="sites"), node(folder))
    assert judged.data.test_label.tolist() == [1]
    assert judged.data.test_values.shape == (1, 80)
    assert judged.agreement != site.agreement


def test_one_case_and_one_class_are_legal(tmp_path: Path, settings: Settings) -> None:
    folder = own_folder(tmp_path, [1, 0], ["a", "b"], ["train", "test"])
    site = open_site(settings, node(folder))
    assert (site.data.label.tolist(), site.data.classes) == ([1], 2)


@pytest.mark.parametrize(
    ("patients", "splits", "match"),
    [(["a", "b"], ["test", "test"], "no training case left"), (["same", "same"], ["train", "test"], "one patient")],
    ids=["nothing to train on", "a patient on two sides"],
)
def test_what_a_hospital_cannot_take_part_with_is_named(
    tmp_path: Path, settings: Settings, patients: list[str], splits: list[str], match: str
) -> None:
    with pytest.raises(DataError, match=match):
        open_site(settings, node(own_folder(tmp_path, [0, 1], patients, splits)))


def test_min_cell_drops_small_classes_before_anything_is_summed(tmp_path: Path, settings: Settings) -> None:
    folder = own_folder(tmp_path, [0, 0, 1], ["a", "b", "c"], ["train"] * 3)
    strict = settings.replace(min_cell=2, test_path="elsewhere")
    assert open_site(strict, node(folder)).data.label.tolist() == [0, 0]
    with pytest.raises(DataError, match="min-cell"):
        open_site(strict.replace(min_cell=3), node(folder))


def test_a_missing_image_is_refused_by_name(tmp_path: Path, settings: Settings) -> None:
    folder = own_folder(tmp_path, [0, 1], ["a", "b"], ["train", "train"])
    victim = next(folder.rglob("*.png"))
    victim.unlink()
    with pytest.raises(DataError, match=victim.name):
        open_site(settings.replace(test_path="elsewhere"), node(folder))


def test_what_a_node_lacks_is_refused(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_site(settings, node(tmp_path / "nowhere"))
    for config, match in (({}, "data-path"), ({"data-path": "/x"}, "site-name")):
        with pytest.raises(ConfigError, match=match):
            Node.of(config)
    small = settings.replace(data="phantom", sites=2, shots=4)
    with pytest.raises(ConfigError, match="as many nodes as sites"):
        open_site(small, Node("", "", 2))


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
    # what no hospital sees may differ
    assert hospitals.open({**run, "methods": "ridge"}, {"partition-id": 0}) is first[0]
    assert hospitals.open({**run, "state": str(tmp_path)}, {"partition-id": 0}).data.state is not None
    hospitals.open({**run, "seed": 1}, {"partition-id": 0})
    assert hospitals.open(run, {"partition-id": 0}) is not first[0]
    assert sorted(opened) == [(0, 0), (0, 0), (0, 1), (1, 0)]


def test_a_hospital_that_could_not_be_opened_is_tried_again(tmp_path: Path) -> None:
    hospitals, config = OpenHospitals(), {"data-path": str(tmp_path / "hospital"), "site-name": "north"}
    run = {"data": "", "image-size": 32, "features": "4", "cache": str(tmp_path / "cache")}
    with pytest.raises(DataError):
        hospitals.open(run, config)
    own_folder(tmp_path, [0, 1], ["a", "b"], ["train", "train"])
    assert hospitals.open(run, config).data.label.tolist() == [0, 1]
