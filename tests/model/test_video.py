"""Clips out of video files and videos into files."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from zoetrope.model.video import ClipRequest, read_clip, read_clips, write_video

LEVELS = 8  # grey level of frame i is 8 i: far enough apart to survive H.264


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    frames = np.zeros((24, 32, 48, 3), np.uint8) + (LEVELS * np.arange(24, dtype=np.uint8))[:, None, None, None]
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", frames, 12)


def levels(clip):
    """Which frame each picture is."""
    return np.rint(clip.mean(axis=(1, 2, 3)) / LEVELS).astype(int).tolist()


def test_a_written_video_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 256, (5, 4, 6, 3), np.uint8), 8, axis=1), 8, axis=2)
    path = write_video(tmp_path / "a.mp4", smooth, 8)
    clip = read_clip(path, Fraction(0), Fraction(5, 8), 5, 8, height=32, width=48)
    assert clip.shape == smooth.shape
    assert np.abs(clip.astype(int) - smooth).mean() < 12


def test_bytes_depend_on_the_frames_alone(tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), np.uint8)
    first, second = (write_video(tmp_path / f"{name}.mp4", frames, 8) for name in ("a", "other_name"))
    assert first.read_bytes() == second.read_bytes()
    assert b"Lavf" not in first.read_bytes()


def test_frames_are_those_nearest_in_time(film):
    clip = read_clip(film, Fraction(1, 2), Fraction(3, 2), 6, 6.0, height=32, width=48)
    assert levels(clip) == [6, 8, 10, 12, 14, 16]
    # 8 a second out of 12: times 0, 1.5, 3, 4.5 frames; of two equally near ones the earlier
    clip = read_clip(film, Fraction(0), Fraction(1), 4, 8.0, height=32, width=48)
    assert levels(clip) == [0, 1, 3, 4]


def test_a_clip_does_not_look_beyond_its_ends(film):
    start, end = Fraction(6, 12), Fraction(9, 12)
    clip = read_clip(film, start, end, 5, 16.5, height=32, width=48)
    assert min(levels(clip)) == 6
    assert max(levels(clip)) == 8


def test_several_clips_in_one_pass_and_out_of_a_stream(film):
    early = ClipRequest(Fraction(1, 12), Fraction(1), 3, 12, 32, 48)
    late = ClipRequest(Fraction(20, 12), Fraction(2), 2, 12, 32, 48)
    clips = read_clips(io.BytesIO(film.read_bytes()), [late, early])
    assert [levels(clip) for clip in clips] == [[20, 21], [1, 2, 3]]
    assert read_clips(film, []) == []


def test_crop_then_cover_then_centre(tmp_path):
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[:, 16:48, :, 0] = 200  # black bars above and below
    frames[:, 16:48, 24:40, 1] = 200  # a yellow bar in the middle
    path = write_video(tmp_path / "bars.mp4", frames, 8)
    clip = read_clip(path, Fraction(0), Fraction(1, 4), 1, 8, height=32, width=32, crop=(0, 16, 64, 32))
    assert clip.shape == (1, 32, 32, 3)
    assert clip[0, 0, :, 0].min() > 150
    yellow = clip[0, 16, :, 1] > 100
    assert yellow.sum() == pytest.approx(16, abs=1)
    assert yellow[8:24].sum() == pytest.approx(16, abs=1)


def test_variable_frame_rates_are_read_by_time(tmp_path):
    path = tmp_path / "vfr.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "10", "bf": "0"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 24)
        for number, pts in enumerate([0, 1, 2, 12, 13, 23]):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 * number, np.uint8), format="rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = read_clip(path, Fraction(0), Fraction(1), 4, 4.0, height=32, width=32)
    assert levels(clip) == [0, 2, 3, 4]  # times 0, 6, 12, 18 of 24; 18 is as near to 13 as to 23


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [(0, 1, "do not fit into a clip of 1.000 s"), (1, 20, "the video ends before the clip"), (5, 20, "no frame")],
)
def test_clips_that_are_too_long_are_refused(film, start, end, message):
    with pytest.raises(ValueError, match=message):
        read_clip(film, Fraction(start), Fraction(end), 16, 8, height=32, width=48)


def test_files_that_are_no_video_are_refused(film, tmp_path):
    for number, data in enumerate([b"", b"not a video at all", film.read_bytes()[:300]]):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"cannot be decoded|no video stream"):
            read_clip(path, Fraction(0), Fraction(1), 2, 8, height=32, width=48)


@pytest.mark.parametrize("shape", [(0, 16, 16, 3), (2, 15, 16, 3), (2, 16, 16, 4)])
def test_frames_that_no_video_can_hold_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"expected uint8 frames|even"):
        write_video(tmp_path / "a.mp4", np.zeros(shape, np.uint8), 8)
