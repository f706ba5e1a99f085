"""Molecules of your own, and one number of each."""

from __future__ import annotations

from se3t.config.schemas import MoleculesData
from se3t.experiments.base import DataSet, Experiment, Lazy
from se3t.experiments.qm9 import TASK, describe, parse_record

DATA = DataSet(
    name="molecules",
    label="own molecules",
    schema=MoleculesData,
    store_path=Lazy("se3t.data.molecules.own:store_path"),
    prepare=Lazy("se3t.data.molecules.own:prepare_molecules"),
    summary=Lazy("se3t.data.molecules.summary:lines_of_own"),
    store_settings=("root", "raw", "key", "valid_fraction", "test_fraction", "split_seed"),
    has_checksum=True,
    limits=("neutral molecules, with geometries made in the same way as those of the training",),
    seed_hint="the seed of the random split is data.split_seed",
    cost_settings=lambda data: {"data": data.name, "graph": data.graph, "radius": data.radius},
)

EXPERIMENT = Experiment(
    name="molecules",
    task=TASK,
    datasets=(DATA,),
    parse_record=parse_record,
    title="Own molecules",
    paper_presets=("released", "paper"),
    describe=describe,
)
