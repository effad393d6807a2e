"""What of a module's text counts, and what does not."""

import pytest

from zoetrope.infra.keys.source import normalised

CODE = '''"""A module."""
from typing import TYPE_CHECKING
from zoetrope.infra.launch import run_app
from zoetrope.model.flow import loss
if TYPE_CHECKING:
    import pandas
LIMIT = 3
"""Why three."""
def work(context, values):
    """Doubles."""
    assert values, "nothing to double"
    if len(values) > LIMIT:
        raise ZoetropeError(f"too many: {len(values)}", "give fewer" + " of them")
    log.info("doubling %d values", len(values))
    context.progress(f"{len(values)} values", 0.5)
    print("done")
    return [value * 2 for value in values], {"unit": "px"}
'''


def same(changed: str) -> bool:
    def kept(name: str) -> bool:
        return name.startswith("zoetrope.model.")

    assert changed != CODE
    return normalised(changed, kept) == normalised(CODE, kept)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another text."""'),
        ('"""Doubles."""', '"""Makes twice as much."""'),
        ('"""Why three."""', '"""Why not."""'),
        ("LIMIT = 3", "LIMIT = 3  # as measured"),
        ("value * 2 for value in values]", "value*2\n            for value in values\n    ]"),
        ("too many: {len(values)}", "there are {len(values)} and {LIMIT} may be"),
        ('"give fewer" + " of them"', '"give less"'),
        ("doubling %d values", "%d values to double"),
        ('f"{len(values)} values"', '"values"'),
        ('"nothing to double"', '"empty"'),
        ('print("done")', 'print("ready")'),
        ("    import pandas", "    import pyarrow"),
        ("zoetrope.infra.launch import run_app", "zoetrope.infra.run import run_app"),
    ],
)
def test_words_comments_formatting_and_imports_of_what_does_not_count_are_left_out(old: str, new: str) -> None:
    assert same(CODE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("value * 2", "value * 3"),
        ("> LIMIT", ">= LIMIT"),
        ('{"unit": "px"}', '{"unit": "pixel"}'),
        ("assert values,", "assert len(values) > 1,"),
        ("raise ZoetropeError(", "raise OtherError("),
        ("zoetrope.model.flow import loss", "zoetrope.model.other import loss"),
        (", 0.5)", ", 0.6)"),
    ],
)
def test_what_the_code_does_counts(old: str, new: str) -> None:
    assert not same(CODE.replace(old, new))
