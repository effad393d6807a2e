"""Settings of the promote step."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from zoetrope.infra.config import StrictModel


class PromoteConfig(StrictModel):
    """When a checkpoint becomes champion.

    Attributes:
        model: name in the model registry.
        tolerance: how much worse than the champion's headline score still passes, in the score's own unit.
        budget_usd: most that the run may have cost; None for no limit.
        refused_rights: values of the dataset's `rights` that are refused.
        registry_uri: MLflow URI of the registry; empty means the run's tracking URI.
        requested: whether a promotion was asked for; without, the checkpoint is registered and stays candidate.
    """

    model: str = Field(default="zoetrope", pattern=r"^[A-Za-z0-9._-]+$")
    tolerance: float = Field(default=0.0, ge=0)
    budget_usd: Decimal | None = Field(default=None, ge=0)
    refused_rights: tuple[str, ...] = ("", "unknown", "none")
    registry_uri: str = ""
    requested: bool = True
