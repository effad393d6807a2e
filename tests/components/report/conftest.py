"""A run as its records and products lie in the store, made without running it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from zoetrope.infra.store import Store, open_store, put_content, put_file_content, put_json, put_table
from zoetrope.model.video import write_video

RUN = "2026-11-23-nano-1"
RGB = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 80, 220), "yellow": (230, 210, 40)}
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def moving_square(color: str, direction: str, size: int = 64, frames: int = 16) -> np.ndarray:
    """A coloured square on grey, uint8 [T, H, W, 3]."""
    video = np.full((frames, size, size, 3), 120, np.uint8)
    dx, dy = STEPS[direction]
    for index in range(frames):
        shift = (index / (frames - 1) - 0.5) * size / 2
        x, y = round(size / 2 + dx * shift), round(size / 2 + dy * shift)
        video[index, max(0, y - 12) : y + 12, max(0, x - 12) : x + 12] = RGB[color]
    return video


class Run:
    """Collects records; every method puts one step's record and product into the store."""

    def __init__(self, store: Store, work: Path, run_id: str = RUN) -> None:
        self.store, self.work, self.run_id = store, work, run_id
        self.records: dict[str, str] = {}
        self.products: dict[str, str] = {}

    def add(self, step: str, product: dict[str, Any], **fields: Any) -> str:
        """Stores a record and its product, returns the record's reference."""
        reference = str(put_json(self.store, product))
        number = len(self.records) + 1
        record = {
            "schema": "zoetrope.record.v1", "run_id": self.run_id, "step": step, "attempt": 1,
            "started": 0.0, "finished": 10.0 * number, "seconds": 10.0 * number,
            "resources": {"cpu": 2.0, "memory_gb": 4.0, "gpus": 0, "gpu_kind": ""},
            "usage": {"cpu_seconds": 15.0 * number, "peak_memory_bytes": 700_000_000},
            "cost_usd": f"0.000{number}", "price_sheet": "local-2026-11", "product": reference,
            "key_figure": f"result of {step}", "metrics": {}, "parameters": {}, "artifacts": {}, "gates": [],
            "page": "", "code": "", "config": {},
        }  # fmt: skip
        self.products[step] = reference
        self.records[step] = str(put_json(self.store, record | fields))
        return self.records[step]

    def data(self, *, rejected: list[dict[str, str]] | None = None, gate: bool = True, **fields: Any) -> None:
        """ingest, curate, caption, encode."""
        rejected = (
            [{"name": "holiday.mp4", "reason": "truncated: 12 of 48 frames decode"}] if rejected is None else rejected
        )
        counts = {"files": 104, "usable": 104 - len(rejected), "rejected": len(rejected)}
        good = {
            "name": "sources",
            "success": True,
            "statistics": {"evaluated": 9},
            "docs": "file:///docs/index.html",
            "failures": [],
        }
        bad = {
            "name": "clips", "success": gate, "statistics": {"evaluated": 12}, "docs": "s3://bucket/docs/index.html",
            "failures": [] if gate else [{"expectation": "expect_between", "column": "motion", "unexpected_count": 3}],
        }  # fmt: skip
        self.add(
            "ingest", {"schema": "zoetrope.sources.v1", "counts": counts, "rejected": rejected}, gates=[good], **fields
        )
        counts_of = {"in": (690, 655), "out": (655, 630), "first_kill": (35, 25), "sole_kill": (30, 21)}
        filters = [
            {"name": name, "enabled": True}
            | {key: {"clips": both[i], "seconds": 2.2 * both[i]} for key, both in counts_of.items()}
            for i, name in enumerate(("motion", "blur"))
        ]
        funnel = {"schema": "zoetrope.funnel.v1", "total": {"clips": 690, "seconds": 1518.0}, "filters": filters}
        reference = str(put_json(self.store, funnel))
        self.add(
            "curate",
            {"schema": "zoetrope.clips.v1", "funnel": reference, "damaged": [], "counts": {"shots": 690, "kept": 612}},
            gates=[bad],
            **fields,
        )
        self.add(
            "caption",
            {"schema": "zoetrope.captions.v1", "counts": {"captioned": 612, "without": 0, "held_out": 30}},
            **fields,
        )
        self.add(
            "encode",
            {
                "schema": "zoetrope.dataset.v1",
                "name": "nano",
                "digest": "ab" * 32,
                "counts": {"clips": 612, "held_out": 30},
                "licence": "CC0-1.0",
                "rights": "own",
            },
            **fields,
        )

    def train(self, **fields: Any) -> None:
        """autoencoder and three stages with curves."""
        rng = np.random.default_rng(0)
        for step, count, start in (
            ("autoencoder", 450, 0.4),
            ("stage_1", 700, 1.6),
            ("stage_2", 400, 1.1),
            ("stage_3", 400, 1.0),
        ):
            loss = [
                [i, start * (0.15 + math.exp(-5 * i / count)) * float(rng.uniform(0.85, 1.15))]
                for i in range(1, count, 5)
            ]
            norm = [[i, float(rng.uniform(0.5, 1.5))] for i in range(1, count, 5)]
            curve = str(put_json(self.store, {"gradient_norm": norm, "loss": loss}))
            kind = "autoencoder" if step == "autoencoder" else "checkpoint"
            self.add(step, {"schema": f"zoetrope.{kind}.v1", "stage": step}, artifacts={"curve": curve}, **fields)

    def generate(self, prompts: list[tuple[str, str, str]] | None = None, **fields: Any) -> list[dict[str, Any]]:
        """One pair of videos for each (prompt, colour, direction)."""
        prompts = prompts or [(f"a {c} square moving {d} over a grey background", c, d) for c in RGB for d in STEPS]
        rng = np.random.default_rng(1)
        videos = []
        for model in ("trained", "untrained"):
            for index, (prompt, color, direction) in enumerate(prompts):
                frames = (
                    moving_square(color, direction)
                    if model == "trained"
                    else rng.integers(0, 255, (16, 64, 64, 3), np.uint8)
                )
                path = write_video(self.work / f"{model}{index}.mp4", frames, 8)
                videos.append(
                    {
                        "video": str(put_file_content(self.store, path)), "prompt": prompt, "seed": 1000 + index,
                        "attributes": {"color": color, "direction": direction}, "condition": "t2v", "model": model,
                    }
                )  # fmt: skip
        sheet = str(put_content(self.store, b"png", ".png"))
        self.add("generate", {"schema": "zoetrope.videos.v1", "videos": videos, "contact_sheet": sheet}, **fields)
        return videos

    def evaluate(self, videos: list[dict[str, Any]], **fields: Any) -> None:
        """Scores that go with the videos: the trained model is right but for its first sample."""
        trained = [video["model"] == "trained" for video in videos]
        right = [t and index > 0 for index, t in enumerate(trained)]
        table = pyarrow.table(
            {
                "seen_color": [
                    v["attributes"].get("color", "") if t else "" for v, t in zip(videos, trained, strict=True)
                ],
                "color_right": trained,
                "seen_direction": [
                    v["attributes"].get("direction", "") if r else "up" for v, r in zip(videos, right, strict=True)
                ],
                "direction_right": right,
            }
        )
        scores = {
            "color_accuracy": 1.0, "color_p_value": 1e-30, "color_count": 96.0, "color_chance": 1 / 6,
            "untrained_color_accuracy": 0.15, "untrained_color_p_value": 0.7,
            "direction_accuracy": 0.9, "direction_p_value": 1e-20, "direction_count": 96.0, "direction_chance": 0.25,
            "untrained_direction_accuracy": 0.02, "untrained_direction_p_value": 1.0,
            "attribute_accuracy": 0.95, "untrained_attribute_accuracy": 0.085,
            "temporal_flicker": 0.967, "untrained_temporal_flicker": 0.7, "held_out_loss": 0.4321,
        }  # fmt: skip
        names = ("color_accuracy", "direction_accuracy", "temporal_flicker", "held_out_loss", "attribute_accuracy")
        better = {name: name != "held_out_loss" for name in names}
        product = {
            "schema": "zoetrope.scores.v1", "scores": scores, "higher_is_better": better,
            "headline": "attribute_accuracy",
            "table": str(put_table(self.store, table)), "videos": self.products["generate"],
        }  # fmt: skip
        self.add("evaluate", product, **fields)

    def promote(self, promoted: bool = True, **fields: Any) -> None:
        """The promotion with its checks."""
        checks = [
            {"name": "scores", "passed": True, "detail": "attribute_accuracy 0.95, finite"},
            {"name": "not_worse_than_champion", "passed": promoted, "detail": "champion has 0.99"},
            {"name": "data_gates", "passed": True, "detail": "3 of 3 green"},
            {"name": "cost", "passed": True, "detail": "$0.0078 of $1.00"},
        ]
        product = {
            "schema": "zoetrope.promotion.v1", "model": "zoetrope-nano", "version": "3", "promoted": promoted,
            "aliases": ["candidate", "champion"] if promoted else ["candidate"], "checks": checks, "previous": "2",
        }  # fmt: skip
        self.add("promote", product, **fields)

    def references(self) -> list[str]:
        """All records."""
        return list(self.records.values())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(open_store(tmp_path / "store"), tmp_path)
