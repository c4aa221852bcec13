"""The page for data-protection officers: its example is a policy, and its commands and settings exist."""

import re
import tomllib
from math import exp
from pathlib import Path

import pytest
from click.testing import CliRunner

from medtl_core.cli.app import app
from medtl_core.config import settings
from medtl_core.federation.registry import find_method
from medtl_core.privacy.accounting import most_right
from medtl_core.privacy.policy import Policy, read_policy

PAGE = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")


def test_the_example_is_a_policy(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "policy.toml").write_text(example, encoding="utf-8")
    found = read_policy(tmp_path)
    assert found == Policy(4.0, 1e-5, 200, 30, 40, ("private-auto", "private-prototypes"), True, secure_sum=True)
    assert all(find_method(name).name == name for name in found.mechanisms)


def test_its_commands_and_settings_exist() -> None:
    runner = CliRunner()
    for command in (
        "ledger show", "ledger verify", "ledger raise", "ledger plan", "ledger statement", "site outbound", "site sent",
        "sweep privacy",
    ):  # fmt: skip
        assert f"medtl {command}" in PAGE
        assert runner.invoke(app, [*command.split(), "--help"]).exit_code == 0
    (line,) = re.findall(r"medtl simulate quickstart ([^#\n]*)", PAGE)
    chosen = settings(dict(tomllib.loads("\n".join(line.replace("=auto", "='auto'").split()))))
    assert (chosen.privacy, chosen.epsilon, chosen.secure_sum, chosen.public_cases) == ("auto", 4.0, True, 20)
    names = PAGE.partition("names one, such as")[2].partition("##")[0]
    words = [word.replace("-R", "-5") for word in re.findall(r"`([a-zR-]+)`", names)]
    assert len(words) >= 4
    assert all(find_method(f"private-{word}").name == f"private-{word}" for word in words)


def test_what_epsilon_means_is_what_the_formulas_give() -> None:
    rows = [row for row in PAGE.splitlines() if row.startswith("| ")]
    (head,) = (row for row in rows if "epsilon 4" in row)
    epsilons = [float(word) for word in re.findall(r"epsilon (\d+)", head)]
    wanted = {
        "e^epsilon)": [exp(epsilon) for epsilon in epsilons],
        "e^epsilon / (1 + e^epsilon)": [100 * exp(epsilon) / (1 + exp(epsilon)) for epsilon in epsilons],
        "the same for the Gaussian": [100 * most_right(epsilon, 1e-5) for epsilon in epsilons],
    }
    for said, values in wanted.items():
        row = next(row for row in rows if said in row)
        found = [float(re.sub(r"[^\d.]", "", cell)) for cell in row.split("|")[2:5]]
        assert found == pytest.approx(values, rel=1e-3)
    assert f"right in at most {100 * most_right(4.0, 1e-5):.0f} of 100" in " ".join(PAGE.replace(">", " ").split())


def test_it_claims_no_certificate() -> None:
    before = PAGE.partition("## Words")[0]
    assert not re.search("compliant|certified|anonymous|guaranteed|military|bank-grade", before)
