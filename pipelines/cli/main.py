"""The root of the command line and its error handling."""

from __future__ import annotations

import os
import sys

import typer

from zoetrope.infra.errors import EXIT_RETRYABLE, ZoetropeError
from zoetrope.pipelines.cli import cost, data, doctor, generate, models, reap, run, runs, step, store, submit, train
from zoetrope.pipelines.cli.common import errors

app = typer.Typer(
    name="zoetrope",
    help="Raw video to a promoted video generation model: what it cost and how good it is, both checkable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("submit")(submit.submit)
app.command("compile")(run.compile_pipelines)
app.command("generate")(generate.generate)
app.command("train")(train.train)
app.add_typer(run.config_app, name="config")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
runs.app.command("reap")(reap.reap)
app.add_typer(runs.app, name="runs")
app.add_typer(cost.app, name="cost")
app.add_typer(store.app, name="store")
app.command("doctor")(doctor.doctor)
app.command("step")(step.step)


def main() -> None:
    """Entry point: a user's mistake is one message and exit 2, a passing fault exit 75; no traceback for either."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # neither MLflow nor DVC nor Great Expectations calls home
    try:
        app()
    except ZoetropeError as error:
        errors.print(f"[bold red]zoetrope:[/] {error.headline}", highlight=False, soft_wrap=True, markup=True)
        if error.hint:
            errors.print(f"  -> {error.hint}", highlight=False, soft_wrap=True, markup=False)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if error.errno not in (
            13,
            28,
            30,
            122,
        ):  # permission, disk full, read-only, quota: for the user to fix
            raise
        errors.print(f"[bold red]zoetrope:[/] {error.strerror}: {error.filename or ''}", soft_wrap=True)
        sys.exit(EXIT_RETRYABLE)
