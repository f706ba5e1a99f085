"""The data, made in memory, and the loss."""

import torch
from torch import nn

from se3t import Fiber, Graph, fully_connected
from se3t.tasks.base import Task
from se3t_toy import EXPERIMENT

SIZES = {"train": 64, "valid": 16, "test": 16}


class ToyTask(Task):
    name, units, headline = EXPERIMENT.task.name, EXPERIMENT.task.units, EXPERIMENT.task.progress
    fiber_in, fiber_out, num_edge_scalars = Fiber("1x0"), Fiber("1x1"), 0

    def __init__(self, num_points, seed):
        generator = torch.Generator().manual_seed(seed)
        self.exact = {name: torch.randn(size, num_points, 3, generator=generator) for name, size in SIZES.items()}

    @classmethod
    def from_config(cls, config):
        return cls(config.data.num_points, config.data.data_seed)

    def size(self, split):
        return SIZES[split]

    def to(self, device, dtype):
        self.data = {name: value.to(device, dtype) for name, value in self.exact.items()}
        return self

    def batch(self, split, index, draw=None):
        return self.data[split][index]

    def graph(self, batch):
        cloud = torch.arange(len(batch), device=batch.device).repeat_interleave(batch.shape[1])
        positions = batch.flatten(0, 1)
        ones = positions.new_ones(len(positions), 1, 1)
        return Graph(positions, {0: ones}, fully_connected(cloud), cloud, num_graphs=len(batch))

    def loss(self, prediction, batch):
        return nn.functional.mse_loss(prediction[1].view_as(batch), batch.mean(1, keepdim=True) - batch)

    def metrics(self, prediction, batch):
        error = prediction[1].view_as(batch).double() - (batch.mean(1, keepdim=True) - batch).double()
        mse = error.square().mean(dim=(1, 2))
        return {"loss": mse, "mse": mse}

    def baselines(self, split):
        return {}

    def describe(self):
        return {"preset": "random clouds", "checksum": str(self.exact["train"].sum().item()), "sizes": SIZES}
