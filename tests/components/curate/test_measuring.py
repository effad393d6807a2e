"""Measuring is apart from judging: what was measured once is never decoded again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import pandas
import pytest

from zoetrope.components.caption.batches import split
from zoetrope.components.curate import measuring, shots
from zoetrope.components.curate.config import CurateConfig
from zoetrope.components.curate.cut_config import CutConfig
from zoetrope.components.curate.decode import UnreadVideoError
from zoetrope.components.curate.filters import FilterSettings
from zoetrope.components.curate.filters.base import Filter, Measure
from zoetrope.components.curate.filters.motion import Motion
from zoetrope.components.curate.filters.text import Text, TextMeasure
from zoetrope.components.curate.measuring import measurement_keys
from zoetrope.components.curate.step import curate, measured_clips
from zoetrope.components.curate.units import Measured
from zoetrope.components.ingest.config import IngestConfig, SourceConfig
from zoetrope.components.ingest.footage import FootageConfig
from zoetrope.components.ingest.step import ingest
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_json
from zoetrope.infra.store import get_json, get_table, open_store, put_content, put_json, put_table

Footage = tuple[StepContext, str]
ONE = CurateConfig(workers=1)
CLEAN = FootageConfig(seed=3, films=4, shots_per_film=2, size=48, defects=False)


class Invented(Filter):
    """A filter that did not exist when the sources were measured."""

    columns: ClassVar[Mapping[str, type[float] | type[str]]] = {"invented": float}

    @staticmethod
    def score(shot: Any, measure: Measure) -> dict[str, float | str]:
        return {"invented": float(shot.thumbs.mean())}

    def rejects(self, clips: pandas.DataFrame) -> Any:
        return clips["invented"].to_numpy() < 1


class MoreFilters(FilterSettings):
    invented: Invented = Invented()


class MoreConfig(CurateConfig):
    filters: MoreFilters = MoreFilters()


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    """(context, sources of four films)."""
    root = tmp_path_factory.mktemp("measuring")
    (root / "work").mkdir()
    context = StepContext("curate", open_store(root / "store"), root / "work", root / "run")
    return context, str(ingest(IngestConfig(), SourceConfig(samples=CLEAN, licence="CC0-1.0"), context).product)


@pytest.fixture
def unmeasured(footage: Footage) -> Footage:
    """The same, nothing of them measured."""
    forget(footage[0])
    return footage


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded in this process."""
    names: list[str] = []
    read = shots.read_signals

    def count(path: Path) -> Any:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(shots, "read_signals", count)
    return names


def some_of(context: StepContext, sources: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> str:
    """A sources product with other rows."""
    manifest = get_json(context.store, sources)
    table = get_table(context.store, manifest["table"])
    rows = type(table).from_pylist(change(table.to_pylist()), table.schema)
    return str(put_json(context.store, {**manifest, "table": str(put_table(context.store, rows))}))


def measured_objects(context: StepContext) -> set[str]:
    """`NAME/KEY/PART.parquet` of all that is stored."""
    return {uri.partition("/measurements/")[2] for uri in context.store.list("measurements/")}


def forget(context: StepContext) -> None:
    for uri in list(context.store.list("measurements/")):
        context.store.delete(uri)


def stored_clips(config: CurateConfig, sources: str, context: StepContext) -> str:
    """Reference of the clips without decisions: it holds the digest of their bytes."""
    return str(put_table(context.store, measured_clips(config, sources, context)[0]))


def forbid_decoding(path: Path) -> Any:
    raise AssertionError(f"{path} was decoded")


def test_another_threshold_and_another_switch_read_no_video(
    unmeasured: Footage, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, sources = unmeasured
    before = curate(ONE, sources, context)
    assert len(decoded) == len(set(decoded)) == 4
    monkeypatch.setattr(shots, "read_signals", forbid_decoding)
    scored = get_table(context.store, get_json(context.store, before.product)["table"])
    middle = sorted(scored["motion"].to_pylist())[scored.num_rows // 2]
    strict = ONE.model_copy(update={"filters": FilterSettings(motion=Motion(minimum=middle))})
    other = replace(context, run_id="another", attempt=3, key="another key")
    after = curate(strict, sources, other)
    assert 0 < after.metrics["clips_kept"] < before.metrics["clips_kept"]
    off = ONE.model_copy(update={"filters": FilterSettings(motion=Motion(enabled=False))})
    assert measured_clips(off, sources, other) == measured_clips(ONE, sources, context)
    again = get_table(context.store, get_json(context.store, after.product)["table"])
    assert again.drop_columns(["kept", "dropped_by"]) == scored.drop_columns(["kept", "dropped_by"])


def test_the_clips_are_the_same_bytes_measured_now_or_before_or_in_parts(
    unmeasured: Footage, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, sources = unmeasured
    now = stored_clips(ONE, sources, context)
    assert stored_clips(ONE, sources, context) == now
    keys = {name.rpartition("/")[0] for name in measured_objects(context)}
    forget(context)
    monkeypatch.setattr(measuring, "PART_SOURCES", 2)
    stored_clips(ONE, some_of(context, sources, lambda rows: rows[3:]), context)
    stored_clips(ONE, some_of(context, sources, lambda rows: rows[:3]), context)
    monkeypatch.setattr(shots, "read_signals", forbid_decoding)
    assert stored_clips(ONE, sources, context) == now
    assert len(decoded) == 8, "four the first time, and each once more in parts"
    parts = measured_objects(context)
    assert {name.rpartition("/")[0] for name in parts} == keys
    assert len([name for name in parts if name.startswith("shots/")]) == 3, "one source, then two and one"


def test_parts_do_not_depend_on_the_number_of_workers(unmeasured: Footage) -> None:
    context, sources = unmeasured
    several = stored_clips(CurateConfig(workers=3), sources, context)
    parts = measured_objects(context)
    forget(context)
    assert stored_clips(ONE, sources, context) == several
    assert measured_objects(context) == parts
    scored = {name for name, each in FilterSettings().table().items() if each.columns}
    assert {name.partition("/")[0] for name in parts} == {"shots", *scored}


def test_a_longer_list_of_sources_decodes_the_new_ones_alone(unmeasured: Footage, decoded: list[str]) -> None:
    context, sources = unmeasured
    stored_clips(ONE, some_of(context, sources, lambda rows: rows[:3]), context)
    assert len(decoded) == 3
    stored_clips(ONE, sources, context)
    assert len(decoded) == len(set(decoded)) == 4


def test_a_setting_that_reaches_a_score_measures_that_score_alone(unmeasured: Footage, decoded: list[str]) -> None:
    context, sources = unmeasured
    stored_clips(ONE, sources, context)
    before = measured_objects(context)
    filters = FilterSettings(text=Text(measure=TextMeasure(block=4)))
    stored_clips(ONE.model_copy(update={"filters": filters}), sources, context)
    assert len(decoded) == 8
    assert before < measured_objects(context)
    assert {name.partition("/")[0] for name in measured_objects(context) - before} == {"text"}


def test_a_new_filter_measures_itself_alone_and_leaves_the_clips_and_their_split(
    unmeasured: Footage, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, sources = unmeasured
    before, _ = measured_clips(ONE, sources, context)
    objects = measured_objects(context)
    ours = measuring.operators
    monkeypatch.setattr(measuring, "operators", lambda name: ours(name) if name.startswith("zoetrope.") else {"x": "1"})
    after, _ = measured_clips(MoreConfig(workers=1), sources, context)
    assert len(decoded) == 8, "each source once more, for the new score"
    assert objects < measured_objects(context)
    assert {name.partition("/")[0] for name in measured_objects(context) - objects} == {"invented"}
    assert after.drop_columns(["invented"]) == before
    assert min(after["invented"].to_pylist()) > 1
    sides = [[split(each, 0.5) for each in table["clip_id"].to_pylist()] for table in (before, after)]
    assert sides[0] == sides[1]


def test_scores_that_are_measured_later_are_those_of_the_same_shots(unmeasured: Footage, decoded: list[str]) -> None:
    context, sources = unmeasured
    together = stored_clips(ONE, sources, context)
    for name in ("motion", "blur", "bars", "near_duplicate"):
        for uri in list(context.store.list(f"measurements/{name}/")):
            context.store.delete(uri)
    assert stored_clips(ONE, sources, context) == together
    assert len(decoded) == 8


def test_an_id_is_the_digest_of_content_and_exact_span(unmeasured: Footage) -> None:
    context, sources = unmeasured
    for row in measured_clips(ONE, sources, context)[0].to_pylist():
        assert row["clip_id"] == digest_json([row["source_id"], row["start"], row["end"]])
        assert Fraction(row["start"]) == row["start_pts"] * Fraction(row["time_base"])
        assert Fraction(row["end"]) == row["end_pts"] * Fraction(row["time_base"])


def test_what_was_measured_before_a_failure_is_kept(
    unmeasured: Footage, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, sources = unmeasured
    read = shots.read_signals

    def never_a_third(path: Path) -> Any:
        if len(decoded) == 2:
            raise ZoetropeError("no more", "")
        return read(path)

    monkeypatch.setattr(shots, "read_signals", never_a_third)
    with pytest.raises(ZoetropeError, match="no more"):
        stored_clips(ONE, sources, context)
    monkeypatch.setattr(shots, "read_signals", read)
    stored_clips(ONE, sources, context)
    assert len(decoded) == len(set(decoded)) == 4


def test_a_damaged_source_is_remembered_and_one_that_was_not_read_is_tried_again(
    unmeasured: Footage, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, sources = unmeasured
    garbage = str(put_content(context.store, b"no video at all", ".mp4"))
    product = some_of(context, sources, lambda rows: [rows[0], {**rows[1], "video": garbage}, rows[2]])
    _, damaged = measured_clips(ONE, product, context)
    assert [each["reason"] for each in damaged] == ["damaged: Invalid data found when processing input"]
    assert len(decoded) == 3
    read = shots.read_signals
    monkeypatch.setattr(shots, "read_signals", forbid_decoding)
    assert measured_clips(ONE, product, context)[1] == damaged

    def refuse(path: Path) -> Any:
        raise UnreadVideoError("damaged: Permission denied")

    monkeypatch.setattr(shots, "read_signals", refuse)
    assert [each["reason"] for each in measured_clips(ONE, sources, context)[1]] == ["damaged: Permission denied"] * 2
    monkeypatch.setattr(shots, "read_signals", read)
    assert measured_clips(ONE, sources, context)[1] == []


def test_a_run_that_computes_anew_decodes_everything_and_finds_the_same(
    unmeasured: Footage, decoded: list[str]
) -> None:
    context, sources = unmeasured
    before = stored_clips(ONE, sources, context)
    parts = measured_objects(context)
    assert stored_clips(ONE, sources, replace(context, fresh=True)) == before
    assert len(decoded) == 8
    assert measured_objects(context) == parts


def test_the_fan_out_is_the_same_work_for_other_thresholds_and_not_for_a_run_that_computes_anew(
    unmeasured: Footage, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, sources = unmeasured
    asked: list[tuple[str, Any]] = []

    def note(function: Any, units: Any, *_: Any, key: str) -> Any:
        asked.append((key, units))
        return iter([Measured("damaged: so it says", retryable=True)] * len(units))

    monkeypatch.setattr(measuring, "map_units", note)
    strict = CurateConfig(workers=7, filters=FilterSettings(motion=Motion(minimum=5)))
    other_cuts = CurateConfig(max_seconds=4)
    for config, given in (
        (ONE, context),
        (strict, replace(context, key="other thresholds")),
        (other_cuts, context),
        (ONE, replace(context, fresh=True, key="this run")),
    ):
        with pytest.raises(ZoetropeError, match="none of the sources can be decoded"):
            measured_clips(config, sources, given)
    assert asked[0] == asked[1]
    assert len({key for key, _ in asked}) == 3


def test_a_flipped_bit_in_a_part_is_named(unmeasured: Footage) -> None:
    context, sources = unmeasured
    stored_clips(ONE, sources, context)
    uri = next(iter(context.store.list("measurements/motion/")))
    data = bytearray(context.store.read(uri))
    data[len(data) // 2] ^= 1
    context.store.put_bytes(uri.removeprefix(context.store.root + "/"), bytes(data))
    with pytest.raises(ZoetropeError, match="content does not match the digest in its name") as caught:
        stored_clips(ONE, sources, context)
    assert uri in caught.value.headline
    assert "delete it and run again" in caught.value.hint


def test_no_threshold_is_in_the_key_of_a_measurement() -> None:
    values = json.loads(CurateConfig().model_dump_json())
    for settings in values["filters"].values():
        for name, value in settings.items():
            if name != "measure":
                settings[name] = not value if isinstance(value, bool) else value * 1.01 if value != 130 else 131
    changed = CurateConfig.model_validate({**values, "workers": 7})
    assert changed.filters != FilterSettings()
    assert measurement_keys(changed) == measurement_keys(CurateConfig())


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"max_seconds": 4.0}, None),
        ({"cuts": CutConfig(window=4)}, None),
        ({"filters": FilterSettings(text=Text(measure=TextMeasure(share=0.3)))}, {"text"}),
    ],
)
def test_a_setting_changes_the_keys_of_what_it_reaches(changed: dict[str, Any], expected: set[str] | None) -> None:
    before = {name: parts.digest() for name, parts in measurement_keys(CurateConfig()).items()}
    after = {name: parts.digest() for name, parts in measurement_keys(CurateConfig(**changed)).items()}
    assert {name for name in before if before[name] != after[name]} == (set(before) if expected is None else expected)


def test_the_code_of_a_measurement_is_its_own() -> None:
    keys = measurement_keys(CurateConfig())
    package = "zoetrope.components.curate."
    found = {name: {module.removeprefix(package) for module in parts.operators} for name, parts in keys.items()}
    assert found["shots"] == {"cut_config", "cuts", "decode", "shots", "signals"}
    assert found["motion"] == {"filters.base", "filters.motion"}
    assert found["near_duplicate"] == {"filters.base", "filters.near_duplicate", "perceptual_hash"}
    assert set(keys["shots"].libraries) == {"av", "numpy", "python"}
    assert set(keys["near_duplicate"].libraries) == {"numpy", "scipy", "python"}
