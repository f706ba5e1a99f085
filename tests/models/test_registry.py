from __future__ import annotations

import inspect
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from se3t.config import SCHEMAS as GROUPS
from se3t.config import (
    DeepSetModel,
    LinearModel,
    MPNNModel,
    SchNetModel,
    SE3TransformerModel,
    SetTransformerModel,
    TFNModel,
)
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models import build_model, model_class

from .clouds import FIBER_IN, FIBER_OUT, clouds

SCHEMAS = [LinearModel, DeepSetModel, TFNModel, SetTransformerModel, SE3TransformerModel, SchNetModel, MPNNModel]
CLASSIFIERS = [schema for schema in GROUPS["model"].values() if schema not in SCHEMAS]  # of point clouds
SCALARS = {"fiber_in": Fiber("3x0"), "fiber_out": Fiber("1x0")}


def build(config: object, **changes: object) -> nn.Module:
    return build_model(
        config, **{"fiber_in": FIBER_IN, "fiber_out": FIBER_OUT, "num_edge_scalars": 1, "horizon": 1.0, **changes}
    )


@pytest.mark.parametrize("schema", CLASSIFIERS)
def test_a_classifier_is_built_from_its_schema_for_positions_and_whole_clouds(schema: type):
    model = build(schema(), fiber_in=Fiber("1x1"), fiber_out=Fiber("15x0"), pooled=True)
    assert isinstance(model, model_class(schema().name))
    assert (model.fiber_in, model.fiber_out) == (Fiber("1x1"), Fiber("15x0"))
    with pytest.raises(UserError):
        build(schema(), fiber_in=Fiber("1x1"), fiber_out=Fiber("15x0"), pooled=False)


@pytest.mark.parametrize("schema", [schema for schema in SCHEMAS if schema not in (SchNetModel, MPNNModel)])
def test_every_model_is_built_from_its_schema_and_keeps_the_contract(schema: type):
    config = schema()
    model = build(config)
    assert isinstance(model, model_class(config.name))
    assert (model.fiber_in, model.fiber_out) == (FIBER_IN, FIBER_OUT)
    FIBER_OUT.check(model.double()(clouds(3, 2)))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("schema", [schema for schema in SCHEMAS if schema is not LinearModel])
def test_every_model_with_parameters_predicts_scalars_of_points_and_of_clouds(schema: type, pooled: bool):
    model = build(schema(), **SCALARS, pooled=pooled)
    output = model.double()(clouds(3, 2, fiber=SCALARS["fiber_in"]))
    SCALARS["fiber_out"].check(output)
    assert len(output[0]) == (2 if pooled else 5)


@pytest.mark.parametrize("schema", CLASSIFIERS)
def test_a_classifier_knows_its_schema(schema: type):
    assert model_class(schema().name).schema is schema


@pytest.mark.parametrize("schema", GROUPS["model"].values())
def test_a_constructor_takes_the_settings_of_its_schema_with_their_defaults(schema: type):
    parameters = inspect.signature(model_class(schema().name)).parameters
    if "settings" in parameters:
        assert schema.__name__ in str(parameters["settings"].annotation)
    else:
        defaults = {name: value for name, value in vars(schema()).items() if name != "name"}
        assert {name: parameters[name].default for name in defaults} == defaults


@pytest.mark.parametrize("schema", [TFNModel, SE3TransformerModel])
def test_a_model_with_a_settings_object_reads_every_setting(schema: type, monkeypatch: pytest.MonkeyPatch):
    """A setting that nothing reads would be a knob without effect."""
    cls, read = model_class(schema().name), set()

    class Watched(schema):
        def __getattribute__(self, key: str) -> object:
            read.add(key)
            return super().__getattribute__(key)

    monkeypatch.setattr(
        f"{cls.__module__}.model_settings", lambda schema, given, **hidden: given
    )  # which reads them all
    cls(Fiber("2x0"), Fiber("1x0"), Watched(), pooled=True)
    assert {*vars(schema())} - {"name"} <= read


def test_a_setting_that_the_constructor_does_not_take_is_an_error():
    with pytest.raises(TypeError, match="Linear takes no depth, settings of SimpleNamespace"):
        build(SimpleNamespace(name="linear", depth=3))


@pytest.mark.parametrize("schema", [DeepSetModel, SetTransformerModel, SchNetModel])
def test_pooling_without_one_output_for_each_cloud_is_refused(schema: type):
    cls = model_class(schema().name)
    with pytest.raises(UserError, match=f"pooling=sum: goes with pooled=True; without it {cls.__name__} gives one"):
        cls(**SCALARS, pooling="sum")
    assert cls(**SCALARS, pooling="sum", pooled=True).settings.pooling == "sum"
    assert (
        len(cls(**SCALARS, settings=schema(pooling="sum"))(clouds(3, fiber=Fiber("3x0"), dtype=torch.float32))[0]) == 3
    )


@pytest.mark.parametrize("schema", [DeepSetModel, SchNetModel, MPNNModel])
def test_settings_and_single_ones_by_name_are_the_same(schema: type):
    cls, name = model_class(schema().name), "width" if schema is DeepSetModel else "channels"
    torch.manual_seed(0)
    first = cls(**SCALARS, **{name: 6})
    torch.manual_seed(0)
    second = cls(**SCALARS, settings=schema(**{name: 6}))
    assert first.settings == second.settings
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert cls(**SCALARS, settings=schema(**{name: 5}), **{name: 6}).settings == first.settings
    with pytest.raises(TypeError, match="depth"):
        cls(**SCALARS, depth=3)


def test_unknown_model_is_an_error_with_the_nearest_name():
    with pytest.raises(UserError, match="no model is called 'deep_set'; did you mean 'deepset'"):
        model_class("deep_set")
    with pytest.raises(UserError, match=r"known: deepset, dgcnn, linear, modified_fisher, mpnn, .*, tfn"):
        build(SimpleNamespace(name="?"))


def test_models_are_imported_when_asked_for():
    code = (
        "import sys, se3t.models as m; m.model_class('linear'); sys.exit('se3t.models.se3_transformer' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
