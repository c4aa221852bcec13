"""Slides as cases: tiles of tissue, equal to an independent decoder's; lies and damage refused; no identity leaves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.images import read_pictures
from medtl_core.data.leak import check_leaks
from medtl_core.data.source import Source, open_source
from medtl_core.data.views import views_of
from medtl_core.errors import DataError
from medtl_core.formats.image_check import check_images
from tests.slides.made import aperio, pyramid, tissue

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("openslide")
SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "wsi_samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="wsi_samples is not here")
LABEL = np.full((60, 80, 3), [255, 0, 0], np.uint8)
BOX = (256, 256, 768, 1024)


def opened(path: Path, faults: Faults | None = None) -> Source:
    return open_source(Settings(data="", data_path=str(path), test_path="elsewhere"), faults or Faults())


@pytest.mark.parametrize(("mpp", "levels"), [(0.5, 1), (0.5, 3), (0.25, 2), (0.49, 1)])
def test_tiles_are_those_of_the_level_of_the_agreed_size(tmp_path: Path, mpp: float, levels: int) -> None:
    agreed = tissue(1024, 1280, BOX)
    finest = agreed.repeat(2, axis=0).repeat(2, axis=1) if mpp == 0.25 else agreed
    if levels == 1:
        path = aperio(tmp_path / "a.svs", finest, LABEL)
    else:
        path = pyramid(tmp_path / "a.tif", finest, levels, mpp)
    tiles = read_pictures(path)
    at = [(256, 256), (256, 512), (256, 768), (512, 256), (512, 512), (512, 768)]
    expected = [agreed[top : top + 256, left : left + 256] for top, left in at]
    assert {tile.tobytes() for tile in tiles} == {tile.tobytes() for tile in expected}


def test_where_no_level_has_the_agreed_size_a_finer_one_is_shrunk(tmp_path: Path) -> None:
    finest = tissue(1024, 1024, (0, 0, 1024, 1024))
    tiles = read_pictures(pyramid(tmp_path / "a.tif", finest, 2, mpp=0.25 / 2))  # levels of .125 and .25
    assert len(tiles) == 1 and tiles[0].shape == (256, 256, 3)
    halves = finest[::2, ::2].astype(float).reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(tiles[0] - halves)[8:-8, 8:-8].mean() < 4  # a triangle is wider than a box


def test_at_most_32_tiles_all_of_tissue(tmp_path: Path) -> None:
    tiles = read_pictures(pyramid(tmp_path / "a.tif", tissue(2048, 2048, (100, 100, 1948, 1948)), 3))
    assert len(tiles) == 32
    assert all((tile[..., 1] < 120).mean() >= 0.5 for tile in tiles)
    assert len({tile.tobytes() for tile in tiles}) == 32


def test_a_slide_without_size_needs_a_statement(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.tif", tissue(600, 600, (0, 0, 600, 600)), 2, mpp=None)
    with pytest.raises(DataError, match=r"slides\.toml"):
        read_pictures(path)
    for text in ("mpp = 900", "mp = 0.5", "mpp = 'x'", "mpp ="):
        (tmp_path / "slides.toml").write_text(text)
        with pytest.raises(DataError, match=r"slides\.toml"):
            read_pictures(path)
    (tmp_path / "slides.toml").write_text("mpp = 0.5")
    assert len(read_pictures(path)) == 4


def _declared(path: Path, **numbers: int) -> Path:
    """The first page of a file says these numbers instead of its own, which fit in the same room."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, number in numbers.items():
            file.pages[0].tags[name].overwrite(number, dtype="I" if name != "Compression" else "H")
    return path


def _million(folder: Path) -> Path:
    path = pyramid(folder / "a.tif", tissue(600, 600, (0, 0, 600, 600)), 2)
    return _declared(path, ImageWidth=10**6, ImageLength=10**6)


def _codec(folder: Path) -> Path:
    path = aperio(folder / "a.svs", tissue(600, 600, (0, 0, 600, 600)), LABEL)
    return _declared(path, Compression=33005)  # JPEG 2000 it is not


def _truncated(folder: Path) -> Path:
    path = aperio(folder / "a.svs", tissue(600, 600, (0, 0, 600, 600)), LABEL)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    return path


def _text(folder: Path) -> Path:
    (folder / "a.svs").write_text("QUENBY")
    return folder / "a.svs"


def _coarse(folder: Path) -> Path:
    return pyramid(folder / "a.tif", tissue(600, 600, (0, 0, 600, 600)), 2, mpp=1.0)


def _glass(folder: Path) -> Path:
    return pyramid(folder / "a.tif", tissue(600, 600, (0, 0, 2, 2)), 2)


def _small(folder: Path) -> Path:
    return pyramid(folder / "a.tif", tissue(200, 600, (0, 0, 200, 600)), 2)


def _stack(folder: Path) -> Path:
    with tifffile.TiffWriter(folder / "a.tif") as file:
        for seed in (0, 1):
            file.write(tissue(300, 300, (0, 0, 300, 300), seed), tile=(128, 128), photometric="rgb")
    return folder / "a.tif"


@pytest.mark.parametrize("make", [_million, _codec, _truncated, _text, _coarse, _glass, _small, _stack])
def test_lies_and_damage_are_one_error_each(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    with pytest.raises(DataError) as error:
        read_pictures(path)
    assert len(error.value.args) == 1 and "QUENBY" not in str(error.value)
    assert len(read_pictures(pyramid(tmp_path / "b.tif", tissue(300, 300, (0, 0, 300, 300))))) == 1  # and it goes on


def test_class_folders_and_manifests_of_slides(tmp_path: Path) -> None:
    for seed, name in enumerate(("ill", "well")):
        (tmp_path / name).mkdir()
        aperio(tmp_path / name / "a.svs", tissue(300, 800, (0, 0, 300, 512), seed), LABEL)
        pyramid(tmp_path / name / "b.tif", tissue(300, 300, (0, 0, 300, 300), seed + 2))
    examples = opened(tmp_path).examples
    assert examples.task.classes == ("ill", "well") and np.bincount(examples["label"]).tolist() == [2, 2]
    (tmp_path / "manifest.csv").write_text("path,label,patient_id\nill/a.svs,ill,A\nwell/b.tif,well,B\n")
    paths = opened(tmp_path).examples["path"].tolist()
    assert views_of(paths[0], 16, ("identity", "flip-h")).shape == (4, 16, 16, 3)
    faults = Faults()
    (tmp_path / "ill" / "a.svs").write_bytes(b"II*\0")
    check_images(opened(tmp_path).examples, (0, 1), faults)
    assert faults.rows == [0]


@pytest.mark.slow
def test_identities_of_headers_names_and_labels_appear_in_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from medtl_core.cli.app import app

    for number in range(24):
        place = tmp_path / "data" / ("ill", "well")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        comment = "|Filename = QUENBY 884422|Title = QUENBY"
        aperio(place / f"QUENBY_884422_{number}.svs", tissue(300, 600, (0, 0, 300, 600), number), LABEL, comment)
    for place, variable in (("cache", "MEDTL_CACHE"), ("home", "MEDTL_HOME")):
        monkeypatch.setenv(variable, str(tmp_path / place))
    words = ["simulate", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--wire"]
    words += ["backbone=random:lite0", "image-size=32", "features=plain", "methods=ridge", "sites=2", "shots=6"]
    result = CliRunner().invoke(app, [*words, "bootstrap=5"])
    assert result.exit_code == 0, result.output
    printed = capfd.readouterr()
    written = [path for place in ("run", "cache") for path in (tmp_path / place).rglob("*")]
    assert len(written) > 5
    texts = [path.name + path.read_bytes().decode("latin-1") for path in written if path.is_file()]
    told = "".join([*texts, result.output, printed.out, printed.err])
    assert "QUENBY" not in told and "884422" not in told


def test_the_label_is_in_no_tile(tmp_path: Path) -> None:
    path = aperio(tmp_path / "a.svs", tissue(300, 600, (0, 0, 300, 600)), LABEL)
    assert not any((tile == LABEL[0, 0]).all(axis=-1).any() for tile in read_pictures(path))


@needs_samples
@pytest.mark.parametrize(
    ("name", "tiles", "cause"),
    [
        ("cmu-1-small-region.svs", 25, ""),
        pytest.param("tcga-cr-7395-01a-01-ts1.svs", 32, "", marks=pytest.mark.slow),
        ("boxes.tiff", 0, "smaller than one tile"),
        ("small.svs", 0, "smaller than one tile"),
        ("broken.svs", 0, "no slide"),
    ],
)
def test_every_sample_is_read_as_tifffile_reads_it_or_refused(
    tmp_path: Path, name: str, tiles: int, cause: str
) -> None:
    (tmp_path / "slides.toml").write_text("mpp = 0.5")  # where the header is silent
    path = tmp_path / name
    path.symlink_to(SAMPLES / name)
    if cause:
        with pytest.raises(DataError, match=cause):
            read_pictures(path)
        return
    read = read_pictures(path)
    with tifffile.TiffFile(path) as file:
        level = file.series[0].levels[0].asarray()
    rows, columns = level.shape[0] // 256, level.shape[1] // 256
    blocks = level[: rows * 256, : columns * 256].reshape(rows, 256, columns, 256, 3).swapaxes(1, 2)
    blocks = blocks.reshape(-1, 256, 256, 3)[:, 3::8, 5::8].astype(np.int16)
    nearest = [np.abs(blocks - tile[3::8, 5::8]).mean(axis=(1, 2, 3)).min() for tile in read]
    assert len(read) == tiles and max(nearest) < 2


@pytest.mark.parametrize(("name", "cases", "groups"), [("lc25000_lung", 1480, 740), ("bccd_cells48", 1105, 364)])
def test_sets_of_tissue_and_cells_keep_a_group_on_one_side(name: str, cases: int, groups: int) -> None:
    folder = SAMPLES.parent / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not here")
    source = open_source(Settings(data="", data_path=str(folder)))
    examples = source.examples
    sides = {split: np.flatnonzero(examples["split"] == split) for split in ("train", "test")}
    assert source.entry.name == name and len(examples) == cases and min(map(len, sides.values())) > 200
    assert len(np.unique(examples["patient"])) == groups and np.bincount(examples["label"]).min() > 350
    check_leaks(examples, sides)
