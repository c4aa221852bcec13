"""The house keeps its order: imports point one way, no circles, one meaning for a class name, sizes within budgets."""

from pathlib import Path

import pytest

from tests import picture
from tests.house import ADDED, BELOW, ROOMS, WHOLE, House, this_house


@pytest.fixture(scope="module")
def house() -> House:
    return this_house()


def test_imports_point_one_way(house: House) -> None:
    assert {name.partition(".")[0] for name in house.modules} == set(BELOW)
    assert house.breaches() == []


def test_there_are_no_circles(house: House) -> None:
    assert house.circles() == []


def test_a_class_name_has_one_meaning(house: House) -> None:
    assert house.same_class_names() == {}


def test_sums_stay_within_their_budgets(house: House) -> None:
    assert {name: (size, budget) for name, (size, budget) in house.sums().items() if size > budget} == {}


def test_the_rooms_budgets_make_up_the_whole() -> None:
    assert sum(ROOMS.values()) <= WHOLE + sum(lines for lines, *_ in ADDED.values())


def test_the_picture_is_up_to_date(house: House) -> None:
    assert picture.PATH.read_text(encoding="utf-8") == picture.drawn(house), "python -m tests.house --picture"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("medtl_core/heads/bad.py", "import flwr"),
        ("medtl_core/heads/bad.py", "from opacus import PrivacyEngine"),
        ("medtl_core/heads/bad.py", "from medtl_core.cli.app import main"),
        ("medtl_core/data/bad.py", "from medtl_core.heads.good import value"),
        ("medtl_core/data/bad.py", "from ..heads import good"),
        ("medtl_core/bad.py", "from medtl_core.heads import good"),
        ("medtl_core/data/bad.py", "if TYPE_CHECKING:\n    from medtl_core.heads.good import value"),
        ("medtl_core/data/bad.py", "def late():\n    from medtl_core.heads.good import value"),
        ("medtl_core/data/bad.py", "import importlib\nimportlib.import_module('medtl_core.heads.good')"),
        ("medtl_core/data/bad.py", "from importlib import import_module\nimport_module(f'{__package__}.x')"),
        ("medtl_core/data/bad.py", "from simulations import speed"),
        ("medtl_core/report/bad.py", "from medtl_core.audit import site"),
        ("server/bad.py", "import client.app"),
        ("server/bad.py", "import medtl_core.methods.core"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, path: str, text: str) -> None:
    modules = ("medtl_core/heads/good.py", "medtl_core/cli/app.py", "medtl_core/audit/site.py", "client/app.py")
    for module in (*modules, "simulations/speed.py", "medtl_core/methods/core.py"):
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module).write_text("value = 1\n", encoding="utf-8")
    assert House.read(tmp_path).breaches() == []
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text, encoding="utf-8")
    assert len(House.read(tmp_path).breaches()) == 1


def test_a_circle_and_a_second_class_are_found(tmp_path: Path) -> None:
    heads = tmp_path / "medtl_core" / "heads"
    heads.mkdir(parents=True)
    (heads / "a.py").write_text("def late():\n    import medtl_core.heads.b\nclass Head: ...\n", encoding="utf-8")
    (heads / "b.py").write_text("from medtl_core.heads.a import late\nclass Head: ...\n", encoding="utf-8")
    house = House.read(tmp_path)
    assert house.circles() == [["medtl_core.heads.a", "medtl_core.heads.b"]]
    assert house.same_class_names() == {"Head": ["medtl_core.heads.a", "medtl_core.heads.b"]}


def test_nothing_loads_untrusted_bytes(house: House) -> None:
    for file in house.modules.values():
        assert "pickle.load" not in file.text, file.name
        assert "torch.load(" not in file.text or "weights_only=True" in file.text, file.name
        assert "weights_only=False" not in file.text, file.name
