"""The model registry: versions point at checkpoints in the store, aliases say which one counts."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.tracking.client import answered, error_code, experiment_of, open_client
from zoetrope.infra.tracking.outbox import safe_name

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.tracking import MlflowClient

Result = TypeVar("Result")
CHECKPOINT_TAG = "checkpoint"
DIGEST_TAG = "checkpoint_digest"
_MODEL_URI = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>[0-9]+))")


@dataclass(frozen=True)
class ModelVersion:
    """One registered checkpoint.

    Attributes:
        name: registered model.
        version: 1, 2, ...
        checkpoint: reference to the checkpoint manifest.
        aliases: e.g. `("champion",)`, sorted.
        tags: everything else known of it.
    """

    name: str
    version: int
    checkpoint: Reference
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class ModelRegistry:
    """Versions and aliases in MLflow; weights stay where they are.

    Args:
        uri: MLflow URI, as for tracking.
        experiment: where the logged model lies when no run made it.
    """

    def __init__(self, uri: str, experiment: str = "zoetrope") -> None:
        self.uri = uri
        self.experiment = experiment

    @cached_property
    def client(self) -> MlflowClient:
        """The connected client."""
        return open_client(self.uri)

    def register(
        self,
        name: str,
        checkpoint: Reference,
        source_run_id: str = "",
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> ModelVersion:
        """The version of a checkpoint; the same checkpoint (by digest) is registered once.

        Args:
            name: registered model, made when absent.
            checkpoint: reference to the checkpoint manifest.
            source_run_id: MLflow run that made it; empty for none.
            tags: tags of the version, also set when it was registered before.
            metrics: scores, tied to the logged model when a run is given.
        """
        known = next((each for each in self.versions(name) if each.checkpoint.digest == checkpoint.digest), None)
        if known is None:
            return self._create(name, checkpoint, source_run_id, tags or {}, metrics or {})
        changed = {key: value for key, value in (tags or {}).items() if known.tags.get(key) != value}
        if not changed:
            return known
        self.set_tags(name, known.version, changed)
        return replace(known, tags={**known.tags, **changed})

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Moves an alias to a version."""
        self._answered(lambda: self.client.set_registered_model_alias(name, alias, str(version)))

    def delete_alias(self, name: str, alias: str) -> None:
        """Takes an alias away; nothing happens if nobody has it."""
        if self.by_alias(name, alias) is not None:
            self._answered(lambda: self.client.delete_registered_model_alias(name, alias))

    def set_tags(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Sets tags of a version."""
        for key, value in tags.items():
            self._answered(
                lambda key=key, value=value: self.client.set_model_version_tag(name, str(version), key, value)  # type: ignore[misc]
            )

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version behind an alias, None when there is none."""
        return next((each for each in self.versions(name) if alias in each.aliases), None)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions that this registry wrote, oldest first; empty for an unknown model."""
        model = self._model(name)
        if model is None:
            return []
        aliases: dict[int, list[str]] = {}
        for alias, version in model.items():
            aliases.setdefault(version, []).append(alias)
        query = f"name = '{_quoted(name)}'"
        found = self._answered(lambda: self.client.search_model_versions(query))
        ours = [version for version in found if CHECKPOINT_TAG in version.tags]
        return sorted(
            (_convert(each, aliases.get(int(each.version), [])) for each in ours), key=lambda each: each.version
        )

    def resolve(self, model: str) -> Reference:
        """The checkpoint of `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

        Raises:
            ZoetropeError: the text is neither, or there is no such version; says what there is.
        """
        match = _MODEL_URI.fullmatch(model)
        if match is None:
            raise ZoetropeError(
                f"not a model: {model!r}", "write models:/NAME@champion or models:/NAME/3 (see `zoetrope models list`)"
            )
        versions = self.versions(match["name"])
        for each in versions:
            if match["alias"] in each.aliases or str(each.version) == match["version"]:
                return each.checkpoint
        raise ZoetropeError(f"{model}: not in the registry {self.uri}", self._what_exists(match["name"], versions))

    def names(self) -> list[str]:
        """All registered models, sorted."""
        return sorted(model.name for model in self._answered(self.client.search_registered_models))

    def _what_exists(self, name: str, versions: list[ModelVersion]) -> str:
        if not versions:
            return f"registered models: {', '.join(self.names()) or 'none yet; run the pipeline first'}"
        listed = [f"/{each.version}" + "".join(f" @{alias}" for alias in each.aliases) for each in versions]
        return f"models:/{name} has {', '.join(listed)}"

    def _model(self, name: str) -> dict[str, int] | None:
        """Aliases of a registered model, None when there is no such model."""
        from mlflow.exceptions import MlflowException

        def find() -> dict[str, int] | None:
            try:
                model = self.client.get_registered_model(name)
            except MlflowException as error:
                if error_code(error) == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
            return {alias: int(version) for alias, version in model.aliases.items()}

        return self._answered(find)

    def _create(
        self,
        name: str,
        checkpoint: Reference,
        source_run_id: str,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
    ) -> ModelVersion:
        pointer = {CHECKPOINT_TAG: str(checkpoint), DIGEST_TAG: checkpoint.digest}
        if self._model(name) is None:
            self._answered(lambda: self.client.create_registered_model(name))
        model = self._answered(lambda: self._log_external_model(name, source_run_id, pointer))
        if source_run_id:
            for key, value in metrics.items():
                self._answered(
                    lambda key=key, value=value: self.client.log_metric(  # type: ignore[misc]
                        source_run_id, safe_name(key), float(value), model_id=model.model_id, synchronous=True
                    )
                )
        # Talking to a database without a server, mlflow looks a version's model up at the process-wide URI when no
        # run is named, and does not find it there.
        served = self.uri.startswith(("http://", "https://"))
        model_id = model.model_id if source_run_id or served else None
        version = self._answered(
            lambda: self.client.create_model_version(
                name,
                model.artifact_location,
                run_id=source_run_id or None,
                tags={**tags, **pointer},
                model_id=model_id,
            )
        )
        return _convert(version, [])

    def _log_external_model(self, name: str, source_run_id: str, tags: Mapping[str, str]) -> LoggedModel:
        """A logged model whose weights lie elsewhere: what `mlflow.create_external_model` does, without the
        process-wide state that the fluent call reads and sets.
        """
        from mlflow.models.model import MLMODEL_FILE_NAME
        from mlflow.models.utils import get_external_mlflow_model_spec
        from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

        experiment = (
            self.client.get_run(source_run_id).info.experiment_id
            if source_run_id
            else experiment_of(self.client, self.uri, self.experiment)
        )
        model = self.client.create_logged_model(
            experiment,
            name=name,
            source_run_id=source_run_id or None,
            tags={**tags, MLFLOW_MODEL_IS_EXTERNAL: "true"},
            model_type="video-generation",
        )
        with tempfile.TemporaryDirectory() as folder:
            get_external_mlflow_model_spec(model).save(str(Path(folder) / MLMODEL_FILE_NAME))
            self.client.log_model_artifacts(model.model_id, folder)
        return self.client.finalize_logged_model(model.model_id, "READY")

    def _answered(self, call: Callable[[], Result]) -> Result:
        return answered(self.uri, call)


def _convert(version: MlflowVersion, aliases: list[str]) -> ModelVersion:
    tags = dict(version.tags)
    checkpoint = Reference.parse(tags.pop(CHECKPOINT_TAG))
    return ModelVersion(version.name, int(version.version), checkpoint, tuple(sorted(aliases)), tags)


def _quoted(name: str) -> str:
    return name.replace("'", "\\'")
