"""What a step's result depends on (its key), and the results that are known for a key."""

from zoetrope.infra.keys.closure import operators
from zoetrope.infra.keys.key import KeyParts, differences
from zoetrope.infra.keys.results import StoredResult, find_result, known_results, maker_of, store_result, with_maker
from zoetrope.infra.keys.versions import libraries

__all__ = [
    "KeyParts",
    "StoredResult",
    "differences",
    "find_result",
    "known_results",
    "libraries",
    "maker_of",
    "operators",
    "store_result",
    "with_maker",
]
