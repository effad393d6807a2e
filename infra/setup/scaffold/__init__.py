"""Writes what a new step, filter or metric begins with: code that runs, its tests, its place in the table.

python -m zoetrope.infra.setup.scaffold step|filter|metric NAME [--into ROOT]
"""

from zoetrope.infra.setup.scaffold.kinds import KINDS
from zoetrope.infra.setup.scaffold.scaffold import Written, scaffold

__all__ = ["KINDS", "Written", "scaffold"]
