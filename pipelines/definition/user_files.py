"""What a recipe names on this machine or in somebody's object store, beside what references cover."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zoetrope.components.train.perceptual import weights_file
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_bytes, digest_json
from zoetrope.infra.store import open_store
from zoetrope.pipelines.recipe.recipe import Recipe


def user_files(recipe: Recipe) -> dict[str, dict[str, Path]]:
    """Step name -> key of the recipe -> file or folder of this machine that the step reads.

    Raises:
        ZoetropeError: one is not there.
    """
    files = named_files(recipe)
    for paths in files.values():
        _require(paths)
    return files


def refuse_own_paths(plain: Recipe, chosen: Recipe) -> None:
    """Refuses files and folders that overrides name for a run on a cluster: pods would look for them on their own disk.

    Args:
        plain: the recipe without overrides; whoever wrote a path into it knows what its pods see.
        chosen: with them.

    Raises:
        ZoetropeError: names the first such key.
    """
    known = {key: path for paths in named_files(plain).values() for key, path in paths.items()}
    for paths in named_files(chosen).values():
        for key, path in paths.items():
            if known.get(key) != path:
                raise ZoetropeError(
                    f"{key}: pods do not see {path} of your machine, so no override can name it",
                    "put raw video and its catalogue into S3 (source.s3); other files go into the pods' image or "
                    "volume, and their path into the recipe file that is compiled",
                )


def named_files(recipe: Recipe) -> dict[str, dict[str, Path]]:
    """Step name -> key of the recipe -> file or folder that it names, there or not: all keys that hold a path."""
    files: dict[str, dict[str, Path]] = {}
    if recipe.source.folder:
        files["ingest"] = {"source.folder": Path(recipe.source.folder)}
    if recipe.autoencoder.pretrained:
        files["autoencoder"] = {"autoencoder.pretrained": Path(recipe.autoencoder.pretrained)}
    elif lpips := weights_file(recipe.autoencoder.training):
        files["autoencoder"] = {"autoencoder.training.losses.perceptual.weights": lpips}
    if recipe.model.pretrained:
        files["stage_1"] = {"model.pretrained": Path(recipe.model.pretrained)}
    text = recipe.encode.text
    if text.kind == "folders":
        keys = ("t5_folder", "clip_folder")
        files["encode"] = {f"encode.text.{key}": Path(getattr(text, key)) for key in keys}
    return files


def _require(paths: Mapping[str, Path]) -> None:
    for key, path in paths.items():
        if key == "source.folder" and not path.is_dir():
            raise ZoetropeError(f"source.folder: there is no folder {path}", "give --input DIR")
        if not path.exists():
            raise ZoetropeError(f"{key}: there is no file or folder {path}", "give a path on this machine")


def remote_content(recipe: Recipe, step: str) -> dict[str, str]:
    """Key of the recipe -> digest of the names in the object store that ingest reads, and of the catalogue's bytes.

    An object that is replaced under the same name is not noticed: its bytes would have to be read.
    """
    if step != "ingest" or not recipe.source.s3:
        return {}
    store = open_store(recipe.source.s3)
    names = sorted(uri.removeprefix(store.root) for uri in store.list(""))
    catalogues = [name for name in names if name.strip("/").startswith("catalogue.")]
    return {"source.s3": digest_json([names, [digest_bytes(store.read(store.root + name)) for name in catalogues]])}
