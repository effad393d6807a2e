"""The one table of steps: where their code is, what they read and in which order they stand."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class StepRow:
    """One step.

    Attributes:
        name: name in a run.
        module: the module with the work; its imports make the code digest.
        inputs: input name -> name of the step that makes it.
        component: the module with the KFP component.
    """

    name: str
    module: str
    inputs: dict[str, str]
    component: str
    config: str = ""
    libraries: tuple[str, ...] = ()
    cached: bool = True

    def config_class(self) -> Any:
        """The class of its configuration."""
        module, _, name = self.config.partition(":")
        return getattr(import_module(module), name)


def _row(
    name: str, folder: str, component: str = "component", config: str = "", libraries: str = "", **inputs: str
) -> StepRow:
    package = f"zoetrope.components.{folder}"
    return StepRow(
        name, f"{package}.step", inputs, f"{package}.{component}", f"{package}.config:{config}",
        tuple(libraries.split()), cached=name not in UNCACHED,
    )  # fmt: skip


UNCACHED = ("resolve", "promote", "report")
TRAINING = "torch av numpy pyarrow safetensors"
STEPS: dict[str, StepRow] = {
    row.name: row
    for row in (
        _row("ingest", "ingest", config="IngestStepConfig", libraries="av numpy pyarrow pandas great-expectations"),
        _row(
            "curate",
            "curate",
            config="CurateConfig",
            libraries="av numpy pyarrow pandas great-expectations",
            sources="ingest",
        ),
        _row("caption", "caption", config="CaptionConfig", libraries="numpy pyarrow", clips="curate", sources="ingest"),
        _row("autoencoder", "train", "autoencoder_component", "AutoencoderStepConfig", TRAINING, captions="caption"),
        _row(
            "encode",
            "encode",
            config="EncodeConfig",
            libraries="torch av numpy pyarrow pandas safetensors transformers tokenizers great-expectations",
            captions="caption",
            autoencoder="autoencoder",
        ),
        _row("stage_1", "train", "train_stage_component", "TrainStageConfig", TRAINING, dataset="encode"),
        _row(
            "stage_2",
            "train",
            "train_stage_component",
            "TrainStageConfig",
            TRAINING,
            dataset="encode",
            parent="stage_1",
        ),
        _row(
            "stage_3",
            "train",
            "train_stage_component",
            "TrainStageConfig",
            TRAINING,
            dataset="encode",
            parent="stage_2",
        ),
        _row(
            "generate",
            "generate",
            config="GenerateConfig",
            libraries="torch av numpy pyarrow safetensors transformers tokenizers pillow",
            checkpoint="stage_3",
        ),
        _row(
            "evaluate",
            "evaluate",
            config="EvaluateConfig",
            libraries="torch av numpy pyarrow scipy safetensors",
            videos="generate",
        ),
        _row("promote", "promote", checkpoint="stage_3", scores="evaluate"),
        _row("report", "report"),
    )
}
DATA_STEPS = ("ingest", "curate", "caption", "autoencoder", "encode")
TRAIN_STEPS = ("stage_1", "stage_2", "stage_3")
EVALUATE_STEPS = ("generate", "evaluate", "promote", "report")
PIPELINES: dict[str, tuple[str, ...]] = {
    "data": (*DATA_STEPS, "report"),
    "train": (*TRAIN_STEPS, *EVALUATE_STEPS),
    "evaluate": EVALUATE_STEPS,
    "full": (*DATA_STEPS, *TRAIN_STEPS, *EVALUATE_STEPS),
}
