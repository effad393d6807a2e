"""The text section of a dataset: encoder folders and the embeddings of the empty caption, in the store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from zoetrope.components.encode.config import TextConfig
from zoetrope.components.encode.tasks import TextParts
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, put_file_content
from zoetrope.model.text import T5_MAX_TOKENS


def stored_encoders(config: TextConfig, store: Store) -> tuple[dict[str, str], dict[str, str]]:
    """References of the files of the T5 and the CLIP encoder, by name; none of tiny ones, which the workers build.

    Raises:
        ZoetropeError: a configured folder is not there.
    """
    if config.kind == "tiny":
        return {}, {}
    folders = Path(config.t5_folder), Path(config.clip_folder)
    for key, folder in zip(("t5_folder", "clip_folder"), folders, strict=True):
        if not (folder / "config.json").is_file():
            raise ZoetropeError(
                f"encode.text.{key}: no Hugging Face model (config.json) in {str(folder)!r}",
                "give the local folder of the encoder, or set encode.text.kind to tiny",
            )
    return stored_folder(store, folders[0]), stored_folder(store, folders[1])


def stored_folder(store: Store, folder: Path) -> dict[str, str]:
    """Stores all files of a folder; name below it -> reference."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): str(put_file_content(store, path)) for path in files}


def text_section(config: TextConfig, parts: TextParts) -> dict[str, Any]:
    """The manifest's `text`.

    `t5_tokens` stands in it where it is not the usual limit: whoever samples has to embed as training did.
    """
    return {
        "mode": config.mode,
        **({"t5_tokens": config.t5_tokens} if config.t5_tokens != T5_MAX_TOKENS else {}),
        **asdict(parts),
    }
