"""Choosing attention kernels, and what the CUDA kernels are called with (a recording stand-in takes their place)."""

import itertools
import logging
import re
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from zoetrope.model.attention import PackedLengths, backend_names, choose_attention
from zoetrope.model.attention import choice as table
from zoetrope.model.attention.kernels import flash_2, flash_2_packed, sdpa, sdpa_packed
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.packing import image_ids, text_ids

CUDA = torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU of a given generation and given packages, as far as choosing looks at it."""
    activated = []
    monkeypatch.setattr(table, "activate_flash_attention_impl", activated.append)
    monkeypatch.setattr(table, "current_flash_attention_impl", lambda: activated[-1] if activated else None)
    monkeypatch.setattr(table, "restore_flash_attention_impl", lambda: activated.append(None))

    def make(capability, *modules):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        for name in ("flash_attn", "flash_attn_interface", "flash_attn.cute.interface"):
            module = ModuleType(name) if name in modules else None
            if module is not None:
                module.flash_attn_func = module._flash_attn_fwd = object()
            monkeypatch.setitem(sys.modules, name, module)
        for name in ("flash_attn", "flash_attn.cute"):  # parents of the module above
            if any(module.startswith(f"{name}.") for module in modules) and name not in modules:
                monkeypatch.setitem(sys.modules, name, ModuleType(name))
        return activated

    return make


@pytest.mark.parametrize(
    ("capability", "modules", "best"),
    [
        ((9, 0), ("flash_attn", "flash_attn_interface", "flash_attn.cute.interface"), "flash_3"),
        ((9, 0), ("flash_attn", "flash_attn.cute.interface"), "flash_4"),
        ((10, 0), ("flash_attn", "flash_attn_interface", "flash_attn.cute.interface"), "flash_4"),
        ((8, 0), ("flash_attn", "flash_attn_interface", "flash_attn.cute.interface"), "flash_2"),
        ((9, 0), (), "sdpa"),
        ((7, 5), ("flash_attn",), "sdpa"),
    ],
)
def test_auto_takes_the_best_that_is_there(gpu, capability, modules, best):
    activated = gpu(capability, *modules)
    choice = choose_attention("auto", CUDA, torch.bfloat16)
    assert (choice.name, choice.note) == (best, "")
    assert activated == {"flash_3": ["FA3"], "flash_4": ["FA4"]}.get(best, [])
    assert choose_attention("sdpa", CUDA, torch.bfloat16).name == "sdpa"
    assert activated[-1:] in ([], [None])  # PyTorch's own kernel serves again


@pytest.mark.parametrize(
    ("name", "capability", "dtype", "missing"),
    [
        ("flash_2", (9, 0), torch.bfloat16, "the package flash-attn"),
        ("flash_3", (9, 0), torch.bfloat16, "the package flash-attn-3"),
        ("flash_3", (10, 0), torch.bfloat16, r"compute capability 9\.x \(this one has 10\.0\)"),
        ("flash_4", (9, 0), torch.bfloat16, "the package flash-attn-4"),
        ("flash_4", (8, 0), torch.bfloat16, r"compute capability 9\.0 or newer \(this one has 8\.0\)"),
        ("flash_2", (9, 0), torch.float32, r"float16 or bfloat16 \(the model computes in float32"),
    ],
)
def test_what_is_missing_is_said_in_one_line(gpu, caplog, name, capability, dtype, missing):
    gpu(capability)
    with caplog.at_level(logging.WARNING):
        choice = choose_attention(name, CUDA, dtype)
    assert choice.name == "sdpa"
    assert "\n" not in choice.note
    assert re.search(missing, choice.note)
    assert choice.note.endswith("sdpa serves instead")
    assert caplog.messages == [choice.note]


def test_on_a_cpu_sdpa_serves_and_says_why():
    assert choose_attention().name == "sdpa"
    assert "a CUDA device (the model is on cpu)" in choose_attention("flash_2", "cpu", torch.bfloat16).note
    with pytest.raises(ValueError, match="unknown attention backend 'flash'; there are auto, flash_3"):
        choose_attention("flash")
    assert backend_names()[-1] == "sdpa"


class FlashStandIn(ModuleType):
    """Records what the kernels of flash-attn 2 are called with, and computes the same."""

    def __init__(self):
        super().__init__("flash_attn")
        self.calls = []

    def flash_attn_func(self, query, key, value, **options):
        self.calls.append(("equal", query.dtype, tuple(query.shape), options))
        assert query.dtype == key.dtype == value.dtype
        heads = (each.transpose(1, 2) for each in (query, key, value))
        return F.scaled_dot_product_attention(*heads, scale=options["softmax_scale"]).transpose(1, 2)

    def flash_attn_varlen_func(self, query, key, value, **options):
        self.calls.append(("packed", query.dtype, tuple(query.shape), options))
        bounds = options["cu_seqlens_q"].tolist()
        return torch.cat(
            [
                self.flash_attn_func(*(each[None, start:end] for each in (query, key, value)),
                                     softmax_scale=options["softmax_scale"])[0]
                for start, end in itertools.pairwise(bounds)
            ]
        )  # fmt: skip


@pytest.fixture
def flash(monkeypatch):
    module = FlashStandIn()
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    return module


def test_the_arguments_of_flash_attention_2(flash):
    query, key, value = torch.randn(3, 2, 6, 4, 16).bfloat16()
    out = flash_2(query, key, value, None)
    torch.testing.assert_close(out, sdpa(query, key, value, None))
    assert flash.calls == [("equal", torch.bfloat16, (2, 6, 4, 16), {"softmax_scale": 0.25, "causal": False})]


def test_the_arguments_of_flash_attention_2_with_lengths(flash):
    query, key, value = torch.randn(3, 9, 4, 16).half()
    lengths = PackedLengths.of([2, 4, 3])
    out = flash_2_packed(query, key, value, lengths)
    torch.testing.assert_close(out, sdpa_packed(query, key, value, lengths))
    kind, dtype, shape, options = flash.calls[0]
    assert (kind, dtype, shape) == ("packed", torch.float16, (9, 4, 16))
    assert options["cu_seqlens_q"].dtype == options["cu_seqlens_k"].dtype == torch.int32
    assert options["cu_seqlens_q"].tolist() == options["cu_seqlens_k"].tolist() == [0, 2, 6, 9]
    assert options["max_seqlen_q"] == options["max_seqlen_k"] == 4
    assert (options["softmax_scale"], options["causal"]) == (0.25, False)


def test_flash_kernels_get_half_precision_under_autocast_and_never_float32(flash):
    query, key, value = torch.randn(3, 1, 3, 2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert flash_2(query, key, value.bfloat16(), None).dtype == torch.bfloat16
        flash_2(query, key, value, None)
    assert [dtype for _, dtype, _, _ in flash.calls] == [torch.bfloat16] * 2
    with pytest.raises(ValueError, match="computes in float16 or bfloat16, not torch"):
        flash_2(query, key, value, None)
    with pytest.raises(ValueError, match="no mask"):
        flash_2(query.half(), key.half(), value.half(), torch.ones(1, 1, 1, 3, dtype=torch.bool))


def test_a_padded_batch_goes_to_kernels_without_masks_packed(flash, monkeypatch):
    config = MMDiTConfig(
        in_channels=8, vec_in_dim=4, context_in_dim=4, hidden_size=24, num_heads=2, depth=1, depth_single_blocks=1,
        axes_dim=(4, 4, 4), mlp_ratio=1,
    )  # fmt: skip
    model = MMDiT(config).bfloat16()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    given = (
        torch.randn(2, 8, 8).bfloat16(), image_ids(2, 2, 4, 4, 2), torch.randn(2, 5, 4).bfloat16(), text_ids(2, 5),
        torch.rand(2), torch.randn(2, 4).bfloat16(), torch.randn(2, 8, 12).bfloat16(),
        torch.tensor([8, 3]), torch.tensor([2, 5]),
    )  # fmt: skip
    wanted = model(*given)
    monkeypatch.setattr(table, "_missing", lambda backend, device, dtype: None)
    model.choose_attention("flash_2")
    found = model(*given)
    assert {kind for kind, *_ in flash.calls} == {"packed", "equal"}  # the stand-in's own calls are the equal ones
    assert [options["cu_seqlens_q"].tolist() for kind, _, _, options in flash.calls if kind == "packed"] == [
        [0, 10, 18]
    ] * 2
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)
    assert not found[1, 3:].any()
