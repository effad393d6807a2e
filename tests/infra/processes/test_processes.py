"""One run per store; nothing is left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from zoetrope.infra.errors import EXIT_RETRYABLE, ZoetropeError
from zoetrope.infra.processes import RunLock, end_group, end_survivors, mark_environment

# Says "ready" when its handlers stand, then waits for a line that never comes.
SLEEPER = "import signal,sys,time; {prepare}; print('ready', flush=True); time.sleep(600)"
POLITE = SLEEPER.format(prepare="pass")
STUBBORN = SLEEPER.format(prepare="signal.signal(signal.SIGTERM, signal.SIG_IGN)")

# A run: takes the lock, marks itself, starts children in their own sessions and waits.
RUN = """
import os, subprocess, sys, time
from pathlib import Path
from zoetrope.infra.processes import RunLock, mark_environment
state = Path(sys.argv[1])
with RunLock(state, "zoetrope run nano"):
    mark_environment(state)
    for code in sys.argv[2:]:
        if code == "fork":
            pid = os.fork()
            if pid == 0:
                time.sleep(600)
        else:
            command = [sys.executable, "-c", code]
            child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
            child.stdout.readline()
            pid = child.pid
        print(pid, flush=True)
    print("ready", flush=True)
    time.sleep(600)
"""

ORPHANER = """
import subprocess, sys
command = [sys.executable, "-c", sys.argv[1]]
child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid)
"""


@pytest.fixture
def started():
    processes = []
    yield processes
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            if isinstance(process, psutil.Popen):
                process.wait(10)


@pytest.fixture
def token(monkeypatch, tmp_path):
    monkeypatch.delenv("ZOETROPE_RUN_TOKEN", raising=False)
    value = mark_environment(tmp_path / "mine")
    yield value
    monkeypatch.delenv("ZOETROPE_RUN_TOKEN", raising=False)


def start_run(state, started, *children):
    run = psutil.Popen([sys.executable, "-c", RUN, str(state), *children], stdout=subprocess.PIPE, text=True)
    started.append(run)
    lines = []
    for line in run.stdout:
        if line.strip() == "ready":
            break
        lines.append(psutil.Process(int(line)))
    assert len(lines) == len(children)
    started.extend(lines)
    return run, lines


def sleeper(started, code=POLITE):
    process = psutil.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    process.stdout.readline()
    started.append(process)
    return process


def gone(processes):
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_the_lock_names_its_holder_to_the_second(tmp_path, started):
    run, _ = start_run(tmp_path, started)
    with pytest.raises(ZoetropeError) as caught, RunLock(tmp_path, "zoetrope train"):
        pass
    note = json.loads((tmp_path / "lock").read_text())
    assert f"pid {run.pid} on {note['host']} since" in caught.value.headline
    assert "(zoetrope run nano)" in caught.value.headline
    assert caught.value.exit_code == EXIT_RETRYABLE
    assert run.is_running()


def test_the_lock_is_free_after_it_was_left(tmp_path):
    with (
        RunLock(tmp_path / "new", "first") as lock,
        pytest.raises(ZoetropeError, match="in use"),
        RunLock(tmp_path / "new", "second"),
    ):
        pass
    assert lock is not None
    assert (tmp_path / "new/lock").read_text() == ""
    with RunLock(tmp_path / "new", "third"):
        assert json.loads((tmp_path / "new/lock").read_text())["command"] == "third"


def test_the_lock_is_free_after_its_holder_was_killed(tmp_path, started):
    run, _ = start_run(tmp_path, started)
    run.kill()
    run.wait(10)
    with RunLock(tmp_path, "next"):
        pass


def test_a_forked_survivor_that_keeps_the_lock_is_ended(tmp_path, started):
    run, [forked] = start_run(tmp_path, started, "fork")
    run.kill()
    run.wait(10)
    assert forked.is_running()
    with RunLock(tmp_path, "next"):
        assert gone([forked])


def test_a_file_in_place_of_the_directory_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZoetropeError, match="cannot be locked"), RunLock(tmp_path / "file", "run"):
        pass


def test_survivors_of_a_killed_run_are_ended_also_stubborn_ones(tmp_path, started):
    run, [polite, stubborn] = start_run(tmp_path, started, POLITE, STUBBORN)
    run.kill()
    run.wait(10)
    said = []
    ended = end_survivors(tmp_path, said.append, grace_seconds=0.5)
    assert gone([polite, stubborn])
    assert {(each.pid, each.killed) for each in ended} == {(polite.pid, False), (stubborn.pid, True)}
    assert len(said) == 2
    assert all("earlier run" in line for line in said)
    assert end_survivors(tmp_path, said.append) == []


def test_a_running_run_and_strangers_are_left_alone(tmp_path, started):
    run, [child] = start_run(tmp_path / "a", started, POLITE)
    stranger = sleeper(started)
    assert end_survivors(tmp_path / "a", print) == []
    assert end_survivors(tmp_path / "b", print) == []
    assert run.is_running()
    assert child.is_running()
    assert stranger.is_running()


def test_end_group_ends_children_and_detached_carriers(token, started):
    child = sleeper(started)
    # The detached one is a grandchild whose parent is gone, as after a crash of a launcher.
    output = subprocess.run(
        [sys.executable, "-c", ORPHANER, POLITE], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    orphan = psutil.Process(int(output))
    started.append(orphan)
    assert os.getpid() not in {parent.pid for parent in orphan.parents()}
    ended = end_group(token)
    assert {each.pid for each in ended} == {child.pid, orphan.pid}
    assert gone([child, orphan])


def test_a_pid_that_was_given_out_again_is_not_taken_for_the_owner(tmp_path, started):
    survivor = sleeper(started, POLITE)
    notes = tmp_path / "processes"
    notes.mkdir()
    token = mark_environment(tmp_path)
    carrier = sleeper(started)
    note = notes / f"{token}.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "created": 1.0}))
    del os.environ["ZOETROPE_RUN_TOKEN"]
    assert [each.pid for each in end_survivors(tmp_path, print)] == [carrier.pid]
    assert survivor.is_running()


def test_a_run_on_another_machine_is_not_judged(tmp_path, started):
    token = mark_environment(tmp_path)
    carrier = sleeper(started)
    del os.environ["ZOETROPE_RUN_TOKEN"]
    note = tmp_path / "processes" / f"{token}.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "host": "elsewhere", "created": 1.0}))
    assert end_survivors(tmp_path, print) == []
    assert carrier.is_running()


def test_terminated_run_frees_the_lock_by_unwinding(tmp_path, started):
    run, _ = start_run(tmp_path, started)
    run.send_signal(signal.SIGINT)
    run.wait(10)
    assert (tmp_path / "lock").read_text() == ""
