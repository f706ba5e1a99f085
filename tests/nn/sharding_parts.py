"""What two processes do that train one model together; see test_sharding.py."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from se3t.batching import batch_graphs
from se3t.config import SE3TransformerModel, TFNModel
from se3t.fiber import Fiber
from se3t.geometry import find_pairs
from se3t.graph import Graph, knn_graph
from se3t.models.se3_transformer import SE3Transformer
from se3t.models.tfn import TFN
from se3t.nn import EquivariantConv, SE3AttentionBlock
from se3t.nn.radial import RadialNetwork

FIBER = Fiber("2x0+1x1")
LAYERS = (SE3AttentionBlock, EquivariantConv)
_STEPS = 2


def transformer() -> nn.Module:
    settings = SE3TransformerModel(
        num_layers=2, num_degrees=2, channels=4, num_heads=2, radial_hidden=8, kernel="native"
    )
    return SE3Transformer(FIBER, FIBER, settings, relative_position="to_source")


def tfn() -> nn.Module:
    return TFN(FIBER, FIBER, TFNModel(num_layers=2, num_degrees=2, channels=4, radial_hidden=8, kernel="native"))


MODELS = {"transformer": transformer, "tfn": tfn}


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().double()


def share_of(rank: int) -> Graph:
    """Two clouds, other ones for each process, of as many points: means of means are means."""
    generator = torch.Generator().manual_seed(rank)
    batch = torch.tensor([0] * 6 + [1] * 4)
    positions = torch.randn(len(batch), 3, generator=generator, dtype=torch.float64)
    features = {
        degree: torch.randn(len(batch), channels, 2 * degree + 1, generator=generator, dtype=torch.float64)
        for degree, channels in FIBER.items()
    }
    return find_pairs(Graph(positions, features, knn_graph(positions, 3, batch), batch, 2))


def take_steps(model: nn.Module, graph: Graph) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        torch.stack([value.square().mean() for value in model(graph).values()]).sum().backward()
        optimizer.step()


def alone(name: str) -> dict[str, Tensor]:
    """Parameters after the steps of one process on the joined batch."""
    model = built(name)
    take_steps(model, find_pairs(batch_graphs([share_of(0), share_of(1)])))
    return {key: value.detach() for key, value in model.named_parameters()}


def data_parallel(model: nn.Module) -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model)


def fully_sharded_1(model: nn.Module, *, parts: tuple[type, ...] = LAYERS, **settings: Any) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    policy = ModuleWrapPolicy(parts)
    return FullyShardedDataParallel(model, auto_wrap_policy=policy, device_id=torch.device("cpu"), **settings)


def fully_sharded_2(model: nn.Module, *, parts: tuple[type, ...] = LAYERS) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    for part in reversed(list(model.modules())):  # from the inside out
        if isinstance(part, parts):
            fully_shard(part, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def checkpointed(wrap: Callable[[nn.Module], nn.Module], model: nn.Module) -> nn.Module:
    """Each layer runs once more in the backward pass."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    apply_activation_checkpointing(model, check_fn=lambda part: isinstance(part, LAYERS))
    return wrap(model)


STRATEGIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "ddp": data_parallel,
    "ddp_checkpointed": partial(checkpointed, data_parallel),
    "fsdp1": fully_sharded_1,
    "fsdp1_original_parameters": partial(fully_sharded_1, use_orig_params=True),
    "fsdp1_checkpointed": partial(checkpointed, fully_sharded_1),
    "fsdp2": fully_sharded_2,
    "fsdp2_checkpointed": partial(checkpointed, fully_sharded_2),
}
REFUSED = {
    "fsdp1_radial": partial(fully_sharded_1, parts=(RadialNetwork,)),
    "fsdp2_radial": partial(fully_sharded_2, parts=(RadialNetwork,)),
    "fsdp2_trunk": partial(fully_sharded_2, parts=(type(RadialNetwork(FIBER, FIBER).trunk[0]),)),
}


def whole_parameters(model: nn.Module) -> dict[str, Tensor]:
    """By their names before anything was wrapped."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    added = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "module.")
    found = {}
    with FullyShardedDataParallel.summon_full_params(model):
        for name, value in model.named_parameters():
            for prefix in added:
                name = name.replace(prefix, "")
            found[name] = (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()
    return found


def work(rank: int, folder: Path) -> None:
    """Train with every strategy; write parameters, or the message of what went wrong."""
    torch.set_num_threads(1)
    limit = timedelta(seconds=60)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", limit, rank=rank, world_size=2)
    cases = {(name, strategy): wrap for strategy, wrap in STRATEGIES.items() for name in MODELS}
    cases |= {("transformer", name): wrap for name, wrap in REFUSED.items()}
    results: dict[tuple[str, str], dict[str, Tensor] | str] = {}
    for (name, strategy), wrap in cases.items():
        try:
            model = wrap(built(name))
            take_steps(model, share_of(rank))
            results[name, strategy] = whole_parameters(model)
        except ValueError as error:
            results[name, strategy] = str(error)
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def start(folder: Path) -> None:
    """Two processes that find torch and the models loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    torch.multiprocessing.start_processes(work, (folder,), nprocs=2, start_method="forkserver")  # type: ignore[no-untyped-call]
