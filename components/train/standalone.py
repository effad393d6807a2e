"""A stage trained by itself: no pipeline, no tracking server, no registry; under torchrun, TorchX or alone.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m zoetrope.components.train.standalone OUT/job.json

`zoetrope train` writes the job and starts this.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from zoetrope.components.train.config import TrainStageConfig
from zoetrope.components.train.data import open_training_data
from zoetrope.components.train.explained import end_with
from zoetrope.components.train.job import THREADS
from zoetrope.infra.store import open_store
from zoetrope.model.checkpoint.export import export_weights
from zoetrope.model.training.checkpoints import Identity, LocalCheckpointStore
from zoetrope.model.training.loop import Resume
from zoetrope.model.training.process_group import join_process_group
from zoetrope.model.training.stage import train_stage

SCHEMA = "zoetrope.training.v1"
WEIGHTS, DESCRIPTION, METRICS, STATE, INDEX = (
    "weights.safetensors",
    "training.json",
    "metrics.jsonl",
    "checkpoints",
    "index",
)

MAY_CHANGE = (
    "name", "workers", "stage.steps", "stage.save_every", "stage.log_every", "stage.prefetch", "stage.retention",
    "stage.parallel", "stage.deterministic",
)  # fmt: skip
"""Settings of a stage that a checkpoint may be continued with another value of: longer, told otherwise, elsewhere."""


@dataclass(frozen=True)
class StandaloneJob:
    """What is trained, on what, and where it goes.

    Attributes:
        config: of the stage (`TrainStageConfig`) as JSON.
        store: root of the store that holds the dataset.
        dataset: reference of its manifest (`zoetrope.dataset.v1`) there.
        out: folder of the results.
        weights: safetensors file to start from; empty draws the first weights from the seed.
        weights_digest: SHA-256 of it.
        device: that each process computes on.
        resume: `auto` goes on from the newest state in the folder of the results, `never` begins anew.
    """

    config: dict[str, Any]
    store: str
    dataset: str
    out: str
    weights: str = ""
    weights_digest: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    resume: Literal["auto", "never"] = "auto"

    @property
    def identity(self) -> Identity:
        """What a checkpoint must have been made with to be continued."""
        config = {"config": self.config, "dataset": self.dataset, "weights": self.weights_digest}
        return Identity(config, [f"config.{path}" for path in MAY_CHANGE])


class Lines:
    """Metrics as JSON Lines, and one line a report on standard output."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.steps = path, steps

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the metrics after `step` steps."""
        line = {"step": step, "time": time.time(), **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        speed = values["samples_per_second"]
        print(f"step {step} of {self.steps}, loss {values['loss']:.4f}, {speed:.1f} samples/s", flush=True)  # noqa: T201


def _say(message: str) -> None:
    print(message, flush=True)  # noqa: T201


def train(job: StandaloneJob) -> None:
    """Trains in this process, one of those that torchrun started or the only one."""
    config = TrainStageConfig.model_validate(job.config)
    out = Path(job.out)
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, ask)
    with join_process_group(THREADS, deterministic=config.stage.deterministic, device=job.device) as workers:
        store = open_store(job.store)
        data = open_training_data(store, job.dataset, config.stage, out / INDEX)
        resume = None
        if job.resume == "auto":
            resume = Resume(
                LocalCheckpointStore(out),
                job.identity,
                STATE,
                retention=config.stage.retention,
                stop=lambda: bool(asked),
                warn=_say,
            )
        source = Path(job.weights) if job.weights else None
        sink = Lines(out / METRICS, config.stage.steps)
        trained = train_stage(config.mmdit, config.stage, config.flow, data, workers, sink, resume, source)
        export_weights(trained.result.weights, out / WEIGHTS)
        if workers.first:
            described = {
                "schema": SCHEMA,
                "config": {**job.config, "mmdit": asdict(replace(config.mmdit, cond_embed=config.stage.takes_images))},
                "dataset": job.dataset,
                "from": job.weights_digest,
                "steps": config.stage.steps,
                "resumed_at": trained.result.resumed_at,
                "final_loss": trained.result.final_loss,
                "samples": trained.samples,
                "mesh": asdict(trained.degrees),
                "device": str(workers.device.type),
                "attention_backend": trained.attention,
            }
            (out / DESCRIPTION).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        workers.wait()


def run(job: StandaloneJob) -> int:
    """Trains and says what went wrong; returns the exit status of this process."""
    try:
        train(job)
    except Exception as error:  # noqa: BLE001 - said, noted and ended with its exit code
        end_with(error, "train", Path(job.out) / STATE)
    return 0


def main(arguments: list[str]) -> int:
    """One process; returns its exit status.

    Args:
        arguments: the file of the job.
    """
    return run(StandaloneJob(**json.loads(Path(arguments[0]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
