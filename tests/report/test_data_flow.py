"""The data-flow sheet says what the hospital's folder says, and nothing that it cannot know."""

import re
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.privacy.policy import Policy
from medtl_core.privacy.receipt import Sent, write_receipt
from medtl_core.privacy.requester import Requester
from medtl_core.values import PrivacyEvent
from tests.hospital import made_hospital

RUN = Path(__file__).resolve().parents[1] / "export" / "quickstart"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A hospital that answered two runs: once without noise, once with, and refused once."""
    (tmp_path / "cases").mkdir()
    folder = tmp_path / "north"
    policy = Policy(max_epsilon=4.0, delta=1e-5, public_patients=40)
    made_hospital(folder, "north <b>", tmp_path / "cases", policy=policy)
    plain, private = Requester(7, "lungs"), Requester(8, "hearts")
    array = {"sum": ("float64", (3,), bytes(24)), "count": ("float64", (1,), bytes(8))}
    write_receipt(folder, Sent("join", plain, {}, {"site": "north"}, 60))
    write_receipt(folder, Sent("statistics", plain, {"gram": ("float64", (2, 2), bytes(32))}, {}, 132))
    write_receipt(folder, Sent("private_mean", private, array, {}, 1032, PrivacyEvent("private-mean", 1.0, 1e-5)))
    write_receipt(folder, Sent("private_mean", private, refused="[medtl BudgetError] a fixed sentence"))
    return folder


def told(*words: str) -> str:
    ended = CliRunner().invoke(cli.app, ["site", "flow", *words])
    assert ended.exit_code == 0, ended.exception
    (out,) = (Path(words[place + 1]) for place, word in enumerate(words) if word == "--out")
    return out.read_text(encoding="utf-8")


def words_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_the_sheet_of_a_hospital_says_what_left_to_whom_and_under_which_rules(home: Path, tmp_path: Path) -> None:
    page = told(str(home), "--out", str(tmp_path / "flow.html"))
    text = words_of(page)
    assert "3 answers, 1.22 kB; 1 refusals" in text
    assert "noised sum of patients' rows, noised number of patients 1 4 1.03 kB yes" in text
    assert 'run 7, by the server\'s own words "lungs"' in text and 'run 8, by the server\'s own words "hearts"' in text
    assert (
        "Epsilon spent on every patient 0 of 4; 4 is left" in text
        and "public_patients = 40; mechanisms = every one" in text
    )
    assert f"{home / 'sent'}: until a person moves old files away" in text
    for blank in ("Which patients", "Who runs the receiver", "Legal basis", "How long each may be kept"):
        assert re.search(rf"{blank}[^.]*? to be filled in by ", text)
    assert "north <b>" in text and "<b>" not in page and "<script" not in page and "://" not in page
    # its title stands on every sheet of paper, and no name can end a string of the style sheet
    assert r'@top-left { content: "Data\20 flow\20 of\20 north\20 \3c b\3e "' in page


def test_a_hospital_that_sent_nothing_and_one_of_a_run(home: Path, tmp_path: Path) -> None:
    made_hospital(tmp_path / "south", "south", tmp_path / "cases", policy=Policy(max_epsilon=1.0, delta=1e-5))
    text = words_of(told(str(tmp_path / "south"), "--out", str(tmp_path / "south.html")))
    assert "no receipts: nothing was sent" in text and "0 answers, 0 B; 0 refusals" in text
    run = words_of(told(str(RUN), "--hospital", "phantom-a", "--out", str(tmp_path / "run.html")))
    assert "Training cases of this hospital 30" in run and "nothing is promised about it" in run
    assert "nothing left it" in run and "statistics" in run


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--hospital", "nowhere"], "'nowhere' gave no case to this run"),
        ([], "is no hospital's folder"),
    ],
)
def test_what_is_no_hospital_is_named(tmp_path: Path, words: list[str], match: str) -> None:
    ended = CliRunner().invoke(cli.app, ["site", "flow", str(RUN), *words, "--out", str(tmp_path / "x.html")])
    assert match in str(ended.exception) and not (tmp_path / "x.html").exists()


def test_a_receipt_that_was_changed_gives_no_sheet_and_no_file_is_written_over(home: Path, tmp_path: Path) -> None:
    (tmp_path / "there.html").write_text("mine")
    ended = CliRunner().invoke(cli.app, ["site", "flow", str(home), "--out", str(tmp_path / "there.html")])
    assert "exists already" in str(ended.exception) and (tmp_path / "there.html").read_text() == "mine"
    (lines,) = (home / "sent").glob("*.jsonl")
    lines.write_bytes(lines.read_bytes().replace(b"statistics", b"statistisc"))
    ended = CliRunner().invoke(cli.app, ["site", "flow", str(home), "--out", str(tmp_path / "new.html")])
    assert ended.exit_code == 1 and not (tmp_path / "new.html").exists()
