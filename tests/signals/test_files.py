"""Files of signals become cases: each kind of file, what is agreed, and one sentence for each that cannot be used."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.source import Source, open_source
from medtl_core.errors import DataError, MedtlError
from medtl_core.signals.wave import Agreement, Recorded, agree, read_wave, whole_signal

RATE, SAMPLES = 100.0, 200
ONE = Agreement(RATE, SAMPLES, ("II",))
NAME = "Erika Mustermann"


def wave(seed: int = 0, samples: int = SAMPLES, leads: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, leads)).round(3)


def folder(place: Path, **stated: object) -> Path:
    """An empty hospital whose signals have one lead at 100 Hz for two seconds."""
    place.mkdir(exist_ok=True)
    said = {"rate": RATE, "seconds": SAMPLES / RATE, "leads": ["II"], **stated}
    (place / "task.json").write_text(json.dumps({"name": "t", "classes": ["x", "y"], "signal": said}))
    return place


def listed(place: Path, *rows: str, header: str = "signal,label,patient_id") -> Path:
    (place / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    return place


def opened(place: Path, faults: Faults | None = None) -> Source:
    return open_source(Settings(data="", data_path=str(place), backbone="signal:spectrum", test_path="other"), faults)


def write_npz(path: Path, values: np.ndarray, rate: float = RATE) -> None:
    np.savez(path, signal=values, fs=rate)


def write_wfdb(place: Path, name: str, values: np.ndarray, rate: float = RATE, comments: tuple[str, ...] = ()) -> None:
    wfdb = pytest.importorskip("wfdb")
    leads = ["II", "V5"][: values.shape[1]]
    wfdb.wrsamp(
        name, fs=rate, units=["mV"] * len(leads), sig_name=leads, p_signal=values, fmt=["16"] * len(leads),
        adc_gain=[1000.0] * len(leads), baseline=[0] * len(leads), comments=list(comments), write_dir=str(place),
    )  # fmt: skip


def test_every_kind_of_file_gives_the_same_signal(tmp_path: Path) -> None:
    place, values = folder(tmp_path / "h"), wave()
    write_npz(place / "a.npz", values)
    (place / "b.csv").write_text("time,II\n" + "".join(f"{k / RATE},{v}\n" for k, v in enumerate(values[:, 0])))
    wavfile.write(place / "c.wav", int(RATE), values.astype(np.float32))
    write_wfdb(place, "d", values)
    listed(place, "a.npz,x,1", "b.csv,y,2", "c.wav,x,3", "d.hea,y,4")
    source = opened(place)
    assert source.columns == ("signal:II@100x200",)
    assert source.examples["label"].tolist() == [0, 1, 0, 1]
    for found in source.examples["signal"]:
        np.testing.assert_allclose(found, values, atol=1e-3)


def test_another_rate_is_resampled_and_leads_are_found_by_name(tmp_path: Path) -> None:
    place = folder(tmp_path / "h")
    time = np.arange(500) / 250.0
    slow = np.stack([np.cos(9 * time), np.sin(2 * np.pi * 3 * time)], axis=1)
    write_wfdb(place, "r", slow[:, ::-1], rate=250.0)  # II is the sine now
    found = opened(listed(place, "r.hea,x,1", "r.hea,x,1")).examples["signal"][0][:, 0]
    expected = np.sin(2 * np.pi * 3 * np.arange(SAMPLES) / RATE)
    np.testing.assert_allclose(found[10:-10], expected[10:-10], atol=0.02)
    with pytest.raises(DataError, match=r"0\.25 Hz cannot be resampled to 100 Hz; are samples a second stated"):
        agree(Recorded(slow[:, :1], 0.25), ONE)  # of kHz


@given(st.integers(SAMPLES // 2, 3 * SAMPLES))
def test_length_is_agreed_by_the_middle_or_a_mirror(samples: int) -> None:
    values = np.arange(samples, dtype=np.float64)[:, None]
    found = agree(Recorded(values, RATE, ("II",)), ONE)[:, 0]
    assert len(found) == SAMPLES
    if samples >= SAMPLES:
        start = (samples - SAMPLES) // 2
        assert found.tolist() == list(range(start, start + SAMPLES))
    else:
        rest = SAMPLES - samples
        assert found.tolist() == [*range(samples), *range(samples - 1, samples - 1 - rest, -1)]


def test_a_short_gap_is_a_straight_line_and_a_long_one_is_refused() -> None:
    values = np.arange(100.0)[:, None]
    holes = values.copy()
    holes[40:44] = np.nan
    np.testing.assert_array_equal(whole_signal(holes), values)
    holes[40:50] = np.nan
    with pytest.raises(DataError, match="5% of a lead is missing"):
        whole_signal(holes)


def timed(path: Path, times: np.ndarray) -> None:
    lines = (f"{at},{value}\n" for at, value in zip(times, wave()[:, 0], strict=True))
    path.write_text("time,II\n" + "".join(lines))


WRONG = {
    "a signal of NaN": (lambda p: write_npz(p / "w.npz", wave() * np.nan), "w.npz", "missing"),
    "an empty file": (lambda p: (p / "w.npz").write_bytes(b""), "w.npz", "not a readable"),
    "an empty CSV": (lambda p: (p / "w.csv").write_text(""), "w.csv", "header"),
    "words": (lambda p: (p / "w.csv").write_text("II\n1\nsick\n"), "w.csv", "holds no number"),
    "too short": (lambda p: write_npz(p / "w.npz", wave(samples=50)), "w.npz", "less than half"),
    "too many leads": (lambda p: write_npz(p / "w.npz", wave(leads=3)), "w.npz", "3 leads where 1"),
    "a wrong rate in a WAV": (lambda p: wavfile.write(p / "w.wav", 300, wave().astype(np.float32)), "w.wav", "300 Hz"),
    "another kind": (lambda p: (p / "w.mat").write_text("x"), "w.mat", "not a kind of signal"),
    "absurd numbers": (lambda p: write_npz(p / "w.npz", wave() * 1e30), "w.npz", "too large"),
    "no rate": (lambda p: write_npz(p / "w.npz", wave(), 0.0), "w.npz", "one rate in Hz"),
    "blank lines": (lambda p: (p / "w.csv").write_text("II\n1" + "\n" * 20 + "2\n" * 180), "w.csv", "5% of a lead"),
    "times of another rate": (
        lambda p: timed(p / "w.csv", np.arange(200) / 250),
        "w.csv",
        "which is not that of 100 Hz",
    ),
    "a gap in time": (lambda p: timed(p / "w.csv", np.r_[0:100, 150:250] / RATE), "w.csv", "does not go on evenly"),
    "time that runs back": (
        lambda p: timed(p / "w.csv", np.arange(200)[::-1] / RATE),
        "w.csv",
        "does not go on evenly",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_each_wrong_file_costs_itself_only(tmp_path: Path, kind: str) -> None:
    make, name, words = WRONG[kind]
    place, faults = folder(tmp_path / "h"), Faults()
    write_npz(place / "a.npz", wave())
    write_npz(place / "b.npz", wave(1))
    make(place)
    rows = ("a.npz,x,1,100", f"{name},x,2,100", "b.npz,y,3,100")
    source = opened(listed(place, *rows, header="signal,label,patient_id,rate"), faults)
    assert len(source.examples) == 2
    assert [fault.places for fault in faults.causes] == [("row 3",)]
    assert words in faults.causes[0].cause


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("r 1 100 999999999\nr.dat 16 1000/mV 16 0 0 0 0 II", "more samples than its files hold"),
        ("r 1 100 200\nr.dat 16 0/mV 16 0 0 0 0 II", "a gain of 0"),
        ("r 1 100 200\nr.dat 16 1000/mV 16 0 0 1 0 II", "do not fit the header's checksum"),
        ("r 1 100 200\n../secret.dat 16 1000/mV 16 0 0 0 0 II", "not a readable WFDB"),
        ("r 1 100 200\nnone.dat 16 1000/mV 16 0 0 0 0 II", "1 of the files that its header names are not beside it"),
        ("r/2 1 100 200\na 100\nb 100", "several segments"),
        ("nonsense", "not a readable WFDB"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, line: str, words: str) -> None:
    write_wfdb(tmp_path, "r", wave())
    (tmp_path / "r.hea").write_text(line + "\n")
    with pytest.raises(MedtlError, match=words):
        read_wave(tmp_path / "r.hea")


def test_a_name_in_a_header_goes_nowhere(tmp_path: Path) -> None:
    place, faults = folder(tmp_path / "h"), Faults()
    write_wfdb(place, "a", wave(), comments=(f"name: {NAME}",))
    write_wfdb(place, "b", wave(leads=2)[:20], comments=(f"name: {NAME}",))
    source = opened(listed(place, "a.hea,x,1", "b.hea,y,2"), faults)
    assert NAME in (place / "a.hea").read_text()
    told = [*map(str, faults.causes), *source.notes, *source.columns, *map(str, source.examples.columns.values())]
    assert len(faults.causes) == 1 and not any(NAME in text for text in told)


@pytest.mark.parametrize(
    "said", [{"rate": 0}, {"rate": "fast"}, {"seconds": 0.01}, {"seconds": 1e99}, {"leads": []}, {"leads": None}]
)
def test_a_statement_that_means_nothing_is_refused(tmp_path: Path, said: dict[str, object]) -> None:
    place = listed(folder(tmp_path / "h", **said), "a.npz,x,1")
    with pytest.raises(DataError, match=r"task\.json"):
        opened(place)


def rows_of_samples(place: Path, values: np.ndarray, more: str = "", cells: str = "") -> Path:
    """A CSV with one row a signal, whose samples are called by numbers from 0 on."""
    lines = [f"label,patient_id,{','.join(map(str, range(values.shape[1])))}{more}"]
    lines += [f"{'xy'[row % 2]},{row},{','.join(map(str, one))}{cells}" for row, one in enumerate(values.tolist())]
    (place / "manifest.csv").write_text("\n".join(lines) + "\n")
    return place


def test_a_csv_has_a_row_a_signal_at_the_stated_rate(tmp_path: Path) -> None:
    values = np.stack([wave(seed)[:, 0] for seed in range(12)])
    place = rows_of_samples(folder(tmp_path / "h"), values)
    found = open_source(Settings(data="", data_path=str(place), test_path="other"))  # task.json says what it is
    assert found.columns == ("signal:II@100x200",)
    np.testing.assert_allclose(found.examples["signal"][..., 0], values, atol=1e-6)
    assert not {"0", "199", "table"} & found.examples.columns.keys()


def test_leads_stand_one_behind_the_other_in_a_row_and_another_rate_is_resampled(tmp_path: Path) -> None:
    values = np.stack([wave(seed, leads=2).T.reshape(-1) for seed in range(4)])
    found = opened(rows_of_samples(folder(tmp_path / "h", leads=["I", "II"]), values)).examples["signal"]
    np.testing.assert_allclose(found[1], wave(1, leads=2), atol=1e-6)
    double = np.stack([np.sin(2 * np.pi * np.arange(400) / 200 + phase) for phase in range(4)])
    slow = rows_of_samples(folder(tmp_path / "slow"), double, ",rate", ",200")
    expected = np.sin(2 * np.pi * np.arange(200) / 100)
    np.testing.assert_allclose(opened(slow).examples["signal"][0, 10:-10, 0], expected[10:-10], atol=0.02)


def test_a_row_of_words_gaps_or_too_few_samples_costs_itself_and_odd_leads_all(tmp_path: Path) -> None:
    place, faults = folder(tmp_path / "h"), Faults()
    lines = (rows_of_samples(place, np.stack([wave(seed)[:, 0] for seed in range(4)])) / "manifest.csv").read_text()
    head, first, second, third, fourth = lines.splitlines()
    gap = ",".join([*second.split(",")[:2], *[""] * 20, *second.split(",")[22:]])
    word = third.replace(third.split(",")[5], "sick", 1)
    (place / "manifest.csv").write_text("\n".join([head, first, gap, word, fourth]) + "\n")
    source = opened(place, faults)
    assert len(source.examples) == 2
    assert sorted((fault.places[0], "number" in fault.cause) for fault in faults.causes) == [
        ("row 3", False),
        ("row 4", True),
    ]
    three = rows_of_samples(folder(tmp_path / "three", leads=["I", "II", "III"]), np.ones((3, 200)))
    with pytest.raises(DataError, match="200 samples do not part into 3 leads"):
        opened(three)
    other = rows_of_samples(folder(tmp_path / "other"), np.ones((3, 200)), ",age", ",50")
    with pytest.raises(DataError, match="the column 'age' is called as no sample is"):
        opened(other)


def test_one_file_holds_all_signals(tmp_path: Path) -> None:
    values, path = np.stack([wave(seed, leads=2) for seed in range(8)]), tmp_path / "all.npz"
    values[3, 7, 0] = np.nan
    np.savez(
        path, signals=values, label=np.asarray(list("xyxyxyxy")), patient=np.arange(8) // 2, fs=RATE,
        site=np.asarray(["a", "b"] * 4), split=np.asarray([False] * 6 + [True] * 2), lead_names=np.asarray(["I", "II"]),
    )  # fmt: skip
    source = opened(path)
    assert source.columns == ("signal:I@100x200", "signal:II@100x200")
    assert source.examples["split"].tolist() == ["train"] * 6 + ["test"] * 2
    assert len(np.unique(source.examples["patient"])) == 4
    assert source.examples["signal"][3, 7, 0] == pytest.approx((values[3, 6, 0] + values[3, 8, 0]) / 2, rel=1e-5)
    np.savez(path, signals=values * 1000, label=np.asarray([0, 1] * 3 + [0, np.nan]), fs=RATE, units="uV")
    source = opened(path, faults := Faults())
    assert [(fault.cause, fault.places) for fault in faults.causes] == [("the label is empty or NaN", ("case 8",))]
    np.testing.assert_allclose(source.examples["signal"][0], values[0], atol=1e-4)


@pytest.mark.parametrize("unit", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("name", ["time", "Time (s)", "t", "time_ms"])
def test_times_in_any_unit_go_with_the_rate_and_are_no_lead(tmp_path: Path, name: str, unit: float) -> None:
    values = wave()
    rows = (f"{round(k * unit / RATE, 2)},{v}\n" for k, v in enumerate(values[:, 0]))
    (tmp_path / "a.csv").write_text(f"{name},II\n" + "".join(rows))
    found = read_wave(tmp_path / "a.csv")
    assert found.leads == ("II",)
    np.testing.assert_allclose(agree(found, ONE), values, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "top", "centre"), [(np.uint8, 127, 128), (np.int16, 32767, 0), (np.int32, 2**31 - 1, 0)]
)
def test_a_wav_of_any_depth_is_the_same_signal(tmp_path: Path, kind: type, top: int, centre: int) -> None:
    values = wave() / 4
    wavfile.write(tmp_path / "a.wav", int(RATE), np.rint(values * top + centre).astype(kind))
    np.testing.assert_allclose(read_wave(tmp_path / "a.wav").values, values, atol=0.6 / min(top, 32767))


@pytest.mark.parametrize(("unit", "times"), [("mV", 1.0), ("uV", 1e3), ("V", 1e-3), ("mmHg", 1.0)])
def test_a_voltage_is_in_millivolts_whatever_a_header_counts_in(tmp_path: Path, unit: str, times: float) -> None:
    values = wave()
    write_wfdb(tmp_path, "a", values)
    header = (tmp_path / "a.hea").read_text()
    (tmp_path / "a.hea").write_text(header.replace("1000.0(0)/mV", f"{1000.0 / times}(0)/{unit}"))
    assert unit in (tmp_path / "a.hea").read_text()
    np.testing.assert_allclose(read_wave(tmp_path / "a.hea").values, values, atol=1e-3)


@pytest.mark.parametrize("name", ["II (uV)", "II [\u00b5V]", "II_uV", "ii/uV"])
def test_a_voltage_is_in_millivolts_where_a_column_states_its_unit(tmp_path: Path, name: str) -> None:
    values = wave()
    (tmp_path / "a.csv").write_text(f"{name}\n" + "".join(f"{1000 * v}\n" for v in values[:, 0]), encoding="utf-8")
    np.testing.assert_allclose(agree(read_wave(tmp_path / "a.csv"), ONE), values, atol=1e-6)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ({"b": 1000.0}, "The signals at 'b' are about 1000 times as large as at 'a': another unit, such as uV"),
        ({"a": 1000.0, "b": 1000.0}, "as no electrocardiogram in mV does: are they in uV?"),
        ({"b7": 1000.0}, "1 signal(s) at 'b' are more than 100 times as large as the others: another unit, or noise?"),
        ({}, ""),
    ],
)
def test_signals_in_another_unit_are_told_by_their_size(tmp_path: Path, times: dict[str, float], said: str) -> None:
    place, rows = folder(tmp_path / "h"), list[str]()
    for name in (f"{site}{number}" for site in "ab" for number in range(8)):
        write_npz(place / f"{name}.npz", wave(int(name[1])) * times.get(name[0], times.get(name, 1.0)) + ord(name[0]))
        rows.append(f"{name}.npz,{'xy'[int(name[1]) % 2]},{name},{name[0]}")
    told = "".join(opened(listed(place, *rows, header="signal,label,patient_id,site")).notes)
    assert ("ignal" in told) == bool(said) and said in told and told.count("ignal") < 2


@pytest.mark.parametrize("name", ["fs", "Sampling_Rate", "hz", "sampling_rate_hz", "SR", "freq"])
def test_a_column_that_may_be_meant_as_the_rate_is_refused_by_name(tmp_path: Path, name: str) -> None:
    place = listed(folder(tmp_path / "h"), "a.npz,x,1,500", header=f"signal,label,patient_id,{name}")
    with pytest.raises(DataError, match=f"column '{name}' looks like 'rate'"):
        opened(place)
