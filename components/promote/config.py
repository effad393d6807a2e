"""Settings of the promote step."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field, field_validator

from zoetrope.infra.config import StrictModel
from zoetrope.infra.redact import redacted


class PromoteConfig(StrictModel):
    """When a checkpoint becomes champion.

    Attributes:
        model: name in the model registry.
        tolerance: how much worse than the champion's headline score still passes, in the score's own unit.
        budget_usd: most that the run may have cost; None for no limit.
        refused_rights: values of the dataset's `rights` that are refused.
        registry_uri: MLflow URI of the registry, without login, since a recipe is written down with every run; empty
            means the run's tracking URI.
        requested: whether a promotion was asked for; without, the checkpoint is registered and stays candidate.
    """

    model: str = Field(default="zoetrope", pattern=r"^[A-Za-z0-9._-]+$")
    tolerance: float = Field(default=0.0, ge=0)
    budget_usd: Decimal | None = Field(default=None, ge=0)
    refused_rights: tuple[str, ...] = ("", "unknown", "none")
    registry_uri: str = ""
    requested: bool = True

    @field_validator("registry_uri")
    @classmethod
    def _no_login(cls, given: str) -> str:
        if redacted(given) != given:
            raise ValueError("an address without login: name this registry by the tracking URI of the run instead")
        return given
