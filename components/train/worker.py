"""One process of a training job (started by torchrun): here the store and the model meet.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m zoetrope.components.train.worker JOB.json
python -m torch.distributed.run -m zoetrope.components.train.worker STORE REFERENCE    (in a pod)
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch.distributed as dist

from zoetrope.components.train.checkpoint_sync import CheckpointSync
from zoetrope.components.train.clips import MappedClips, decode_clips
from zoetrope.components.train.config import AutoencoderStepConfig, TrainStageConfig
from zoetrope.components.train.failures import Failure, leave_note
from zoetrope.components.train.job import THREADS, TrainingJob
from zoetrope.components.train.perceptual import with_local_weights
from zoetrope.infra.errors import EXIT_RETRYABLE, EXIT_USER_ERROR, ZoetropeError
from zoetrope.infra.keys import with_maker
from zoetrope.infra.references import canonical_json
from zoetrope.infra.signals import EXIT_TERMINATED
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import get_json, local_copy, put_file_content
from zoetrope.infra.store.access import DamagedContentError
from zoetrope.infra.tracking.live import live_metrics
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.checkpoint import load_weights, save_weights
from zoetrope.model.data import DamagedDataError, LatentDataset
from zoetrope.model.mmdit.flux import first_weights
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.training.autoencoder import latent_statistics, train_autoencoder
from zoetrope.model.training.diffusion import train_diffusion
from zoetrope.model.training.faults import causes, no_space_left
from zoetrope.model.training.heartbeat import supervised_folder
from zoetrope.model.training.loop import Resume, StoppedError, TrainingResult
from zoetrope.model.training.process_group import ProcessGroup, join_process_group

NEW_IN_PARENT = ("cond_in.",)  # a text-to-video parent has none; it starts at zero


class ContextSink:
    """Sends metrics to the step's outbox and its progress to the run's events."""

    def __init__(self, context: StepContext, steps: int) -> None:
        self.context, self.steps = context, steps

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the metrics after `step` steps."""
        self.context.log_metrics(values, step)
        line = f"step {step} of {self.steps}, loss {values['loss']:.4f}"
        self.context.progress(line, step / self.steps)
        print(line, flush=True)  # noqa: T201 - what a person sees in the log of the job's first pod


class Stop:
    """Whether this worker was asked to end (SIGTERM: its node is drained, or the job preempted).

    While training runs, the loop is left to save its state; before that there is nothing to save.
    """

    def __init__(self) -> None:
        self.asked = self.training = False

    def __call__(self) -> bool:
        """Asked by the loop."""
        self.training = True
        return self.asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """For the time of the block."""
        former = signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, former)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if not self.training:
            raise SystemExit(EXIT_TERMINATED)


def train(job: TrainingJob) -> None:
    """Trains what the job says; the first worker stores weights and result."""
    context = job.context(job.open_store())
    stop = Stop()
    if job.mirror:
        context.work.mkdir(parents=True, exist_ok=True)
    with (
        stop.listening(),
        join_process_group(THREADS) as workers,
        live_metrics(context) if workers.first else nullcontext(),
    ):
        warn = partial(_warn, context) if workers.first else _silent
        mirror = CheckpointSync(context.store, job.mirror, warn) if job.mirror else None
        resume = Resume(job.folder(job.state, "state"), job.digest, mirror, stop, warn)
        work = _autoencoder if job.kind == "autoencoder" else _stage
        result = work(job, context, workers, resume)
        if workers.first:
            context.store.put_bytes(job.result, canonical_json(result))
        workers.wait()


def _warn(context: StepContext, message: str) -> None:
    context.progress(message)
    print(message, flush=True)  # noqa: T201 - the log of the job's first pod


def _silent(message: str) -> None:
    """The other workers would say the same."""


def main(arguments: list[str]) -> int:
    """One worker; returns its exit status.

    Args:
        arguments: the file of the job, or the root of the store and the job's reference in it.
    """
    job = TrainingJob.read(Path(arguments[0])) if len(arguments) == 1 else TrainingJob.get(*arguments)
    try:
        train(job)
    except Exception as error:  # noqa: BLE001 - said, noted and ended with its exit code
        at = time.monotonic()
        if isinstance(error, DamagedContentError):
            error = with_maker(job.open_store(), error)
        failure = explained(error, job, int(os.environ.get("RANK", "0")), at)  # of torchrun
        leave_note(supervised_folder(), failure)
        if isinstance(error, ZoetropeError) or not failure.own:
            print(f"zoetrope: {failure.headline}\n  -> {failure.hint}", file=sys.stderr, flush=True)  # noqa: T201
        else:
            traceback.print_exception(error)
            print(f"zoetrope: {failure.headline}", file=sys.stderr, flush=True)  # noqa: T201
        # At once: the clean end of a process group waits for peers that may be gone.
        os._exit(failure.exit_code)
    return 0


def explained(error: Exception, job: TrainingJob, rank: int, at: float) -> Failure:
    """What an error means for the user.

    Args:
        error: that ended this worker.
        job: what it worked on.
        rank: of this worker.
        at: when, on the machine's monotonic clock.
    """
    step, first = job.step, str(error).partition("\n")[0]
    if isinstance(error, ZoetropeError):
        return Failure(rank, at, error.headline, error.hint, error.exit_code, own=True)
    if no_space_left(error):
        folder = job.folder(job.state, "state")
        place = next(each for each in (folder, *folder.parents) if each.is_dir())
        free = shutil.disk_usage(place).free / 1e6
        headline = f"{step}: disk full: {free:.1f} MB free in {place}: {first}"
        return Failure(rank, at, headline, "free some space, then run it again", EXIT_RETRYABLE, own=True)
    if isinstance(error, DamagedDataError):
        return Failure(rank, at, f"{step}: {error}", error.hint, EXIT_USER_ERROR, own=True)
    if isinstance(error, StoppedError):
        return Failure(rank, at, f"{step}: {error}", "run it again", EXIT_TERMINATED, own=False)
    lost = not isinstance(error, ValueError)  # which is the model's word for wrong settings and for divergence
    if lost and any(
        isinstance(each, (dist.DistError, ConnectionError)) or "gloo" in str(each) for each in causes(error)
    ):
        headline = f"{step}: a worker lost its peers: {first}"
        return Failure(rank, at, headline, "run it again", EXIT_RETRYABLE, own=False)
    status = EXIT_USER_ERROR if isinstance(error, ValueError) else 1
    return Failure(rank, at, f"{step}: {type(error).__name__}: {first}", "", status, own=True)  # 1: our mistake


def _autoencoder(job: TrainingJob, context: StepContext, workers: ProcessGroup, resume: Resume) -> dict[str, Any]:
    config = AutoencoderStepConfig.model_validate(job.config)
    clips = decode_clips(config, job.inputs["captions"], context, workers)
    model = VideoDCAE(config.architecture).initialise(config.training.seed)
    if config.pretrained:  # released weights of which only the latents are to be measured
        if not workers.first:
            return {}
        load_weights(model, local_copy(context.store, job.inputs["weights"], context.work))
        return _statistics(model, clips, config)
    training = with_local_weights(config.training, context, workers.rank)
    sink = ContextSink(context, training.steps)
    trained = train_autoencoder(model, clips, training, workers, sink, resume)
    model.load_state_dict(trained.weights)
    if not workers.first:
        return {}
    return _result(trained, context) | _statistics(model, clips, config) | {"samples": len(clips)}


def _statistics(model: VideoDCAE, clips: MappedClips, config: AutoencoderStepConfig) -> dict[str, Any]:
    model.tiling = config.tiling  # as the clips will be encoded
    mean, std = latent_statistics(model.eval(), clips)
    return {"latent_mean": mean, "latent_std": std}


def _stage(job: TrainingJob, context: StepContext, workers: ProcessGroup, resume: Resume) -> dict[str, Any]:
    config = TrainStageConfig.model_validate(job.config)
    stage = config.stage
    architecture = replace(config.mmdit, cond_embed=stage.takes_images)
    dataset = get_json(context.store, job.inputs["dataset"])
    data = LatentDataset.open(
        dataset,
        context.store.read,
        stage.bucket,
        "train",
        stage.drawn_conditions,
        local=context.store.local_path,
        cache=context.work,  # the workers of a node share it
    )
    model = MMDiT(architecture).initialise(stage.seed)
    own = context.work / f"rank-{workers.rank}"  # the workers of a node share the scratch folder
    if job.inputs["parent"]:
        parent = get_json(context.store, job.inputs["parent"])
        weights = local_copy(context.store, parent["weights"], own, parent.get("stage", ""))
        load_weights(model, weights, may_miss=NEW_IN_PARENT)
    elif job.inputs.get("pretrained"):
        given = local_copy(context.store, job.inputs["pretrained"], own)
        load_weights(model, first_weights(given, architecture), may_miss=NEW_IN_PARENT)
    sink = ContextSink(context, stage.steps)
    trained = train_diffusion(model, data, stage, config.flow, workers, sink, resume)
    if not workers.first:
        return {}
    described = {"mmdit": asdict(architecture), "attention_backend": model.attention.name, "samples": len(data)}
    return _result(trained, context) | described


def _result(trained: TrainingResult, context: StepContext) -> dict[str, Any]:
    path = save_weights(trained.weights, context.work / "weights.safetensors")
    return {
        "weights": str(put_file_content(context.store, path)),
        "parameters": sum(tensor.numel() for tensor in trained.weights.values()),
        "final_loss": trained.final_loss,
        "curve": trained.curve,
        "resumed_at": trained.resumed_at,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
