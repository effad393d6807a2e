"""Text encoders: tiny ones made, saved, loaded and used like real ones."""

from pathlib import Path

import pytest
import torch

from zoetrope.model.text import build_tiny_text_encoders, load_text_encoders, pad_text

COLORS, DIRECTIONS = ("red", "green", "blue", "cyan"), ("left", "right", "up", "down")
CAPTIONS = [f"a {color} circle moving {direction}" for color in COLORS for direction in DIRECTIONS]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    return load_text_encoders(*build_tiny_text_encoders(tmp_path_factory.mktemp("text"), CAPTIONS, seed=3))


def test_bytes_depend_on_captions_and_seed_alone(tmp_path):
    first = build_tiny_text_encoders(tmp_path / "a", CAPTIONS, seed=3)
    second = build_tiny_text_encoders(tmp_path / "b", list(reversed(CAPTIONS)), seed=3)
    other = build_tiny_text_encoders(tmp_path / "c", CAPTIONS, seed=4)
    for here, there in zip(first, second, strict=True):
        files = sorted(path.name for path in here.iterdir())
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
        assert [(here / name).read_bytes() for name in files] == [(there / name).read_bytes() for name in files]
    assert (first[0] / "model.safetensors").read_bytes() != (other[0] / "model.safetensors").read_bytes()


def test_embeddings_have_the_length_of_the_caption(encoders):
    t5, clip = encoders.encode_text(["a red circle", "red"])
    assert [tuple(embedding.shape) for embedding in t5] == [(4, 64), (2, 64)]  # words and the end token
    assert clip.shape == (2, 64)


def test_a_caption_is_embedded_alike_in_any_company(encoders):
    alone_t5, alone_clip = encoders.encode_text([CAPTIONS[5]])
    t5, clip = encoders.encode_text(["red", *CAPTIONS, "a a a a a a a a a a"])
    torch.testing.assert_close(t5[6], alone_t5[0])
    torch.testing.assert_close(clip[6], alone_clip[0])


@pytest.mark.parametrize(("words", "of"), [(COLORS, lambda c: c.split()[1]), (DIRECTIONS, lambda c: c.split()[4])])
def test_words_can_be_read_out_of_the_pooled_embedding(encoders, words, of):
    """A linear map learned on three quarters of the combinations names the word in the others."""
    _, clip = encoders.encode_text(CAPTIONS)
    features = torch.cat([clip, torch.ones(len(clip), 1)], dim=1)
    answers = torch.nn.functional.one_hot(torch.tensor([words.index(of(caption)) for caption in CAPTIONS])).float()
    held_out = torch.tensor([index % 5 == 0 for index in range(16)])
    known = features[~held_out]
    weights = known.T @ torch.linalg.solve(known @ known.T + 0.01 * torch.eye(len(known)), answers[~held_out])
    assert torch.equal((features[held_out] @ weights).argmax(1), answers[held_out].argmax(1))


def test_unknown_words_and_the_empty_caption(encoders):
    t5, clip = encoders.encode_text(["", "zebra! €\n🦓", "RED"])
    null_t5, null_clip = encoders.null()
    assert torch.equal(t5[0], null_t5)
    assert torch.equal(clip[0], null_clip)
    assert t5[1].isfinite().all()
    torch.testing.assert_close(t5[2], encoders.encode_text(["red"])[0][0])


def test_long_captions_are_cut(tmp_path):
    encoders = load_text_encoders(*build_tiny_text_encoders(tmp_path, CAPTIONS, seed=0), max_tokens=5)
    t5, clip = encoders.encode_text(["red " * 200])
    assert t5[0].shape == (5, 64)
    assert clip.isfinite().all()


def test_a_folder_without_an_encoder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json, tokenizer_config\.json, model\.safetensors missing"):
        load_text_encoders(tmp_path, tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    t5, clip = build_tiny_text_encoders(tmp_path, CAPTIONS, seed=0)
    (t5 / "model.safetensors").unlink()
    torch.save({}, Path(t5, "pytorch_model.bin"))
    with pytest.raises(ValueError, match=r"model\.safetensors missing"):
        load_text_encoders(t5, clip)


def test_padding_is_zero_beyond_each_length():
    padded, lengths = pad_text([torch.ones(2, 3), torch.ones(4, 3)])
    assert padded.sum(dim=(1, 2)).tolist() == [6, 12]
    assert lengths.tolist() == [2, 4]
