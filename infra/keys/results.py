"""Results that are known: what a step made for a key lies in the store and is used wherever the key is met again.

`results/STEP/KEY.json` is an entry, not a root: garbage collection may take the content, and an entry whose content
is not whole any more is no result.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import Field

from zoetrope.infra.config import StrictModel
from zoetrope.infra.context import StepResult
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.keys.key import KeyParts
from zoetrope.infra.references import Reference, canonical_json
from zoetrope.infra.store import Store, get_bytes, get_json, mark_used, put_content
from zoetrope.infra.store.access import DamagedContentError

log = logging.getLogger(__name__)

SCHEMA = "zoetrope.result.v1"
FOLDER = "results"
_REFERENCE = re.compile(r"\S.*@sha256:[0-9a-f]{64}", re.DOTALL)
_AT_ONCE = 16
"""Questions to the store at the same time: a generate step names a hundred videos."""


class StoredResult(StrictModel):
    """What a step made for a key.

    Attributes:
        step: name of the step.
        parts: the key, part by part.
        run_id: the run that made it.
        record: reference of the record of that execution.
        product: reference of the manifest.
        files: name -> reference of the small files beside the page.
        contents: URI of everything that the manifest names -> its size in bytes.
    """

    step: str
    parts: KeyParts
    run_id: str
    record: str
    product: str
    files: dict[str, str] = Field(default_factory=dict)
    contents: dict[str, int] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """The step key."""
        return self.parts.digest()

    def step_result(self, store: Store) -> StepResult:
        """The result as the step returned it."""
        record = get_json(store, self.record)
        return StepResult(
            product=Reference.parse(self.product),
            key_figure=record["key_figure"],
            metrics=record["metrics"],
            parameters=record["parameters"],
            artifacts={name: Reference.parse(text) for name, text in record["artifacts"].items()},
            gates=record["gates"],
            page=record["page"],
            files={name: get_bytes(store, reference) for name, reference in self.files.items()},
        )


def entry_key(step: str, key: str) -> str:
    """Where the result of a key lies in the store."""
    return f"{FOLDER}/{step}/{key}.json"


def store_result(store: Store, parts: KeyParts, run_id: str, record: str, result: StepResult) -> StoredResult:
    """Remembers what a step made; the last one to do so for a key wins, and both are right."""
    known = StoredResult(
        step=parts.step,
        parts=parts,
        run_id=run_id,
        record=record,
        product=str(result.product),
        files={name: str(put_content(store, data, "")) for name, data in sorted(result.files.items())},
        contents=_sizes(store, sorted(named_uris(get_json(store, result.product)))),
    )
    value = {"schema": SCHEMA, **known.model_dump(mode="json")}
    store.put_bytes(entry_key(parts.step, parts.digest()), canonical_json(value))
    return known


def find_result(store: Store, step: str, key: str) -> StoredResult | None:
    """The result of a key, None where there is none or what it names is not whole any more.

    The manifest's digest is checked, and that everything which it names is there with its size; the bytes of that
    are checked when they are read.
    """
    known = _read(store, entry_key(step, key))
    if known is None or known.key != key or problem(store, known):
        return None
    for reference in (known.product, known.record, *known.files.values()):
        mark_used(store, Reference.parse(reference).uri)  # garbage collection may run beside us
    return known


def problem(store: Store, known: StoredResult) -> str:
    """Why a stored result cannot be used, as one phrase; empty where it can."""
    try:
        for reference in (known.product, known.record, *known.files.values()):
            get_bytes(store, reference)
        sizes = _sizes(store, list(known.contents))
    except ZoetropeError as error:
        if error.retryable:  # the store does not answer, which says nothing about the result
            raise
        return error.headline
    changed = next((uri for uri, size in known.contents.items() if sizes[uri] != size), "")
    return f"{changed}: {sizes[changed]} bytes instead of {known.contents[changed]}" if changed else ""


def known_results(store: Store, step: str) -> Iterator[StoredResult]:
    """All results of a step, whether or not their content is still whole, in no order that means anything."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for known in pool.map(lambda uri: _read(store, uri), list(store.list(f"{FOLDER}/{step}/"))):
            if known is not None:
                yield known


def with_maker(store: Store, error: DamagedContentError) -> DamagedContentError:
    """The same error, with the step that made the content where it was not known."""
    if error.made_by:
        return error
    return DamagedContentError(error.place, error.reference, maker_of(store, error.reference))


def maker_of(store: Store, reference: Reference) -> str:
    """The step that made an object, by the known results; empty where they do not tell.

    Products of later steps may name an object as well (a checkpoint names the text encoders of its dataset): it was
    made by the one that did not read it.
    """
    naming = []
    for uri in store.list(f"{FOLDER}/"):
        known = _read(store, uri)
        if known is not None and Reference.parse(known.product).digest == reference.digest:
            return known.step
        if known is not None and reference.uri in known.contents:
            naming.append(known)
    digests = {Reference.parse(known.product).digest for known in naming}
    makers = {known.step for known in naming if not digests & set(known.parts.inputs.values())}
    return makers.pop() if len(makers) == 1 else ""


def named_uris(value: Any) -> set[str]:
    """URIs of everything that a manifest names: references, and `uri` of shards, whose checksum stands beside it."""
    if isinstance(value, str):
        return {Reference.parse(value).uri} if _REFERENCE.fullmatch(value) else set()
    if isinstance(value, Mapping):
        found = {value["uri"]} if isinstance(value.get("uri"), str) and "sha256" in value else set()
        return found.union(*(named_uris(each) for each in value.values()))
    if isinstance(value, list):
        return set().union(*(named_uris(each) for each in value))
    return set()


def _sizes(store: Store, uris: list[str]) -> dict[str, int]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(uris, pool.map(store.size, uris), strict=True))


def _read(store: Store, uri: str) -> StoredResult | None:
    """An entry; None where there is none, one that this version cannot read, or a damaged one."""
    if not store.exists(uri):
        return None
    try:
        value = json.loads(store.read(uri))
        return StoredResult.model_validate(value) if value.pop("schema", "") == SCHEMA else None
    except (ValueError, TypeError, AttributeError) as error:  # no JSON, no mapping, or not the schema's fields
        log.warning("%s is damaged and not used: %s", uri, error)
        return None
