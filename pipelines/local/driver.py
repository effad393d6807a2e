"""The process that runs kfp.local: `python -m zoetrope.pipelines.local.driver RUN_DIRECTORY/plan.json`.

It is a child of the supervisor, in a session of its own, so that the supervisor can end everything below it. While
KFP runs the tasks one after the other, a second thread follows the run's events: it sends metrics to MLflow and
adopts the dataset version as soon as `encode` has made it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.runs.record import RunStatus
from zoetrope.infra.settings import Settings
from zoetrope.infra.store.local import disk_full
from zoetrope.pipelines.local.follower import Follower
from zoetrope.pipelines.local.plan import LocalRunPlan, StatePaths

EXIT_STEP_FAILED = 70  # EX_SOFTWARE: the failure itself lies in failure.json


def run_pipeline(plan: LocalRunPlan, paths: StatePaths) -> None:
    """Runs the pipeline through kfp.local; raises RuntimeError when a task fails."""
    from kfp import local

    from zoetrope.pipelines.definition.definitions import build

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(paths.root / "kfp"),
        # kfp.local removes this folder after the run, so it must be nobody's.
        workspace_root=tempfile.mkdtemp(prefix="workspace-", dir=paths.run(plan.run_id)),
        enable_caching=True,
        cache_root=str(paths.root / "kfp-cache"),
    )
    build(plan.pipeline, plan.recipe_name)(**plan.arguments)


def main() -> None:
    """Runs one plan."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    path = Path(sys.argv[1]).resolve()
    plan = LocalRunPlan.load(path)
    paths = StatePaths(path.parent.parent.parent)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    follower = Follower(plan, paths, Settings())
    follower.start()
    status: RunStatus = "FAILED"
    try:
        run_pipeline(plan, paths)
        status = "FINISHED"
    except ZoetropeError as error:
        note_failure(path.parent, error)
        raise SystemExit(error.exit_code) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = disk_full(path.parent)
        note_failure(path.parent, full)
        raise SystemExit(full.exit_code) from error
    except RuntimeError as error:
        print(f"kfp.local: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_STEP_FAILED) from error
    except SystemExit:
        status = "KILLED"
        raise
    finally:
        follower.finish(status)


def note_failure(directory: Path, error: ZoetropeError) -> None:
    """Leaves a failure of the driver itself where the supervisor looks."""
    fields = {"step": "driver", "headline": error.headline, "hint": error.hint, "exit_code": error.exit_code}
    (directory / "failure.json").write_text(json.dumps(fields | {"error": "ZoetropeError", "message": str(error)}))


if __name__ == "__main__":
    main()
