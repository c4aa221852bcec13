"""How fast files are read: images a second against bare Pillow and bare pydicom, and a table of a million rows.

    python -m simulations.reading --data ../shared/data        # make bench-read

All are measured in one run, on the same files, the best of some rounds. `medtl` reads DICOM in limited processes,
checks the header for identities and returns pictures ready to look at; bare pydicom stops at stored numbers ("pixels"),
or goes on to the same windows ("windowed"). With two readers, as features are computed by two workers, two files are
read at a time; bare pydicom and Pillow read one.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.data.images import read_pictures
from medtl_core.formats.windows import CT_WINDOWS

_ROUNDS = 5
_MOST = 200
_ROWS, _COLUMNS = 1_000_000, 8


def main(words: Sequence[str] | None = None) -> None:
    """Prints a line a kind of file, then one for the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ham10000_sites and dicom_series")
    parser.add_argument("--rows", type=int, default=_ROWS, help="rows of the table")
    chosen = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as made:
        for name, files, bare in _kinds(chosen.data, Path(made)):
            rates = {"medtl": _rate(files, _read, 1), "two readers": _rate(files, _read, 2)}
            alone = {f"bare {word}": _rate(files, read, 1) for word, read in bare.items()}
            shown = "  ".join(f"{word} {rate:.0f}" for word, rate in (rates | alone).items())
            ratios = [f"{rates[mine] / rate:.2f}" for rate in alone.values() for mine in rates]
            print(f"{name:24} files/s: {shown}; ratios of the first two to each bare one: {' '.join(ratios)}")
        print(_table(Path(made), chosen.rows))


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


def _table(folder: Path, rows: int) -> str:
    """Seconds and memory of `medtl data check` on a table, in a process of its own."""
    path = folder / "manifest.csv"
    values = np.random.default_rng(0).normal(size=(1000, _COLUMNS)).round(3)
    lines = [",".join(map(str, row)) for row in values.tolist()]
    with path.open("w", encoding="utf-8") as handle:
        handle.write("label,patient_id,site," + ",".join(f"m{number}" for number in range(_COLUMNS)) + "\n")
        handle.writelines(f"{('well', 'ill')[n % 2]},p{n},site-{n % 4},{lines[n % 1000]}\n" for n in range(rows))
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "medtl_core.cli.app", "data", "check", str(folder)], capture_output=True
    )
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return f"table of {rows:,} rows: exit {done.returncode}, {seconds:.1f} s, {peak:.2f} GiB (peak of any child)"


if __name__ == "__main__":
    main()
