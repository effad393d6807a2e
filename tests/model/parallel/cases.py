"""What ranks compute in the tests of parallel training: one step of a tiny MMDiT against one process."""

import copy
from dataclasses import dataclass, field

import torch
from torch.distributed.tensor import DTensor

from zoetrope.model.checkpoint import load_weights
from zoetrope.model.memory import PeakMemory
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.packing import image_ids, text_ids
from zoetrope.model.parallel import ParallelConfig
from zoetrope.model.parallel.apply import apply_parallel
from zoetrope.model.parallel.average import ShardedAverage
from zoetrope.model.parallel.degrees import resolve_degrees
from zoetrope.model.parallel.mesh import make_mesh
from zoetrope.model.parallel.start import materialise, on_meta
from zoetrope.model.parallel.step import accumulate, clip_gradients, share_of_step
from zoetrope.model.training.config import OptimizerConfig
from zoetrope.model.training.optimizer import adamw

TINY = MMDiTConfig(
    in_channels=16, vec_in_dim=12, context_in_dim=20, hidden_size=72, num_heads=12, depth=1, depth_single_blocks=2,
    axes_dim=(2, 2, 2), mlp_ratio=2,
)  # fmt: skip
# per sample: text tokens, latent frames, height, width
SHAPES = [
    (5, 1, 4, 4),
    (9, 3, 4, 8),
    (1, 2, 8, 4),
    (7, 1, 2, 2),
    (3, 2, 4, 4),
    (12, 1, 8, 8),
    (4, 1, 4, 4),
    (2, 1, 4, 8),
]
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, ema_decay=0.9)


@dataclass(frozen=True)
class Case:
    """One mesh, and how the samples of a step are given to the model."""

    config: ParallelConfig
    packs: int = 1
    padded: bool = False
    reduce_each: bool = True
    name: str = field(default="", compare=False)


def samples(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    rows = []
    for text, *video in SHAPES:
        ids = image_ids(1, *video, TINY.patch_size)[0]
        rows.append(
            {
                "img": draw(len(ids), TINY.in_channels),
                "img_ids": ids,
                "txt": draw(text, TINY.context_in_dim),
                "txt_ids": text_ids(1, text)[0],
                "cond": draw(len(ids), TINY.cond_channels),
                "target": draw(len(ids), TINY.in_channels),
                "time": torch.rand((), generator=generator),
                "clip": draw(TINY.vec_in_dim),
            }
        )
    return rows


def sample_losses(model, rows, *, padded):
    """The mean squared error of each sample."""
    times, vectors = torch.stack([row["time"] for row in rows]), torch.stack([row["clip"] for row in rows])
    lengths = {name: torch.tensor([len(row[name]) for row in rows]) for name in ("img", "txt")}
    if padded:
        tokens = {
            name: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True)
            for name in ("img", "img_ids", "txt", "txt_ids", "cond")
        }
        out = model(**tokens, timesteps=times, y_vec=vectors, img_len=lengths["img"], txt_len=lengths["txt"])
        found = [each[:length] for each, length in zip(out, lengths["img"], strict=True)]
    else:
        tokens = {name: torch.cat([row[name] for row in rows]) for name in ("img", "img_ids", "txt", "txt_ids", "cond")}
        ends = {f"{name}_cumulative": torch.nn.functional.pad(each.cumsum(0), (1, 0)) for name, each in lengths.items()}
        out = model.forward_packed(**tokens, timesteps=times, y_vec=vectors, **ends)
        found = out.split(lengths["img"].tolist())
    return torch.stack([(each - row["target"]).square().mean() for each, row in zip(found, rows, strict=True)])


def part_of(whole, sharded):
    """The part of a whole tensor that this rank holds of a parameter: FSDP shards the first dimension."""
    mesh = sharded.device_mesh
    parts = whole.chunk(mesh.size(-1))
    rank = mesh.get_local_rank(mesh.ndim - 1)
    return parts[rank] if rank < len(parts) else whole[:0]


def difference(found, wanted, parameter):
    """max|difference| of this rank's part / max|reference|."""
    part = local(found) - part_of(wanted, parameter)
    return (part.abs().max() / wanted.abs().max()).item() if part.numel() else 0.0


def local(tensor):
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def reference(weights):
    """Loss, gradients and their norm of one process with the padded batch."""
    model = MMDiT(TINY)
    load_weights(model, weights)
    loss = sample_losses(model, samples(), padded=True).mean()
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return loss.detach(), gradients, torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER.clip_norm)


def start(case, world):
    mesh = make_mesh(resolve_degrees(case.config, world, heads=TINY.num_heads))
    return apply_parallel(on_meta(TINY), mesh, case.config), mesh


def backward(model, mesh, case, rows):
    """The backward passes of this rank's part of a step; returns its part of the loss."""
    own = rows[mesh.data_rank :: mesh.data_world]
    packs = [own[index :: case.packs] for index in range(case.packs)]

    def loss_of(pack):
        losses = sample_losses(model, pack, padded=case.padded)
        return share_of_step(losses, len(rows), mesh.data_world)

    return accumulate(model, [lambda pack=pack: loss_of(pack) for pack in packs], reduce_each=case.reduce_each)


def compare(rank, world, weights, cases):
    """For each case the differences of the loss, of the gradients' norm and the largest of a gradient; bytes held."""
    wanted_loss, wanted, wanted_norm = reference(weights)
    found = {}
    for case in cases:
        model, mesh = start(case, world)
        with PeakMemory() as memory:
            load_weights(model, weights)
        loss = backward(model, mesh, case, samples())
        torch.distributed.all_reduce(loss)
        gradients = max(
            difference(parameter.grad, wanted[name], parameter) for name, parameter in model.named_parameters()
        )
        norm = clip_gradients(model.parameters(), OPTIMIZER.clip_norm)
        clipped = clip_gradients(model.parameters(), OPTIMIZER.clip_norm)
        found[case.name] = {
            "loss": abs(loss.item() / world - wanted_loss.item()) / wanted_loss.item(),
            "gradient": gradients,
            "norm": abs(norm.item() / wanted_norm.item() - 1),
            "clipped": clipped.item() / OPTIMIZER.clip_norm,
            "bytes": sum(local(parameter).nbytes for parameter in model.parameters()),
            "gradient_bytes": sum(local(parameter.grad).nbytes for parameter in model.parameters()),
            "load_peak": memory.peak,
        }
    return found


def first_weights(rank, world, seed):
    """Whether every mesh gets the values that one process gets."""
    wanted = MMDiT(TINY).initialise(seed).state_dict()
    model, _ = start(Case(ParallelConfig(context=2, checkpointing="full")), world)
    materialise(model, seed)
    return {name: torch.equal(local(value), part_of(wanted[name], value)) for name, value in model.state_dict().items()}


def train(model, mesh, case, optimizer, average, steps):
    """Losses and gradient norms of steps; weights, their average and AdamW's moments after them."""
    told = []
    for step in steps:
        optimizer.zero_grad()
        told += [backward(model, mesh, case, samples(step))]
        told += [clip_gradients(model.parameters(), OPTIMIZER.clip_norm)]
        optimizer.step()
        average.update(model)
    averaged = {f"average.{name}": value for name, value in average.weights.items()}
    state = {name: local(value).clone() for name, value in (model.state_dict() | averaged).items()}
    return torch.stack(told), state


def optimizers(model):
    return adamw(model.parameters(), OPTIMIZER), ShardedAverage(model, OPTIMIZER.ema_decay)


def repeat(world, weights, case):
    """Whether a run, and another model that goes on from its state after the first step, end bitwise equal."""
    model, mesh = start(case, world)
    load_weights(model, weights)
    optimizer, average = optimizers(model)
    train(model, mesh, case, optimizer, average, [0])
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), average.state_dict()))
    told, state = train(model, mesh, case, optimizer, average, [1, 2])

    again, mesh = start(case, world)
    again.to_empty(device="cpu")
    again.load_state_dict(saved[0])
    others = optimizers(again)
    for other, given in zip(others, saved[1:], strict=True):
        other.load_state_dict(given)
    told_again, state_again = train(again, mesh, case, *others, [1, 2])
    moments = sum(local(value).nbytes for values in optimizer.state.values() for value in values.values() if value.ndim)
    return {
        "equal": torch.equal(told, told_again) and all(torch.equal(state[name], state_again[name]) for name in state),
        "told": told,
        "bytes": moments,
    }


def all_of(rank, world, weights, cases, repeats):
    """Everything that is asked of one number of ranks, in one start of them."""
    seeds = first_weights(rank, world, 3) if world == 4 else {}
    return {
        "compared": compare(rank, world, weights, cases),
        "repeated": {case.name: repeat(world, weights, case) for case in repeats},
        "first_weights": seeds,
    }
