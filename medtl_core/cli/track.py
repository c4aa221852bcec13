"""`medtl track`: a run's figures in TensorBoard or MLflow."""

from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.errors import ConfigError


def track(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `medtl simulate` printed it.")],
    tensorboard: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of TensorBoard's logs.")] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="PLACE", help="A folder, or the URI of an MLflow store as MLflow spells it.")
    ] = None,
) -> None:
    """Write a finished run's figures for TensorBoard or MLflow.

    Nothing is sent to a server unless its URI is typed here.
    """
    from medtl_core.report.trackers import to_mlflow, to_tensorboard

    if tensorboard is None and mlflow is None:
        raise ConfigError("name a place: --tensorboard DIR, --mlflow PLACE, or both")
    if tensorboard is not None:
        console.show(f"tensorboard --logdir {to_tensorboard(run, tensorboard).parent.absolute()}")
    if mlflow is not None:
        console.show(f"mlflow store  {to_mlflow(run, mlflow)}")


COMMANDS = {"track": console.command(track)}
