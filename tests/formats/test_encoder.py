"""An encoder carried from a source site: the file that was agreed, the columns it was fitted to, and what it is for."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from medtl_core.cli.encode import encode
from medtl_core.errors import ConfigError, DataError, WeightsError
from medtl_core.formats.encoder import Encoder, load_encoder
from tests.formats.clinic import SCHEMA, clinic, many, read

COLUMNS = tuple("abcdefgh")


def patients(cases: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes apart in three of eight columns, of different units, with gaps."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=cases)
    table = rng.normal(size=(cases, 8)) + label[:, None] * np.array([1, -1, 0.7, 0, 0, 0, 0, 0])
    table = table * np.logspace(-3, 6, 8) + 1e4
    table[rng.random(table.shape) < 0.1] = np.nan
    return table, label


def test_a_row_speaks_in_few_directions_the_first_of_which_tells_the_classes_apart(tmp_path: Path) -> None:
    encoder = Encoder.fit(*patients(300, 0), COLUMNS, components=2)
    sha = encoder.save(tmp_path / "source.safetensors")
    again = load_encoder(tmp_path / "source.safetensors", sha, COLUMNS)
    table, label = patients(200, 1)
    codes = again.encoded(table)
    np.testing.assert_allclose(codes, encoder.encoded(table), atol=1e-12)
    np.testing.assert_allclose(again.encoded(table[7:8]), codes[7:8])
    assert codes.shape == (200, 3) and np.isfinite(codes).all() and len(again.names) == 3
    assert ((codes[:, 0] > np.median(codes[:, 0])) == label).mean() > 0.7


def test_another_file_or_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "source.safetensors"
    sha = Encoder.fit(*patients(50, 0), COLUMNS).save(path)
    with pytest.raises(DataError, match=r"'h'.*'i'"):
        load_encoder(path, sha, tuple("abcdefgi"))
    with pytest.raises(WeightsError, match="SHA-256"):
        load_encoder(path, "0" * 64, COLUMNS)
    with pytest.raises(WeightsError, match="not beside"):
        load_encoder(tmp_path / "gone.safetensors", sha, COLUMNS)
    path.write_bytes(b"no safetensors")

    with pytest.raises(WeightsError, match="no encoder"):
        load_encoder(path, hashlib.sha256(b"no safetensors").hexdigest(), COLUMNS)
    with pytest.raises(DataError, match="two classes"):
        Encoder.fit(np.zeros((3, 8)), np.zeros(3, np.int64), COLUMNS)


def test_one_site_fits_an_encoder_and_another_carries_it_by_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "patient,hospital,relapse,glucose,smoker,stage,split\n"
    both = clinic(tmp_path / "source", header + "\n".join([*many("a", 60), *many("c", 30)]))
    target = clinic(tmp_path / "target", header + "\n".join(many("b", 20)))
    with pytest.raises(ConfigError, match="'x'"):
        encode(str(both), target / "a.safetensors", "x", 1)
    encode(str(both), target / "a.safetensors", "a", 1)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    carried = "\n".join([*lines[lines.index("[encoder]") :], "[roles]"])
    coded, facts, _ = read(clinic(target, header + "\n".join(many("b", 20)), SCHEMA.replace("[roles]", carried)))
    assert coded["table"].shape == (20, 2) and len({name.split()[1] for name in facts.columns}) == 1
    (target / "a.safetensors").write_bytes(b"another")
    with pytest.raises(WeightsError, match="SHA-256"):
        read(target)
