"""Memory by the number of hospitals: `python -m simulations.scale`, or `make bench-scale`.

The same cases, a table of random numbers, are cut into few hospitals and into many, and a linear head is trained for
some rounds, each time in a process of its own: what a run keeps of a hospital shows, and not what its cases weigh. On
the road "ray" the figure is the peak of the process that runs the ServerApp and Flower's simulation engine; hospitals
are answered for by others.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simulations.probe import measured

#: Cases of every hospital where there are most, columns of the table, and cases the server judges on.
_CASES, _COLUMNS, _TESTED = 4, 8, 200
#: Peak memory of the most hospitals over that of the fewest.
LIMIT = 1.5


def write_table(path: Path, cases: int) -> None:
    """Writes so many training cases of two classes, each a patient's, and the server's test cases."""
    values = np.random.default_rng(0).normal(size=(cases + _TESTED, _COLUMNS))
    with path.open("w", encoding="ascii") as file:
        file.write("label,patient_id,site,split," + ",".join(f"c{column}" for column in range(_COLUMNS)) + "\n")
        for row, numbers in enumerate(values):
            split = "test" if row < _TESTED else "train"
            file.write(f"{'ab'[row % 2]},p{row},s,{split}," + ",".join(f"{number:.3f}" for number in numbers) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; exits non-zero if memory grew by more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospitals", type=int, nargs="+", default=[10, 10_000], help="from few to many")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--roads", nargs="+", default=["local"], choices=("local", "ray"))
    given = parser.parse_args(arguments)
    grown = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write_table(path, _CASES * max(given.hospitals))
        print(f"{'road':<8}{'hospitals':>10}{'rounds':>8}{'peak MB':>9}{'ratio':>7}{'CPU s':>8}{'wall s':>8}")
        for road in given.roads:
            few = 0.0
            for hospitals in given.hospitals:
                values = {
                    "data": "", "data-path": str(path), "backbone": "table", "sites": hospitals, "shots": 0,
                    "partition": "even", "cache": "off", "methods": f"fedavg-{given.rounds}", "bootstrap": 20,
                    "deadline": 86_400.0,
                }  # fmt: skip
                run = measured(road, values)
                few = few or run["megabytes"]
                ratio, times = run["megabytes"] / few, f"{run['cpu']:>8.1f}{run['seconds']:>8.1f}"
                grown += ratio > LIMIT
                print(
                    f"{road:<8}{hospitals:>10}{given.rounds:>8}{run['megabytes']:>9.0f}{ratio:>7.2f}{times}", flush=True
                )
    return int(bool(grown))


if __name__ == "__main__":
    raise SystemExit(main())
