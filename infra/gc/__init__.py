"""Garbage collection of a store: what no root reaches goes, after it has rested for some days."""

from zoetrope.infra.gc.collector import Collection, collect_garbage
from zoetrope.infra.gc.roots import Places

__all__ = ["Collection", "Places", "collect_garbage"]
