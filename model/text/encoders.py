"""Captions to embeddings with frozen T5 and CLIP text encoders from local folders (Hugging Face layout).

Two modes, because the one cannot be made from the other: `padded` fills every caption up to the token limit and masks
nothing, so that the padding takes part in T5 and in the video model, which is what Open-Sora 2.0's released weights
know; `ragged` keeps each caption's own length, for training from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch

TextMode = Literal["ragged", "padded"]

T5_MAX_TOKENS = 512  # Open-Sora 2.0
CLIP_MAX_TOKENS = 77  # positions of CLIP's text model


class TextEncoders:
    """A T5 encoder and a CLIP text encoder with their tokenizers; frozen, evaluation mode.

    Attributes:
        max_tokens: T5 tokens kept of a caption; in the padded mode every caption has as many.
        mode: see above.
    """

    def __init__(
        self, t5: Any, t5_tokenizer: Any, clip: Any, clip_tokenizer: Any, max_tokens: int, mode: TextMode = "ragged"
    ) -> None:
        self.t5, self.t5_tokenizer = t5, t5_tokenizer
        self.clip, self.clip_tokenizer = clip, clip_tokenizer
        self.max_tokens, self.mode = max_tokens, mode

    @property
    def t5_width(self) -> int:
        """Width of a token embedding."""
        return int(self.t5.config.d_model)

    @property
    def clip_width(self) -> int:
        """Width of the pooled embedding."""
        return int(self.clip.config.hidden_size)

    def encode_text(self, captions: Sequence[str], *, batch_size: int = 64) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Embeds captions.

        The embedding of a caption does not depend on the captions beside it: captions run in batches of equal
        length, in the ragged mode without padding, in the padded mode all filled up to the limit. The empty string
        gives the null embedding of classifier-free guidance.

        Args:
            captions: any text; unknown words become the unknown token, long text is cut at the token limit.
            batch_size: captions per forward pass.

        Returns:
            (t5, clip): one [L, D] tensor per caption (L its number of tokens, or `max_tokens`), and [N, D'] pooled
            embeddings; on the CPU, in the encoders' dtype.
        """
        import torch

        t5_tokens = [self._tokens(self.t5_tokenizer, text, self.max_tokens) for text in captions]
        clip_tokens = [self._tokens(self.clip_tokenizer, text, CLIP_MAX_TOKENS) for text in captions]
        t5: list[torch.Tensor] = [torch.empty(0)] * len(captions)
        clip: list[torch.Tensor] = [torch.empty(0)] * len(captions)
        with torch.inference_mode():
            for group in _equal_lengths(t5_tokens, batch_size):
                # no attention mask: nothing is padded, or the padding takes part
                ids = torch.tensor([t5_tokens[i] for i in group], device=self.t5.device)
                hidden = self.t5(input_ids=ids).last_hidden_state.cpu()
                for index, embedding in zip(group, hidden, strict=True):
                    t5[index] = embedding.clone()
            for group in _equal_lengths(clip_tokens, batch_size):
                ids = torch.tensor([clip_tokens[i] for i in group], device=self.clip.device)
                pooled = self.clip(input_ids=ids).pooler_output.cpu()
                for index, embedding in zip(group, pooled, strict=True):
                    clip[index] = embedding.clone()
        return t5, torch.stack(clip)

    def null(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of the empty string: ([L, D], [D'])."""
        t5, clip = self.encode_text([""])
        return t5[0], clip[0]

    def _tokens(self, tokenizer: Any, text: str, limit: int) -> list[int]:
        padding = "max_length" if self.mode == "padded" else False
        tokens: list[int] = tokenizer(text, truncation=True, max_length=limit, padding=padding)["input_ids"]
        return tokens


def _equal_lengths(tokens: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Indices grouped by number of tokens, at most `batch_size` in a group."""
    by_length: dict[int, list[int]] = {}
    for index, sequence in enumerate(tokens):
        by_length.setdefault(len(sequence), []).append(index)
    return [
        indices[start : start + batch_size]
        for _, indices in sorted(by_length.items())
        for start in range(0, len(indices), batch_size)
    ]


def load_text_encoders(
    t5_directory: Path,
    clip_directory: Path,
    *,
    max_tokens: int = T5_MAX_TOKENS,
    mode: TextMode = "ragged",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> TextEncoders:
    """Loads both encoders from local folders; nothing is fetched, no code and no pickle in a folder is run.

    Args:
        t5_directory: folder of a `T5EncoderModel` (config.json, model.safetensors, tokenizer files).
        clip_directory: folder of a `CLIPTextModel`, likewise.
        max_tokens: T5 tokens kept of a caption.
        mode: `ragged` or `padded`.
        device: where the encoders run.
        dtype: what they compute in (bfloat16 in Open-Sora 2.0); None keeps float32.

    Raises:
        ValueError: a folder is not there or incomplete, or the mode is unknown.
    """
    if mode not in get_args(TextMode):
        raise ValueError(f"text mode has to be one of {', '.join(get_args(TextMode))}, not {mode!r}")
    from transformers import CLIPTextModel, T5EncoderModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would draw over the lines of whoever calls us
    for directory in (t5_directory, clip_directory):
        missing = [name for name in ("config.json", "tokenizer_config.json") if not (directory / name).is_file()]
        missing += [] if list(directory.glob("*.safetensors")) else ["model.safetensors"]
        if missing:
            raise ValueError(f"{directory} is no text encoder in Hugging Face layout: {', '.join(missing)} missing")
    options = {"local_files_only": True, "use_safetensors": True, **({} if dtype is None else {"dtype": dtype})}
    t5 = T5EncoderModel.from_pretrained(t5_directory, **options)
    clip = CLIPTextModel.from_pretrained(clip_directory, **options)
    for model in (t5, clip):
        model.to(device).eval().requires_grad_(False)
    return TextEncoders(t5, _tokenizer(t5_directory), clip, _tokenizer(clip_directory), max_tokens, mode)


def _tokenizer(directory: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


def pad_text(embeddings: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pads ragged T5 embeddings with zeros.

    Args:
        embeddings: B tensors [L_i, D].

    Returns:
        (padded [B, max L, D], lengths int64 [B]).
    """
    import torch

    lengths = torch.tensor([len(embedding) for embedding in embeddings])
    return torch.nn.utils.rnn.pad_sequence(list(embeddings), batch_first=True), lengths
