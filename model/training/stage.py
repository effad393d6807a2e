"""One stage of the video model on one dataset, wherever its processes were started from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from zoetrope.model.checkpoint.loading import WeightSource
from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.parallel.degrees import Degrees
from zoetrope.model.training.config import StageConfig
from zoetrope.model.training.diffusion import TrainingData, train_diffusion
from zoetrope.model.training.loop import Resume, TrainingResult
from zoetrope.model.training.objective import MetricSink
from zoetrope.model.training.process_group import ProcessGroup
from zoetrope.model.training.start import start_model


@dataclass(frozen=True)
class TrainedStage:
    """What a stage made.

    Attributes:
        result: weights and metrics.
        config: of the model, with the stage's `cond_embed`.
        degrees: of the mesh.
        attention: kernel that served.
        samples: in the training split of the dataset.
    """

    result: TrainingResult
    config: MMDiTConfig
    degrees: Degrees
    attention: str
    samples: int


def train_stage(
    config: MMDiTConfig,
    stage: StageConfig,
    flow: FlowConfig,
    data: TrainingData,
    workers: ProcessGroup,
    sink: MetricSink,
    resume: Resume | None = None,
    source: Path | WeightSource | None = None,
) -> TrainedStage:
    """Trains a stage; all processes call it.

    Args:
        config: of the model; the stage says whether it takes images.
        stage: the stage.
        flow: the flow.
        data: the samples; all processes have the same.
        workers: who takes part.
        sink: gets the metrics of the first process.
        resume: where to keep state.
        source: weights to start from; None draws them from the stage's seed.

    Raises:
        ValueError: mesh or weights do not fit, or training diverged.
    """
    config = replace(config, cond_embed=stage.takes_images)
    started = start_model(config, stage, workers, source)
    share = started.data_rank, started.degrees.data
    result = train_diffusion(started.model, data, stage, flow, workers, sink, resume, share)
    return TrainedStage(result, config, started.degrees, started.model.attention.name, len(data))
