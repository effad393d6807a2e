"""Ingest: what is usable, what is not and why, and what the messages say."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
from PIL import Image

from zoetrope.components.ingest.config import IngestConfig, SourceConfig
from zoetrope.components.ingest.footage import DefectRates, FootageConfig, render_footage
from zoetrope.components.ingest.probe import probe_file
from zoetrope.components.ingest.step import ingest
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import get_bytes, get_json, get_table

MakeVideo = Callable[..., Path]
ONE = IngestConfig(workers=1)


def source(folder: Path) -> SourceConfig:
    return SourceConfig(folder=str(folder), licence="CC0-1.0", rights="test")


def table(context: StepContext, product: Any) -> dict[str, dict[str, Any]]:
    rows = get_table(context.store, get_json(context.store, product)["table"]).to_pylist()
    return {row["name"]: row for row in rows}


def write_silence(path: Path) -> None:
    """An MP4 with sound and no picture."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        for number in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_every_defect_of_the_footage_has_its_reason(context: StepContext, tmp_path: Path) -> None:
    rates = DefectRates(truncated=0.25, low_bits=0.15, low_fps=0.15, variable_frame_rate=0.15, duplicate=0.15)
    footage = FootageConfig(seed=2, films=14, shots_per_film=2, rates=rates)
    result = ingest(IngestConfig(workers=2), SourceConfig(samples=footage, licence="CC0-1.0"), context)
    rows = table(context, result.product)
    render_footage(tmp_path / "again", footage)
    truth = json.loads((tmp_path / "again" / "truth.json").read_text())
    codes = {"low_bits": "low_bits_per_pixel", "variable_frame_rate": "", "reencoded": ""}
    assert len(rows) == len(truth["files"])
    seen = set()
    for entry in truth["files"]:
        row = rows[entry["path"]]
        seen.add(entry["defect"])
        assert row["reason"].partition(":")[0] == codes.get(entry["defect"], entry["defect"]), entry["path"]
        assert row["variable_frame_rate"] == (entry["defect"] == "variable_frame_rate")
        if row["status"] == "usable":
            assert row["frames"] == entry["frames"]
            assert [caption["text"] for caption in json.loads(row["captions"])] == [
                shot["caption"] for shot in entry["shots"]
            ]
    assert seen >= {"", "truncated", "low_bits", "low_fps", "variable_frame_rate", "duplicate"}
    reasons = {row["reason"] for row in rows.values() if row["reason"].startswith("truncated")}
    assert len(reasons) > 1, "a lost index and lost pictures read differently"
    manifest = get_json(context.store, result.product)
    assert manifest["licence"] == "CC0-1.0"
    assert get_json(context.store, manifest["prompts"])[0]["attributes"]["color"]
    assert result.gates[0]["success"]


def test_bad_files_have_each_their_reason_and_the_good_ones_go_on(
    folder: Path, tmp_path: Path, context: StepContext, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_video(folder / "good.mp4", 1)
    (folder / "zero.mp4").touch()
    (folder / "text.mp4").write_text("this is not a video\n" * 50)
    (folder / "notes.md").write_text("# not a video either")
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:2.5,\n{good}\n#EXT-X-ENDLIST\n")
    (folder / "cut.mp4").write_bytes(good.read_bytes()[:9000])
    shutil.copyfile(make_video(tmp_path / "whole.mp4", 2, index_first=True), folder / "torn.mp4")
    os.truncate(folder / "torn.mp4", (folder / "torn.mp4").stat().st_size * 6 // 10)
    (folder / "playlist.ffconcat").write_text("ffconcat version 1.0\nfile good.mp4\n")
    Image.new("RGB", (96, 96), "red").save(folder / "picture.png")
    write_silence(folder / "sound.mp4")
    (folder / "folder.mp4").mkdir()
    make_video(folder / "folder.mp4" / "inner.mp4", 3)
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder)  # names of sockets are short
        listener.bind("socket.mp4")
    (folder / "outside.mp4").symlink_to(tmp_path / "whole.mp4")
    (folder / "inside.mp4").symlink_to(folder / "good.mp4")
    (folder / "nowhere.mp4").symlink_to(folder / "gone.mp4")
    (folder / "loop").symlink_to(folder)
    (folder / ".hidden.mp4").write_bytes(good.read_bytes())
    make_video(folder / "short.mp4", 4, seconds=1.0)
    (folder / "good.txt").write_text("a caption")

    rows = table(context, ingest(ONE, source(folder), context).product)

    reasons = {name: row["reason"].partition(":")[0] for name, row in rows.items()}
    assert reasons == {
        ".hidden.mp4": "hidden",
        "cut.mp4": "truncated",
        "folder.mp4": "not_a_file",
        "folder.mp4/inner.mp4": "",
        "good.mp4": "",
        "inside.mp4": "duplicate",
        "list.m3u8": "not_a_video",
        "loop": "symlink_folder",
        "notes.md": "not_a_video",
        "nowhere.mp4": "symlink_broken",
        "outside.mp4": "symlink_outside",
        "picture.png": "not_a_video",
        "pipe.mp4": "not_a_file",
        "playlist.ffconcat": "not_a_video",
        "short.mp4": "too_short",
        "socket.mp4": "not_a_file",
        "sound.mp4": "no_video_stream",
        "text.mp4": "not_a_video",
        "torn.mp4": "truncated",
        "zero.mp4": "empty",
    }
    assert rows["inside.mp4"]["duplicate_of"] == rows["good.mp4"]["source_id"]
    assert get_bytes(context.store, rows["good.mp4"]["video"]) == good.read_bytes()


@pytest.mark.parametrize("verify", ["decode", "packets"])
def test_a_file_that_ends_between_two_pictures_is_truncated(
    verify: Literal["decode", "packets"], tmp_path: Path, make_video: MakeVideo
) -> None:
    whole = make_video(tmp_path / "whole.mp4", 1, index_first=True)
    with av.open(str(whole)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.pos]
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(whole.read_bytes()[: positions[40]])
    assert probe_file(whole, verify).problem == ""
    assert probe_file(torn, verify).problem == "truncated: only 40 of 60 frames are there"


def test_pictures_that_cannot_be_decoded_are_damaged(tmp_path: Path, make_video: MakeVideo) -> None:
    video = make_video(tmp_path / "video.mp4", 1)
    data = bytearray(video.read_bytes())
    data[3000:9000] = b"\xff" * 6000
    video.write_bytes(data)
    assert probe_file(video, "decode").problem.startswith("damaged: ")


def test_a_file_that_goes_away_is_unreadable(tmp_path: Path) -> None:
    assert probe_file(tmp_path / "gone.mp4", "decode").problem.startswith("unreadable: ")


def test_odd_names_are_read_and_printed_safely(folder: Path, context: StepContext, make_video: MakeVideo) -> None:
    names = {
        "-dash.mp4": "-dash.mp4",
        "two  spaces.mp4": "two  spaces.mp4",
        "émile 映画.mp4": "émile 映画.mp4",
        "new\nline.mp4": "new\\nline.mp4",
        "esc\x1b[31m.mp4": "esc\\x1b[31m.mp4",
        "back\\slash.mp4": "back\\\\slash.mp4",
        "%05d.mp4": "%05d.mp4",
        "bad\udcff.mp4": "bad\\udcff.mp4",
    }
    for seed, name in enumerate(names):
        make_video(folder / f"{seed}.mp4", seed).rename(folder / name)
        (folder / name).with_suffix(".txt").write_text(f"caption {seed}")
    rows = table(context, ingest(ONE, source(folder), context).product)
    assert set(rows) == set(names.values())
    for seed, printed in enumerate(names.values()):
        assert rows[printed]["status"] == "usable"
        assert json.loads(rows[printed]["captions"])[0] == {
            "start": None,
            "end": None,
            "text": f"caption {seed}",
            "attributes": {},
            "source": "sidecar",
        }


def test_the_product_does_not_depend_on_the_number_of_workers(
    folder: Path, context: StepContext, make_video: MakeVideo
) -> None:
    for seed in range(4):
        make_video(folder / f"{seed}.mp4", seed)
    (folder / "catalogue.csv").write_text("path,text\n" + "".join(f"{n}.mp4,caption {n}\n" for n in range(4)))
    results = [ingest(IngestConfig(workers=workers), source(folder), context) for workers in (1, 3)]
    assert results[0].product == results[1].product


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_catalogues_with_times_and_attributes(
    form: str, folder: Path, context: StepContext, make_video: MakeVideo
) -> None:
    make_video(folder / "a.mp4", 1)
    row = {"path": "a.mp4", "text": "first  part", "start": "0.5", "end": "3/2", "attributes": '{"color": "red"}'}
    catalogue = folder / f"catalogue.{form}"
    if form == "csv":
        catalogue.write_text('path,text,start,end,attributes\na.mp4,first  part,0.5,3/2,"{""color"": ""red""}"\n')
    elif form == "jsonl":
        catalogue.write_text(json.dumps(row) + "\n")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), catalogue)
    rows = table(context, ingest(ONE, source(folder), context).product)
    assert json.loads(rows["a.mp4"]["captions"]) == [
        {"start": "1/2", "end": "3/2", "text": "first part", "attributes": {"color": "red"}, "source": "catalogue"}
    ]


def test_a_file_that_only_the_catalogue_knows_is_listed(
    folder: Path, context: StepContext, make_video: MakeVideo
) -> None:
    make_video(folder / "a.mp4", 1)
    (folder / "catalogue.csv").write_text("path,text\na.mp4,here\nb.mp4,gone\n")
    rows = table(context, ingest(ONE, source(folder), context).product)
    assert rows["b.mp4"]["reason"].startswith("missing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,caption\na.mp4,x\n", "lacks the column text"),
        ("path,text,start\na.mp4,x,soon\n", "row 1, start: 'soon' is not a number"),
        ("path,text,start,end\na.mp4,x,3,2\n", "start 3 is not before end 2"),
        ("path,text,start\na.mp4,x,-1\n", "before the beginning"),
        ('path,text,attributes\na.mp4,x,"[1"\n', "not a JSON object"),
    ],
)
def test_a_broken_catalogue_is_one_message_with_its_place(
    text: str, message: str, folder: Path, context: StepContext, make_video: MakeVideo
) -> None:
    make_video(folder / "a.mp4", 1)
    (folder / "catalogue.csv").write_text(text)
    with pytest.raises(ZoetropeError, match=message):
        ingest(ONE, source(folder), context)


def test_without_captions_it_says_what_to_give(folder: Path, context: StepContext, make_video: MakeVideo) -> None:
    make_video(folder / "a.mp4", 1)
    with pytest.raises(ZoetropeError, match="no captions") as caught:
        ingest(ONE, source(folder), context)
    assert "catalogue.csv" in caught.value.hint
    assert "NAME.txt" in caught.value.hint


def test_nothing_usable_lists_what_was_rejected_and_why(folder: Path, context: StepContext) -> None:
    for number in range(13):
        (folder / f"{number:02}.mp4").write_bytes(b"x" * number)
    with pytest.raises(ZoetropeError, match="nothing usable") as caught:
        ingest(ONE, source(folder), context)
    assert "00.mp4: empty" in caught.value.hint
    assert "09.mp4: not_a_video" in caught.value.hint
    assert "10.mp4" not in caught.value.hint
    assert "and 3 more" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_folder_that_is_not_there(tmp_path: Path, context: StepContext) -> None:
    with pytest.raises(ZoetropeError, match="is not a folder"):
        ingest(ONE, source(tmp_path / "nothing"), context)


def test_videos_in_an_object_store(folder: Path, tmp_path: Path, context: StepContext, make_video: MakeVideo) -> None:
    from zoetrope.infra.store import open_store

    bucket = open_store(tmp_path / "bucket")
    bucket.put_file("part/a b.mp4", make_video(folder / "a.mp4", 1))
    bucket.put_bytes("part/empty.mp4", b"")
    bucket.put_bytes("catalogue.jsonl", b'{"path": "part/a b.mp4", "text": "from afar"}\n')
    remote = SourceConfig(s3=bucket.root, licence="CC0-1.0")
    rows = table(context, ingest(ONE, remote, context).product)
    assert rows["part/a b.mp4"]["status"] == "usable"
    assert rows["part/empty.mp4"]["reason"].startswith("empty")
    assert not list((context.work / "fetched").iterdir()), "fetched files do not pile up"


def test_exactly_one_source() -> None:
    for given in ({}, {"folder": "x", "s3": "s3://y"}):
        with pytest.raises(ValueError, match="exactly one"):
            SourceConfig.model_validate({"licence": "CC0-1.0", **given})
