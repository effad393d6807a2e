"""The recipe: one complete description of a system, from raw video to the promotion gate."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field, ValidationInfo, create_model, field_validator

from zoetrope.components.caption.config import CaptionConfig
from zoetrope.components.curate.config import CurateConfig
from zoetrope.components.encode.config import EncodeConfig
from zoetrope.components.evaluate.config import EvaluateConfig
from zoetrope.components.generate.config import GenerateConfig
from zoetrope.components.ingest.config import IngestConfig, SourceConfig
from zoetrope.components.promote.config import PromoteConfig
from zoetrope.components.train.config import AutoencoderStepConfig, ModelConfig
from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_json
from zoetrope.infra.resources import Resources
from zoetrope.model.stages import CONFIGS, autoencoder_training_names, stage_names
from zoetrope.model.training.config import StageConfig
from zoetrope.pipelines.definition.step_table import STEPS
from zoetrope.pipelines.recipe.cluster import ClusterConfig
from zoetrope.pipelines.recipe.files import Places, apply_overrides, merge, read_layers, read_yaml, validate

STAGE_STEPS = tuple(name for name, row in STEPS.items() if row.section == f"stages.{name}")


class Stages(StrictModel):
    """The training stages, one of each name in `STAGE_STEPS`; Open-Sora 2.0 has T2V, T/I2V, and T/I2V at a larger size.

    `load_recipe` reads the class that `_complete` makes of it.
    """


class Recipe(StrictModel):
    """One complete system.

    The sections of steps that other code reads by name stand here; `_complete` adds those of all other rows of the
    step table.

    Attributes:
        name: names the recipe in runs, pipelines and tags.
        description: one line for people.
        source: where raw video comes from, with licence and rights.
        ingest: the raw gates.
        curate: shots, scores and thresholds.
        caption: captions and the held-out split.
        autoencoder: architecture and training of the video autoencoder; in a recipe file `training` may be a name in
            model/configs, or a name and changes.
        encode: buckets, text encoders and shards of the dataset.
        model: architecture and flow of the video model.
        stages: the three training stages; in a recipe file each is a name in model/configs, or a name and changes.
        generate: videos to judge.
        evaluate: scores.
        promote: the gate.
        budget_usd: the most a run may cost, at the price sheet; checked by the gate.
        prices: a price sheet, or a provider whose newest valid one counts; empty takes the provider that
            `ZOETROPE_PRICE_PROVIDER` names.
        resources: what is allocated to each step; `default` stands for all that are not named.
        cluster: how the steps run on Kubernetes; nothing there changes a result.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str = ""
    source: SourceConfig
    ingest: IngestConfig = IngestConfig()
    curate: CurateConfig = CurateConfig()
    caption: CaptionConfig = CaptionConfig()
    autoencoder: AutoencoderStepConfig
    encode: EncodeConfig
    model: ModelConfig
    stages: Stages
    generate: GenerateConfig = GenerateConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    promote: PromoteConfig = PromoteConfig()
    budget_usd: Decimal = Field(gt=0)
    prices: str = ""
    resources: dict[str, Resources]
    cluster: ClusterConfig = ClusterConfig()

    @field_validator("resources")
    @classmethod
    def _every_step(cls, given: dict[str, Resources]) -> dict[str, Resources]:
        unknown = set(given) - set(STEPS) - {"default"}
        if unknown:
            raise ValueError(
                f"a mapping of step names ({', '.join(STEPS)}) or `default`; unknown: {', '.join(unknown)}"
            )
        missing = [step for step in STEPS if step not in given and "default" not in given]
        if missing:
            raise ValueError(f"complete: add `default` or {', '.join(missing)}")
        return {step: given.get(step) or given["default"] for step in STEPS}

    @field_validator("encode")
    @classmethod
    def _buckets_fit(cls, given: EncodeConfig, info: ValidationInfo) -> EncodeConfig:
        autoencoder: AutoencoderStepConfig | None = info.data.get("autoencoder")
        if autoencoder is None:  # wrong itself, and reported for that
            return given
        for bucket in given.buckets:
            try:
                autoencoder.chosen.latent_shape(bucket.frames, bucket.height, bucket.width)
            except ValueError as error:
                raise ValueError(f"what the autoencoder takes; buckets, {bucket.name}: {error}") from error
        return given

    def settings_of(self, step: str) -> Any:
        """The section of a step, such as `curate` or `stages.stage_1`."""
        found: Any = self
        for name in STEPS[step].section.split("."):
            found = getattr(found, name)
        return found


def _complete() -> type[Recipe]:
    """`Recipe` with a stage and a section for each row of the step table."""
    stages: dict[str, Any] = dict.fromkeys(STAGE_STEPS, (StageConfig, ...))
    sections: dict[str, Any] = {
        row.section: _section(row.config_class())
        for row in STEPS.values()
        if row.section and "." not in row.section and row.section not in Recipe.model_fields
    }
    sections["stages"] = (create_model("Stages", __base__=Stages, **stages), ...)
    return create_model("Recipe", __base__=Recipe, **sections)


def _section(config: type[BaseModel]) -> tuple[type[BaseModel], Any]:
    """A section may be left out where each of its settings may."""
    needed = any(field.is_required() for field in config.model_fields.values())
    return (config, ...) if needed else (config, config())


COMPLETE = _complete()
"""What a recipe file is read as."""


def recipe_digest(recipe: Recipe) -> str:
    """SHA-256 of the resolved recipe."""
    return digest_json(recipe.model_dump(mode="json"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name or file, with its named trainings read and the overrides applied.

    Raises:
        ZoetropeError: unknown recipe, key or type, with the place and the nearest valid key.
    """
    values: dict[str, Any] = {}
    places: Places = {}
    for layer, where in read_layers(name):
        _expand(layer, where)
        values, places = merge(values, layer), places | where
        # Completed layer by layer: a key that is changed above does not reset its neighbours to their defaults.
        # But `resources` stay as written, so that `default` can still be changed for all steps at once.
        written = values.get("resources")
        values = validate(COMPLETE, values, places).model_dump(mode="json") | {"resources": written}
    places |= apply_overrides(values, overrides)
    _expand(values, places)
    return validate(COMPLETE, values, places)


def _expand(values: dict[str, Any], places: Places) -> None:
    """Replaces names of trainings by what model/configs has under them, so that overrides reach into it."""
    for step in STAGE_STEPS:
        _expand_one(values, places, ("stages", step), "stage", stage_names())
    _expand_one(values, places, ("autoencoder", "training"), "autoencoder training", autoencoder_training_names())


def _expand_one(
    values: dict[str, Any], places: Places, where: tuple[str, str], what: str, known: Sequence[str]
) -> None:
    section, key = where
    inside = values.get(section)
    given = inside.get(key) if isinstance(inside, dict) else None
    if not isinstance(inside, dict) or not isinstance(given, str):
        return
    if given not in known:
        raise ZoetropeError(f"{places[where]}: unknown {what} {given!r}", f"{what}s: {', '.join(known)}")
    inside[key], inner = read_yaml(CONFIGS / f"{given}.yaml")
    places |= {(*where, *path): place for path, place in inner.items()}
