"""How fast files are read: images a second against bare Pillow and bare pydicom, and a table of a million rows.

    python -m simulations.reading --data ../shared/data        # make bench-read
    python -m simulations.reading --only table                 # the table alone

All are measured in one run, on the same files, by turns, each by the best of some rounds. `medtl` reads DICOM in
limited processes, checks the header for identities and returns pictures ready to look at; bare pydicom stops at stored
numbers ("pixels"), or goes on to the same windows ("windowed"). The goal stands against one plain loop that stops at
stored numbers. "medtl" is one reader of many files, as features and `medtl data check` read: scans are asked for ahead
of their turn. "File by file" asks for one when the last is there, as one new case is read. "Side by side" is the way
of `medtl data check`, one such reader for each core: it is set against the same loop and against two such loops. Time
of processor is that of a reader and of its processes.
The table is written anew, no two rows alike, and `medtl data check` on it is compared with readers that only make
numbers of its columns of numbers and check nothing.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.data.images import read_each, read_pictures
from medtl_core.formats.decoder import side_by_side
from medtl_core.formats.windows import CT_WINDOWS

_ROUNDS = 7
_MOST = 200
_ROWS, _COLUMNS = 1_000_000, 8
#: What a person would write to read the columns of numbers, by what it needs; {path}, {first} and {last} are filled in.
_BARE = {
    "csv and float": """
import csv, numpy
with open({path!r}, encoding="utf-8", newline="") as lines:
    rows = csv.reader(lines)
    next(rows)
    table = numpy.array([[float(cell) for cell in row[{first}:{last}]] for row in rows])
""",
    "numpy.loadtxt": """
import numpy
table = numpy.loadtxt({path!r}, delimiter=",", skiprows=1, usecols=range({first}, {last}))
""",
    "pandas": """
import pandas
table = pandas.read_csv({path!r}).iloc[:, {first}:{last}].to_numpy()
""",
}


def main(words: Sequence[str] | None = None) -> None:
    """Prints some lines a kind of file, then some for the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="with ham10000_sites and dicom_series"
    )
    parser.add_argument("--only", choices=("table", "files"), help="leave the other out")
    parser.add_argument("--rows", type=int, default=_ROWS, help="rows of the table")
    chosen = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as made:
        for name, files, bare in _kinds(chosen.data, Path(made)) if chosen.only != "table" else ():
            print(name, *_compared(files, bare), sep="\n", flush=True)
        if chosen.only != "files":
            print(*_table(Path(made), chosen.rows), sep="\n")


def _compared(files: Sequence[Path], bare: dict[str, Callable[[Path], Any]]) -> Iterator[str]:
    """Yields what readers cost, and how many files a second medtl reads where each bare one reads one."""
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        ways: dict[str, Callable[[], Any]] = {"medtl": lambda: _drain(read_each(files))}
        ways |= {f"bare {word}": partial(_loop, read, files) for word, read in bare.items()}
        ways["medtl, file by file"] = partial(_loop, read_pictures, files)
        ways["medtl, side by side"] = lambda: _drain(side_by_side(_counted, files))
        halves = files[::2], files[1::2]
        usual = next(iter(bare.values()))
        ways[f"two loops of bare {next(iter(bare))}"] = lambda: _drain(processes.map(_loop, [usual] * 2, halves))
        best = dict.fromkeys(ways, (np.inf, np.inf))
        for _ in range(_ROUNDS + 1):  # the first one starts what has to be started
            for name, way in ways.items():
                start, before = time.perf_counter(), _processor()
                way()
                spent = time.perf_counter() - start, _processor() - before
                best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
    for name, (seconds, cost) in best.items():
        yield f"  {name:26} {len(files) / seconds:6.0f} files/s {1000 * cost / len(files):7.2f} ms of processor a file"
    one, plain, *_, single, two, pair = best.values()
    yield f"  ratio to one plain loop: {plain[0] / one[0]:.2f} in files/s, {plain[1] / one[1]:.2f} in processor"
    yield f"  file by file: {plain[0] / single[0]:.2f} in files/s, {plain[1] / single[1]:.2f} in processor"
    yield f"  side by side: {plain[0] / two[0]:.2f} to one plain loop, {pair[0] / two[0]:.2f} to two"


def _kinds(data: Path, made: Path) -> Iterator[tuple[str, list[Path], dict[str, Callable[[Path], Any]]]]:
    """Yields kinds of files: a name, the files and the bare readers."""
    photographs = sorted((data / "ham10000_sites").rglob("*.jpg"))[:_MOST]
    yield "JPEG, dermoscopy", photographs, {"Pillow": _pillow}
    slices = sorted((data / "dicom_series").rglob("*.dcm"))
    pydicom: dict[str, Callable[[Path], Any]] = {"pixels": _pixels, "windowed": _windowed}
    yield "DICOM, CT", slices, pydicom
    for name, syntax in (("RLE", "1.2.840.10008.1.2.5"), ("JPEG 2000", "1.2.840.10008.1.2.4.90")):
        yield f"DICOM, CT in {name}", [_compressed(path, made / name, syntax) for path in slices[:12]], pydicom


def _pillow(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _pixels(path: Path) -> Any:
    from pydicom import dcmread

    return dcmread(path).pixel_array


def _windowed(path: Path) -> Any:
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_modality_lut

    dataset = dcmread(path)
    values = apply_modality_lut(dataset.pixel_array, dataset)
    return np.stack([window.grey(values) for window in CT_WINDOWS], axis=-1)


def _compressed(path: Path, folder: Path, syntax: str) -> Path:
    from pydicom import dcmread

    folder.mkdir(exist_ok=True)
    dataset = dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(folder / path.name)
    return folder / path.name


def _loop(read: Callable[[Path], Any], files: Sequence[Path]) -> None:
    for path in files:
        read(path)


def _counted(files: Sequence[Path]) -> Iterator[int]:
    return map(len, read_each(files))


def _drain(results: Iterator[Any]) -> None:
    for _ in results:
        pass


def _processor() -> float:
    """Seconds of processor of this process and of those that it started and that still run."""
    children = list[int]()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # of a thread that has ended meanwhile
            children += map(int, task.read_text().split())
    # Linux names the processor's clock of a process so: see clock_getcpuclockid(3)
    return time.process_time() + sum(time.clock_gettime(~child << 3 | 2) for child in children)


def _table(folder: Path, rows: int) -> Iterator[str]:
    """Yields what `medtl data check` costs on a table, then the same of bare readers; each in a process of its own."""
    path, rng = folder / "manifest.csv", np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as handle:
        handle.write("label,patient_id,site," + ",".join(f"m{number}" for number in range(_COLUMNS)) + "\n")
        for start in range(0, rows, 1000):
            values = rng.normal(size=(min(1000, rows - start), _COLUMNS)).round(3).tolist()
            for n, row in enumerate(values, start):
                handle.write(f"{('well', 'ill')[n % 2]},p{n},site-{n // 2 % 4},{','.join(map(str, row))}\n")
    check = "import sys; from medtl_core.cli.app import main; sys.argv = ['medtl', 'data', 'check', {folder!r}]; main()"
    yield f"table of {rows:,} rows, {path.stat().st_size / 2**20:.0f} MiB; no two rows alike"
    own = 0.0
    for name, code in {"medtl data check": check, **_BARE}.items():
        cost = _cost(code.format(folder=str(folder), path=str(path), first=3, last=3 + _COLUMNS))
        if cost is None:
            yield f"  {name:18} does not run here"
            continue
        seconds, processor, peak = cost
        own = own or processor
        ratio = f", {own / processor:.1f} times as much processor time for medtl" if own != processor else ""
        yield f"  {name:18} {seconds:.1f} s, {processor:.1f} s of processor, {peak:.2f} GiB{ratio}"


def _cost(code: str) -> tuple[float, float, float] | None:
    """Seconds, seconds of processor and GiB of a process that runs some code; None where it fails."""
    start, quiet = time.perf_counter(), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ, file_actions=[quiet])
    _, status, used = os.wait4(child, 0)
    peak = used.ru_maxrss / 2**20
    return None if status else (time.perf_counter() - start, used.ru_utime + used.ru_stime, peak)


if __name__ == "__main__":
    main()
