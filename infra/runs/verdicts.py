"""Verdicts of a run: which of its steps failed permanently, so that KFP's automatic retries of them end at once."""

from __future__ import annotations

import json
import sys

from zoetrope.infra.errors import ZoetropeError, placed
from zoetrope.infra.references import canonical_json
from zoetrope.infra.store import Store


class Verdicts:
    """`verdicts/RUN/STEP.json`: {headline, hint} of a failure that a repetition would not fix.

    Args:
        store: where they lie.
        run_id: the pipeline run.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = run_id

    def write(self, step: str, error: ZoetropeError) -> None:
        """A failure that a repetition would not fix: the next automatic retry ends at once with the same message."""
        self.store.put_bytes(self._key(step), canonical_json({"headline": error.headline, "hint": error.hint}))

    def get(self, step: str) -> ZoetropeError | None:
        """The standing verdict of a step."""
        uri = self.store.uri(self._key(step))
        if not self.store.exists(uri):
            return None
        found = json.loads(self.store.read(uri))
        return ZoetropeError(str(found["headline"]), str(found["hint"]))

    def all(self) -> dict[str, ZoetropeError]:
        """Step -> its standing verdict, of all steps that have one."""
        found = {}
        for uri in self.store.list(f"verdicts/{self.run_id}/"):
            step = uri.rpartition("/")[2].removesuffix(".json")
            said = json.loads(self.store.read(uri))
            found[step] = ZoetropeError(str(said["headline"]), str(said["hint"]))
        return found

    def clear(self, step: str) -> None:
        """Forgets the verdict of one step."""
        self.store.delete(self.store.uri(self._key(step)))

    def clear_all(self) -> list[str]:
        """Forgets all verdicts of the run, before a person's retry; returns the steps."""
        steps = []
        for uri in list(self.store.list(f"verdicts/{self.run_id}/")):
            self.store.delete(uri)
            steps.append(uri.rpartition("/")[2].removesuffix(".json"))
        return steps

    def refuse_known_failure(self, step: str, *, retry: int) -> None:
        """Ends an automatic retry of a step that failed permanently.

        KFP cannot tell a user's mistake from a lost node and repeats both. A retry that a person asks for starts
        counting from zero and is let through.

        Args:
            step: name of the step.
            retry: how often KFP has repeated the step by itself; 0 for the first try.

        Raises:
            SystemExit: with the exit code of the first failure, after its message.
        """
        known = self.get(step)
        if known is None:
            return
        if not retry:
            self.clear(step)
            return
        print(f"zoetrope: {placed(step, str(known))}", file=sys.stderr)  # noqa: T201
        raise SystemExit(known.exit_code)

    def note_failure(self, step: str, error: BaseException) -> None:
        """Keeps the verdict of a failure that a repetition would not fix; others leave none."""
        if isinstance(error, ZoetropeError):
            if not error.retryable:
                self.write(step, error)
        elif isinstance(error, Exception) and not isinstance(error, OSError):
            # A fault of ours: the same input gives the same fault.
            headline = f"{type(error).__name__}: {error}"
            hint = "this is a fault of zoetrope; the first attempt's log says where"
            self.write(step, ZoetropeError(headline[:500], hint))

    def _key(self, step: str) -> str:
        return f"verdicts/{self.run_id}/{step}.json"
