"""How fast files are read: images a second against bare Pillow and bare pydicom, and a table of a million rows.

    python -m simulations.reading --data ../shared/data        # make bench-read
    python -m simulations.reading --only table                 # the table alone

All are measured in one run, on the same files, the best of some rounds. `medtl` reads DICOM in limited processes,
checks the header for identities and returns pictures ready to look at; bare pydicom stops at stored numbers ("pixels"),
or goes on to the same windows ("windowed"). With two readers, as features are computed by two workers, two files are
read at a time; bare pydicom and Pillow read one. Beside them stands what the same work costs a single process. The
table is written anew, no two rows alike, and `medtl data check` on it is compared with readers that only make numbers
of its columns of numbers and check nothing.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.data.images import read_pictures
from medtl_core.formats.dicom_series import pictures_of_dicom
from medtl_core.formats.windows import CT_WINDOWS

_ROUNDS = 5
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
    """Prints a line a kind of file, then some for the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="with ham10000_sites and dicom_series"
    )
    parser.add_argument("--only", choices=("table", "files"), help="leave the other out")
    parser.add_argument("--rows", type=int, default=_ROWS, help="rows of the table")
    chosen = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as made:
        for name, files, bare in _kinds(chosen.data, Path(made)) if chosen.only != "table" else ():
            rates = {"medtl": _rate(files, _read, 1), "two readers": _rate(files, _read, 2)}
            alone = {f"bare {word}": _rate(files, read, 1) for word, read in bare.items()}
            shown = "  ".join(f"{word} {rate:.0f}" for word, rate in (rates | alone).items())
            ratios = [f"{rates[mine] / rate:.2f}" for rate in alone.values() for mine in rates]
            print(f"{name:24} files/s: {shown}; ratios of the first two to each bare one: {' '.join(ratios)}")
            own = _read if "JPEG, " in name else pictures_of_dicom
            costs = {word: _processor(files, read) for word, read in {"medtl": own, **bare}.items()}
            shown = "  ".join(f"{word} {cost:.1f}" for word, cost in costs.items())
            print(f"{'':24} processor ms a file, in one process: {shown}")
        if chosen.only != "files":
            print(*_table(Path(made), chosen.rows), sep="\n")


def _kinds(data: Path, made: Path) -> Iterator[tuple[str, list[Path], dict[str, Callable[[Path], Any]]]]:
    """Yields kinds of files: a name, the files and the bare readers."""
    photographs = sorted((data / "ham10000_sites").rglob("*.jpg"))[:_MOST]
    yield "JPEG, dermoscopy", photographs, {"Pillow": _pillow}
    slices = sorted((data / "dicom_series").rglob("*.dcm"))
    pydicom: dict[str, Callable[[Path], Any]] = {"pixels": _pixels, "windowed": _windowed}
    yield "DICOM, CT", slices, pydicom
    for name, syntax in (("RLE", "1.2.840.10008.1.2.5"), ("JPEG 2000", "1.2.840.10008.1.2.4.90")):
        yield f"DICOM, CT in {name}", [_compressed(path, made / name, syntax) for path in slices[:12]], pydicom


def _read(path: Path) -> Any:
    return read_pictures(path)


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


def _rate(files: Sequence[Path], read: Callable[[Path], Any], readers: int) -> float:
    """Files a second, the best of some rounds."""
    with ThreadPoolExecutor(readers) as pool:
        seconds = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            for _ in pool.map(read, files) if readers > 1 else map(read, files):
                pass
            seconds.append(time.perf_counter() - start)
    return len(files) / min(seconds)


def _processor(files: Sequence[Path], read: Callable[[Path], Any]) -> float:
    """Milliseconds of processor a file, the best of some rounds: what else the machine does hardly matters."""
    seconds = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        for path in files:
            read(path)
        seconds.append(time.process_time() - start)
    return 1000 * min(seconds) / len(files)


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
