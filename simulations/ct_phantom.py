"""A CT set to try a run with: DICOM series of chests with and without a planted nodule, of two scanners.

    python -m simulations.ct_phantom --out runs/ct --series ../shared/data/dicom_series/lidc_ct
    medtl simulate --data runs/ct

Half of the studies are cut out of a real series, whose slices are shifted, mirrored and made noisy; the other half, all
of them without `--series`, are ellipses. No patient stands behind a label: the set shows that series are read, windowed
and pooled, nothing about medicine.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Slices of a study, and pixels of a slice's side.
SLICES, SIDE = 16, 128
_LUNG, _NODULE, _AIR = -850.0, 60.0, -1000.0


def main(words: Sequence[str] | None = None) -> None:
    """Writes the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write, which must not be there")
    parser.add_argument("--series", type=Path, help="folder with the slices of one chest CT")
    parser.add_argument("--studies", type=int, default=120, help="number of studies")
    chosen = parser.parse_args(words)
    write_set(chosen.out, chosen.studies, chosen.series)


def write_set(out: Path, studies: int, series: Path | None = None, *, seed: int = 0) -> None:
    """Writes studies as DICOM series below `out`/studies, and `ct_phantom.csv` that says what they show.

    Raises:
        FileExistsError: `out` is there.
    """
    out.mkdir(parents=True)
    real, rows = None if series is None else _hounsfield(series), []
    for number in range(studies):
        rng = np.random.default_rng([seed, number])
        scanner, ill = ("b", "a")[number % 2 and real is not None], number // 2 % 2
        chest = _cut(real, rng) if scanner == "a" and real is not None else _ellipses(rng)
        name = f"study-{number:03d}"
        _write(out / "studies" / name, _planted(chest, rng) if ill else chest, number)
        split = "test" if number // 4 % 4 == 3 else "train"
        rows.append([name, ("clear", "nodule")[ill], f"phantom-{number:03d}", f"scanner-{scanner}", split])
    with (out / "ct_phantom.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([["study", "label", "patient_id", "site", "split"], *rows])


def _hounsfield(series: Path) -> NDArray[np.float32]:
    """The slices of a series from feet to head, float32 [n, side, side]."""
    from pydicom import dcmread

    slices = sorted((dcmread(file) for file in series.iterdir()), key=lambda one: float(one.ImagePositionPatient[2]))
    return np.stack([_small(one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)) for one in slices])


def _small(pixels: NDArray[Any]) -> NDArray[np.float32]:
    step = pixels.shape[0] // SIDE
    return np.asarray(pixels.reshape(SIDE, step, SIDE, step).mean(axis=(1, 3)), np.float32)


def _cut(real: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    first = int(rng.integers(0, len(real) - SLICES + 1))
    shift = tuple(rng.integers(-6, 7, 2).tolist())
    chest = np.roll(real[first : first + SLICES], shift, axis=(1, 2))[:, :, :: int(rng.choice([-1, 1]))]
    return chest + rng.normal(0.0, 15.0, chest.shape).astype(np.float32)


def _ellipses(rng: np.random.Generator) -> NDArray[np.float32]:
    z, y, x = np.meshgrid(np.arange(SLICES), *[np.linspace(-1.0, 1.0, SIDE)] * 2, indexing="ij")
    wide, deep = rng.uniform(0.78, 0.92), rng.uniform(0.55, 0.7)
    chest = np.where((x / wide) ** 2 + (y / deep) ** 2 < 1, 40.0, _AIR)
    for side in (-1, 1):
        lung = ((x - side * 0.4 * wide) / 0.3) ** 2 + (y / (deep * 0.72)) ** 2 + ((z / SLICES - 0.5) / 1.2) ** 2 < 1
        chest[lung] = _LUNG
    chest[(x / 0.1) ** 2 + ((y - deep * 0.75) / 0.1) ** 2 < 1] = 500.0
    return (chest + rng.normal(0.0, 25.0, chest.shape)).astype(np.float32)


def _planted(chest: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A chest with a ball of soft tissue in a lung."""
    middle = chest[SLICES // 2, 24:-24, 24:-24]
    places = np.argwhere((middle < -700) & (middle > -950)) + 24
    y, x = places[rng.integers(len(places))]
    far = np.stack(np.meshgrid(np.arange(SLICES) - SLICES / 2, np.arange(SIDE) - y, np.arange(SIDE) - x, indexing="ij"))
    inside = (far**2).sum(axis=0) < rng.uniform(6.0, 9.0) ** 2
    return np.where(inside, np.float32(_NODULE), chest)


def _write(folder: Path, chest: NDArray[np.float32], number: int) -> None:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True)
    for place, pixels in enumerate(np.rint(np.clip(chest, -1024, 3071) + 1024).astype(np.uint16)):
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.set_pixel_data(pixels, "MONOCHROME2", 12, generate_instance_uid=False)
        made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"2.25.{number + 1}.{place + 1}"
        made.file_meta.MediaStorageSOPClassUID = CTImageStorage
        made.SeriesInstanceUID, made.Modality, made.InstanceNumber = f"2.25.{number + 1}", "CT", place + 1
        made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, -1024, "HU"
        made.ImageOrientationPatient, made.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2 * place]
        made.save_as(folder / f"{place:02d}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main()
