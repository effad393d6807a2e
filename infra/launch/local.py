"""Runs a TorchX app on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchx.specs import AppDef


def run_local(app: AppDef, log_directory: Path, environment: Mapping[str, str] | None = None) -> None:
    """Runs all replicas with TorchX's `local_cwd` scheduler and waits for them."""
    raise NotImplementedError
