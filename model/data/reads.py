"""Range reads: neighbours joined, local files read where they lie, all others in parallel through the store's port."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Read = Callable[[str, int, int], bytes]
"""`read(uri, start, length)` gives `length` bytes of the object at `uri`, from byte `start`; fewer where it ends."""
LocalPath = Callable[[str], Path | None]
"""`local(uri)` gives the file behind a URI, or None where it is not on this machine's disk."""
Bytes = npt.NDArray[np.uint8]

JOINED_BYTES = 16 << 20  # neighbours are joined up to this; what is longer goes to several requests at once
OPEN_FILES = 64


class Range(NamedTuple):
    """Bytes `start` to `end` (exclusive) of the object at `uri`."""

    uri: str
    start: int
    end: int


class RangeReader:
    """Reads many ranges at once; may be used by several threads.

    Files that `local` knows are read by `pread` (not mapped: a file that is cut short under a map ends the process),
    after the kernel was told of all of them; other objects by `read`, up to `parallel` at a time.
    """

    def __init__(self, read: Read, local: LocalPath | None = None, parallel: int = 8) -> None:
        if parallel < 1:
            raise ValueError(f"parallel reads have to be at least 1, not {parallel}")
        self._read, self._local, self._parallel = read, local, parallel
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = Lock()

    def fetch(self, wanted: Sequence[Range]) -> list[Bytes]:
        """The bytes of each range, in the order given; shorter where the object ends before.

        The arrays are writable; neighbours share memory. Equal ranges are read once.
        """
        runs = joined(wanted)
        files = [self._file(run.uri) for run in runs]
        for run, file in zip(runs, files, strict=True):
            if file is not None and len(runs) > 1:
                os.posix_fadvise(file.descriptor, run.start, run.end - run.start, os.POSIX_FADV_WILLNEED)
        remote = [run for run, file in zip(runs, files, strict=True) if file is None]
        # What is sent first is on its way while local files are read.
        pending = self._threads().map(self._ask, remote) if len(remote) > 1 else map(self._ask, remote)
        data = {run: _pread(file, run) for run, file in zip(runs, files, strict=True) if file is not None}
        data.update(zip(remote, pending, strict=True))
        return _cut(wanted, runs, data)

    def close(self) -> None:
        """Closes files and ends threads; the reader may be used again."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._files.clear()
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def _ask(self, run: Range) -> Bytes:
        data = self._read(run.uri, run.start, run.end - run.start)
        return np.frombuffer(bytearray(data), np.uint8)

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._parallel, "range-read")
            return self._pool

    def _file(self, uri: str) -> OpenFile | None:
        if self._local is None:
            return None
        with self._lock:
            found = self._files.get(uri)
            if found is not None:
                self._files.move_to_end(uri)
                return found
        path = self._local(uri)
        if path is None:
            return None
        try:
            file = OpenFile(path)
        except FileNotFoundError:
            return None  # the port says so in its own words
        with self._lock:
            self._files[uri] = file
            while len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)
        return file


def joined(wanted: Iterable[Range]) -> list[Range]:
    """Ranges without repetition; neighbours are joined where that stays within `JOINED_BYTES`. Sorted."""
    runs: list[Range] = []
    for each in sorted(set(wanted)):
        last = runs[-1] if runs else Range("", 0, 0)
        touches = last.uri == each.uri and each.start <= last.end
        # What overlaps is read once, however long the run becomes.
        if touches and (each.start < last.end or each.end - last.start <= JOINED_BYTES):
            runs[-1] = Range(each.uri, last.start, max(last.end, each.end))
        else:
            runs.append(each)
    return runs


class OpenFile:
    """An open file; closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, start: int, length: int) -> bytes:
        """Bytes from `start`; fewer where the file ends."""
        return os.pread(self.descriptor, length, start)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _pread(file: OpenFile, run: Range) -> Bytes:
    buffer = np.empty(run.end - run.start, np.uint8)
    done = 0
    while done < len(buffer):
        count = os.preadv(file.descriptor, [buffer.data[done:]], run.start + done)
        if count == 0:
            break
        done += count
    return buffer[:done]


def _cut(wanted: Sequence[Range], runs: Sequence[Range], data: dict[Range, Bytes]) -> list[Bytes]:
    """The part of each range in the run that holds it."""
    pieces: dict[Range, Bytes] = {}
    at = 0
    for each in sorted(set(wanted)):
        while runs[at].uri != each.uri or runs[at].end < each.end:
            at += 1
        start = each.start - runs[at].start
        pieces[each] = data[runs[at]][start : start + each.end - each.start]
    return [pieces[each] for each in wanted]
