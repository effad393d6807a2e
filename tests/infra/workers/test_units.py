"""Units over processes and over replicas: the same results, nothing done twice, nothing lost."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import open_store
from zoetrope.infra.workers import map_units
from zoetrope.infra.workers.replica import replica_index


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of functions, importable here and in workers."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    path = [folder, *filter(None, [os.environ.get("PYTHONPATH", "")])]
    monkeypatch.setenv("PYTHONPATH", ":".join(path))
    return importlib.import_module("fan_out_functions")


def context(folder: Path) -> StepContext:
    (folder / "work").mkdir(parents=True)
    return StepContext("count", open_store(folder / "store"), folder / "work", folder / "run")


def numbers(functions: Any, count: int) -> list[Any]:
    return [functions.Number(number) for number in range(count)]


def results(functions: Any, count: int, given: StepContext, workers: int) -> list[str]:
    """Of `square`, as text: a NaN equals a NaN."""
    found = map_units(functions.square, numbers(functions, count), given, workers)
    return [repr(answer).replace(given.store.root, "") for answer in found]


def results_in_store(given: StepContext) -> dict[str, bytes]:
    store = given.store
    return {uri: store.read(uri) for uri in store.list("fanout/") if "/results/" in uri}


@pytest.mark.parametrize("replicas", [1, 4, 16])
def test_replicas_give_what_processes_give(
    replicas: int, functions: Any, tmp_path: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = results(functions, 20, context(tmp_path / "there"), replicas)
    monkeypatch.setenv("ZOETROPE_CLUSTER", "false")
    assert not Settings().cluster
    here = [results(functions, 20, context(tmp_path / f"here{workers}"), workers) for workers in (1, 2)]
    assert there == here[0] == here[1]
    assert "nan" in there[5] and "Fraction(1, 3)" in there[5]
    assert stand_in.replicas == [replicas]


def test_each_replica_does_every_nth_unit_and_no_more_replicas_than_units(
    functions: Any, tmp_path: Path, stand_in: Any
) -> None:
    given = context(tmp_path)
    results(functions, 3, given, 16)
    assert stand_in.replicas == [3]
    units = {uri.rpartition("/")[2]: given.store.read(uri) for uri in given.store.list("fanout/") if "/units/" in uri}
    assert sorted(units) == ["000000.jsonl", "000001.jsonl", "000002.jsonl"]
    assert b'"unit":2' in units["000002.jsonl"] and units["000002.jsonl"].count(b"\n") == 1


def test_what_a_killed_replica_had_done_is_not_done_again(functions: Any, tmp_path: Path, stand_in: Any) -> None:
    given = context(tmp_path)
    stand_in.environment = {"KILLED_AT": "14"}
    with pytest.raises(ZoetropeError, match="killed by SIGKILL"):
        results(functions, 20, given, 2)
    before = results_in_store(given)
    assert 7 <= len(before) < 20
    for uri in before:  # results that the retry must leave alone are marked
        given.store.put_bytes(uri.removeprefix(given.store.root + "/"), before[uri] + b" ")
    stand_in.environment = {}
    found = results(functions, 20, given, 2)
    after = results_in_store(given)
    assert len(after) == 20
    assert all(after[uri] == data + b" " for uri, data in before.items())
    assert stand_in.jobs[0] == stand_in.jobs[1], "the same job, for a launcher to adopt"
    assert found == results(functions, 20, given, 2)
    assert len(stand_in.jobs) == 2, "when all results are there, nothing is launched"


def test_other_code_or_other_units_are_other_work(functions: Any, tmp_path: Path, stand_in: Any) -> None:
    given = context(tmp_path)
    results(functions, 2, given, 2)
    results(functions, 3, given, 2)
    given.key = "other code"
    results(functions, 2, given, 2)
    assert len(set(stand_in.jobs)) == 3


def test_what_was_done_under_a_key_of_its_own_is_found_by_another_step_key(
    functions: Any, tmp_path: Path, stand_in: Any
) -> None:
    """A step whose thresholds changed has another key, and its units are the same work."""
    given = context(tmp_path)
    first = list(map_units(functions.square, numbers(functions, 2), given, 2, key="measurements"))
    given.key = "other thresholds"
    assert list(map_units(functions.square, numbers(functions, 2), given, 2, key="measurements")) == first
    assert len(stand_in.jobs) == 1
    list(map_units(functions.square, numbers(functions, 2), given, 2, key="other measurements"))
    assert len(set(stand_in.jobs)) == 2


def test_an_error_for_the_user_comes_back_whole_and_is_forgotten_afterwards(
    functions: Any, tmp_path: Path, stand_in: Any
) -> None:
    given = context(tmp_path)
    with pytest.raises(ZoetropeError, match="seven is not taken") as caught:
        list(map_units(functions.refuse, numbers(functions, 9), given, 3))
    assert (caught.value.hint, caught.value.retryable) == ("leave it out", False)
    stand_in.environment = {"KILLED_AT": "8"}
    with pytest.raises(ZoetropeError) as caught:
        list(map_units(functions.refuse, [functions.Number(8)], given, 3))
    assert "seven" not in str(caught.value)


def test_a_job_that_ends_well_without_results_is_retryable(
    functions: Any, tmp_path: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoetrope.infra.launch.run_app", lambda *_, **__: None)
    with pytest.raises(ZoetropeError, match="3 of 3 units have no result") as caught:
        results(functions, 3, context(tmp_path), 2)
    assert caught.value.retryable


def test_no_units_are_no_job_and_a_single_light_one_neither(functions: Any, tmp_path: Path, stand_in: Any) -> None:
    given = context(tmp_path)
    assert results(functions, 0, given, 4) == []
    (answer,) = map_units(functions.square, numbers(functions, 1), given, 4, inline=True)
    assert answer.square == 0
    assert stand_in.jobs == []


def test_what_is_not_json_is_refused(tmp_path: Path) -> None:
    def raw(number: int, worker_context: Any) -> bytes:
        return bytes(number)

    raw.__annotations__ = {"number": int, "worker_context": object, "return": bytes}
    with pytest.raises(TypeError, match="which is not JSON"):
        list(map_units(raw, [1], context(tmp_path), 1))


@pytest.mark.parametrize(
    ("environment", "index"),
    [({"JOB_COMPLETION_INDEX": "3", "PET_NODE_RANK": "1"}, 3), ({"PET_NODE_RANK": "1"}, 1)],
)
def test_a_replica_knows_its_number(environment: dict[str, str], index: int) -> None:
    assert replica_index(environment, 4) == index


def test_a_replica_without_a_number_or_with_too_large_a_one_stops() -> None:
    with pytest.raises(ZoetropeError, match="JOB_COMPLETION_INDEX"):
        replica_index({}, 4)
    with pytest.raises(ZoetropeError, match="is 4, the job has 4 replicas"):
        replica_index({"JOB_COMPLETION_INDEX": "4"}, 4)


def test_the_module_of_a_replica_loads_nothing_heavy() -> None:
    program = "import sys, zoetrope.infra.workers.replica; print([m for m in ('torch', 'kfp') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
