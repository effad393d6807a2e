"""Settings of the step `evaluate`."""

from __future__ import annotations

from pydantic import Field

from zoetrope.infra.config import StrictModel


class EvaluateConfig(StrictModel):
    """Configuration of the step `evaluate`.

    Attributes:
        metrics: names out of the table in `components/evaluate/metrics`; empty takes all of them.
        headline: score that the promotion gate compares; empty takes `attribute_accuracy` (mean of colour and
            direction accuracy) where the prompts say what must be seen, else `held_out_loss`.
        loss_timesteps: number of fixed timesteps, evenly spread, at which the held-out loss is measured.
        loss_samples: at most this many held-out clips enter the held-out loss.
        seed: seed of the noise of the held-out loss.
        batch_size: clips in one forward pass.
        threads: CPU threads of PyTorch.
    """

    metrics: tuple[str, ...] = ()
    headline: str = ""
    loss_timesteps: int = Field(default=10, ge=1, le=100)
    loss_samples: int = Field(default=32, ge=1)
    seed: int = Field(default=0, ge=0)
    batch_size: int = Field(default=16, ge=1)
    threads: int = Field(default=1, ge=1)
