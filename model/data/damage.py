"""What is said when content of a dataset is not what was written."""

from __future__ import annotations

from collections.abc import Sequence


class DamagedDataError(ValueError):
    """An object of a dataset is not what its digest or checksum says.

    Args:
        message: object, tensor and what is wrong.
        uri: the object; empty where it is not known.
        tensor: name of the tensor in it; empty where the whole object is meant.
        rows: the dataset's rows that cannot be read because of it, ascending: one clip for a tensor, all of the
            dataset's clips in the file where its header is damaged, none where nothing can be read without the object.
        clip_ids: the identities of these rows.

    Attributes:
        hint: what to do.
    """

    hint = "it was changed or damaged: delete it and run the step `encode` again with --fresh"

    def __init__(
        self, message: str, uri: str = "", tensor: str = "", rows: Sequence[int] = (), clip_ids: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.uri, self.tensor = uri, tensor
        self.rows, self.clip_ids = tuple(rows), tuple(clip_ids)
