"""The result of a training step as a fragment of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, MARGIN = 480, 160, 8


def render_page(step: str, key_figure: str, metrics: Mapping[str, float], losses: Sequence[Sequence[float]]) -> str:
    """Key figure, loss curve and final numbers.

    Args:
        step: name of the step.
        key_figure: one phrase.
        metrics: final numbers.
        losses: (step, loss) pairs in order.
    """
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{value:,.6g}</td></tr>" for name, value in metrics.items())
    return (
        f"<h3>{escape(step)}</h3><p>{escape(key_figure)}</p>{_curve(losses)}"
        f"<table><thead><tr><th>metric</th><th>value</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _curve(losses: Sequence[Sequence[float]]) -> str:
    if len(losses) < 2:
        return ""
    steps, values = [point[0] for point in losses], [point[1] for point in losses]
    low, high = min(values), max(values)
    points = " ".join(
        f"{MARGIN + (WIDTH - 2 * MARGIN) * (step - steps[0]) / (steps[-1] - steps[0]):.1f},"
        f"{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - low) / ((high - low) or 1):.1f}"
        for step, value in zip(steps, values, strict=True)
    )
    label = f"loss from {values[0]:.3g} at step {steps[0]:.0f} to {values[-1]:.3g} at step {steps[-1]:.0f}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{label}">'
        f'<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="{points}"/></svg><p>{label}</p>'
    )
