"""Run by test_ranks.py: forks processes that a signal kills, then four gloo ranks, and writes what they saw.

One process loads PyTorch; the others are forked from it.
"""

import json
import multiprocessing
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.model.training.checkpoints.support import FailingStore, Training, make, same
from zoetrope.model.checkpoint import load_weights, save_weights
from zoetrope.model.checkpoint.export import export_weights
from zoetrope.model.training.checkpoints import LocalCheckpointStore, Retention, StoreError, writer

WORLD = 4
FORK = multiprocessing.get_context("fork")
POINTS = ("first file", "half a file", "second file", "marker", "sweep")


def killed_saving(folder, point):
    """Two saves, of which the second is killed at a point."""
    puts, armed = 0, False

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def before(what, key):
        nonlocal puts
        if not armed:
            return
        puts += what == "put"
        wanted = {"first file": puts == 1, "second file": puts == 2, "marker": key.endswith("complete.json")}
        if wanted.get(point, False) or (point == "sweep" and what == "delete"):
            die()
        if point == "half a file" and puts == 2:
            os.fsync = lambda descriptor: die()

    store = FailingStore(LocalCheckpointStore(folder), before)
    checkpoints, training = make(folder, store=store, retention=Retention(last=1)), Training()
    checkpoints.save(1, training.run(1).state)
    checkpoints.finish()
    armed = True
    checkpoints.save(2, training.run(2).state)
    checkpoints.finish()


def sweep_of_kills(folder):
    """Point -> step that was found behind the kill, messages, and whether all was right from there on."""
    found = {}
    for point in POINTS:
        place = folder / point.replace(" ", "-")
        process = FORK.Process(target=killed_saving, args=(place, point))
        process.start()
        process.join()
        told, training = [], Training(seed=1)
        checkpoints = make(place, told, retention=Retention(last=1))
        training.steps = step = checkpoints.load_newest(training.state)
        right = same(training.whole(), Training().run(step).whole())
        checkpoints.save(3, training.run(3).state)
        checkpoints.finish()
        right = right and same(training.whole(), Training().run(3).whole())
        left = [path.name[:14] for path in (place / "stage_1").iterdir()]
        found[point] = [process.exitcode, step, told, right, left]
    return found


class Ranks:
    """What the four ranks do; each method is a scenario that all ranks of it run."""

    def __init__(self, rank, folder):
        self.rank, self.folder = rank, folder
        self.groups = {size: dist.new_group(list(range(size)), backend="gloo") for size in (1, 2, 3, 4)}
        self.own = {size: dist.new_group(list(range(size)), backend="gloo") for size in (1, 2, 3, 4)}

    def sharded(self, size, seed=1):
        mesh = DeviceMesh.from_group(self.groups[size], "cpu")
        return Training(seed, partial(self.shard, mesh=mesh))

    @staticmethod
    def shard(model, mesh):
        fully_shard(model.first, mesh=mesh)
        # one element cannot be split: this one is the same on all ranks
        fully_shard(model, mesh=mesh, ignored_params={model.scale})
        return model

    def checkpoints(self, size, told=None, folder=None, **more):
        return make(folder or self.folder, told, group=self.own[size], **more)

    def reshard(self):
        """4 -> 2 -> 3 -> 1 ranks, each a step further; rank 0 says how far the last is from one process."""
        at = 0
        for size in (4, 2, 3):
            if self.rank < size:
                training, checkpoints = self.sharded(size), self.checkpoints(size)
                if size == 4:
                    training = self.sharded(size, seed=0)
                else:
                    training.steps = checkpoints.load_newest(training.state)
                    assert training.steps == at
                    assert training.state.own is None
                    assert training.state.owns == tuple(range({2: 4, 3: 2}[size]))
                training.run(at + 2)
                training.state.own = self.rank
                whole = training.whole()
                checkpoints.save(at + 2, training.state)
                checkpoints.finish()
                again = self.sharded(size)
                assert checkpoints.load_newest(again.state) == at + 2
                assert again.state.own == self.rank
                assert same(again.whole(), whole), f"{size} ranks do not find what they saved"
            at += 2
        if self.rank == 0:
            plain = Training(seed=1)
            plain.steps = self.checkpoints(1).load_newest(plain.state)
            assert plain.steps == at
            assert same(plain.whole(), whole), "one process does not find what three ranks saved"
            alone = Training().run(at).whole()
            return max((value - alone[name]).abs().max().item() for name, value in plain.whole().items())
        return None

    def meshes(self):
        """FSDP2 -> HSDP -> DDP, and each rank writes a part of what all of them have."""
        folder, whole = self.folder / "meshes", None
        hybrid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        kinds = [
            partial(Training, shard=partial(self.shard, mesh=init_device_mesh("cpu", (4,)))),
            partial(Training, shard=partial(self.shard, mesh=hybrid)),
            partial(Training, shard=lambda model: DistributedDataParallel(model, find_unused_parameters=True)),
        ]
        for step, kind in enumerate(kinds, 1):
            training, checkpoints = kind(), self.checkpoints(4, folder=folder)
            found = checkpoints.load_newest(training.state)
            if whole is not None:
                assert found == step - 1
                assert plainly(training.whole()) == plainly(whole)
            training.steps = step - 1
            whole = training.run(step).whole()
            checkpoints.save(step, training.state)
            checkpoints.finish()
        return sorted(path.name for path in (folder / "stage_1").glob("step-000000003-*/rank-*"))

    def damage(self):
        """A flipped byte in one rank's file: all ranks take the same one before it, and it is said once."""
        folder = self.folder / "damage"
        training, checkpoints = self.sharded(4), self.checkpoints(4, folder=folder)
        for step in (1, 2):
            checkpoints.save(step, training.run(step).state)
        checkpoints.finish()
        if self.rank == 0:
            path = next((folder / "stage_1").glob("step-000000002-*/rank-00002-000.bin"))
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
        dist.barrier()
        told, again = [], self.sharded(4)
        step = self.checkpoints(4, told, folder=folder).load_newest(again.state)
        assert same(again.whole(), self.sharded(4).run(1).whole())
        return [step, told]

    def faults(self):
        """A store that fails one rank: saving goes on, all know the reason; reading raises on all."""
        folder, full = self.folder / "faults", True

        def before(what, key):
            if what == "put" and full and self.rank == 3:
                raise StoreError("disk full: 1 MB needed")
            if what == "read" and key.endswith(".bin") and self.rank == 1:
                raise StoreError("no answer")

        told, training = [], self.sharded(4)
        store = FailingStore(LocalCheckpointStore(folder), before)
        checkpoints = self.checkpoints(4, told, store=store)
        checkpoints.save(1, training.run(1).state)
        checkpoints.finish()
        failures = [checkpoints.failure]
        left = list((folder / "stage_1").iterdir()) if (folder / "stage_1").exists() else []
        dist.barrier()
        full = False
        checkpoints.save(2, training.run(2).state)
        checkpoints.finish()
        failures.append(checkpoints.failure)
        raised = ""
        try:
            checkpoints.load_newest(training.state)
        except StoreError as error:
            raised = str(error)
        return [failures, told, raised, len(left)]

    def export(self):
        """Shards -> files of the released layout -> shards on another mesh."""
        training = self.sharded(4).run(2)
        whole = training.whole()
        model = {name.removeprefix("model/"): value for name, value in whole.items() if name.startswith("model/")}
        path = self.folder / "exported.safetensors"
        export_weights(training.model, path)
        index = export_weights(training.model, self.folder / "split.safetensors", max_bytes=150)
        refused = ""
        try:
            export_weights(training.model, self.folder / "none" / "x.safetensors")
        except OSError as error:
            refused = type(error).__name__
        dist.barrier()
        if self.rank < 3:
            for source in (path, index):
                again = self.sharded(3)
                load_weights(again.model, source)
                loaded = again.whole()
                assert all(torch.equal(loaded[f"model/{name}"], value) for name, value in model.items()), source
        one = save_weights(model, self.folder / f"whole-{self.rank}.safetensors")
        return [one.read_bytes() == path.read_bytes(), len(list(self.folder.glob("split-*"))) > 2, refused]


def plainly(tensors):
    return {name: value.tolist() for name, value in tensors.items()}


def run_rank(rank, folder):
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=WORLD)
        ranks = Ranks(rank, folder)
        found = {}
        for name in ("reshard", "meshes", "damage", "faults", "export"):
            found[name] = getattr(ranks, name)()
            dist.barrier()
        (folder / f"rank-{rank}.json").write_text(json.dumps(found))
        dist.destroy_process_group()
    except BaseException:  # noqa: BLE001 - written down for the test, which shows it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # the others wait for this rank, and their connections break now


def main(folder):
    torch.set_num_threads(1)
    writer.PART_BYTES = 600  # several files a rank
    Training().state.tensors()  # loads modules of PyTorch, which the forks would load one by one
    (folder / "killed.json").write_text(json.dumps(sweep_of_kills(folder / "killed")))
    folder = folder / "ranks"
    folder.mkdir()
    processes = [FORK.Process(target=run_rank, args=(rank, folder)) for rank in range(WORLD)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode) for process in processes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
