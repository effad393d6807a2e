"""Text encoders: tiny ones made, saved, loaded and used like real ones."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

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


PROMPTS = ["", "red", "a red circle moving left", "a blue circle " * 9]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return build_tiny_text_encoders(tmp_path_factory.mktemp("parity"), CAPTIONS, seed=3)


def direct(folders, ids):
    """T5 and CLIP called as the library's user would, without any attention mask."""
    t5 = T5EncoderModel.from_pretrained(folders[0]).eval()
    clip = CLIPTextModel.from_pretrained(folders[1]).eval()
    with torch.no_grad():
        return t5(input_ids=ids[0]).last_hidden_state, clip(input_ids=ids[1]).pooler_output


def test_padded_text_is_what_transformers_gives_for_filled_up_captions(folders):
    """As the released code: 512 and 77 tokens, no attention mask, last hidden state and pooler output."""
    ids = [
        AutoTokenizer.from_pretrained(folder)(
            PROMPTS, max_length=limit, padding="max_length", truncation=True, return_tensors="pt"
        )["input_ids"]
        for folder, limit in zip(folders, (512, 77), strict=True)
    ]
    assert [tuple(each.shape) for each in ids] == [(4, 512), (4, 77)]
    expected_t5, expected_clip = direct(folders, ids)
    encoders = load_text_encoders(*folders, mode="padded")
    t5, clip = encoders.encode_text(PROMPTS)
    assert torch.equal(torch.stack(t5), expected_t5)
    assert torch.equal(clip, expected_clip)
    null_t5, null_clip = encoders.null()
    assert null_t5.shape == (512, 64)
    torch.testing.assert_close(null_t5, expected_t5[0])
    torch.testing.assert_close(null_clip, expected_clip[0])


def test_ragged_text_is_what_transformers_gives_for_each_caption_alone(folders):
    t5, clip = load_text_encoders(*folders, mode="ragged").encode_text(PROMPTS)
    for prompt, ours_t5, ours_clip in zip(PROMPTS, t5, clip, strict=True):
        ids = [AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt")["input_ids"] for folder in folders]
        expected_t5, expected_clip = direct(folders, ids)
        assert torch.equal(ours_t5, expected_t5[0])
        assert torch.equal(ours_clip, expected_clip[0])


def test_the_modes_differ_for_t5_and_not_for_clip(folders):
    """T5 sees the padding; CLIP is causal and pools at the end of the text, which stands before it."""
    ragged_t5, ragged_clip = load_text_encoders(*folders).encode_text(["red"])
    padded_t5, padded_clip = load_text_encoders(*folders, mode="padded").encode_text(["red"])
    assert not torch.allclose(padded_t5[0][:2], ragged_t5[0], atol=1e-3)
    torch.testing.assert_close(padded_clip, ragged_clip)


def test_an_unknown_mode_is_refused(folders):
    with pytest.raises(ValueError, match="text mode has to be one of ragged, padded, not 'masked'"):
        load_text_encoders(*folders, mode="masked")


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
