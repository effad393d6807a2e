"""Checkpoints of one training: saved beside it, and the newest sound one found again."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from zoetrope.model.training.checkpoints.format import DamagedCheckpointError, Place, decode_index
from zoetrope.model.training.checkpoints.identity import Identity
from zoetrope.model.training.checkpoints.listing import Listing
from zoetrope.model.training.checkpoints.reader import StoreReader
from zoetrope.model.training.checkpoints.state import TrainingState
from zoetrope.model.training.checkpoints.store import CheckpointStore, StoreError
from zoetrope.model.training.checkpoints.writer import StoreWriter
from zoetrope.model.training.retention import Retention

Result = TypeVar("Result")
warn_in_log: Callable[[str], None] = logging.getLogger(__name__).warning

# One process without a group is meant; torch.distributed.checkpoint says so at each call.
warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized", UserWarning)


class Checkpoints:
    """Saves beside the training and loads the newest sound one. Made and called by all ranks alike.

    A save copies the tensors to the CPU; a thread writes them while the training goes on. A checkpoint that cannot be
    written ends no training: it is told, `failure` says why until one is written, and the next save tries again.

    Attributes:
        failure: why the last finished save failed, the same on all ranks; None where it did not.

    Args:
        store: where to.
        key: folder of all checkpoints of this training in it, the same for every attempt.
        identity: what a checkpoint must have been made with to be continued.
        retention: which stay. Those of other identities and of later steps are left alone.
        warn: told on the first rank of what could not be written, and of what is passed over in loading. Also called
            from the thread that writes.
        group: gloo group of the ranks that train, for checkpoints alone, since the thread talks in it; None makes one
            of all ranks. Without torch.distributed this process is alone.
    """

    def __init__(
        self,
        store: CheckpointStore,
        key: str,
        identity: Identity,
        retention: Retention | None = None,
        warn: Callable[[str], None] = warn_in_log,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        if group is None and dist.is_available() and dist.is_initialized():
            group = dist.new_group(backend="gloo")
        self._store, self._key, self._identity, self._group = store, key, identity, group
        self._retention, self._warn = retention or Retention(), warn
        self._rank, self._world = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=torch.cuda.is_available(),
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=torch.cuda.is_available(),
            )
        )
        self._writing: threading.Thread | None = None
        self._bug: BaseException | None = None
        self._losses: dict[Place, float | None] = {}
        self.failure: str | None = None

    def save(self, step: int, state: TrainingState) -> float:
        """Begins to write the state after `step` steps, once the former save has ended.

        Args:
            step: finished steps.
            state: copied before this returns.

        Returns:
            Seconds that this took from the training.

        Raises:
            TypeError: `notes` or `own` are not JSON.
        """
        started = time.perf_counter()
        self.finish()
        staged: dict[str, Tensor] = self._stager.stage(state.tensors())  # type: ignore[assignment]
        place = Place(step, self._identity.digest, secrets.token_hex(4))
        body = {
            "step": step,
            "fields": self._identity.fields,
            "notes": dict(state.notes),
            "validation_loss": state.validation_loss,
        }
        own = json.loads(json.dumps(state.own))
        writer = StoreWriter(self._store, self._key, place, json.dumps(body), own)
        # a daemon: whoever ends without `finish` leaves an incomplete checkpoint, which nobody takes
        self._writing = threading.Thread(
            target=self._write, args=(place, staged, writer, state.validation_loss), name="checkpoint", daemon=True
        )
        self._writing.start()
        return time.perf_counter() - started

    def finish(self) -> None:
        """Waits until nothing is being written; call it before the process group ends."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise bug

    def load_newest(self, state: TrainingState, at_most: int | None = None) -> int | None:
        """Fills a state from the newest sound checkpoint of this identity.

        Args:
            state: tensors are filled in place. Untouched where nothing is found.
            at_most: no later step.

        Returns:
            Its finished steps; None where there is none, and training begins anew.

        Raises:
            StoreError: the store cannot be read; nobody should begin anew for that.
            UnfitCheckpointError: it holds other tensors, though its identity is this one.
        """
        self.finish()
        files = self._by_first(lambda: Listing.of(self._store, self._key).files)
        listing = Listing(self._store, self._key, files)
        own = [
            place
            for place in listing.newest_first()
            if place.config == self._identity.digest and (at_most is None or place.step <= at_most)
        ]
        done: set[int] = set()
        for number, place in enumerate(own):
            if place.step in done and not listing.complete(place):
                continue  # another attempt at a step of which a complete one was told of already
            done.add(place.step)
            try:
                self._load(listing, place, state)
            except DamagedCheckpointError as error:
                before = any(listing.complete(other) for other in own[number + 1 :])
                then = "the one before it is taken" if before else "there is none before it, training begins anew"
                self._say(f"checkpoint of step {place.step}: {error}; {then}")
            else:
                return place.step
        if not own and listing.files:
            self._say_what_differs(listing)
        return None

    def discard_after(self, step: int) -> None:
        """Removes checkpoints of this identity of later steps, where training goes another way from `step` on.

        Raises:
            StoreError: they could not be removed.
        """
        self.finish()

        def remove() -> None:
            listing = Listing.of(self._store, self._key)
            for place in listing.newest_first():
                if place.config == self._identity.digest and place.step > step:
                    listing.remove(place)

        self._by_first(remove)

    def _write(self, place: Place, staged: dict[str, Tensor], writer: StoreWriter, loss: float | None) -> None:
        planner = DefaultSavePlanner(flatten_state_dict=False)
        try:
            save(
                staged,
                storage_writer=writer,
                planner=planner,
                process_group=self._group,
                no_dist=self._group is None,
            )
        except CheckpointException as error:
            self._failed(place, error)
        except Exception as error:  # noqa: BLE001 - raised by `finish` where the training can see it
            self._bug = error
        else:
            if self.failure is not None:
                self._say(f"checkpoints are written again: that of step {place.step} is complete")
            self.failure = None
            if self._rank == 0:
                self._losses[place] = loss
                self._sweep(place)

    def _failed(self, place: Place, error: CheckpointException) -> None:
        failures = {rank: wrapped[0] for rank, wrapped in error.failures.items()}
        bug = next((each for each in failures.values() if not isinstance(each, (StoreError, OSError))), None)
        if bug is not None:
            self._bug = bug
            return
        rank = min(failures)
        place_of = f" on rank {rank}" if self._world > 1 else ""
        known, self.failure = self.failure, f"{failures[rank]}{place_of}"
        if known is None:
            self._say(
                f"checkpoint of step {place.step} could not be written ({self.failure}); training goes on, "
                "the next save tries again"
            )
        if self._rank == 0:
            with suppress(StoreError):  # the store is ill already; what is left is removed by a later sweep
                listing = Listing.of(self._store, self._key)
                if place in listing.files:
                    listing.remove(place)

    def _sweep(self, done: Place) -> None:
        """Removes what retention does not keep, and what former attempts left incomplete."""
        try:
            listing = Listing.of(self._store, self._key)
            # not those behind it: another process with the same work may be further
            mine = [place for place in listing.files if place.config == done.config and place.step <= done.step]
            complete = {}
            for place in mine:
                if place.step == done.step and place != done:
                    continue  # replaced: training may have come here again because that one is damaged
                with suppress(DamagedCheckpointError):  # not complete, so not kept
                    complete[place] = self._loss(listing, place)
            kept = self._retention.kept(complete) | {done}
            for place in mine:
                if place not in kept:
                    listing.remove(place)
                    self._losses.pop(place, None)
        except StoreError as error:
            self._say(f"old checkpoints could not be removed ({error}); the next save tries again")

    def _loss(self, listing: Listing, place: Place) -> float | None:
        if place not in self._losses:
            self._losses[place] = listing.marker(place)["validation_loss"]
        return self._losses[place]

    def _load(self, listing: Listing, place: Place, state: TrainingState) -> None:
        body, index = self._by_first(lambda: listing.opened(place))
        metadata, files = decode_index(index)
        targets = state.targets(metadata)
        reader = StoreReader(self._store, f"{self._key}/{place.name}", metadata, files)
        try:
            load(
                dict(targets.tensors),
                storage_reader=reader,
                planner=DefaultLoadPlanner(flatten_state_dict=False),
                process_group=self._group,
                no_dist=self._group is None,
            )
        except CheckpointException as error:
            raise _reason(error) from error
        reader.commit()
        state.take(targets, body["notes"], body["owns"], self._rank, self._world)

    def _say_what_differs(self, listing: Listing) -> None:
        def difference() -> str:
            for place in listing.newest_first():
                with suppress(DamagedCheckpointError):  # of a training that is not continued anyway
                    body = listing.marker(place)
                    return f"of step {place.step}: {self._identity.difference(body['fields'])}"
            return ""

        said = self._by_first(difference)
        if said:
            self._say(f"training begins anew, since the settings are not those of the checkpoint {said}")

    def _by_first(self, call: Callable[[], Result]) -> Result:
        """What the first rank finds, or the error that it meets, on all ranks."""
        found: list[Any] = [None, None]
        if self._rank == 0:
            try:
                found[0] = call()
            except Exception as error:  # noqa: BLE001 - raised below, on all ranks
                found[1] = error
        if self._group is not None:
            dist.broadcast_object_list(found, src=dist.get_global_rank(self._group, 0), group=self._group)
        if found[1] is not None:
            raise found[1]
        return found[0]  # type: ignore[no-any-return]

    def _say(self, message: str) -> None:
        if self._rank == 0:
            self._warn(message)


def _reason(error: CheckpointException) -> BaseException:
    """Of the errors of several ranks the one to act on: damage only where nothing else is wrong."""
    failures = [wrapped[0] for _, wrapped in sorted(error.failures.items())]
    return next((each for each in failures if not isinstance(each, DamagedCheckpointError)), failures[0])
