"""What is known of a run: its plan, what each step made, verdicts that stand, its price sheet and its record."""

from zoetrope.infra.runs.files import RunFiles
from zoetrope.infra.runs.plan import RunPlan
from zoetrope.infra.runs.prices import run_price_sheet, sheets_of
from zoetrope.infra.runs.record import RunRecord, read_run_record

__all__ = ["RunFiles", "RunPlan", "RunRecord", "read_run_record", "run_price_sheet", "sheets_of"]
