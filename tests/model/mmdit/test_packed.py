"""The packed call against the padded call with lengths, and what lengths mean."""

from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from zoetrope.model.attention import PackedLengths, choose_attention
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.packing import image_ids, text_ids

# per sample: text tokens, latent frames, height, width
MIXES = [
    [(5, 1, 4, 4), (9, 3, 4, 8), (1, 2, 8, 4)],
    [(7, 4, 4, 4), (7, 4, 4, 4)],
    [(3, 1, 2, 2), (12, 2, 8, 8), (6, 5, 2, 4), (2, 1, 6, 6)],
]


def samples(config, mix, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    rows = []
    for text, *video in mix:
        ids = image_ids(1, *video, config.patch_size)[0]
        rows.append(
            {
                "img": draw(len(ids), config.in_channels),
                "img_ids": ids,
                "txt": draw(text, config.context_in_dim),
                "txt_ids": text_ids(1, text)[0],
                "cond": draw(len(ids), config.cond_channels),
            }
        )
    return rows, torch.rand(len(mix), generator=generator), draw(len(mix), config.vec_in_dim)


def padded(model, rows, times, vectors, junk=7.0):
    """One batch, filled up with junk that must not matter; returns each sample's own tokens."""

    def stack(name):
        return torch.nn.utils.rnn.pad_sequence(
            [row[name] for row in rows], batch_first=True, padding_value=junk if name in ("img", "txt", "cond") else 0
        )

    lengths = {name: torch.tensor([len(row[name]) for row in rows]) for name in ("img", "txt")}
    out = model(
        stack("img"), stack("img_ids"), stack("txt"), stack("txt_ids"), times, vectors, stack("cond"),
        lengths["img"], lengths["txt"],
    )  # fmt: skip
    for sample, length in zip(out, lengths["img"], strict=True):
        assert not sample[length:].any()
    return torch.cat([sample[:length] for sample, length in zip(out, lengths["img"], strict=True)])


def packed(model, rows, times, vectors):
    cumulative = {name: torch.tensor([0, *(len(row[name]) for row in rows)]).cumsum(0) for name in ("img", "txt")}
    joined = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    return model.forward_packed(
        joined["img"], joined["img_ids"], joined["txt"], joined["txt_ids"], times, vectors,
        cumulative["img"], cumulative["txt"], joined["cond"],
    )  # fmt: skip


@pytest.mark.parametrize("number", range(len(MIXES)))
def test_packed_equals_padded_forward_and_gradient(small, number):
    model = small.randomise(MMDiT(small.config))
    rows, times, vectors = samples(small.config, MIXES[number], seed=number)
    results = []
    for call in (padded, packed):
        model.zero_grad()
        out = call(model, rows, times, vectors)
        (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(9))).sum().backward()
        results.append((out.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (wanted, gradients), (found, ours) = results
    assert small.difference(found, wanted) < 1e-5
    for name, gradient in gradients.items():
        assert small.difference(ours[name], gradient) < 1e-5, name


def test_each_packed_sample_is_as_if_alone(small):
    model = small.randomise(MMDiT(small.config))
    rows, times, vectors = samples(small.config, MIXES[0], seed=4)
    together = packed(model, rows, times, vectors)
    alone = [packed(model, [row], times[i : i + 1], vectors[i : i + 1]) for i, row in enumerate(rows)]
    assert small.difference(together, torch.cat(alone)) < 1e-5


@pytest.mark.parametrize(
    ("cumulative", "message"),
    [
        ([0, 16, 48], "end at: expected 64, found 48"),
        ([1, 16, 64], "begin with 0"),
        ([0, 16, 16, 64], "have to grow"),
        ([0.0, 16.0, 64.0], "integers"),
        ([0, 16, 32, 64], "2 packed texts and 3 packed videos"),
    ],
)
def test_cumulative_lengths_that_do_not_fit_are_refused(small, cumulative, message):
    model = small.randomise(MMDiT(small.config))
    given = small.inputs(small.config, batch=1, frames=8, height=8, width=4, text=6)
    tokens = {name: given[name][0] for name in ("img", "img_ids", "txt", "txt_ids")}
    with pytest.raises(ValueError, match=message):
        model.forward_packed(
            **tokens, timesteps=torch.rand(len(cumulative) - 1), y_vec=torch.randn(len(cumulative) - 1, 12),
            img_cumulative=torch.tensor(cumulative), txt_cumulative=torch.tensor([0, 2, 6]),
        )  # fmt: skip


def test_blocks_are_compiled_once_for_packs_of_all_sizes(small):
    def attend(query, key, value, lengths: PackedLengths):  # reads what the variable-length kernels read
        return query + key + value * lengths.longest + lengths.cumulative[-1]

    model, chosen = small.randomise(MMDiT(small.config)), choose_attention("sdpa")
    model._attention = replace(chosen, backend=replace(chosen.backend, attend_packed=attend))
    torch.compiler.reset()
    graphs = CompileCounter()
    for block in [*model.double_blocks, *model.single_blocks]:
        block.compile(backend=graphs)
    compiled = []
    for number, mix in enumerate([MIXES[0], MIXES[2], MIXES[0] + MIXES[2], MIXES[1] + MIXES[2], MIXES[2] + MIXES[2]]):
        packed(model, *samples(small.config, mix, number))
        compiled.append(graphs.frame_count)
    assert compiled[2:] == compiled[1:2] * 3, compiled
