"""TorchX jobs on this machine."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from torchx.components.dist import torchrun
from torchx.specs import AppDef, Role

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.launch import run_local

GLOO = """
import os, sys, torch, torch.distributed as distributed
distributed.init_process_group("gloo")
value = torch.tensor([distributed.get_rank() + 1.0])
distributed.all_reduce(value)
if distributed.get_rank() == 0:
    open(sys.argv[1], "w").write(f"{distributed.get_world_size()} {value.item()} {os.environ['GREETING']}")
distributed.destroy_process_group()
"""


def job(code, *arguments, replicas=1):
    role = Role("worker", image="", entrypoint=sys.executable, args=["-c", code, *arguments], num_replicas=replicas)
    return AppDef("job", roles=[role])


def test_two_gloo_ranks_reduce_a_sum(tmp_path):
    (tmp_path / "script.py").write_text(GLOO)
    app = torchrun(str(tmp_path / "out.txt"), script=str(tmp_path / "script.py"), j="1x2")
    run_local(app, tmp_path / "logs", {"GREETING": "hello", "OMP_NUM_THREADS": "1"})
    assert (tmp_path / "out.txt").read_text() == "2 3.0 hello"


def test_a_failure_shows_the_end_of_the_log(tmp_path):
    code = "import sys; print('reading shard 7', file=sys.stderr); sys.exit('shard 7: checksum differs')"
    with pytest.raises(ZoetropeError, match="replica 0 of worker failed with exit status 1") as caught:
        run_local(job(code), tmp_path / "logs")
    assert "reading shard 7" in caught.value.hint
    assert "checksum differs" in caught.value.hint
    assert str(tmp_path / "logs") in caught.value.hint


def test_the_first_exception_is_the_headline(tmp_path):
    lines = [
        "[1]:[rank1]: ValueError: shard 7: checksum differs",
        "[0]:RuntimeError: Connection closed by peer",
        "[0]:",
    ]
    code = f"import sys; print({chr(10).join([*lines, 'summary of torchrun'])!r}, file=sys.stderr); sys.exit(1)"
    with pytest.raises(ZoetropeError, match="exit status 1: ValueError: shard 7: checksum differs") as caught:
        run_local(job(code), tmp_path / "logs")
    assert "summary of torchrun" not in caught.value.hint


def test_the_failed_one_of_several_replicas_is_named(tmp_path):
    code = "import os,sys; sys.exit(3 if sys.argv[1] == '1' else 0)"
    with pytest.raises(ZoetropeError, match="replica 1 of worker failed with exit status 3"):
        run_local(job(code, "${replica_id}", replicas=2), tmp_path / "logs")


def test_a_killed_replica_is_said_to_be_killed(tmp_path):
    with pytest.raises(ZoetropeError, match="killed by SIGKILL"):
        run_local(job("import os; os.kill(os.getpid(), 9)"), tmp_path / "logs")


def test_environment_of_the_role_wins_and_the_job_is_not_changed(tmp_path):
    app = job("import os,sys; open(sys.argv[1],'w').write(os.environ['A'] + os.environ['B'])", str(tmp_path / "o"))
    app.roles[0].env = {"A": "role"}
    run_local(app, tmp_path / "logs", {"A": "call", "B": "call"})
    assert (tmp_path / "o").read_text() == "rolecall"
    assert app.roles[0].env == {"A": "role"}


def test_signal_handlers_are_as_before(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run_local(job("pass"), tmp_path / "logs")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


LAUNCHER = """
import sys
from pathlib import Path
from torchx.specs import AppDef, Role
from zoetrope.infra.launch import run_local
# The replica ignores SIGTERM nowhere, but its own child does, in a session of its own.
code = '''
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c",
    "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"],
    start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
open(sys.argv[1], "w").write(f"{child.pid}\\\\n")
time.sleep(600)
'''
role = Role("worker", image="", entrypoint=sys.executable, args=["-c", code, sys.argv[1]])
run_local(AppDef("job", roles=[role]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_an_interrupted_launcher_leaves_no_process(tmp_path, number, status):
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(fifo), str(tmp_path / "logs")], stderr=subprocess.DEVNULL
    )
    grandchild = psutil.Process(int(fifo.read_text()))
    family = [*psutil.Process(launcher.pid).children(recursive=True), grandchild]
    launcher.send_signal(number)
    launcher.wait(30)
    assert launcher.returncode == status
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
