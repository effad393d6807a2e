"""The text section of a dataset: encoder folders and the embeddings of the empty caption, in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoetrope.components.encode.config import TextConfig
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import Store, put_file_content
from zoetrope.model.data.shards import RawTensor, write_tensors
from zoetrope.model.text import T5_MAX_TOKENS

TINY_T5, TINY_CLIP = "t5", "clip"  # folders that the tiny encoders are written to


def encoder_folders(config: TextConfig, tiny: Path) -> tuple[Path, Path]:
    """Folders of the T5 and the CLIP encoder; `tiny` is where tiny ones are built.

    Raises:
        ZoetropeError: a configured folder is not there.
    """
    if config.kind == "tiny":
        return tiny / TINY_T5, tiny / TINY_CLIP
    folders = Path(config.t5_folder), Path(config.clip_folder)
    for key, folder in zip(("t5_folder", "clip_folder"), folders, strict=True):
        if not (folder / "config.json").is_file():
            raise ZoetropeError(
                f"encode.text.{key}: no Hugging Face model (config.json) in {str(folder)!r}",
                "give the local folder of the encoder, or set encode.text.kind to tiny",
            )
    return folders


def text_section(
    config: TextConfig, folders: tuple[Path, Path], null: tuple[RawTensor, RawTensor], context: StepContext
) -> dict[str, Any]:
    """Stores the encoders and the embeddings of the empty caption; returns the manifest's `text`.

    `t5_tokens` stands in it where it is not the usual limit: whoever samples has to embed as training did.
    """
    return {
        "mode": config.mode,
        **({"t5_tokens": config.t5_tokens} if config.t5_tokens != T5_MAX_TOKENS else {}),
        "t5": _stored(context.store, folders[0]),
        "clip": _stored(context.store, folders[1]),
        "null_t5": _stored_tensor(context, "t5", null[0]),
        "null_clip": _stored_tensor(context, "clip", null[1]),
    }


def _stored(store: Store, folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): str(put_file_content(store, path)) for path in files}


def _stored_tensor(context: StepContext, name: str, tensor: RawTensor) -> str:
    path = context.work / f"null_{name}.safetensors"
    write_tensors(path, {name: tensor})
    return str(put_file_content(context.store, path))
