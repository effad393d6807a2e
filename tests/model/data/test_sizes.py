"""Aspects and buckets: the published tables, entry by entry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoetrope.model.data.aspects import nominal_area, parse_aspect, picture_size, training_sizes
from zoetrope.model.data.buckets import bucket_tables, load_buckets

# aspect -> (height, width) of the released training buckets; portrait sizes are the transposes
PUBLISHED = {
    ("256px", 16): {
        "2.39:1": (160, 400), "2:1": (176, 368), "16:9": (192, 336), "3:2": (208, 320), "4:3": (224, 288),
        "1:1": (256, 256),
    },
    ("768px", 16): {
        "2.39:1": (496, 1184), "2:1": (544, 1088), "16:9": (576, 1024), "1.85:1": (560, 1056), "8:5": (592, 992),
        "3:2": (624, 944), "4:3": (672, 880), "1:1": (768, 768),
    },
    ("1024px", 16): {
        "2.39:1": (672, 1568), "2:1": (720, 1456), "16:9": (768, 1360), "1.85:1": (752, 1392), "8:5": (800, 1312),
        "3:2": (832, 1264), "4:3": (896, 1168), "1:1": (1024, 1024),
    },
    ("768px", 32): {
        "2.39:1": (480, 1216), "2:1": (544, 1088), "16:9": (576, 1024), "3:2": (640, 928), "4:3": (672, 864),
        "1:1": (768, 768),
    },
}  # fmt: skip


@pytest.mark.parametrize(("resolution", "grid"), PUBLISHED)
def test_training_sizes_are_the_published_ones(resolution, grid):
    published = PUBLISHED[resolution, grid]
    both = published | {":".join(reversed(name.split(":"))): size[::-1] for name, size in published.items()}
    assert training_sizes(nominal_area(resolution), grid) == both


def test_inference_does_without_the_adjustment():
    area = nominal_area("256px")
    assert picture_size(area, "16:9", adjust=False) == (192, 336)
    assert picture_size(area, "9:16", adjust=False) == (336, 192)
    assert picture_size(area, "2.39:1", adjust=False) == (160, 384)
    assert picture_size(area, "2.39:1", adjust=True) == (160, 400)


@given(st.integers(64, 2048), st.floats(0.25, 4.0), st.sampled_from([8, 16, 32]))
def test_any_size_stands_on_the_grid_and_stays_within_the_area(side, ratio, grid):
    height, width = picture_size(side**2, f"{ratio:.4f}:1", grid, adjust=False)
    assert height % grid == width % grid == 0
    assert 0 < height * width <= side**2
    adjusted = picture_size(side**2, f"{ratio:.4f}:1", grid, adjust=True)
    assert abs(adjusted[0] * adjusted[1] - side**2) <= abs(height * width - side**2)


@pytest.mark.parametrize("resolution", ["256", "px", "0px", "-1px", "256 px", "720p", ""])
def test_resolutions_that_are_none_are_refused(resolution):
    with pytest.raises(ValueError, match="has to look like 256px"):
        nominal_area(resolution)


@pytest.mark.parametrize("aspect", ["16", "16:0", "0:9", "5:1", "1:5", "a:b", "16:9:1", ""])
def test_aspects_that_are_none_are_refused(aspect):
    with pytest.raises(ValueError, match="has to be WIDTH:HEIGHT"):
        parse_aspect(aspect)


def test_a_size_below_the_grid_is_refused():
    with pytest.raises(ValueError, match="less than one step of 32 pixels"):
        picture_size(16**2, "1:1", 32, adjust=False)


# config, resolution -> probability and batch at 1, 5-33, 37-65, 69-97, 101-129 frames
BATCHES = {
    ("stage1", "256px"): (1.0, (45, 12, 6, 4, 3)),
    ("stage1_i2v", "256px"): (1.0, (45, 12, 6, 4, 3)),
    ("stage2", "256px"): (1.0, (130, 14, 10, 7, 6)),
    ("stage2", "768px"): (1.0, (38, 6, 4, 3, 2)),
    ("stage2_i2v", "256px"): (1.0, (195, 80, 40, 28, 23)),
    ("stage2_i2v", "768px"): (0.5, (38, 10, 5, 3, 2)),
}
RANGES = ((1,), range(5, 34, 4), range(37, 66, 4), range(69, 98, 4), range(101, 130, 4))


@pytest.mark.parametrize(("table", "resolution"), BATCHES)
def test_bucket_tables_are_the_published_ones(table, resolution):
    probability, batches = BATCHES[table, resolution]
    expected = {frames: batch for part, batch in zip(RANGES, batches, strict=True) for frames in part}
    if (table, resolution) == ("stage2", "256px"):
        del expected[69]
    buckets = [bucket for bucket in load_buckets(table) if bucket.resolution == resolution]
    assert {bucket.frames: bucket.batch_size for bucket in buckets} == expected
    assert {bucket.probability for bucket in buckets} == {probability}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("image", {("256px", 1): (1.0, 50), ("768px", 1): (0.5, 11), ("1024px", 1): (0.5, 7)}),
        ("demo", {("256px", 1): (1, 1), ("256px", 33): (1, 1), ("256px", 97): (1, 1), ("256px", 129): (1, 1)}),
        (
            "high_compression",
            {("768px", 1): (1.0, 20)}
            | {("768px", frames): (1.0, 8) for frames in (16, 20, 24, 28, 32)}
            | {("768px", frames): (1.0, 4) for frames in range(36, 65, 4)}
            | {("768px", frames): (1.0, 3) for frames in range(68, 97, 4)}
            | {("768px", frames): (1.0, 2) for frames in range(100, 129, 4)},
        ),
    ],
)
def test_the_other_tables_in_full(table, expected):
    found = {(b.resolution, b.frames): (b.probability, b.batch_size) for b in load_buckets(table)}
    assert found == expected


def test_images_of_larger_sizes_in_stage_1():
    images = {b.resolution: (b.probability, b.batch_size) for b in load_buckets("stage1") if b.resolution != "256px"}
    assert images == {"768px": (0.5, 13), "1024px": (0.5, 7)}


def test_an_unknown_table_is_named_with_the_nearest():
    assert len(bucket_tables()) == 7
    with pytest.raises(ValueError, match=r"unknown bucket table 'stage3'; did you mean 'stage[12]'\?"):
        load_buckets("stage3")
