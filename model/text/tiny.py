"""Tiny text encoders with seeded random weights, for learning on a CPU in minutes.

They are of the real transformers classes and saved in the real folder layout, so that they are loaded and used by the
same code as T5-XXL and CLIP-L. Random frozen weights keep the identity of words, which is all that a small
vocabulary of colours and directions needs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

PAD, END, UNKNOWN, START = "<pad>", "</s>", "<unk>", "<s>"
SPECIAL_TOKENS = (PAD, END, UNKNOWN, START)


@dataclass(frozen=True)
class TinyTextConfig:
    """Size of the tiny encoders.

    Attributes:
        width: width of both encoders' embeddings.
        layers: transformer layers of each.
        heads: attention heads.
        clip_mixing: how strongly CLIP's random attention mixes the words into the pooled embedding.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    width: int = 64
    layers: int = 1
    heads: int = 4
    clip_mixing: float = 4.0


def build_tiny_text_encoders(
    directory: Path, captions: Sequence[str], seed: int, config: TinyTextConfig | None = None
) -> tuple[Path, Path]:
    """Makes and saves a T5 encoder and a CLIP text encoder; the bytes depend on the arguments alone.

    Args:
        directory: `t5/` and `clip/` are written below it.
        captions: the words of these captions are the vocabulary, sorted; other words become the unknown token.
        seed: of the random weights.
        config: sizes.

    Returns:
        (t5 folder, clip folder), for `load_text_encoders`.
    """
    config = config or TinyTextConfig()
    folders = directory / "t5", directory / "clip"
    vocabulary = _vocabulary(captions)
    for number, (folder, build) in enumerate(zip(folders, (_t5, _clip), strict=True)):
        folder.mkdir(parents=True, exist_ok=True)
        model = build(vocabulary, config)
        _fill(model, seed + number, config)
        model.save_pretrained(folder, safe_serialization=True)
        _save_tokenizer(folder, vocabulary, start=build is _clip)
    return folders


def _words() -> Any:
    """How text becomes words: lower case, split at white space and punctuation."""
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return normalizer, pre_tokenizers.Whitespace()


def _vocabulary(captions: Sequence[str]) -> dict[str, int]:
    normalizer, splitter = _words()
    words = {word for text in captions for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    return {word: index for index, word in enumerate([*SPECIAL_TOKENS, *sorted(words - set(SPECIAL_TOKENS))])}


def _save_tokenizer(folder: Path, vocabulary: dict[str, int], *, start: bool) -> None:
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _words()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}" if start else f"$A {END}",
        special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, bos_token=START
    ).save_pretrained(folder)
    # sorted keys: the library writes them in an order that is not promised
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2, sort_keys=True) + "\n")


def _t5(vocabulary: dict[str, int], config: TinyTextConfig) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(vocabulary),
            d_model=config.width,
            d_kv=config.width // config.heads,
            d_ff=2 * config.width,
            num_layers=config.layers,
            num_heads=config.heads,
            feed_forward_proj="gated-gelu",
            pad_token_id=vocabulary[PAD],
            eos_token_id=vocabulary[END],
        )
    )


def _clip(vocabulary: dict[str, int], config: TinyTextConfig) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=config.width,
            intermediate_size=2 * config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            pad_token_id=vocabulary[PAD],
            bos_token_id=vocabulary[START],
            eos_token_id=vocabulary[END],
        )
    )


def _fill(model: Any, seed: int, config: TinyTextConfig) -> None:
    """Random weights of our own, since the libraries' initialisation neither takes a seed nor mixes enough."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        with torch.no_grad():
            _fill_parameter(name, parameter, generator, config)


def _fill_parameter(name: str, parameter: torch.Tensor, generator: torch.Generator, config: TinyTextConfig) -> None:
    import torch

    fan_in = parameter.shape[-1]
    if parameter.ndim < 2:
        parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    elif "relative_attention_bias" in name or "position_embedding" in name:
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    elif "token_embedding" in name or "shared" in name or "embed_tokens" in name:
        torch.nn.init.normal_(parameter, std=1.0, generator=generator)
    else:
        # one layer of attention adds about as much as the words themselves
        mixing = config.clip_mixing if "out_proj" in name else 1.0
        torch.nn.init.normal_(parameter, std=mixing * fan_in**-0.5, generator=generator)
