"""`zoetrope train`: one stage by itself, on a dataset version, without a pipeline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from zoetrope.infra.errors import EXIT_USER_ERROR, ZoetropeError
from zoetrope.infra.signals import EXIT_TERMINATED
from zoetrope.pipelines.cli.common import DEFAULT_STORE, SetOption, StoreOption, output, state_store

if TYPE_CHECKING:
    from zoetrope.components.train.config import TrainStageConfig
    from zoetrope.infra.store import Store

JOB, LOG = "job.json", "log.txt"


def train(
    stage: Annotated[str, typer.Argument(help="a stage of the recipe: stage_1, stage_2, stage_3")],
    data: Annotated[str, typer.Option(help="dataset version such as nano-v1, or the reference of a dataset manifest")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of weights, metrics and resumable states")],
    recipe: Annotated[str, typer.Option(help="recipe that the stage and the model are of")] = "nano",
    weights: Annotated[Path | None, typer.Option("--from", help="safetensors file to start from")] = None,
    resume: Annotated[
        str, typer.Option(help="auto goes on from the newest state in the folder, never begins anew")
    ] = "auto",
    processes: Annotated[
        int, typer.Option("--nproc", min=0, help="processes on this machine; 0 takes the recipe's workers")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    overrides: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Train one stage by itself. Under torchrun each process calls this; alone it starts its own.

    Example: zoetrope train stage_1 --data nano-v1 --out trained --set stages.stage_1.steps=100
    """
    config = _config(recipe, stage, overrides or [], processes or _started_by_torchrun())
    if resume not in ("auto", "never"):
        raise ZoetropeError(f"--resume {resume}: unknown", "take auto or never")
    if device not in ("auto", "cpu", "cuda"):
        raise ZoetropeError(f"--device {device}: unknown", "take auto, cpu or cuda")
    if weights is not None and not weights.is_file():
        raise ZoetropeError(f"--from {weights}: no such file", "give a safetensors file")
    opened = state_store(store)
    job = {
        "config": config.model_dump(mode="json"),
        "store": opened.root,
        "dataset": _dataset(opened, store, data),
        "out": str(out.absolute()),
        "weights": "" if weights is None else str(weights.absolute()),
        "weights_digest": "" if weights is None else _digest(weights),
        "device": device,
        "resume": resume,
    }
    if _started_by_torchrun():
        raise typer.Exit(_here(job))
    out.mkdir(parents=True, exist_ok=True)
    path = out / JOB
    path.write_text(json.dumps(job, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _launch(path, config.workers, out / LOG)
    output.print(str(out / "weights.safetensors"), highlight=False, soft_wrap=True)


def _started_by_torchrun() -> int:
    """The number of processes that torchrun started; 0 where this process is not one of them."""
    return int(os.environ.get("WORLD_SIZE", "0")) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def _config(recipe: str, stage: str, overrides: list[str], processes: int) -> TrainStageConfig:
    from zoetrope.components.train.config import TrainStageConfig
    from zoetrope.pipelines.recipe.recipe import STAGE_STEPS, load_recipe

    if stage not in STAGE_STEPS:
        raise ZoetropeError(f"{stage}: no such stage", f"choose from {', '.join(STAGE_STEPS)}")
    found = load_recipe(recipe, overrides)
    model = {name: getattr(found.model, name) for name in type(found.model).model_fields}
    model["workers"] = processes or model["workers"]
    try:
        return TrainStageConfig(**model, name=stage, stage=getattr(found.stages, stage))
    except ValidationError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ZoetropeError(f"{stage}: {wrong}", "change --nproc, or --set what it names") from error


def _dataset(store: Store, state: Path, data: str) -> str:
    if "@sha256:" in data:
        return data
    from zoetrope.infra.datasets import DatasetRegistry
    from zoetrope.pipelines.cli.common import state_paths

    return DatasetRegistry(state_paths(state).datasets, store).resolve(data).reference


def _digest(path: Path) -> str:
    from zoetrope.infra.references import digest_file

    return digest_file(path)


def _here(job: Mapping[str, Any]) -> int:
    from zoetrope.components.train.standalone import StandaloneJob, run

    return run(StandaloneJob(**job))


def _launch(job: Path, processes: int, log: Path) -> None:
    """Runs the processes; what they and torchrun complain of goes into the log, why they failed is said in one line."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = ["-m", "zoetrope.components.train.torchrun", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "zoetrope.components.train.standalone", str(job)]
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen([sys.executable, *command], env={**os.environ, **threads}, stderr=stream)
        former = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
        try:
            status = process.wait()
        finally:
            signal.signal(signal.SIGTERM, former)
    if status == 0:
        return
    said = [
        line.removeprefix("zoetrope: ") for line in log.read_text(encoding="utf-8").splitlines() if _is_reason(line)
    ]
    reason = said[-1] if said else f"train: the processes ended with exit status {status}"
    if status == EXIT_TERMINATED:
        reason = "train: stopped; its state is saved"
    raise ZoetropeError(
        reason,
        f"the same command goes on from its newest checkpoint; all that was said: {log}",
        retryable=status != EXIT_USER_ERROR,
    )


def _is_reason(line: str) -> bool:
    return line.startswith("zoetrope: ") and not line.startswith("zoetrope: workers ended")
