"""Notes become features: hashed words by hand, and passages of a transformer that is made here."""

import json
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import Settings, settings
from medtl_core.data.synthetic.letters import CLASSES, letters
from medtl_core.errors import ConfigError, DataError, WeightsError
from medtl_core.features.extract import extract, feature_spec
from medtl_core.notes.encoder import ENCODER
from medtl_core.notes.text import HashedWords
from medtl_core.values import Examples, Task


def cases(*notes: str) -> Examples:
    words = {name: np.full(len(notes), "one") for name in ("patient", "site", "split")}
    label = np.zeros(len(notes), np.int64)
    return Examples({"label": label, "note": np.asarray(notes, object), **words}, Task("t", ("a", "b")))


def read(chosen: Settings, *notes: str) -> np.ndarray:
    return extract(cases(*notes), feature_spec(chosen, ()), chosen).values


WORDS = settings({"backbone": "text:words", "cache": "off"})


def test_hashed_words_count_what_is_written_and_nothing_else() -> None:
    one, same, twice = read(WORDS, "Lungs clear.", "CLEAR lungs 2024!", "lungs lungs clear")
    assert one.tolist() == same.tolist()
    assert np.count_nonzero(one) == 2
    assert np.linalg.norm(one) == pytest.approx(np.sqrt(HashedWords.width), rel=1e-6)
    parts = np.sort(np.abs(twice[twice != 0]))
    assert parts[1] / parts[0] == pytest.approx(1 + np.log(2), rel=1e-6)


def test_a_note_has_the_same_row_whatever_is_beside_it() -> None:
    notes = letters(patients=6)["note"].tolist()
    together = read(WORDS, *notes)
    assert all(np.array_equal(together[row], read(WORDS, note)[0]) for row, note in enumerate(notes))


@pytest.mark.parametrize("note", [" ", "12 34", "x" * 300_000])
def test_what_is_no_note_is_one_typed_error(note: str) -> None:
    with pytest.raises(DataError):
        read(WORDS, "Lungs clear.", note)


def test_letters_begin_with_those_of_a_smaller_set_and_name_nobody() -> None:
    from medtl_core.notes.identity import refusals

    few, more = letters(patients=40), letters(patients=80)
    assert more["note"][: len(few)].tolist() == few["note"].tolist()
    assert not any(refusals(note) for note in more["note"])
    assert set(more["label"].tolist()) == set(range(len(CLASSES)))
    assert HashedWords().features(few["note"][0], WORDS).dtype == np.float32


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a transformer of one layer, drawn by a seed, and a tokenizer of a few words."""
    pytest.importorskip("transformers", reason="needs medtl[text]")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("weights") / "tiny"
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "lungs", "clear"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.slow
def test_passages_are_pooled_by_mean_and_maximum(tiny: Path) -> None:
    chosen = settings({"backbone": "text:tiny", "weights": str(tiny.parent), "cache": "off", "device": "cpu"})
    short, long, other = "lungs clear a", " ".join(["lungs"] * 126 + ["clear"] * 126), " ".join(["clear"] * 126)
    first, both, last = read(chosen, " ".join(["lungs"] * 126), long, other)
    assert both[:8] == pytest.approx((first[:8] + last[:8]) / 2, rel=1e-4)
    assert both[8:] == pytest.approx(np.maximum(first[:8], last[:8]), rel=1e-4)
    alone = read(chosen, short)[0]
    assert alone[:8] == pytest.approx(alone[8:]) and np.linalg.norm(alone[:8]) == pytest.approx(np.sqrt(8), rel=1e-5)


@pytest.mark.slow
def test_a_very_long_note_is_read_from_its_first_to_its_last_passage(tiny: Path) -> None:
    chosen = settings({"backbone": "text:tiny", "weights": str(tiny), "cache": "off", "device": "cpu"})
    whole = ["lungs"] * 126 * 9
    ends = read(chosen, " ".join([*whole[:-126], *["clear"] * 126]), " ".join(whole))
    assert not np.allclose(ends[0], ends[1])


@pytest.mark.slow
def test_the_files_name_the_features(tiny: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(tiny, copy)
    one, two = (
        feature_spec(settings({"backbone": "text:tiny", "weights": str(place)}), ()).fingerprint
        for place in (tiny, copy)
    )
    assert one == two
    (copy / "tokenizer.json").write_text(json.dumps({}), encoding="utf-8")
    chosen = settings({"backbone": "text:tiny", "weights": str(copy), "cache": "off"})
    assert feature_spec(chosen, ()).fingerprint != one
    with pytest.raises(WeightsError, match="cannot be read"):
        read(chosen, "lungs clear")


@pytest.mark.parametrize("name", ["text:nowhere", "text:../minilm", "text:"])
def test_weights_that_are_not_here_are_one_typed_error(name: str, tmp_path: Path) -> None:
    with pytest.raises((WeightsError, ConfigError)):
        ENCODER.encoding(settings({"backbone": name, "weights": str(tmp_path)}), ())
