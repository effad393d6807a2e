"""The ledger: who held what for how long. Money is derived from it, never typed in."""

from zoetrope.infra.ledger.chain import LedgerChain
from zoetrope.infra.ledger.collect import collect, next_attempt
from zoetrope.infra.ledger.entry import LedgerEntry
from zoetrope.infra.ledger.pod_ledger import PodFacts, PodLedger

__all__ = ["LedgerChain", "LedgerEntry", "PodFacts", "PodLedger", "collect", "next_attempt"]
