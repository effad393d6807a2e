"""One process: what was saved comes back bitwise, damage falls back with a message, faults of the store end nothing."""

import errno
import json
import threading

import pytest
import torch
from torch import nn

from tests.model.training.checkpoints.support import SETTINGS, FailingStore, Training, make, same
from zoetrope.model.training.checkpoints import (
    LocalCheckpointStore,
    Retention,
    StoreError,
    TrainingState,
    UnfitCheckpointError,
    UnreadableError,
    remove_all,
)


def places(folder):
    return sorted((folder / "stage_1").iterdir())


def save_steps(folder, steps, **more):
    """A training saved after each of some steps; returns it."""
    checkpoints, training = make(folder, **more), Training()
    for step in steps:
        training.run(step)
        training.state.notes = {"curve": {"loss": [[step, 0.5]]}, "order": {"epoch": 1}}
        training.state.own = {"sum": step}
        checkpoints.save(step, training.state)
    checkpoints.finish()
    assert checkpoints.failure is None
    return training


def test_a_resumed_training_goes_on_bitwise(tmp_path):
    first = save_steps(tmp_path, [3])
    told = []
    second = Training(seed=1)
    second.steps = make(tmp_path, told).load_newest(second.state)
    assert (second.steps, told) == (3, [])
    assert same(second.whole(), first.whole())
    assert second.state.notes == {"curve": {"loss": [[3, 0.5]]}, "order": {"epoch": 1}}
    assert (second.state.own, second.state.owns) == ({"sum": 3}, ({"sum": 3},))
    assert same(second.run(6).whole(), first.run(6).whole())


def test_nothing_there_changes_nothing(tmp_path):
    training, told = Training(), []
    before = training.whole()
    assert make(tmp_path, told).load_newest(training.state) is None
    assert same(training.whole(), before)
    assert told == []
    assert not training.optimizer.state


def test_a_state_before_the_first_step_has_an_empty_optimizer(tmp_path):
    save_steps(tmp_path, [0])
    later = Training(seed=1).run(2)
    assert make(tmp_path).load_newest(later.state) == 0
    assert not later.optimizer.state
    later.steps = 0
    assert same(later.run(2).whole(), Training().run(2).whole())


def test_what_changes_after_save_is_not_in_it(tmp_path):
    gate = threading.Event()
    store = FailingStore(LocalCheckpointStore(tmp_path), lambda what, key: gate.wait(30))
    checkpoints, training = make(tmp_path, store=store), Training().run(2)
    wanted, notes = training.whole(), {"curve": [1]}
    training.state.notes = notes
    checkpoints.save(2, training.state)
    training.run(4)
    notes["curve"].append(2)
    gate.set()
    checkpoints.finish()
    other = Training(seed=1)
    assert make(tmp_path).load_newest(other.state) == 2
    assert same(other.whole(), wanted)
    assert other.state.notes == {"curve": [1]}


def test_the_next_save_waits_for_the_former_and_says_how_long(tmp_path, monkeypatch):
    asked, second_began, order = [], threading.Event(), []
    seconds_a_put = 5.0

    def clock():
        asked.append(seconds_a_put * len(order))
        if len(asked) == 3:  # the first save asks at its beginning and its end
            second_began.set()
        return asked[-1]

    def before(what, key):
        if what == "put":
            assert second_began.wait(30)
            order.append(key.split("/")[1][:14])

    monkeypatch.setattr("zoetrope.model.training.checkpoints.checkpoints.time.perf_counter", clock)
    checkpoints, training = make(tmp_path, store=FailingStore(LocalCheckpointStore(tmp_path), before)), Training()
    assert checkpoints.save(1, training.state) == 0.0
    stall = checkpoints.save(2, training.state)
    assert stall >= 3 * seconds_a_put, "the wait for the three files of the former save belongs to the stall"
    checkpoints.finish()
    assert len(order) == 6
    assert order == sorted(order), "the second began before the first had ended"


@pytest.mark.parametrize("name", ["rank-00000-000.bin", "index.json.gz", "complete.json"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.999])
def test_a_flipped_bit_falls_back_and_names_the_file(tmp_path, name, share):
    save_steps(tmp_path, [1, 2])
    path = places(tmp_path)[-1] / name
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 1
    path.write_bytes(data)
    falls_back(tmp_path, name)


def falls_back(folder, *words):
    told, other = [], Training(seed=1)
    assert make(folder, told).load_newest(other.state) == 1
    assert same(other.whole(), Training().run(1).whole())
    assert len(told) == 1, told
    assert told[0].startswith("checkpoint of step 2: ")
    assert told[0].endswith("; the one before it is taken")
    for word in words:
        assert word in told[0]


@pytest.mark.parametrize("name", ["rank-00000-000.bin", "index.json.gz", "complete.json"])
def test_a_missing_and_a_truncated_file_fall_back(tmp_path, name):
    save_steps(tmp_path, [1, 2])
    path = places(tmp_path)[-1] / name
    path.write_bytes(path.read_bytes()[:-3])
    falls_back(tmp_path, name, *([] if name == "complete.json" else ["bytes instead of"]))
    path.unlink()
    falls_back(tmp_path, f"{name} is missing")


@pytest.mark.parametrize("attempt", range(3))  # their order by name is random
def test_a_damaged_one_is_replaced_where_training_comes_there_again(tmp_path, attempt):
    save_steps(tmp_path, [1, 2])
    path = places(tmp_path)[-1] / "rank-00000-000.bin"
    path.write_bytes(b"x" * path.stat().st_size)
    training, told = Training(seed=1), []
    checkpoints = make(tmp_path)
    training.steps = checkpoints.load_newest(training.state)
    checkpoints.save(2, training.run(2).state)
    checkpoints.finish()
    assert not path.exists()
    assert [place.name[:14] for place in places(tmp_path)] == ["step-000000001", "step-000000002"]
    assert make(tmp_path, told).load_newest(Training(seed=1).state) == 2
    assert told == []


def test_a_damaged_one_with_none_before_it_begins_anew_and_touches_nothing(tmp_path):
    save_steps(tmp_path, [2])
    (places(tmp_path)[-1] / "rank-00000-000.bin").unlink()
    told, other = [], Training(seed=1)
    before = other.whole()
    assert make(tmp_path, told).load_newest(other.state) is None
    assert same(other.whole(), before)
    assert told == [
        "checkpoint of step 2: rank-00000-000.bin is missing; there is none before it, training begins anew"
    ]


def test_a_file_that_goes_while_it_is_read_falls_back(tmp_path):
    save_steps(tmp_path, [1, 2])
    gone = places(tmp_path)[-1].name

    def before(what, key):
        if what == "read" and gone in key and key.endswith(".bin"):
            raise UnreadableError("it is gone")

    told, other = [], Training(seed=1)
    store = FailingStore(LocalCheckpointStore(tmp_path), before)
    assert make(tmp_path, told, store=store).load_newest(other.state) == 1
    assert same(other.whole(), Training().run(1).whole())
    assert "rank-00000-000.bin cannot be read: it is gone" in told[0]


@pytest.mark.parametrize("part", ["", "complete.json", "index.json.gz", ".bin"])
def test_a_store_that_cannot_be_read_does_not_begin_anew(tmp_path, part):
    save_steps(tmp_path, [1])

    def before(what, key):
        if key.endswith(part):
            raise StoreError("no answer")

    training = Training(seed=1)
    before_load = training.whole()
    with pytest.raises(StoreError, match="no answer"):
        make(tmp_path, store=FailingStore(LocalCheckpointStore(tmp_path), before)).load_newest(training.state)
    assert same(training.whole(), before_load)


def test_a_full_disk_is_said_once_and_tried_again(tmp_path, monkeypatch):
    full = False

    def mkstemp(*arguments, **more):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return made(*arguments, **more)

    module = "zoetrope.model.training.checkpoints.store.tempfile.mkstemp"
    from zoetrope.model.training.checkpoints.store import tempfile

    made = tempfile.mkstemp
    monkeypatch.setattr(module, mkstemp)
    told, training = [], Training().run(1)
    checkpoints = make(tmp_path, told)
    checkpoints.save(1, training.state)
    checkpoints.finish()
    full = True
    for step in (2, 3):
        checkpoints.save(step, training.run(step).state)
        checkpoints.finish()
        assert checkpoints.failure.startswith("disk full: ")
    assert len(told) == 1
    assert told[0].startswith("checkpoint of step 2 could not be written (disk full: ")
    full = False
    checkpoints.save(4, training.run(4).state)
    checkpoints.finish()
    assert checkpoints.failure is None
    assert told[1:] == ["checkpoints are written again: that of step 4 is complete"]
    assert make(tmp_path).load_newest(Training(seed=1).state) == 4


def test_half_a_checkpoint_is_removed_where_the_disk_became_full(tmp_path):
    def before(what, key):
        if what == "put" and "step-000000002" in key and key.endswith("index.json.gz"):
            raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = make(tmp_path, store=FailingStore(LocalCheckpointStore(tmp_path), before))
    training = Training()
    for step in (1, 2):
        checkpoints.save(step, training.run(step).state)
    checkpoints.finish()
    assert "No space left" in checkpoints.failure
    assert [place.name[:14] for place in places(tmp_path)] == ["step-000000001"]


def test_our_own_mistakes_are_raised(tmp_path):
    def before(what, key):
        raise KeyError("a bug")

    training, told = Training().run(1), []
    checkpoints = make(tmp_path, told, store=FailingStore(LocalCheckpointStore(tmp_path), before))
    checkpoints.save(1, training.state)
    with pytest.raises(KeyError, match="a bug"):
        checkpoints.finish()
    checkpoints.finish()
    with pytest.raises(TypeError):
        checkpoints.save(1, TrainingState(training.model, notes={"a": {1, 2}}))


def test_retention_keeps_the_last_every_and_the_best(tmp_path):
    checkpoints, training = make(tmp_path, retention=Retention(last=2, every=4, best=1)), Training()
    for step, loss in enumerate([0.9, 0.1, 0.5, None, 0.2, float("nan"), 0.8], 1):
        training.state.validation_loss = loss
        checkpoints.save(step, training.run(step).state)
    checkpoints.finish()
    kept = [int(place.name[5:14]) for place in places(tmp_path)]
    assert kept == [2, 4, 6, 7], "best, every fourth, and the last two"
    again = make(tmp_path, retention=Retention(last=1, best=2))  # a new process has to read the losses
    training.state.validation_loss = 1.0
    again.save(8, training.run(8).state)
    again.finish()
    assert [int(place.name[5:14]) for place in places(tmp_path)] == [2, 7, 8]


def test_the_marker_is_written_last_and_removed_first(tmp_path):
    calls = []
    store = FailingStore(LocalCheckpointStore(tmp_path), lambda what, key: calls.append((what, key.rsplit("/", 1)[-1])))
    checkpoints, training = make(tmp_path, store=store, retention=Retention(last=1)), Training()
    for step in (1, 2):
        checkpoints.save(step, training.run(step).state)
    checkpoints.finish()
    files = ["rank-00000-000.bin", "index.json.gz", "complete.json"]
    assert [name for what, name in calls if what == "put"] == 2 * files
    removed = [name for what, name in calls if what == "delete"]
    assert removed[0] == "complete.json"
    assert sorted(removed) == sorted(files)


def test_a_sweep_that_fails_is_said_and_no_failure_of_the_save(tmp_path):
    def before(what, key):
        if what == "delete":
            raise StoreError("no right to remove")

    told, training = [], Training()
    store = FailingStore(LocalCheckpointStore(tmp_path), before)
    checkpoints = make(tmp_path, told, store=store, retention=Retention(last=1))
    for step in (1, 2):
        checkpoints.save(step, training.run(step).state)
    checkpoints.finish()
    assert checkpoints.failure is None
    assert told == ["old checkpoints could not be removed (no right to remove); the next save tries again"]


def changed(**stage):
    return {**SETTINGS, "stage": {**SETTINGS["stage"], **stage}}


def test_a_longer_run_continues_and_another_one_begins_anew_and_names_the_field(tmp_path):
    save_steps(tmp_path, [2])
    for settings in (changed(steps=200), {**SETTINGS, "save_every": 1}):
        told = []
        assert make(tmp_path, told, settings=settings).load_newest(Training(seed=1).state) == 2
        assert told == []
    told = []
    assert make(tmp_path, told, settings=changed(rate=0.02)).load_newest(Training(seed=1).state) is None
    assert told == [
        "training begins anew, since the settings are not those of the checkpoint of step 2: "
        "stage.rate was 0.01, now 0.02"
    ]


def test_checkpoints_of_other_settings_stay_and_are_found_again(tmp_path):
    save_steps(tmp_path, [5])
    save_steps(tmp_path, [1, 2, 3], settings=changed(rate=0.02))
    assert make(tmp_path).load_newest(Training(seed=1).state) == 5
    told = []
    assert make(tmp_path, told, settings=changed(rate=0.02)).load_newest(Training(seed=1).state) == 3
    assert told == []


def test_going_back_takes_no_later_one_and_can_remove_them(tmp_path):
    save_steps(tmp_path, [1, 2, 3], retention=Retention(last=9))
    checkpoints, training = make(tmp_path), Training(seed=1)
    assert checkpoints.load_newest(training.state, at_most=2) == 2
    checkpoints.discard_after(2)
    assert make(tmp_path).load_newest(training.state) == 2
    assert len(places(tmp_path)) == 2


def test_other_tensors_under_the_same_settings_are_refused_by_name(tmp_path):
    save_steps(tmp_path, [1])
    other = nn.Linear(5, 7)
    with pytest.raises(UnfitCheckpointError, match="ema/first\\.bias is not in this training"):
        make(tmp_path).load_newest(TrainingState(other))
    training = Training(seed=1)
    training.ema["scale"] = torch.zeros(2)
    with pytest.raises(UnfitCheckpointError, match=r"ema/scale is saved as \[1\] float32, this training has \[2\]"):
        make(tmp_path).load_newest(training.state)
    with pytest.raises(ValueError, match="'ema'"):
        TrainingState(other, more={"ema": {}}).tensors()


def test_further_parts_bfloat16_and_empty_tensors_come_back(tmp_path):
    model = nn.Linear(3, 2).to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    more = {"discriminator": {"weight": torch.randn(4), "none": torch.zeros(0, 3), "count": torch.tensor(7)}}
    checkpoints = make(tmp_path)
    checkpoints.save(1, TrainingState(model, optimizer, more=more))
    checkpoints.finish()
    second = nn.Linear(3, 2).to(torch.bfloat16)
    again = torch.optim.AdamW(second.parameters())
    blank = {"discriminator": {"weight": torch.zeros(4), "none": torch.zeros(0, 3), "count": torch.tensor(0)}}
    assert checkpoints.load_newest(TrainingState(second, again, more=blank)) == 1
    assert torch.equal(second.weight, model.weight)
    assert blank["discriminator"]["count"] == 7
    assert torch.equal(blank["discriminator"]["weight"], more["discriminator"]["weight"])
    assert torch.equal(again.state[second.weight]["exp_avg_sq"], optimizer.state[model.weight]["exp_avg_sq"])
    assert again.state[second.bias]["step"].item() == 1


def test_all_are_removed_at_the_end(tmp_path):
    save_steps(tmp_path, [1, 2])
    (places(tmp_path)[0] / "complete.json").unlink()
    remove_all(LocalCheckpointStore(tmp_path), "stage_1")
    assert places(tmp_path) == []


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path):
    save_steps(tmp_path, [1])
    for path in places(tmp_path)[0].iterdir():
        assert not path.read_bytes().startswith((b"PK", b"\x80"))
    assert json.loads((places(tmp_path)[0] / "complete.json").read_text())["checkpoint"]["step"] == 1
