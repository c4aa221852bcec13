"""Settings that suit the data: hospitals, shots, tables, modality; lists of words; words without effect."""

import dataclasses
import json
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl_core.cli.fitting import outlook
from medtl_core.cli.plan import RunOrder, make_plan, read_words
from medtl_core.config import Settings
from medtl_core.data.catalog import catalog
from medtl_core.data.source import open_source
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.spec import feature_spec
from medtl_core.formats.own import modalities
from medtl_core.methods.effect import check_effect
from tests.cli.conftest import Call

ALL = ("identity", "flip-h", "flip-v", "transpose", "rotate-90", "rotate-180", "rotate-270", "transverse")


def table(folder: Path, sizes: dict[str, int], split: str = "train") -> Path:
    rows = [f"{'xy'[k % 2]},{site}{k},{site},{split},{k}" for site, size in sizes.items() for k in range(size)]
    (folder / "manifest.csv").write_text("\n".join(["label,patient_id,site,split,a", *rows]) + "\n")
    return folder


def images(folder: Path, task: str = "", column: str = "") -> Path:
    rows = []
    for k in range(8):
        Image.fromarray(np.full((8, 8), 30 * k, np.uint8)).save(folder / f"{k}.png")
        rows.append(f"{k}.png,{'xy'[k % 2]},{k}" + f",{column}" * bool(column))
    (folder / "manifest.csv").write_text(
        "\n".join(["path,label,patient_id" + ",modality" * bool(column), *rows]) + "\n"
    )
    if task:
        (folder / "task.json").write_text(json.dumps({"name": "t", "classes": ["x", "y"], **json.loads(task)}))
    return folder


def letters(word: str) -> str:
    return re.sub("[^a-z]", "", word.lower())


def planned(folder: Path, *words: str) -> Settings:
    return make_plan(RunOrder(data=str(folder), assignments=words), Path("app")).settings


@pytest.mark.parametrize(
    ("sizes", "words", "sites", "shots"),
    [
        ({"n": 60, "s": 80, "w": 100}, (), 3, 30),
        ({"n": 16, "s": 80}, (), 2, 12),  # a quarter is held out
        ({"n": 400}, (), 5, 30),
        ({"n": 40}, (), 5, 6),
        ({"n": 24}, (), 3, 6),  # three patients of each class at every hospital
        ({"n": 12}, (), 2, 4),
        ({"n": 6}, (), 2, 2),
        ({"n": 4}, ("sites=2",), 2, 1),
        ({"n": 60, "s": 80}, ("sites=4",), 4, 22),
        ({"n": 60, "s": 80}, ("shots=7",), 2, 7),
        ({"n": 60, "s": 80}, ("shots=0",), 2, 0),
        ({"n": 60, "s": 80, "w": 44}, ("leave-out=w",), 2, 30),
        ({"n": 60, "s": 80}, ("partition=even",), 5, 20),
    ],
)
def test_hospitals_and_cases_are_those_there_are(
    tmp_path: Path, sizes: dict[str, int], words: tuple[str, ...], sites: int, shots: int
) -> None:
    chosen = planned(table(tmp_path, sizes), *words)
    assert (chosen.sites, chosen.shots, chosen.backbone) == (sites, shots, "table")
    lines = outlook(chosen)
    assert lines[0].startswith(f"hospitals   {sites}: ")
    assert ("all their training cases" if not shots else f"{shots} training cases each") in lines[0]


def test_too_few_patients_to_be_cut_into_hospitals_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 patients to train on, of 2 classes, .*'x' has 1.*add cases.*sites=N"):
        planned(table(tmp_path, {"n": 4}))


def test_what_a_run_does_is_said_with_the_split_and_the_views(tmp_path: Path) -> None:
    lines = outlook(planned(images(tmp_path, '{"modality": "dermoscopy"}')))
    assert lines == [
        "hospitals   2: site-1, site-2; 3 training cases each (shots=0: all)",
        "test        2 cases",
        "note        No test split in the data: 25% of the patients of every site are held out.",
        f"views       {', '.join(ALL)} (modality: dermoscopy)",
    ]
    assert outlook(Settings())[0] == "hospitals   5 of phantom, 30 training cases each (shots=0: all)"


def test_two_sizes_are_said_and_a_table_has_none(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    words = "pixels      128+224, side by side; image-size=128 reads one size"
    assert words in outlook(planned(images(tmp_path / "images"), "image-size=128+224"))
    chosen = planned(table(tmp_path, {"n": 80, "s": 80}), "methods=auto", "shots=50")
    assert (chosen.backbone, chosen.image_size) == ("table", 0)


def test_a_run_says_it_before_it_starts(tmp_path: Path, call: Call) -> None:
    table(tmp_path, {"n": 20, "s": 24})
    root = Path(__file__).resolve().parents[2]
    words = ("simulate", "--data", tmp_path, "--set", "methods=ridge", "bootstrap=5", "--app", root)
    code, shown = call(*words, "--out", tmp_path / "out", "--workers", "1")
    assert code == 0 and shown.index("hospitals   2: n, s; 14 training cases each") < shown.index("seed 1 of 1")


@pytest.mark.parametrize(
    "word", ["dermoscopy", "Dermoscopy", "chest X-ray", "chest-xray", "MRI", "x_ray", "Fundus-Photograph"]
)
@pytest.mark.parametrize("where", ["setting", "task.json", "column"])
def test_a_modality_chooses_the_views_wherever_it_stands(tmp_path: Path, word: str, where: str) -> None:
    task = json.dumps({"modality": word}) if where == "task.json" else ""
    images(tmp_path, task, word if where == "column" else "")
    entry = open_source(Settings(data="", data_path=str(tmp_path), modality=word if where == "setting" else "")).entry
    (name,) = (name for name in modalities() if letters(name) == letters(word))
    assert (entry.modality, entry.views) == (name, modalities()[name])
    assert feature_spec(Settings(backbone="random:squeezenet1_1"), entry.views).views == modalities()[name]


def test_modalities_have_the_views_of_the_known_sets() -> None:
    for entry in catalog().values():
        if entry.modality in modalities() and entry.layout.kind != "table":
            assert entry.views == modalities()[entry.modality], entry.name
    assert modalities()["dermoscopy"] == ALL and modalities()["other"] == ("identity",)


@pytest.mark.parametrize(
    ("task", "column", "setting", "words"),
    [
        ('{"modality": "xray"}', "", "dermoscopy", "modality is stated as X-ray and as dermoscopy"),
        ('{"modality": "xray"}', "CT", "", "modality is stated as CT and as X-ray"),
        ('{"modality": "sonography of Mrs Meier"}', "", "", "modality must be one of chest X-ray"),
        ("", "Mrs Meier", "", "modality must be one of chest X-ray"),
        ('{"modality": 3}', "", "", "must be words"),
    ],
)
def test_a_modality_that_is_unknown_or_stated_two_ways_is_refused(
    tmp_path: Path, task: str, column: str, setting: str, words: str
) -> None:
    images(tmp_path, task, column)
    with pytest.raises(DataError, match=words) as refused:
        open_source(Settings(data="", data_path=str(tmp_path), modality=setting))
    assert "Meier" not in str(refused.value)


def test_under_privacy_no_column_says_the_modality(tmp_path: Path) -> None:
    images(tmp_path, "{}", "dermoscopy")
    settings = Settings(data="", data_path=str(tmp_path), privacy="auto", public_cases=2, test_path="elsewhere")
    assert open_source(settings).entry.views == ("identity",)


def test_views_that_are_stated_win_and_without_a_word_nothing_is_augmented(tmp_path: Path) -> None:
    images(tmp_path, '{"modality": "dermoscopy", "views": ["identity", "flip-v"]}')
    assert open_source(Settings(data="", data_path=str(tmp_path))).entry.views == ("identity", "flip-v")
    (tmp_path / "task.json").unlink()
    lines = outlook(planned(tmp_path))
    assert any("nothing augmented; modality=WORD" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("alpha=1",), "alpha has no effect with partition=natural"),
        (
            ("proximal=1", "methods=ridge"),
            "proximal has no effect on these methods; adversarial-3, fedprox-20 would read it",
        ),
        (("server-rate=1", "methods=ridge,fedadam-3"), "server-rate has no effect on these methods; fedavgm"),
        (("tune-epochs=1",), "tune-epochs has no effect on these methods; finetune"),
        (("public-images=phantom",), "public-images has no effect with privacy=none"),
        (("image-size=64",), "image-size has no effect without images"),
        (("views=one",), "views has no effect without images"),
        (("epsilon=4",), "epsilon has no effect with privacy=none"),
        (("local-epochs=2", "methods=ridge,anil-2"), "local-epochs has no effect on these methods; fedavg"),
        (("weight-decay=0.1", "methods=auto"), "weight-decay has no effect on these methods"),
        (("folds=3", "methods=local,fedavg-2"), "folds has no effect on these methods; discriminant"),
        (("features=plain",), "features has no effect on a table; set features=pairs"),
        (("quorum=1", "sites=1"), "quorum has no effect with one hospital"),
        (("colluders=2", "privacy=auto"), "colluders has no effect without a secure sum; set secure-sum=true"),
        (("folds=3", "privacy=auto"), "folds has no effect on these methods"),
        (("min-cell=0", "privacy=auto"), "min-cell has no effect under privacy"),
        (("methods=ridge", "privacy=auto"), "methods names ridge, which is not private"),
        (("local-epochs=2", "methods=ridge,fedavg-2"), ""),
        (("folds=3", "methods=local,ridge"), ""),
        (("colluders=2", "privacy=auto", "secure-sum=true"), ""),
        (("alpha=1", "partition=skewed"), ""),
        (("proximal=1", "methods=fedprox-3"), ""),
        (("adam-rate=1", "methods=fedadam-3"), ""),
    ],
)
def test_words_without_effect_are_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    chosen = planned(table(tmp_path, {"n": 40, "s": 40}), *words)
    with pytest.raises(ConfigError, match=said) if said else nullcontext():
        check_effect(read_words(words), chosen)


def test_a_modality_has_no_effect_on_known_data() -> None:
    with pytest.raises(ConfigError, match="modality has no effect on phantom"):
        check_effect(["modality"], Settings(modality="CT"))


def test_every_setting_is_listed_with_its_line(call: Call) -> None:
    code, shown = call("settings")
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert code == 0
    for field in dataclasses.fields(Settings):
        assert len(rows[field.name.replace("_", "-")].split()) > 3


def test_every_scenario_is_listed_with_its_line(call: Call) -> None:
    root = Path(__file__).resolve().parents[2]
    code, shown = call("scenarios", "--app", root)
    assert code == 0
    for path in (root / "simulations" / "scenarios").glob("*.toml"):
        (line,) = [line for line in shown.splitlines() if line.startswith(path.stem)]
        assert len(line.split()) > 6 and "data=" in line


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_page_lists_every_modality_with_its_views() -> None:
    rows = re.findall(r"^\| (.+) \| (identity.*) \|$", PAGE, flags=re.M)
    stated = {name: tuple(views.split(", ")) for names, views in rows for name in names.split(", ")}
    assert stated == modalities()


def test_the_pages_examples_of_what_is_recognised_are_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```\n(label;.*?)```", PAGE, flags=re.S)
    (tmp_path / "manifest.csv").write_text(text, encoding="cp1252")
    stated, *_ = re.findall(r'```\n(\{"name": .*?)```', PAGE, flags=re.S)
    (tmp_path / "task.json").write_text(stated.replace("normal", "gesund").replace('"pneumonia"]', '"krank"]'))
    source = open_source(Settings(data="", data_path=str(tmp_path), test_path="elsewhere"))
    assert source.examples["table"].tolist() == [[1.5], [1234.5]] and source.entry.modality == "chest X-ray"


def test_the_pages_commands_are_those_there_are(call: Call) -> None:
    for words in {*re.findall(r"(?:`|^)medtl ((?:data )?[a-z]+)", PAGE, flags=re.M)}:
        assert call(*words.split(), "--help")[0] == 0, words


SIDES = "label,patient_id,site,a,split"


@pytest.mark.parametrize(
    ("tests", "said"), [(("south",), "no hospital that trains has a test case"), (("north", "south"), "")]
)
def test_hospitals_that_judge_have_test_cases(tmp_path: Path, call: Call, tests: tuple[str, ...], said: str) -> None:
    rows = [
        f"{'xy'[k % 2]},P{k},{site},{k % 7},{'test' if site in tests and (len(tests) == 1 or k % 3 == 0) else 'train'}"
        for k, site in enumerate(["north", "north", "south", "south"] * 15)
    ]
    (tmp_path / "manifest.csv").write_text("\n".join([SIDES, *rows]) + "\n")
    code, shown = call(
        "simulate",
        "--quiet",
        "--data",
        tmp_path,
        "test=sites",
        "methods=ridge",
        "bootstrap=20",
        "--out",
        tmp_path / "out",
    )
    assert (code == 1) == bool(said) and said in shown


@pytest.mark.parametrize("judged", ["server", "sites"])
def test_a_hospital_with_one_test_case_costs_its_own_figures_only(tmp_path: Path, call: Call, judged: str) -> None:
    rows = [
        f"{'xy'[k % 2]},P{k},{site},{k % 7},{'test' if k == 2 or (site == 'north' and k % 4 == 0) else 'train'}"
        for k, site in enumerate(["north", "north", "south", "south"] * 15)
    ]
    (tmp_path / "manifest.csv").write_text("\n".join([SIDES, *rows]) + "\n")
    words = ("methods=local,ridge", "bootstrap=20", f"test={judged}", "--out", tmp_path / "out")
    code, shown = call("simulate", "--quiet", "--data", tmp_path, *words)
    assert code == 0 and "16 test cases" in shown and (tmp_path / "out" / "report.html").is_file()
