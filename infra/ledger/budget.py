"""Budget of a run: what a job may cost at most is set aside before it starts, and given back when it has ended.

Chains in `ledger/RUN/budget/`, none of which is ever changed:

- `JOB.ATTEMPT.TOKEN.claim.jsonl`: somebody wants to start this attempt at a job; counts until it is taken back.
- `JOB.ATTEMPT.jsonl`: `reserved`; the claim was checked against the budget.
- `JOB.ATTEMPT.settled.jsonl`: the same `reserved` and `settled`, what the job really cost.

A store has no lock, so who reserves writes the claim first and counts afterwards: of two who do so at the same time
at least one sees the other. Where both see each other and the budget has room for one alone, both may be refused,
never both be let in.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger.collect import collect
from zoetrope.infra.ledger.entry import LedgerEntry
from zoetrope.infra.ledger.events import Event, checked_name, read_chain, read_folder, run_folder, write_chain
from zoetrope.infra.ledger.open_runs import note_open_run
from zoetrope.infra.prices import PriceSheet, cost, load_price_sheet
from zoetrope.infra.resources import Resources
from zoetrope.infra.store import Store

if TYPE_CHECKING:
    from zoetrope.infra.placement import Placement

_KEY = re.compile(
    r"ledger/[^/]+/budget/(?P<job>[^/]+?)\.(?P<attempt>[0-9]+)"
    r"(\.(?P<token>[0-9a-f]{32})\.claim|\.(?P<settled>settled))?\.jsonl"
)


@dataclass(frozen=True)
class Reservation:
    """What is set aside for one attempt at a job.

    Attributes:
        job: name of the TrainJob.
        attempt: number of the attempt, from 1.
        usd: the most that it may cost: all of its resources until its deadline.
        accepted: whether it was checked against the budget; False for a claim whose writer is about to, or was killed.
        settled_usd: what it cost; None while it is open.
    """

    job: str
    attempt: int
    usd: Decimal
    accepted: bool
    settled_usd: Decimal | None = None

    @property
    def settled(self) -> bool:
        """Whether it has ended."""
        return self.settled_usd is not None


def reserve(
    store: Store,
    run_id: str,
    job: str,
    attempt: int,
    placement: Placement,
    *,
    price_sheet: str,
    budget_usd: str = "",
    namespace: str = "",
    workflow: str = "",
    clock: Callable[[], float] = time.time,
) -> Reservation:
    """Sets aside what a job may cost until its deadline. A second call for the same attempt answers the first one's.

    Args:
        store: where the ledger lies.
        run_id: the pipeline run.
        job: name of the TrainJob.
        attempt: number of the attempt, from 1.
        placement: resources, nodes and deadline of the job.
        price_sheet: name of the run's price sheet.
        budget_usd: the most that the run may cost; empty for no limit.
        namespace: of the run; with it the reaper settles what is reserved also where the run is deleted meanwhile.
        workflow: name of the run's Argo Workflow.
        clock: seconds since the epoch.

    Raises:
        ZoetropeError: budget less what is spent and what is reserved does not cover it, or this attempt has ended
            already; nothing is set aside.
    """
    base = f"{_folder(run_id)}{checked_name(job)}.{attempt}"
    known = reservations(store, run_id).get((job, attempt))
    if known is not None and known.settled:
        raise ZoetropeError(
            f"budget: attempt {attempt} of {job} has ended and is settled",
            f"start it as attempt {next_job_attempt(store, run_id, job)}",
        )
    if known is not None and known.accepted:
        return known
    sheet = load_price_sheet(price_sheet)
    resources, usd = _resources(placement), maximum_cost(placement, sheet)
    body = {"usd": str(usd), "resources": resources.model_dump(), "deadline": placement.deadline}
    body |= {"job": job, "attempt": attempt, "price_sheet": sheet.name}
    chain = write_chain([Event.next_after([], "reserved", body, clock())])
    if namespace:
        note_open_run(store, namespace, run_id, workflow)
    claim = store.put_bytes(f"{base}.{uuid.uuid4().hex}.claim.jsonl", chain)
    if budget_usd:
        try:
            _check(store, run_id, (job, attempt), Decimal(budget_usd), usd, sheet)
        except ZoetropeError:
            store.delete(claim)
            raise
    store.put_bytes(f"{base}.jsonl", chain)
    return Reservation(job, attempt, usd, accepted=True)


def settle(store: Store, run_id: str, job: str, attempt: int, *, clock: Callable[[], float] = time.time) -> Decimal:
    """Ends a reservation with what the job's pods cost by the ledger, so collect them first.

    The price sheet is the reservation's own, whoever settles it and whatever sheets are there by then. A second call
    changes nothing and answers the first one's amount; without a reservation there is nothing to settle.
    """
    found = _read(store, run_id)
    mine = {key: events for key, events in found.items() if _id(key) == (job, attempt)}
    for key, events in mine.items():
        if _names(key)["settled"]:
            return Decimal(events[-1].body["usd"])
    if not mine:
        return Decimal(0)
    # The accepted one where there is one; else a claim whose writer was killed before it could take it back.
    reserved = mine[min(mine, key=len)][:1]
    sheet = load_price_sheet(reserved[0].body["price_sheet"])
    usd = _cost_of(collect(store, run_id), sheet, (job, attempt))
    body = {"usd": str(usd), "price_sheet": sheet.name}
    events = [*reserved, Event.next_after(reserved, "settled", body, max(clock(), reserved[0].time))]
    store.put_bytes(f"{_folder(run_id)}{job}.{attempt}.settled.jsonl", write_chain(events))
    return usd


def next_job_attempt(store: Store, run_id: str, job: str) -> int:
    """The number that a job has to be made with: 1, or one more than the last attempt that ended.

    A job may be gone from the cluster and come back (a run that was terminated and is retried), so the cluster alone
    cannot tell.
    """
    ended = [each.attempt for each in reservations(store, run_id).values() if each.job == job and each.settled]
    return 1 + max(ended, default=0)


def open_reservations(store: Store, run_id: str) -> list[Reservation]:
    """What is set aside and not settled, by job and attempt; unchecked claims too."""
    return [each for _, each in sorted(reservations(store, run_id).items()) if not each.settled]


def reservations(store: Store, run_id: str) -> dict[tuple[str, int], Reservation]:
    """(job, attempt) -> what was set aside for it, open or settled."""
    found: dict[tuple[str, int], Reservation] = {}
    for key, events in _read(store, run_id).items():
        job, attempt = _id(key)
        usd, settled = Decimal(events[0].body["usd"]), None
        accepted = _names(key)["token"] is None
        if _names(key)["settled"]:
            settled = Decimal(events[-1].body["usd"])
        before = found.get((job, attempt))
        if before is not None:
            usd, accepted = max(usd, before.usd), accepted or before.accepted
            settled = before.settled_usd if settled is None else settled
        found[job, attempt] = Reservation(job, attempt, usd, accepted, settled)
    return found


def _check(store: Store, run_id: str, mine: tuple[str, int], budget: Decimal, usd: Decimal, sheet: PriceSheet) -> None:
    # Budgets are kept without a lock, by claims: the caller has written its own claim before it calls this, so two
    # callers at the same time both count the other's claim and may both be refused, but never both be accepted.
    # A job counts with the larger of its reservation (or settlement) and its cost so far, since a job that was not
    # stopped at its deadline costs more than was reserved. The caller's own claim is left out and
    # counted once, as `wanted`.
    # Reservations before entries: what is settled in between then counts twice for a moment rather than not at all.
    known = reservations(store, run_id)
    entries = collect(store, run_id)
    spent = {each: _cost_of(entries, sheet, each) for each in known}
    reserved = {each: max(known[each].usd, spent[each]) for each in known if not known[each].settled}
    settled = {each: max(known[each].settled_usd or Decimal(0), spent[each]) for each in known if each not in reserved}
    reserved.pop(mine, None)
    rest = sum((cost(entry, sheet) for entry in entries if (entry.job, entry.attempt) not in known), Decimal(0))
    gone, held = rest + sum(settled.values()), sum(reserved.values(), Decimal(0))
    wanted = max(usd, known[mine].usd) if mine in known else usd
    if gone + held + wanted > budget:
        raise ZoetropeError(
            f"budget: {mine[0]} may cost up to {money(wanted)} USD and only "
            f"{money(max(budget - gone - held, Decimal(0)))} of {money(budget)} USD are left "
            f"({money(gone)} spent, {money(held)} reserved)",
            "raise budget_usd, shorten the deadline, or ask for fewer resources",
        )


def maximum_cost(placement: Placement, sheet: PriceSheet) -> Decimal:
    """USD that a job may cost: all that its pods ask for until its deadline."""
    return cost(LedgerEntry("", "", 1, _resources(placement), 0.0, float(placement.deadline), "open"), sheet)


def _resources(placement: Placement) -> Resources:
    """What all pods of the job ask for: that is what the ledger bills."""
    return Resources(
        cpu=placement.nodes * (placement.cpu_request or placement.cpu),
        memory_gb=placement.nodes * placement.memory_gb,
        gpus=placement.nodes * placement.gpus,
        gpu_kind=placement.gpu_kind if placement.gpus else "",
    )


def _cost_of(entries: Iterable[LedgerEntry], sheet: PriceSheet, job: tuple[str, int]) -> Decimal:
    return sum((cost(entry, sheet) for entry in entries if (entry.job, entry.attempt) == job), Decimal(0))


def money(usd: Decimal) -> str:
    """To the cent; small amounts to two digits, so that two that differ look different."""
    return f"{usd:.2f}" if usd >= 1 or not usd else f"{float(usd):.2g}"


def _read(store: Store, run_id: str) -> dict[str, list[Event]]:
    found = read_folder(store, _folder(run_id), _KEY)
    return {key: read_chain(data, store.uri(key), first="reserved") for key, data in found.items()}


def _folder(run_id: str) -> str:
    return f"{run_folder(run_id)}budget/"


def _names(key: str) -> re.Match[str]:
    names = _KEY.fullmatch(key)
    assert names is not None
    return names


def _id(key: str) -> tuple[str, int]:
    return _names(key)["job"], int(_names(key)["attempt"])


__all__ = ["Reservation", "maximum_cost", "next_job_attempt", "open_reservations", "reservations", "reserve", "settle"]
