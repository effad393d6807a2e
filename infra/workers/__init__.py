"""Worker processes for steps that treat many files one by one."""

from zoetrope.infra.workers.pool import map_in_processes

__all__ = ["map_in_processes"]
