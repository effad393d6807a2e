"""Workers for steps that treat many things one by one: processes here, pods of a job on a cluster."""

from zoetrope.infra.workers.pool import map_in_processes
from zoetrope.infra.workers.units import WorkerContext, map_units

__all__ = ["WorkerContext", "map_in_processes", "map_units"]
