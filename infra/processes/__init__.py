"""The processes of a run: one run per store, nothing left behind."""

from zoetrope.infra.processes.lock import RunLock, running_holder
from zoetrope.infra.processes.survivors import Ended, end_group, end_survivors, mark_environment

__all__ = ["Ended", "RunLock", "end_group", "end_survivors", "mark_environment", "running_holder"]
