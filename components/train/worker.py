"""One process of a training job (started by torchrun): here the store and the model meet.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m zoetrope.components.train.worker JOB.json
python -m torch.distributed.run -m zoetrope.components.train.worker STORE REFERENCE    (in a pod)
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from zoetrope.components.train.checkpoint_store import ArtifactCheckpointStore
from zoetrope.components.train.clips import MappedClips, decode_clips
from zoetrope.components.train.config import AutoencoderStepConfig, TrainStageConfig
from zoetrope.components.train.data import open_training_data
from zoetrope.components.train.explained import end_with
from zoetrope.components.train.job import THREADS, TrainingJob
from zoetrope.components.train.perceptual import with_local_weights
from zoetrope.infra.keys import with_maker
from zoetrope.infra.references import canonical_json
from zoetrope.infra.signals import EXIT_TERMINATED
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import get_json, local_copy, put_file_content
from zoetrope.infra.store.access import DamagedContentError
from zoetrope.infra.tracking.live import live_metrics
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.checkpoint import load_weights, make_config
from zoetrope.model.checkpoint.export import export_weights
from zoetrope.model.checkpoint.loading import WeightSource
from zoetrope.model.mmdit.flux import first_weights
from zoetrope.model.training.autoencoder import latent_statistics, train_autoencoder
from zoetrope.model.training.checkpoints import CheckpointStore, Identity, LocalCheckpointStore
from zoetrope.model.training.loop import Resume, TrainingResult
from zoetrope.model.training.process_group import ProcessGroup, join_process_group
from zoetrope.model.training.retention import Retention
from zoetrope.model.training.stage import train_stage


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
    deterministic = bool(job.loop["deterministic"])
    with (
        stop.listening(),
        join_process_group(THREADS, deterministic=deterministic, device=job.device) as workers,
        live_metrics(context) if workers.first else nullcontext(),
    ):
        warn = partial(_warn, context) if workers.first else _silent
        resume = _resume(job, context, stop, warn)
        work = _autoencoder if job.kind == "autoencoder" else _stage
        result = work(job, context, workers, resume)
        if workers.first:
            context.store.put_bytes(job.result, canonical_json(result))
        workers.wait()


def _resume(job: TrainingJob, context: StepContext, stop: Stop, warn: Callable[[str], None]) -> Resume:
    """In the job's folder; of pods, whose disks go with them, in the store."""
    identity = Identity({"kind": job.kind, "config": job.config, "inputs": job.inputs, "key": job.key})
    retention = make_config(Retention, job.loop["retention"])
    if job.mirror:
        store: CheckpointStore = ArtifactCheckpointStore(context.store, warn)
        return Resume(store, identity, job.mirror, retention, stop, warn)
    folder = job.folder(job.state, "state")
    return Resume(LocalCheckpointStore(folder.parent), identity, folder.name, retention, stop, warn)


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
        if isinstance(error, DamagedContentError):
            error = with_maker(job.open_store(), error)
        end_with(error, job.step, job.folder(job.state, "state"))
    return 0


def _autoencoder(job: TrainingJob, context: StepContext, workers: ProcessGroup, resume: Resume) -> dict[str, Any]:
    config = AutoencoderStepConfig.model_validate(job.config)
    clips = decode_clips(config, job.inputs["captions"], context, workers)
    model = VideoDCAE(config.architecture).initialise(config.training.seed).to(workers.device)
    if config.pretrained:  # released weights of which only the latents are to be measured
        if not workers.first:
            return {}
        load_weights(model, local_copy(context.store, job.inputs["weights"], context.work))
        return _statistics(model, clips, config)
    training = with_local_weights(config.training, context, workers.rank)
    sink = ContextSink(context, training.steps)
    trained = train_autoencoder(model, clips, training, workers, sink, resume)
    result = _result(trained, context, workers)
    if not workers.first:
        return {}
    model.load_state_dict(trained.weights)
    return result | _statistics(model, clips, config) | {"samples": len(clips)}


def _statistics(model: VideoDCAE, clips: MappedClips, config: AutoencoderStepConfig) -> dict[str, Any]:
    model.tiling = config.tiling  # as the clips will be encoded
    mean, std = latent_statistics(model.eval(), clips)
    return {"latent_mean": mean, "latent_std": std}


def _stage(job: TrainingJob, context: StepContext, workers: ProcessGroup, resume: Resume) -> dict[str, Any]:
    config = TrainStageConfig.model_validate(job.config)
    stage = config.stage
    own = context.work / f"rank-{workers.rank}"  # the workers of a node share the scratch folder
    source: Path | WeightSource | None = None
    if job.inputs["parent"]:
        parent = get_json(context.store, job.inputs["parent"])
        source = local_copy(context.store, parent["weights"], own, parent.get("stage", ""))
    elif job.inputs.get("pretrained"):
        architecture = replace(config.mmdit, cond_embed=stage.takes_images)
        source = first_weights(local_copy(context.store, job.inputs["pretrained"], own), architecture)
    data = open_training_data(context.store, job.inputs["dataset"], stage, context.work)
    sink = ContextSink(context, stage.steps)
    trained = train_stage(config.mmdit, stage, config.flow, data, workers, sink, resume, source)
    described = {
        "mmdit": asdict(trained.config),
        "attention_backend": trained.attention,
        "samples": trained.samples,
        "mesh": asdict(trained.degrees),
    }
    return _result(trained.result, context, workers) | described


def _result(trained: TrainingResult, context: StepContext, workers: ProcessGroup) -> dict[str, Any]:
    """Weights and metrics; all workers gather the weights, the first one files them."""
    path = export_weights(trained.weights, context.work / "weights.safetensors")
    if not workers.first:
        return {}
    return {
        "weights": str(put_file_content(context.store, path)),
        "parameters": sum(tensor.numel() for tensor in trained.weights.values()),
        "final_loss": trained.final_loss,
        "curve": trained.curve,
        "resumed_at": trained.resumed_at,
        "skipped_steps": trained.skipped,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
