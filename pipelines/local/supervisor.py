"""`zoetrope run`: one run at a time per store, a driver process, progress for a person, nothing left behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from zoetrope.infra.errors import EXIT_OK, ZoetropeError, placed
from zoetrope.infra.processes import RunLock, end_group, end_survivors, mark_environment
from zoetrope.infra.redact import redacted
from zoetrope.infra.runs import RunRecord
from zoetrope.infra.steps.usage import UsageMonitor
from zoetrope.infra.store.local import PARTS, RUN_BYTES, disk_full
from zoetrope.pipelines.local.events import EventReader
from zoetrope.pipelines.local.plan import LocalRunPlan, StatePaths, new_run_id, run_settings
from zoetrope.pipelines.local.progress import Progress
from zoetrope.pipelines.local.run_files import read_local_record, write_local_record
from zoetrope.pipelines.recipe.recipe import Recipe, recipe_digest

EXIT_INTERRUPTED = 130  # 128 + SIGINT
POLL_SECONDS = 0.2
FULL_BYTES = 5_000_000


def run(
    recipe: Recipe,
    recipe_name: str,
    pipeline: str,
    arguments: dict[str, str],
    state: Path,
    console: Console,
    *,
    fresh: bool = False,
) -> tuple[int, RunRecord | None]:
    """Runs a pipeline in the state directory and waits for it.

    Args:
        recipe: the resolved recipe.
        recipe_name: name or file that `resolve` is given.
        pipeline: name of the pipeline.
        arguments: its KFP arguments.
        state: the state directory (`--store`).
        console: where progress goes.
        fresh: whether every step is computed anew though its result is known.

    Returns:
        Exit code and the run record; None when the run did not get that far.
    """
    state = state.resolve()
    paths = StatePaths(state)
    check_disk(state)
    command = redacted(shlex.join(["zoetrope", *sys.argv[1:]]))
    with RunLock(state, command):
        end_survivors(state, lambda line: console.print(f"[yellow]{line}"))
        remove_scratch(paths)
        token = mark_environment(state)
        run_id = new_run_id(recipe.name)
        directory = paths.run(run_id)
        resources = {name: value.model_dump(mode="json") for name, value in recipe.resources.items()}
        settings = run_settings(paths, run_id, resources, recipe.prices).model_copy(update={"fresh": fresh})
        plan = LocalRunPlan(
            run_id=run_id,
            pipeline=pipeline,
            recipe=recipe_name,
            recipe_name=recipe.name,
            recipe_digest=recipe_digest(recipe),
            arguments=arguments,
            command=command,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            price_sheet=settings.price_sheet,
        )
        plan_path = plan.save(directory)
        environment = os.environ | settings.environment()
        return _drive(plan_path, directory, environment, token, pipeline, console)


def _drive(
    plan: Path, directory: Path, environment: dict[str, str], token: str, pipeline: str, console: Console
) -> tuple[int, RunRecord | None]:
    progress = Progress(console, pipeline)
    events = EventReader(directory)
    with (directory / "log.txt").open("wb") as log, UsageMonitor(lambda cpu, memory: None) as monitor:
        driver = subprocess.Popen(
            [sys.executable, "-m", "zoetrope.pipelines.local.driver", str(plan)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            with progress:
                while driver.poll() is None:
                    progress.show(events.new())
                    time.sleep(POLL_SECONDS)
                progress.show(events.new())
        except KeyboardInterrupt:
            console.print("[yellow]interrupted: ending the run's processes ...")
            _end(driver, token)
            console.print("stopped; the same command continues from the last finished step")
            return EXIT_INTERRUPTED, None
        except BaseException:
            _end(driver, token)
            raise
    end_group(token)
    record = read_local_record(directory)
    if record is not None:  # the driver cannot see what its own children held together
        record = record.model_copy(update={"peak_memory_bytes": monitor.peak_memory_bytes})
        write_local_record(directory, record)
    if driver.returncode != EXIT_OK:
        if (directory / "report.html").exists():
            console.print(f"report of what was done: {directory / 'report.html'}", highlight=False)
        raise failure(directory, driver.returncode)
    return EXIT_OK, record


def _end(driver: subprocess.Popen[bytes], token: str) -> None:
    driver.terminate()
    try:
        driver.wait(timeout=5)
    except subprocess.TimeoutExpired:
        driver.kill()
    end_group(token)


def failure(directory: Path, code: int) -> ZoetropeError:
    """The error message of the step that failed."""
    log = directory / "log.txt"
    if shutil.disk_usage(directory).free < FULL_BYTES:  # then nobody could write down what went wrong
        return disk_full(directory)
    path = directory / "failure.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if "headline" in found:
            retryable = found["exit_code"] != 2
            return ZoetropeError(placed(found["step"], found["headline"]), found["hint"], retryable=retryable)
        headline = f"{found['step']}: {found['error']}: {found['message']}"
        return ZoetropeError(headline[:500], f"this is a fault of zoetrope; the traceback is in {log}", retryable=True)
    if code < 0:
        return ZoetropeError(
            f"the driver was ended by signal {-code}",
            f"run the same command again; log: {log}",
            retryable=True,
        )
    tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return ZoetropeError(f"the driver failed: {' '.join(tail)}"[:500], f"log: {log}", retryable=True)


def check_disk(state: Path) -> None:
    """Refuses to start where the disk is nearly full."""
    state.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(state).free
    if free < RUN_BYTES:
        raise disk_full(state)


def remove_scratch(paths: StatePaths) -> None:
    """Removes what a killed run left half-written: scratch folders and parts of objects."""
    for work in paths.runs.glob("*/work"):
        shutil.rmtree(work, ignore_errors=True)
    for workspace in paths.runs.glob("*/workspace-*"):
        shutil.rmtree(workspace, ignore_errors=True)
    for part in (paths.store / PARTS).glob("*"):
        part.unlink(missing_ok=True)
