"""The one table of steps: everything that a step is stands in its row, and the rows stand in the order of the run.

Pipelines, recipe sections, placements, pods, report, tracking and command line follow from it. It imports no code of
the steps, so that whoever only needs names pays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from zoetrope.components.images import CORE, EVALUATE, TRAIN

Kind = Literal["inline", "pod", "fans_out", "launches"]
"""How a step works on a cluster: in its own small pod, in its own pod with all that `resources` gives it, by a job of
N replicas on the plain runtime, or by a training job under torchrun."""
Part = Literal["data", "train", "evaluate", "close"]

RECORDS = "records"
"""Kind of the input `records`: for each step before, by name, the reference of the record of its execution."""


@dataclass(frozen=True)
class StepRow:
    """One step.

    Attributes:
        name: name in a run.
        title: name for people, in the report.
        part: the part of a run that it belongs to; each pipeline consists of whole parts.
        module: the module with the work; its imports are the step's operators.
        component: the KFP component, `module:name`.
        config: class of its configuration, `module:name`.
        section: where the recipe keeps its settings, `curate` or `stages.stage_1`; empty where a run decides them.
        inputs: parameter -> kind of product that it takes: the last that was made before, or what the run starts from.
        optional: parameters that are empty where nothing before makes what they take.
        makes: kind of its product.
        kind: how it works on a cluster.
        image: name of the image in which the work is done.
        libraries: distributions that shape bytes of its product; their versions are part of its key.
        cached: whether its result is used again. Not where it reads or changes what no key can name: the model
            registry, the run itself.
        headline: whether its metrics are also those of the whole run.
        uses_gpus: whether the work computes on the GPUs that `resources` may give it.
    """

    name: str
    title: str
    part: Part
    module: str
    component: str
    config: str
    section: str
    makes: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    kind: Kind = "inline"
    image: str = CORE
    libraries: tuple[str, ...] = ()
    cached: bool = True
    headline: bool = False
    uses_gpus: bool = False

    @property
    def launches_job(self) -> bool:
        """Whether the work is done by the pods of a job and the step's own pod only launches and merges."""
        return self.kind in ("fans_out", "launches")

    @property
    def own_image(self) -> str:
        """Name of the image of the step's own pod."""
        return CORE if self.launches_job else self.image

    @property
    def reads_records(self) -> bool:
        """Whether the step reads the records of a run, and so makes no sense outside one."""
        return RECORDS in self.inputs.values()

    def config_class(self) -> Any:
        """The class of its configuration."""
        return load(self.config)


def load(place: str) -> Any:
    """What `module:name` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _row(
    name: str,
    part: Part,
    *,
    config: str,
    makes: str,
    folder: str = "",
    component: str = "",
    section: str | None = None,
    libraries: str = "",
    **rest: Any,
) -> StepRow:
    """A row of a step that keeps to the usual places; what differs is given."""
    package = f"zoetrope.components.{folder or name}"
    return StepRow(
        name=name,
        title=name.replace("_", " ").capitalize(),
        part=part,
        module=f"{package}.step",
        component=f"{package}.{component or f'component:{name}'}",
        config=f"{package}.config:{config}",
        section=name if section is None else section,
        makes=makes,
        libraries=tuple(libraries.split()),
        **rest,
    )


def _stage(name: str) -> StepRow:
    """A stage of the training of the video model; it goes on from the checkpoint before, where there is one."""
    return _row(
        name,
        "train",
        folder="train",
        component="train_stage_component:train_stage",
        config="TrainStageConfig",
        section=f"stages.{name}",
        makes="checkpoint",
        inputs={"dataset": "dataset", "parent": "checkpoint"},
        optional=("parent",),
        kind="launches",
        image=TRAIN,
        libraries=_TRAINING,
        uses_gpus=True,
    )


_TRAINING = "torch av numpy pillow pyarrow safetensors"
_ROWS = (
    _row(
        "ingest",
        "data",
        config="IngestStepConfig",
        makes="sources",
        kind="fans_out",
        libraries="av great-expectations numpy pandas pillow pyarrow scipy",
    ),
    _row(
        "curate",
        "data",
        config="CurateConfig",
        inputs={"sources": "sources"},
        makes="clips",
        kind="fans_out",
        libraries="av great-expectations numpy pandas pyarrow scipy",
    ),
    _row(
        "caption",
        "data",
        config="CaptionConfig",
        inputs={"clips": "clips", "sources": "sources"},
        makes="captions",
        kind="fans_out",
        libraries="pyarrow",
    ),
    _row(
        "autoencoder",
        "data",
        folder="train",
        component="autoencoder_component:autoencoder",
        config="AutoencoderStepConfig",
        inputs={"captions": "captions"},
        makes="autoencoder",
        kind="launches",
        image=TRAIN,
        libraries=_TRAINING,
        uses_gpus=True,
    ),
    _row(
        "encode",
        "data",
        config="EncodeConfig",
        inputs={"captions": "captions", "autoencoder": "autoencoder"},
        makes="dataset",
        kind="fans_out",
        image=TRAIN,
        libraries=f"{_TRAINING} great-expectations pandas tokenizers transformers",
        headline=True,
    ),
    _stage("stage_1"),
    _stage("stage_2"),
    _stage("stage_3"),
    _row(
        "generate",
        "evaluate",
        config="GenerateConfig",
        inputs={"checkpoint": "checkpoint"},
        makes="videos",
        kind="pod",
        image=TRAIN,
        libraries=f"{_TRAINING} tokenizers transformers",
    ),
    _row(
        "evaluate",
        "evaluate",
        config="EvaluateConfig",
        inputs={"videos": "videos"},
        makes="scores",
        kind="pod",
        image=EVALUATE,
        libraries=f"{_TRAINING} scipy",
        headline=True,
    ),
    _row(
        "promote",
        "evaluate",
        config="PromoteConfig",
        inputs={"checkpoint": "checkpoint", "scores": "scores", "records": RECORDS},
        makes="promotion",
        cached=False,
        headline=True,
    ),
    _row(
        "report",
        "close",
        config="ReportConfig",
        section="",
        inputs={"records": RECORDS},
        makes="report",
        cached=False,
    ),
)
STEPS: dict[str, StepRow] = {row.name: row for row in _ROWS}


@dataclass(frozen=True)
class PipelineRow:
    """One pipeline.

    Attributes:
        summary: from what to what, for people.
        parts: of the step table, in order.
        example: an override that suits it.
    """

    summary: str
    parts: tuple[Part, ...]
    example: str

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of its steps, in order."""
        return tuple(row.name for row in STEPS.values() if row.part in self.parts)


PIPELINE_ROWS = {
    "data": PipelineRow("Raw video to a dataset version", ("data", "close"), "curate.filters.motion.minimum=1"),
    "train": PipelineRow(
        "A dataset version to a promoted model", ("train", "evaluate", "close"), "stages.stage_3.steps=240"
    ),
    "evaluate": PipelineRow("A checkpoint to scores and the gate", ("evaluate", "close"), "generate.videos=192"),
    "full": PipelineRow(
        "Raw video to a promoted model", ("data", "train", "evaluate", "close"), "stages.stage_3.steps=240"
    ),
}
PIPELINES: dict[str, tuple[str, ...]] = {name: row.steps for name, row in PIPELINE_ROWS.items()}
DATA_STEPS = tuple(row.name for row in STEPS.values() if row.part == "data")


def made_by(step: str) -> dict[str, str]:
    """Parameter of a step -> the step whose product it takes: the last one before that makes such a product.

    Parameters that take no product, or one that nothing before makes, are left out.
    """
    makers: dict[str, str] = {}
    for name, row in STEPS.items():
        if name == step:
            return {parameter: makers[kind] for parameter, kind in row.inputs.items() if kind in makers}
        makers[row.makes] = name
    raise KeyError(step)


def makers(kind: str) -> tuple[str, ...]:
    """Names of the steps that make a kind of product, in order."""
    return tuple(row.name for row in STEPS.values() if row.makes == kind)


def starts_from(pipeline: str) -> tuple[str, ...]:
    """Kinds of products that a pipeline reads and does not make before: what a run of it is given."""
    made, missing = {RECORDS}, []
    for name in PIPELINES[pipeline]:
        row = STEPS[name]
        for parameter, kind in row.inputs.items():
            if kind not in made and parameter not in row.optional and kind not in missing:
                missing.append(kind)
        made.add(row.makes)
    return tuple(missing)
