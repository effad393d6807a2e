"""Looks at this machine or at a cluster and says, line by line, what is wrong and how to fix it."""

from zoetrope.infra.doctor.findings import CheckContext, Demand, Finding
from zoetrope.infra.doctor.inside import from_inside
from zoetrope.infra.doctor.table import CHECKS, LOCAL_CHECKS, Check, examine, examine_here
from zoetrope.infra.kubernetes.raw import Api

__all__ = [
    "CHECKS",
    "LOCAL_CHECKS",
    "Api",
    "Check",
    "CheckContext",
    "Demand",
    "Finding",
    "examine",
    "examine_here",
    "from_inside",
]
