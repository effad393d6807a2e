"""The raw gates: what Open-Sora 2.0 throws away on the facts of the header alone."""

from __future__ import annotations

from zoetrope.components.ingest.config import IngestConfig
from zoetrope.components.ingest.probe import ProbeResult


def raw_gate(facts: ProbeResult, config: IngestConfig) -> str:
    """`code: sentence` of the first gate that a readable video does not pass, empty when it passes all."""
    if facts.duration < config.min_seconds:
        return f"too_short: {facts.duration:.2f} s, at least {config.min_seconds:g} s are needed"
    if facts.bits_per_pixel < config.min_bits_per_pixel:
        return (
            f"low_bits_per_pixel: {facts.bits_per_pixel:.4f} bits a pixel, at least "
            f"{config.min_bits_per_pixel:g} are needed"
        )
    if facts.fps < config.min_fps:
        return f"low_fps: {facts.fps:.2f} frames a second, at least {config.min_fps:g} are needed"
    aspect = facts.width / facts.height if facts.height else 0.0
    if not config.min_aspect <= aspect <= config.max_aspect:
        return (
            f"aspect: {facts.width} x {facts.height} is outside of {config.min_aspect:.3g} to {config.max_aspect:.3g}"
        )
    if facts.codec == "h264" and facts.profile in config.rejected_profiles:
        return f"profile: H.264 {facts.profile} comes from low-effort encoders"
    return ""
