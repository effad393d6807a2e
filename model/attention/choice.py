"""Which attention kernel serves: by name or `auto`, and what serves instead of one that is not there."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import activate_flash_attention_impl, current_flash_attention_impl, restore_flash_attention_impl

from zoetrope.model.attention.kernels import (
    Attend,
    AttendPacked,
    flash_2,
    flash_2_packed,
    registered_flash,
    sdpa,
    sdpa_packed,
    varlen,
)

AUTO = "auto"
AMPERE, HOPPER, ANY = 8, 9, 99  # major compute capabilities: A100, H100 and H200, no upper limit
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """One row of the table.

    Attributes:
        attend: for a batch of equal lengths.
        attend_packed: for a packed sequence.
        missing: what is missing on this device, or None where it can serve; must not raise.
        registered: name in PyTorch's registry of flash implementations, or empty.
        takes_mask: whether `attend` takes a mask; where not, samples of different lengths have to be packed.
    """

    attend: Attend
    attend_packed: AttendPacked
    missing: Callable[[torch.device], str | None]
    registered: str = ""
    takes_mask: bool = False


def _missing_flash(
    package: str, module: str, function: str, capabilities: tuple[int, int]
) -> Callable[[torch.device], str | None]:
    """The check of a flash package: device, its generation (first and last that serve), and the function itself."""

    def missing(device: torch.device) -> str | None:
        if device.type != "cuda":
            return f"a CUDA device (the model is on {device.type})"
        first, last = capabilities
        major, minor = torch.cuda.get_device_capability(device)
        if not first <= major <= last:
            wanted = f"{first}.x" if first == last else f"{first}.0 or newer"
            return f"a GPU of compute capability {wanted} (this one has {major}.{minor})"
        try:
            found = hasattr(importlib.import_module(module), function)
        except ImportError as error:
            return f"the package {package} ({error})"
        return None if found else f"the package {package} ({module} has no {function})"

    return missing


BACKENDS: dict[str, Backend] = {
    # 3 and 4 come through PyTorch's registry, which serves its variable-length attention with them as well
    "flash_3": Backend(
        registered_flash,
        varlen,
        _missing_flash("flash-attn-3", "flash_attn_interface", "flash_attn_func", (HOPPER, HOPPER)),
        registered="FA3",
    ),
    "flash_4": Backend(
        registered_flash,
        varlen,
        _missing_flash("flash-attn-4", "flash_attn.cute.interface", "_flash_attn_fwd", (HOPPER, ANY)),
        registered="FA4",
    ),
    "flash_2": Backend(
        flash_2, flash_2_packed, _missing_flash("flash-attn", "flash_attn", "flash_attn_func", (AMPERE, ANY))
    ),
    "sdpa": Backend(sdpa, sdpa_packed, lambda device: None, takes_mask=True),
}
"""Best first: `auto` takes the first that can serve. `sdpa` serves everywhere."""


@dataclass(frozen=True)
class AttentionChoice:
    """The backend that serves; `name` is recorded with every checkpoint.

    Attributes:
        name: in `BACKENDS`.
        backend: its functions.
        note: one line that says what was missing of the backend asked for; empty where it serves.
    """

    name: str
    backend: Backend
    note: str = ""


def backend_names() -> list[str]:
    """The names that `choose_attention` knows, best first, without `auto`."""
    return list(BACKENDS)


def choose_attention(
    name: str = AUTO, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> AttentionChoice:
    """Chooses the attention kernel for a model.

    Args:
        name: of `backend_names`, or `auto` for the best that is there.
        device: where the model is.
        dtype: that the model computes in; the flash kernels know float16 and bfloat16 alone.

    Returns:
        The choice; where the one named cannot serve, `sdpa`, with a note that is logged as a warning too.

    Raises:
        ValueError: unknown name.
    """
    device = torch.device(device)
    if name != AUTO and name not in BACKENDS:
        raise ValueError(f"unknown attention backend {name!r}; there are auto, {', '.join(BACKENDS)}")
    wanted = list(BACKENDS) if name == AUTO else [name, "sdpa"]
    note = ""
    for candidate in wanted:
        backend = BACKENDS[candidate]
        missing = _missing(backend, device, dtype)
        if missing is None:
            choice = AttentionChoice(candidate, backend, note)
            break
        if name != AUTO:
            note = f"attention backend {name} needs {missing}; sdpa serves instead"
            logger.warning(note)
    _register(choice.backend.registered)
    return choice


def _missing(backend: Backend, device: torch.device, dtype: torch.dtype) -> str | None:
    if not backend.takes_mask and dtype not in (torch.float16, torch.bfloat16):
        return f"float16 or bfloat16 (the model computes in {str(dtype).removeprefix('torch.')})"
    return backend.missing(device)


def _register(implementation: str) -> None:
    """Makes PyTorch's flash kernel this one; empty means its own."""
    if implementation and current_flash_attention_impl() != implementation:
        activate_flash_attention_impl(implementation)
    elif not implementation and current_flash_attention_impl() is not None:
        restore_flash_attention_impl()
