"""Runs the encode workers and brings their results back in order.

The step's own process never imports PyTorch; the functions here that do run in the workers.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from zoetrope.components.encode.jobs import EncodedSource, SourceJob, WorkerSetup
from zoetrope.infra.errors import ZoetropeError
from zoetrope.model.data.shards import RawTensor

_AHEAD = 2  # sources in work or waiting to be written, per worker: bounds the memory


class EncodePool:
    """Worker processes with the models loaded."""

    def __init__(self, executor: ProcessPoolExecutor, workers: int) -> None:
        """Use `open_pool`."""
        self._executor = executor
        self._workers = workers

    def build_text_encoders(self, folder: str, captions: Sequence[str], seed: int) -> None:
        """Writes tiny text encoders and the tokenizer of these captions to `folder`."""
        self._executor.submit(_build_text_encoders, folder, tuple(captions), seed).result()

    def null(self) -> tuple[RawTensor, RawTensor]:
        """T5 [L, D] and CLIP [D] embeddings of the empty caption, which guidance compares with."""
        return self._executor.submit(_null).result()

    def sources(self, jobs: Iterable[SourceJob]) -> Iterator[EncodedSource]:
        """Results in the order of the jobs, a few of which run ahead."""
        waiting: deque[Future[EncodedSource]] = deque()
        for job in jobs:
            waiting.append(self._executor.submit(_source, job))
            if len(waiting) > _AHEAD * self._workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def open_pool(setup: WorkerSetup) -> Iterator[EncodePool]:
    """Starts the workers.

    They come from a fork server that has the models' code imported: a plain fork would copy the locks of this
    process's threads, and fresh interpreters would import PyTorch once each.

    Raises:
        ZoetropeError: a worker was killed, most often for want of memory (retryable).
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoetrope.components.encode.worker"])
    workers = setup.config.workers
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(setup,))
    try:
        yield EncodePool(executor, workers)
    except BrokenProcessPool as error:
        raise ZoetropeError(
            "encode: a worker process ended unexpectedly",
            "was it killed for want of memory? Set encode.workers lower and run the same command again",
            retryable=True,
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _start(setup: WorkerSetup) -> None:
    from zoetrope.components.encode.worker import start

    start(setup)


def _build_text_encoders(folder: str, captions: Sequence[str], seed: int) -> None:
    from zoetrope.components.encode.worker import build_text_encoders

    build_text_encoders(folder, captions, seed)


def _null() -> tuple[RawTensor, RawTensor]:
    from zoetrope.components.encode.worker import encode_null

    return encode_null()


def _source(job: SourceJob) -> EncodedSource:
    from zoetrope.components.encode.worker import encode_source

    return encode_source(job)
