"""What a source is known by: the bytes of its file, or what it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from zoetrope.components.curate.config import CurateConfig
from zoetrope.components.curate.step import measured_clips
from zoetrope.components.ingest.config import IngestConfig, SourceConfig
from zoetrope.components.ingest.frames import FrameDigest
from zoetrope.components.ingest.probe import probe_file
from zoetrope.components.ingest.step import ingest
from zoetrope.infra.context import StepContext
from zoetrope.infra.store import get_json, get_table

MakeVideo = Callable[..., Path]
FRAMES = IngestConfig(workers=1, identity="frames")
BYTES = IngestConfig(workers=1)


def remux(path: Path, target: Path) -> Path:
    """The same stream in another container."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        track = source.streams.video[0]
        stream = container.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return target


def ingested(config: IngestConfig, folder: Path, context: StepContext) -> tuple[str, list[dict[str, Any]]]:
    """(product, rows of sources.parquet)."""
    (folder / "catalogue.csv").write_text("path,text\n" + "".join(f"{p.name},a film\n" for p in folder.glob("film*")))
    product = ingest(config, SourceConfig(folder=str(folder), licence="CC0-1.0"), context).product
    return str(product), get_table(context.store, get_json(context.store, product)["table"]).to_pylist()


def clip_ids(product: str, context: StepContext) -> list[str]:
    ids: list[str] = measured_clips(CurateConfig(workers=1), product, context)[0]["clip_id"].to_pylist()
    return ids


def test_a_remux_keeps_its_clips_where_sources_are_known_by_their_frames(
    tmp_path: Path, context: StepContext, make_video: MakeVideo
) -> None:
    for name in ("mp4", "mkv"):
        (tmp_path / name).mkdir()
    film = make_video(tmp_path / "mp4" / "film.mp4", 1, fps=25)
    remux(film, tmp_path / "mkv" / "film.mkv")
    for config, same in ((FRAMES, True), (BYTES, False)):
        (product, (one,)), (other_product, (other,)) = (
            ingested(config, tmp_path / name, context) for name in ("mp4", "mkv")
        )
        assert (one["source_id"] == other["source_id"]) == same
        assert (clip_ids(product, context) == clip_ids(other_product, context)) == same
        assert one["video"] != other["video"]
    assert one["source_id"] == hashlib.sha256(film.read_bytes()).hexdigest()


def test_exact_duplicates_follow_the_identity(
    tmp_path: Path, context: StepContext, folder: Path, make_video: MakeVideo
) -> None:
    remux(make_video(folder / "film1.mp4", 1, fps=25), folder / "film2.mkv")
    _, rows = ingested(FRAMES, folder, context)
    assert [(row["name"], row["reason"]) for row in rows if row["name"].startswith("film")] == [
        ("film1.mp4", ""),
        ("film2.mkv", "duplicate: same frames as film1.mp4"),
    ]
    assert rows[1]["duplicate_of"] == rows[0]["source_id"]
    _, rows = ingested(BYTES, folder, context)
    assert [row["status"] for row in rows if row["name"].startswith("film")] == ["usable", "usable"]


def test_a_rejected_file_has_no_duplicate(
    folder: Path, context: StepContext, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same frames may pass the gates in another container, whose packets are larger."""
    monkeypatch.setattr(
        "zoetrope.components.ingest.inspection.raw_gate",
        lambda facts, config: "low_bits_per_pixel: too few" if not gated.append(facts) and len(gated) == 1 else "",
    )
    gated: list[Any] = []
    remux(make_video(folder / "film1.mp4", 1, fps=25), folder / "film2.mkv")
    _, rows = ingested(FRAMES, folder, context)
    assert {row["name"]: row["status"] for row in rows if row["name"].startswith("film")} == {
        "film1.mp4": "rejected",
        "film2.mkv": "usable",
    }


def test_one_changed_frame_or_time_is_another_source(tmp_path: Path, make_video: MakeVideo) -> None:
    def identity(path: Path) -> str:
        return probe_file(path, "decode", "frames").frames_digest

    first = identity(make_video(tmp_path / "a.mp4", 1))
    assert first == identity(make_video(tmp_path / "b.mp4", 1, index_first=True))
    assert first != identity(make_video(tmp_path / "c.mp4", 2))
    assert first != identity(make_video(tmp_path / "d.mp4", 1, fps=25))
    assert probe_file(tmp_path / "a.mp4", "decode").frames_digest == ""


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "rgb24", "yuv420p10le", "rgb565le"])
def test_the_padding_of_rows_has_no_part_in_the_digest(name: str) -> None:
    def digest(fill: int, value: int = 7) -> str:
        frame = av.VideoFrame(50, 20, name)
        for plane in frame.planes:
            whole = np.full(plane.buffer_size, value, np.uint8)
            whole.reshape(-1, plane.line_size)[:, -1] = fill  # behind the 50 pixels of a row
            plane.update(whole.tobytes())
        frame.pts = 3
        found = FrameDigest()
        found.add(frame, Fraction(1, 25))
        return found.hexdigest()

    assert digest(0) == digest(255)
    assert digest(0) != digest(0, 8)


def test_the_digest_is_of_format_size_exact_time_and_samples() -> None:
    rows, columns = np.mgrid[0:30, 0:50]
    luma = (rows + columns).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(luma, "gray")
    frame.pts = 3
    assert frame.planes[0].line_size > 50, "rows are padded"
    found = FrameDigest()
    found.add(frame, Fraction(1, 24))
    assert found.hexdigest() == hashlib.sha256(b"gray 50x30 1/8\n" + luma.tobytes()).hexdigest()


def test_frames_are_an_identity_only_where_they_are_decoded() -> None:
    with pytest.raises(ValueError, match="identity: frames takes verify: decode, not packets"):
        IngestConfig(identity="frames", verify="packets")
