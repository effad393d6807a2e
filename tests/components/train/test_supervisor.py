"""The supervisor, with real processes as ranks: who is silent is named, who works is left alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from zoetrope.components.train.stacks import Stack, main_stack
from zoetrope.components.train.supervisor import Limits, Rank, Supervisor, Watch, judged
from zoetrope.model.training.heartbeat import FOLDER, SAVING, STARTING, TRAINING, Heartbeat, Pulse, read_pulse

QUICK = Limits(factor=5, floor=1.0, grace=60.0, stopped=0.6, poll=0.05)
RANK = """
import sys, time
from zoetrope.model.training.heartbeat import Heartbeat

def wait_for_others():
    sys.stdin.readline()

beat = Heartbeat.start({local})
for step in range(1, {steps} + 1):
    time.sleep(0.01)
    beat.step(step)
print("ready", flush=True)
{then}
"""
GOES_ON = "while True:\n    step += 1; time.sleep(0.01); beat.step(step)"
# what is compiled under a name below torch/distributed reads as a collective
COLLECTIVE = (
    "exec(compile('def all_reduce():\\n    import sys; sys.stdin.readline()', '/x/torch/distributed/c10d.py', 'exec'))"
    "\nall_reduce()"
)
HANGS = "def read_sample():\n    time.sleep(1000)\nread_sample()"


class Supervised:
    """Ranks that run, and the supervisor over them."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.supervisor = Supervisor(folder, limits)
        self.folder, self.ranks = folder, list[subprocess.Popen[str]]()

    def start(self, then: str, steps: int = 5, script: str = RANK) -> subprocess.Popen[str]:
        local = len(self.ranks)
        environment = {**os.environ, FOLDER: str(self.folder), "LOCAL_RANK": str(local), "RANK": str(local + 4)}
        code = script.format(local=local, steps=steps, then=then)
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        self.ranks.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    def verdict(self) -> str:
        for rank in self.ranks:
            rank.wait(20)
        self.supervisor.end()
        assert self.supervisor.verdict is not None
        return self.supervisor.verdict.headline


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[[Limits], Supervised]]:
    made = []

    def make(limits: Limits = QUICK) -> Supervised:
        made.append(Supervised(tmp_path, limits))
        return made[-1]

    yield make
    for each in made:
        if each.supervisor.is_alive():
            each.supervisor.end()
        for rank in each.ranks:
            rank.kill()
            rank.communicate()


def test_a_rank_that_hangs_is_told_from_those_that_wait_for_it(
    supervised: Callable[..., Supervised], capfd: pytest.CaptureFixture[str]
) -> None:
    job = supervised()
    job.start(COLLECTIVE)
    job.start(HANGS)
    job.supervisor.start()
    headline = job.verdict()
    assert headline.startswith("no rank got on with a step for 1 s (after step 5, a step takes 0."), headline
    assert "rank 5 (pid" in headline and "is in read_sample" in headline and "rank 4" not in headline
    said = capfd.readouterr().err
    assert "rank 4 (pid" in said and "waits in all_reduce (torch/distributed/c10d.py:2)" in said
    assert said.count("  File ") >= 4
    assert [rank.returncode for rank in job.ranks] == [-signal.SIGKILL] * 2


def test_a_stopped_rank_is_named_whatever_the_others_do(supervised: Callable[..., Supervised]) -> None:
    job = supervised()
    job.start(GOES_ON)
    job.start(HANGS).send_signal(signal.SIGSTOP)
    job.supervisor.start()
    headline = job.verdict()
    assert headline.startswith("a rank has been stopped for 1 s: rank 5 (pid ")
    # the signal may arrive before or after the rank has called the function that it hangs in
    assert re.search(r"after step 5\) is stopped \(SIGSTOP, or a debugger\) in (<module>|read_sample)", headline)
    assert "rank 4" not in headline


def test_who_is_steps_behind_is_to_blame_even_in_a_barrier(supervised: Callable[..., Supervised]) -> None:
    job = supervised()
    job.start(COLLECTIVE, steps=6)
    job.start(COLLECTIVE, steps=5)
    job.supervisor.start()
    assert "rank 5 (pid" in job.verdict()


def test_a_rank_that_waits_for_another_node_is_not_blamed(supervised: Callable[..., Supervised]) -> None:
    job = supervised()
    job.start(COLLECTIVE)
    job.supervisor.start()
    assert "all ranks of this node wait for others, rank 4 (pid" in job.verdict()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def rank(number: int = 0, *, changes: int = 1, phase: str = TRAINING, status: str = "running", **more: float) -> Rank:
    step = int(more.get("step", 7))
    return Rank(number, 10 + number, status, Pulse(10 + number, 1, changes, step, phase, more.get("median", 0.1)))


def looks(watch: Watch, clock: Clock, seconds: float, *ranks: Rank) -> str:
    """Looks for a while at ranks that stay as they are; the first complaint."""
    for _ in range(round(seconds / watch.limits.poll)):
        clock.now += watch.limits.poll
        if said := watch.look(ranks):
            return said
    return ""


def test_limits_follow_the_median_and_what_a_rank_does() -> None:
    clock = Clock()
    limits = Limits()
    for median, phase, limit in ((0.1, TRAINING, 20), (10.0, TRAINING, 50), (0.1, SAVING, 1800), (0, STARTING, 1800)):
        watch = Watch(limits, clock)
        silent = rank(median=median, phase=phase)
        assert looks(watch, clock, limit - 1, silent) == ""
        assert looks(watch, clock, 3, silent)


def test_one_rank_that_may_take_its_time_excuses_those_that_wait_for_it() -> None:
    clock = Clock()
    watch = Watch(Limits(), clock)
    assert looks(watch, clock, 1000, rank(0), rank(1, phase=SAVING)) == ""
    assert looks(watch, clock, 19, rank(0), rank(1, changes=2)) == ""
    assert "no rank got on with a step for 20 s" in looks(watch, clock, 2, rank(0), rank(1, changes=2))


def test_a_new_process_in_the_place_of_a_rank_starts_anew() -> None:
    clock = Clock()
    watch = Watch(Limits(), clock)
    old, new = rank(0), Rank(0, 99, "running", rank(0).pulse)
    assert looks(watch, clock, 19, old) == "" and looks(watch, clock, 19, new) == ""


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 86400.0 * 365])
def test_a_clock_that_jumps_and_a_machine_that_slept_make_nobody_late(jump: float) -> None:
    clock = Clock()
    watch = Watch(Limits(), clock)
    assert looks(watch, clock, 10, rank(0), rank(1)) == ""
    clock.now += jump
    assert looks(watch, clock, 7, rank(0), rank(1)) == ""
    assert looks(watch, clock, 4, rank(0), rank(1))  # and it still sees a hang


def test_a_short_stop_is_no_fault() -> None:
    clock = Clock()
    watch = Watch(Limits(), clock)
    for step in range(4):
        assert looks(watch, clock, 6, rank(0, changes=step, status=psutil.STATUS_STOPPED)) == ""
        assert looks(watch, clock, 1, rank(0, changes=step)) == ""
    assert looks(watch, clock, 11, rank(0, status=psutil.STATUS_TRACING_STOP))


def test_a_heartbeat_knows_the_median_of_plain_steps_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("zoetrope.model.training.heartbeat.time.monotonic", lambda: now[0])
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert read_pulse(tmp_path, 0).pid == 0
    with restored(signal.SIGUSR1):
        beat = Heartbeat.start(0)
        for step, (seconds, phase) in enumerate([(90, ""), (2, ""), (60, SAVING), (4, ""), (3, "")], 1):
            if phase:
                beat.begin(phase)
                assert read_pulse(tmp_path, 0).phase == phase
            now[0] += seconds
            beat.step(step)
    pulse = read_pulse(tmp_path, 0)
    assert (pulse.pid, pulse.step, pulse.phase, pulse.median) == (os.getpid(), 5, TRAINING, 3.0)
    Heartbeat().step(1)  # without a supervisor nothing happens


@contextmanager
def restored(number: int) -> Iterator[None]:
    import faulthandler

    yield
    faulthandler.unregister(number)


def test_stacks_are_read_as_faulthandler_writes_them() -> None:
    dump = (
        'Thread 0x00007f04c99846c0 (most recent call first):\n  File "/a/b.py", line 1 in other\n\n'
        "Current thread 0x00007f04ca5dab80 (most recent call first):\n"
        '  File "/v/lib/python3.11/site-packages/torch/autograd/graph.py", line 9 in _engine_run_backward\n'
        '  File "/home/model/training/optimizer.py", line 64 in optimizer_step\n'
    )
    stack = main_stack(dump, 0x7F04CA5DAB80)
    assert stack is not None and stack.waits
    assert stack.place == (
        "_engine_run_backward (torch/autograd/graph.py:9), called in optimizer_step (model/training/optimizer.py:64)"
    )
    assert main_stack(dump, 1) is None
    waits = {0: stack, 1: stack}
    assert "all ranks of this node wait for others" in judged("silence", [rank(0), rank(1)], waits).headline
    hangs = Stack("", "read (a.py:1)", waits=False)
    assert judged("silence", [rank(0), rank(1)], {0: stack, 1: hangs}).headline.startswith("silence: rank 1 (pid 11")
