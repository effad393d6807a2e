"""Data gates: Great Expectations suites over tables, with Data Docs in the store."""

from zoetrope.infra.quality.gate import GateResult, run_gate

__all__ = ["GateResult", "run_gate"]
