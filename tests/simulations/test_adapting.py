"""The experiment on newcomers of any kind: every learner and number of cases has its row, on a table of two kinds."""

from pathlib import Path

import pytest

from medtl_core.rng import stream
from simulations.adapting import main


def test_a_hospital_left_out_is_judged_by_every_learner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng, lines = stream(0, "adapting"), ["label,patient_id,site,split,clinic:a,clinic:b,gene:a"]
    for number in range(240):
        ill, site = number % 2, "xyz"[number // 2 % 3]
        cells = rng.standard_normal(3) + 1.2 * ill
        split = "test" if number % 5 == 0 else "train"
        lines.append(f"{['well', 'ill'][ill]},p{number},{site},{split},{','.join(f'{cell:.3f}' for cell in cells)}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    main(str(tmp_path / "table.csv"), "backbone=table", "sites=2", "seeds=2")
    told = capsys.readouterr()
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in told.out.splitlines() if "`" in line}
    assert {*rows} >= {"`auto`, as it is", "`auto`, adapted", "`metric`, adapted", "`fusion`, adapted"}
    first = [float(cell.split()[0]) for cell in rows["`auto`, as it is"][:3]]
    assert first[0] == first[1] == first[2] > 75  # no labelled case of its own changes it
    assert "seed 1 without z" in told.err
