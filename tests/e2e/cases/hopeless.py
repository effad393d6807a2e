"""The job cannot work: the launcher says why, and nothing repeats it blindly."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.e2e.cases.common import Seen, start, told
from tests.e2e.cluster import IMAGES, RECIPE, Run, version, wait, zoetrope

TOLD_SECONDS = 120.0
NO_SUCH_DIGEST, NO_SUCH_LABEL = "e" * 64, "zoetrope.test/none"


def out_of_memory(number: int, runs: list[Run]) -> list[Seen]:
    """The job's pods may not hold what PyTorch needs; no retry of KFP repeats that."""
    run = start(runs, "resources.stage_1={cpu: 2, memory_gb: 0.5}")
    phase = run.ended()
    said = run.verdict("stage_1")
    wrong = [] if phase == "Failed" else [f"the run ended as {phase}"]
    if said is None or "memory" not in said.headline:
        wrong.append(f"the verdict says {said}")
    wrong += _repeated(run)
    zoetrope("runs", "retry", run.run_id)
    wait("the retry makes its job", lambda: run.look() or len(run.of_step("stage_1")) == 2, 180)
    wait("the run ends again", lambda: run.phase() == "Failed", 300)
    return [Seen("verdict: out of memory; one job, and one more after `runs retry`", wrong)]


def image_that_does_not_exist(number: int, runs: list[Run]) -> list[Seen]:
    """The job's image is not in the registry; submit's own check would refuse it, so it is left out."""
    lock = Path(".e2e") / "no-such-image.lock"
    text = Path(IMAGES).read_text()
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(re.sub(r"(?m)^(train = .*@sha256:)[0-9a-f]{64}", lambda found: found[1] + NO_SUCH_DIGEST, text))
    given = ["--dataset", version()["tag"], "--images", str(lock)]
    refused = zoetrope("submit", RECIPE, *given, "--dry-run", check=False)
    wrong = [] if refused.returncode == 2 else [f"submit let it through: exit {refused.returncode}"]
    run = start(runs, "cluster.schedule_timeout=60", checked=False, lock=str(lock))
    return [_cannot_start(run, wrong, ("pull", NO_SUCH_DIGEST))]


def label_that_no_node_has(number: int, runs: list[Run]) -> list[Seen]:
    """No node has such a label.

    More memory than the namespace's quota allows is another case: submit refuses it, and without its checks the quota
    would keep the pods from being made, so that no scheduler ever saw them.
    """
    given = ["--dataset", version()["tag"], "--set", "resources.stage_1={cpu: 2, memory_gb: 4000}"]
    refused = zoetrope("submit", RECIPE, *given, "--dry-run", check=False)
    wrong = [] if refused.returncode == 2 else [f"submit let 4000 GB through: exit {refused.returncode}"]
    places = f"cluster.places={{stage_1: {{node_selector: {{{NO_SUCH_LABEL}: present}}}}}}"
    run = start(runs, places, "cluster.schedule_timeout=60")
    return [_cannot_start(run, wrong, ("nodes are available", "didn't match pod's node affinity/selector"))]


def _cannot_start(run: Run, wrong: list[str], words: tuple[str, ...]) -> Seen:
    """`words` are of the event, and stand in the launcher's log and in the verdict."""
    wait("the job is made", lambda: run.of_step("stage_1"), 200)
    begun = time.monotonic()
    wait("it says why", lambda: _holds(told(run, "stage_1"), words), 2 * TOLD_SECONDS)
    took = time.monotonic() - begun
    if took > TOLD_SECONDS:
        wrong.append(f"said after {took:.0f} s only")
    phase = run.ended()
    said = run.verdict("stage_1")
    if phase != "Failed" or said is None or not _holds(str(said), words):
        wrong.append(f"the run ended as {phase}, the verdict says {said}")
    return Seen(f"said within {TOLD_SECONDS:.0f} s, in the event's words", wrong + _repeated(run), took)


def _holds(text: str, words: tuple[str, ...]) -> bool:
    return all(word in text.lower() for word in words)


def _repeated(run: Run) -> list[str]:
    run.look()
    made = len(run.of_step("stage_1"))
    return [] if made == 1 else [f"{made} jobs were made, though none of them could work"]
