"""How commands listen and speak: words in; results to standard output, everything else to standard error."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from medtl_core.runs import Plan


def scenario_and_settings(words: Sequence[str], assignments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Returns the scenario among a command's bare words, if any, and all "key=value" words, those of --set first.

    Raises:
        BadParameter: there are several scenarios.

    Example:
        >>> scenario_and_settings(["dermoscopy", "seeds=3"], ["shots=25"])
        ('dermoscopy', ['shots=25', 'seeds=3'])
    """
    bare = [word for word in words if "=" not in word]
    if len(bare) > 1:
        raise typer.BadParameter(f"one scenario at a time: {' '.join(bare)}", param_hint="SCENARIO")
    return bare[0] if bare else None, [*assignments, *(word for word in words if "=" in word)]


def console_of(stderr: bool = False) -> "Console":
    """Returns the console of standard output, or of standard error."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    # A pipe has no width; 100 columns keep every row on one line.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=100)


def say(console: "Console", words: str) -> None:
    """Prints a line as it is: no markup, and no break inside a path."""
    console.print(words, markup=False, soft_wrap=True)


def carry_out(plan: "Plan", quiet: bool) -> Mapping[str, Any]:
    """Runs the checkout's experiment; whatever it writes to standard output goes to standard error."""
    from contextlib import redirect_stdout

    from medtl_core.atomic import read_json
    from medtl_core.cli.checkout import load_experiment
    from medtl_core.cli.progress import shown

    console = console_of(stderr=True)
    if not quiet:
        say(console, f"{plan.name}: {plan.seeds} seed(s), {plan.workers} worker(s), results in {plan.out}")
    with redirect_stdout(sys.stderr), shown(console, quiet) as progress:
        found = load_experiment(plan.app)(plan, progress)
    metrics: Mapping[str, Any] = found if isinstance(found, Mapping) else read_json(plan.out / "metrics.json")
    return metrics
