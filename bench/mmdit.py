"""Forward and backward of the MMDiT against a straightforward implementation and diffusers' FLUX.

    python bench/mmdit.py

All three have the same weights and inputs and run one after the other in each round, so that other load on the machine
hits them alike; the figure is the median of the rounds' ratios with an interval (2.5 % to 97.5 % of the median of
10,000 resamples). Peak memory is that of each alone in a fresh process. On a GPU: bfloat16, compiled, with every
attention kernel that is there, and the share of the GPU's peak that the model's FLOPs make (--peak-tflops).
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoetrope.model.attention import backend_names
from zoetrope.model.checkpoint import load_weights, save_weights
from zoetrope.model.flops import mmdit_training_flops
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.flux import FluxWeights
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.packing import image_ids, text_ids

NAMES = ("ours", "straightforward", "diffusers")


class Straightforward(nn.Module):
    """The same equations written down one by one: explicit softmax, norms by hand, one product per projection."""

    def __init__(self, model: MMDiT) -> None:
        super().__init__()
        self.config, self.weights = model.config, nn.ParameterDict()
        for name, parameter in model.named_parameters():
            self.weights[name.replace(".", "/")] = nn.Parameter(parameter.detach().clone())

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}/weight"].T + self.weights[f"{name}/bias"]

    def mlp(self, name: str, x: Tensor) -> Tensor:
        return self.linear(f"{name}/out_layer", F.silu(self.linear(f"{name}/in_layer", x)))

    @staticmethod
    def norm(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def heads(self, x: Tensor, scale: str | None = None) -> Tensor:
        x = x.reshape(*x.shape[:2], self.config.num_heads, -1).transpose(1, 2)
        if scale is not None:
            x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.weights[f"{scale}/scale"]
        return x

    def attend(self, query: Tensor, key: Tensor, value: Tensor, angles: Tensor) -> Tensor:
        def turn(x: Tensor) -> Tensor:
            rotated = torch.cat([-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]], -1)
            return x * angles.cos() + rotated * angles.sin()

        scores = turn(query) @ turn(key).transpose(-1, -2) / query.shape[-1] ** 0.5
        return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)

    def forward(self, img: Tensor, ids: Tensor, txt: Tensor, txt_ids: Tensor, time: Tensor, vector: Tensor) -> Tensor:
        config = self.config
        half = torch.exp(-torch.arange(128) / 128 * torch.log(torch.tensor(10_000.0)))
        waves = 1000 * time[:, None] * half
        vec = self.mlp("time_in", torch.cat([waves.cos(), waves.sin()], -1)) + self.mlp("vector_in", vector)
        x, text = self.linear("img_in", img), self.linear("txt_in", txt)
        joint_ids = torch.cat([txt_ids, ids], 1).double()
        parts = [
            joint_ids[..., axis, None] * config.theta ** -(torch.arange(0, size, 2).double() / size)
            for axis, size in enumerate(config.axes_dim)
        ]
        angles = torch.cat([*parts, *parts], -1)[:, None].float()
        tokens = text.shape[1]
        for i in range(config.depth):
            streams = []
            for name, stream in (("txt", text), ("img", x)):
                block = f"double_blocks/{i}/{name}"
                mod = self.linear(f"{block}_mod/lin", F.silu(vec))[:, None].chunk(6, -1)
                h = (1 + mod[1]) * self.norm(stream) + mod[0]
                attention = f"{block}_attn"
                query = self.heads(self.linear(f"{attention}/q_proj", h), f"{attention}/norm/query_norm")
                key = self.heads(self.linear(f"{attention}/k_proj", h), f"{attention}/norm/key_norm")
                streams.append((mod, query, key, self.heads(self.linear(f"{attention}/v_proj", h))))
            joint = self.attend(*(torch.cat([streams[0][k], streams[1][k]], 2) for k in (1, 2, 3)), angles)
            done = []
            for name, stream, out, (mod, *_) in (
                ("txt", text, joint[:, :tokens], streams[0]),
                ("img", x, joint[:, tokens:], streams[1]),
            ):
                block = f"double_blocks/{i}/{name}"
                stream = stream + mod[2] * self.linear(f"{block}_attn/proj", out)  # noqa: PLW2901
                h = (1 + mod[4]) * self.norm(stream) + mod[3]
                hidden = F.gelu(self.linear(f"{block}_mlp/0", h), approximate="tanh")
                done.append(stream + mod[5] * self.linear(f"{block}_mlp/2", hidden))
            text, x = done
        joint = torch.cat([text, x], 1)
        for i in range(config.depth_single_blocks):
            block = f"single_blocks/{i}"
            shift, scale, gate = self.linear(f"{block}/modulation/lin", F.silu(vec))[:, None].chunk(3, -1)
            h = (1 + scale) * self.norm(joint) + shift
            query = self.heads(self.linear(f"{block}/q_proj", h), f"{block}/norm/query_norm")
            key = self.heads(self.linear(f"{block}/k_proj", h), f"{block}/norm/key_norm")
            both = self.linear(f"{block}/v_mlp", h)
            out = self.attend(query, key, self.heads(both[..., : config.hidden_size]), angles)
            hidden = F.gelu(both[..., config.hidden_size :], approximate="tanh")
            joint = joint + gate * self.linear(f"{block}/linear2", torch.cat([out, hidden], -1))
        shift, scale = self.linear("final_layer/adaLN_modulation/1", F.silu(vec))[:, None].chunk(2, -1)
        return self.linear("final_layer/linear", (1 + scale) * self.norm(joint[:, tokens:]) + shift)


def build(name: str, config: MMDiTConfig) -> nn.Module:
    """One of the three, with the weights of diffusers' model of seed 0."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    flux = FluxTransformer2DModel(
        in_channels=config.in_channels, num_layers=config.depth, num_single_layers=config.depth_single_blocks,
        attention_head_dim=config.head_dim, num_attention_heads=config.num_heads,
        joint_attention_dim=config.context_in_dim, pooled_projection_dim=config.vec_in_dim,
        axes_dims_rope=config.axes_dim,
    )  # fmt: skip
    if name == "diffusers":
        return flux
    with tempfile.TemporaryDirectory() as directory:
        view = FluxWeights(save_weights(flux, Path(directory) / "flux.safetensors"), config)
        model = MMDiT(config)
        load_weights(model, view)
    return model if name == "ours" else Straightforward(model)


def inputs(config: MMDiTConfig, frames: int, side: int, text: int) -> tuple[Tensor, ...]:
    """Tokens of one video."""
    generator = torch.Generator().manual_seed(1)
    ids = image_ids(1, frames, side, side, config.patch_size)
    return (
        torch.randn(1, ids.shape[1], config.in_channels, generator=generator), ids,
        torch.randn(1, text, config.context_in_dim, generator=generator), text_ids(1, text),
        torch.rand(1, generator=generator), torch.randn(1, config.vec_in_dim, generator=generator),
    )  # fmt: skip


def step(name: str, model: nn.Module, given: tuple[Tensor, ...]) -> Tensor:
    """Forward and backward; the output."""
    model.zero_grad()
    img, ids, txt, txt_ids, time_, vector = given
    if name == "diffusers":
        out = model(
            hidden_states=img, encoder_hidden_states=txt, pooled_projections=vector, timestep=time_,
            img_ids=ids[0].float(), txt_ids=txt_ids[0].float(), return_dict=False,
        )[0]  # fmt: skip
    else:
        out = model(*given)
    out.float().square().mean().backward()
    return out.detach()


def interval(values: list[float]) -> tuple[float, float]:
    """2.5 % and 97.5 % of the median of resamples."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(10_000))
    return medians[250], medians[9750]


def peak_megabytes(name: str, arguments: list[str]) -> float:
    """Growth of the peak resident memory of a fresh process by two steps, in MB."""
    done = subprocess.run([sys.executable, __file__, *arguments, "--peak", name], check=True, capture_output=True)
    return float(done.stdout)


def resident(key: str) -> float:
    """`VmRSS` or `VmHWM` of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key))


def on_cpu(args: argparse.Namespace, config: MMDiTConfig, given: tuple[Tensor, ...], arguments: list[str]) -> None:
    """Pairs on the CPU, float32."""
    models = {name: build(name, config) for name in NAMES}
    outputs = {name: step(name, model, given) for name, model in models.items()}
    for name in NAMES[1:]:
        error = ((outputs[name] - outputs["ours"]).abs().max() / outputs[name].abs().max()).item()
        assert error < 1e-4, f"{name} computes something else: {error}"
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(args.pairs):
        for name in NAMES if number % 2 else NAMES[::-1]:
            start = time.perf_counter()
            step(name, models[name], given)
            seconds[name].append(time.perf_counter() - start)
    for name in NAMES:
        ratios = [theirs / ours for theirs, ours in zip(seconds[name], seconds["ours"], strict=True)]
        low, high = interval(ratios)
        print(
            f"{name:16} median {statistics.median(seconds[name]):.3f} s, {statistics.median(ratios):.3f} x ours "
            f"[{low:.3f}, {high:.3f}], peak memory {peak_megabytes(name, arguments):.0f} MB beyond the start"
        )


def on_gpu(args: argparse.Namespace, config: MMDiTConfig, given: tuple[Tensor, ...], tokens: int) -> None:
    """Medians of 30 steps after 10, in bfloat16."""
    moved = tuple(t.cuda().bfloat16() if t.is_floating_point() else t.cuda() for t in given)
    flops = mmdit_training_flops(config, tokens - args.text, args.text)
    runs = [("ours", backend, compiled) for backend in backend_names() for compiled in (False, True)]
    for name, backend, compiled in [*runs, ("straightforward", "", False), ("diffusers", "", False)]:
        model = build(name, config).cuda().bfloat16()
        note = ""
        if isinstance(model, MMDiT):
            choice = model.choose_attention(backend)
            if choice.name != backend:
                print(choice.note)
                continue
            note = backend + (", compiled" if compiled else "")
            for block in [*model.double_blocks, *model.single_blocks] if compiled else []:
                block.compile()
        torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(40):
            torch.cuda.synchronize()
            start = time.perf_counter()
            step(name, model, moved)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        median = statistics.median(times[10:])
        print(
            f"{name:16} {note:20} {median * 1e3:.1f} ms, {flops / median / 1e12:.0f} TFLOP/s, "
            f"MFU {100 * flops / median / 1e12 / args.peak_tflops:.1f} %, "
            f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB"
        )


def main() -> None:
    """Prints one line per implementation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--frames", type=int, default=5, help="latent frames")
    parser.add_argument("--side", type=int, default=32, help="latent height and width")
    parser.add_argument("--text", type=int, default=512, help="text tokens")
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="of the GPU; H100 and H200: 989 in bfloat16")
    parser.add_argument("--peak", choices=NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = MMDiTConfig(
        hidden_size=args.hidden, num_heads=args.hidden // 128, depth=args.double, depth_single_blocks=args.single,
        cond_embed=False,
    )  # fmt: skip
    given = inputs(config, args.frames, args.side, args.text)
    if args.peak:
        model = build(args.peak, config)
        before = resident("VmRSS")
        for _ in range(2):
            step(args.peak, model, given)
        print(resident("VmHWM") - before)
        return
    tokens = given[0].shape[1] + args.text
    print(f"{tokens} tokens, width {args.hidden}, {args.double} + {args.single} blocks, torch {torch.__version__}, "
          f"{platform.machine()}, {args.threads} threads")  # fmt: skip
    if torch.cuda.is_available():
        on_gpu(args, config, given, tokens)
    else:
        on_cpu(args, config, given, sys.argv[1:])


if __name__ == "__main__":
    main()
