"""Training of the video model by flow matching on latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from zoetrope.model.data.damage import DamagedDataError
from zoetrope.model.flops import mmdit_training_flops
from zoetrope.model.flow import FlowConfig, model_time
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.training.checkpoints.checkpoints import warn_in_log
from zoetrope.model.training.config import StageConfig
from zoetrope.model.training.guards import replacement
from zoetrope.model.training.loop import Resume, TrainingResult, train
from zoetrope.model.training.loss_table import LossTable, time_bins, time_labels
from zoetrope.model.training.objective import MetricSink
from zoetrope.model.training.process_group import ProcessGroup, batch_places
from zoetrope.model.training.samples import LatentSample, Pack, draw_samples, make_pack

TIME_BINS = 4
"""Of the losses by time."""


class TrainingData(Protocol):
    """Latent samples; see `data.loader.LatentDataset`."""

    null_t5: Tensor
    null_clip: Tensor

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def rows(self, bucket: str) -> npt.NDArray[np.int32]:
        """The rows whose clips are in a bucket, ascending."""
        ...

    def clip_id(self, row: int) -> str:
        """Identity of a clip."""
        ...

    def fetch(self, samples: Sequence[tuple[int, str]]) -> Sequence[LatentSample]:
        """Samples by (row, bucket)."""
        ...


class FlowObjective:
    """The flow matching loss: the mean over the samples of a step, however they are spread over processes and packs."""

    def __init__(
        self,
        config: MMDiTConfig,
        data: TrainingData,
        stage: StageConfig,
        flow: FlowConfig,
        workers: ProcessGroup,
        share: tuple[int, int] | None = None,
        warn: Callable[[str], None] = warn_in_log,
    ) -> None:
        """See `train_diffusion`."""
        self.config, self.data, self.stage, self.flow, self.workers = config, data, stage, flow, workers
        self.share, self.warn = share or (workers.rank, workers.world), warn
        self.precision, self.data_world = stage.precision, self.share[1]
        self.rows = [int(row) for row in data.rows(stage.bucket)]
        self.damaged: set[int] = set()
        labels = {"time": time_labels(TIME_BINS), "condition": list(stage.drawn_conditions)}
        self.table = LossTable(labels, workers.device)

    def prepare(self, position: int, avoided: frozenset[str]) -> list[Pack]:
        """The packs of this process, with everything drawn; see `samples`."""
        stage = self.stage
        places = batch_places(len(self.rows), stage.batch_size, position, stage.seed, ProcessGroup(*self.share))
        wanted = [(epoch, self.rows[index]) for epoch, index in places]
        out = {row for row in self.rows if self.data.clip_id(row) in avoided} if avoided else set()
        samples = self._fetch([row for _, row in wanted], out)
        empty = self.data.null_t5, self.data.null_clip
        # also where another clip stands in for one: the numbers are those of its place
        drawn = draw_samples(samples, wanted, stage, self.flow, self.config, empty)
        packs = [make_pack(drawn, stage.exclude_given_frames or "samples")]
        return [pack.pinned() for pack in packs] if self.workers.device.type == "cuda" else packs

    def _fetch(self, rows: Sequence[int], avoided: set[int]) -> Sequence[LatentSample]:
        """Reads clips, or those that stand in for avoided and damaged ones."""
        while True:
            chosen = [replacement(row, avoided | self.damaged, self.rows) for row in rows]
            try:
                return self.data.fetch([(row, self.stage.bucket) for row in chosen])
            except DamagedDataError as error:
                new = set(error.rows) - self.damaged
                if not new:
                    raise
                self.damaged |= new
                self.warn(f"{error}; left out from now on: {', '.join(error.clip_ids)}")

    def losses(self, model: nn.Module, prepared: list[Pack], step: int) -> list[Callable[[], Tensor]]:
        """See `objective.Objective`."""
        scale = self.data_world / self.stage.batch_size
        if self.stage.exclude_given_frames == "elements":
            counted = sum(float(len(pack.weight) if pack.counted is None else pack.counted.sum()) for pack in prepared)
            scale = 1 / self.workers.mean(torch.tensor(counted)).item()
        return [partial(self._loss, model, pack, scale) for pack in prepared]

    def samples(self, prepared: list[Pack]) -> tuple[list[str], Tensor | None]:
        """See `objective.Objective`."""
        names = [name for pack in prepared for name in pack.names]
        losses = [pack.losses[0] for pack in prepared if pack.losses]
        return names, torch.cat(losses) if losses else None

    def work(self, prepared: list[Pack]) -> tuple[int, float]:
        """See `objective.Objective`."""
        lengths = [pair for pack in prepared for pair in zip(pack.images.each, pack.texts.each, strict=True)]
        flops = sum(mmdit_training_flops(self.config, image, text) for image, text in lengths)
        return sum(image + text for image, text in lengths), float(flops)

    def report(self) -> dict[str, float]:
        """`loss/time/BIN` and, where several are drawn, `loss/condition/KIND`."""
        found = self.table.report(self.workers.mean)
        several = len(self.stage.drawn_conditions) > 1
        return {name: value for name, value in found.items() if several or not name.startswith("loss/condition/")}

    def _loss(self, model: nn.Module, given: Pack, scale: float) -> Tensor:
        pack = given.to(self.workers.device)
        device, dtype = pack.noisy.device, getattr(torch, self.stage.precision)
        sharded = isinstance(model, FSDPModule)  # which computes in this precision by itself
        with nullcontext() if sharded or dtype == torch.float32 else torch.autocast(device.type, dtype):
            prediction: Tensor = model(
                pack.noisy[None],
                pack.ids[None],
                pack.t5[None],
                pack.text_ids[None],
                model_time(self.flow, pack.time, dtype),
                pack.clip,
                None if pack.cond is None else pack.cond[None],
                packed=(pack.texts, pack.images),
            )[0]
        difference = prediction.float() - pack.target
        if pack.counted is not None:
            # before the square: the gradient of a NaN that is not counted would be NaN times zero
            difference = torch.where(pack.counted[:, None], difference, 0.0)
        errors = difference.square().mean(dim=1) * pack.weight
        each = torch.segment_reduce(errors.detach(), "sum", lengths=pack.images.cumulative.diff().long(), unsafe=True)
        given.losses.append(each)
        kinds = [self.stage.drawn_conditions.index(kind) for kind in pack.kinds]
        self.table.add(each, {"time": time_bins(pack.time, TIME_BINS), "condition": kinds})
        return errors.sum() * scale


def train_diffusion(
    model: MMDiT,
    data: TrainingData,
    stage: StageConfig,
    flow: FlowConfig,
    workers: ProcessGroup,
    sink: MetricSink,
    resume: Resume | None = None,
    share: tuple[int, int] | None = None,
) -> TrainingResult:
    """Trains one stage of the video model in place.

    Args:
        model: with its first weights, built with `cond_embed = stage.takes_images` (see `start.start_model`).
        data: latents and text of one bucket; all workers have the same.
        stage: the loop, its conditions and its optimizer.
        flow: the flow.
        workers: who takes part.
        sink: gets the metrics.
        resume: where to keep state.
        share: (rank, number) among the processes that see different samples; by default all do.

    Raises:
        ValueError: the model and the stage disagree on image conditions, or training diverged.
    """
    if model.config.cond_embed != stage.takes_images:
        raise ValueError("the stage's conditions and the model's cond_embed disagree")
    warn = resume.warn if resume is not None and workers.first else warn_in_log
    objective = FlowObjective(model.config, data, stage, flow, workers, share, warn)
    return train(model, objective, stage, stage.optimizer, workers, sink, resume)
