"""The HTML fragment that shows the scores."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def scores_page(scores: Mapping[str, float], higher_is_better: Mapping[str, bool], headline: str) -> str:
    """A table of the main scores, the trained model beside the untrained one.

    Args:
        scores: name -> value; names of the control group begin with `untrained_`.
        higher_is_better: the main scores and which way is good.
        headline: the score that the gate compares.

    Returns:
        An HTML fragment.
    """
    rows = []
    for name, better in higher_is_better.items():
        # p-values are named after the attribute: color_accuracy -> color_p_value
        p_value = scores.get(f"{name.removesuffix('_accuracy')}_p_value")
        cells = [
            escape(name.replace("_", " ")) + (" (headline)" if name == headline else ""),
            f"{scores[name]:.4g}",
            f"{scores[other]:.4g}" if (other := f"untrained_{name}") in scores else "",
            "" if p_value is None else f"{p_value:.2g}",
            "higher" if better else "lower",
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "<th>score</th><th>trained</th><th>untrained</th><th>p against chance</th><th>better</th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
