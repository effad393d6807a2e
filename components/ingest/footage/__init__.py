"""Sample footage: films of simple scenes with captions, known cuts and known defects."""

from zoetrope.components.ingest.footage.config import DefectRates, FootageConfig
from zoetrope.components.ingest.footage.render import FootageSummary, render_footage

__all__ = ["DefectRates", "FootageConfig", "FootageSummary", "render_footage"]
