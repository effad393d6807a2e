"""Footage with every defect, ingested and curated once for all tests."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas
import pytest

from zoetrope.components.curate.config import CurateConfig
from zoetrope.components.curate.step import curate
from zoetrope.components.ingest.config import IngestConfig, SourceConfig
from zoetrope.components.ingest.footage import DefectRates, FootageConfig, render_footage
from zoetrope.components.ingest.step import ingest
from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.store import get_json, get_table, open_store

FOOTAGE = FootageConfig(
    seed=11,
    films=16,
    shots_per_film=6,
    dissolve_rate=0.3,
    rates=DefectRates(
        static=0.06,
        blur=0.06,
        bars=0.06,
        text=0.06,
        jitter=0.06,
        low_bits=0,
        low_fps=0,
        truncated=0,
        variable_frame_rate=0.12,
        duplicate=0,
        reencoded=0.12,
    ),
)


@dataclass(frozen=True)
class Curated:
    """Footage after curation: where everything is, and what is true."""

    context: StepContext
    footage: Path
    sources: StepResult
    result: StepResult
    truth: list[dict[str, Any]]

    @property
    def clips(self) -> pandas.DataFrame:
        """clips.parquet, with the name of the file."""
        store = self.context.store
        clips = get_table(store, get_json(store, self.result.product)["table"]).to_pandas()
        sources = get_table(store, get_json(store, self.sources.product)["table"]).to_pandas()
        return clips.merge(sources[sources.status == "usable"][["source_id", "name"]], on="source_id")

    def shots(self) -> list[tuple[dict[str, Any], dict[str, Any], pandas.Series | None]]:
        """(film, shot, the clip that begins within two frames of it or None) for every true shot."""
        clips = self.clips
        found = []
        for film in self.truth:
            mine = clips[clips.name == film["path"]]
            starts = {Fraction(row.start): row for _, row in mine.iterrows()}
            for shot in film["shots"]:
                start = Fraction(shot["start"])
                near = min(starts, key=lambda time: abs(time - start))
                found.append((film, shot, starts[near] if abs(near - start) <= Fraction(2, 24) else None))
        return found


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    root = tmp_path_factory.mktemp("curated")
    (root / "work").mkdir()
    context = StepContext("curate", open_store(root / "store"), root / "work", root / "run")
    sources = ingest(IngestConfig(), SourceConfig(samples=FOOTAGE, licence="CC0-1.0"), context)
    result = curate(CurateConfig(), str(sources.product), context)
    footage = root / "footage"
    render_footage(footage, FOOTAGE, workers=2)
    truth = json.loads((footage / "truth.json").read_text())["files"]
    return Curated(context, footage, sources, result, truth)
