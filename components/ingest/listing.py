"""Lists a source: every file with a name that is safe to print, and the reason where it cannot be a video."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store

VIDEO_SUFFIXES = frozenset(
    [
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".h264",
        ".hevc",
        ".ivf",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
        ".y4m",
    ]
)
CATALOGUES = ("catalogue.parquet", "catalogue.csv", "catalogue.jsonl")
SIDECARS = frozenset({*CATALOGUES, "prompts.json", "truth.json"})


@dataclass(frozen=True)
class Entry:
    """One file of a source.

    Attributes:
        key: path relative to the source with forward slashes, as the file system has it.
        path: where its bytes are; None while they are in an object store only.
        uri: in the object store; empty for local files.
        problem: why it cannot be read as a video, empty where it may be one.
    """

    key: str
    path: Path | None
    uri: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        """`key` as text that is safe to print, store and show."""
        return printable(self.key)


def printable(text: str) -> str:
    r"""Text on one line without control characters; `\n`, `\x1b`, `\udc80` for what is not printable.

    A backslash becomes two, so that different names stay different.
    """
    return "".join(
        "\\\\" if letter == "\\" else letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text
    )


def list_folder(folder: Path) -> list[Entry]:
    """All files below a local folder, sorted by name; links that leave it are named, never followed."""
    if not folder.is_dir():
        raise ZoetropeError(f"source.folder: {printable(str(folder))} is not a folder", "give a folder with videos")
    root = folder.resolve()
    entries = sorted(_walk(root, root), key=lambda entry: os.fsencode(entry.key))
    stems = {_stem(entry.key) for entry in entries if _is_video_name(entry.key)}
    return [entry for entry in entries if not _is_sidecar(entry.key, stems)]


def list_store(store: Store) -> list[Entry]:
    """All objects of a store, sorted by key."""
    keys = {unquote(uri[len(store.root) :].lstrip("/")): uri for uri in store.list("")}
    stems = {_stem(key) for key in keys if _is_video_name(key)}
    return [Entry(key, None, keys[key]) for key in sorted(keys) if not _is_sidecar(key, stems)]


def _walk(folder: Path, root: Path) -> Iterator[Entry]:
    try:
        children = sorted(os.scandir(folder), key=lambda child: os.fsencode(child.name))
    except OSError as error:
        yield Entry(_key(folder, root), folder, problem=f"unreadable: the folder cannot be listed ({error.strerror})")
        return
    for child in children:
        path = Path(child.path)
        key = _key(path, root)
        if child.name.startswith("."):
            yield Entry(key, path, problem="hidden: the name begins with a dot")
        elif child.is_symlink():
            yield _link(path, key, root)
        elif child.is_dir():
            if _is_video_name(key):
                yield Entry(key, path, problem="not_a_file: a folder with the name of a video")
            yield from _walk(path, root)
        else:
            yield Entry(key, path, problem=special_file(child.stat(follow_symlinks=False).st_mode))


def _link(path: Path, key: str, root: Path) -> Entry:
    """A symbolic link: only one to a plain file inside the folder is followed."""
    target = Path(os.path.realpath(path))
    if target != root and root not in target.parents:
        return Entry(key, path, problem="symlink_outside: a link that leads out of the folder is not followed")
    if target.is_dir():
        return Entry(key, path, problem="symlink_folder: a link to a folder is not followed")
    if not target.exists():
        return Entry(key, path, problem="symlink_broken: the link leads nowhere")
    return Entry(key, target, problem=special_file(target.stat().st_mode))


def special_file(mode: int) -> str:
    """Why a file of this mode is not read: reading a pipe or a device may wait for ever. Empty for a plain file."""
    if stat.S_ISREG(mode):
        return ""
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return f"not_a_file: {kinds.get(stat.S_IFMT(mode), 'a special file')}"


def _key(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _stem(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _is_video_name(key: str) -> bool:
    return PurePosixPath(key).suffix.lower() in VIDEO_SUFFIXES


def _is_sidecar(key: str, stems: set[str]) -> bool:
    """Whether a file describes videos: a catalogue, or the caption file of a video beside it."""
    return key in SIDECARS or (PurePosixPath(key).suffix == ".txt" and _stem(key) in stems)
