from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from types import SimpleNamespace

import pytest
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
from se3t.models import MODELS, build_model, model_class

from .clouds import FIBER_IN, FIBER_OUT, clouds

SCHEMAS = [LinearModel, DeepSetModel, TFNModel, SetTransformerModel, SE3TransformerModel, SchNetModel, MPNNModel]
CLASSIFIERS = [schema for schema in GROUPS["model"].values() if schema not in SCHEMAS]  # of point clouds
SCALARS = {"fiber_in": Fiber("3x0"), "fiber_out": Fiber("1x0")}


def build(config: object, **changes: object) -> nn.Module:
    return build_model(
        config, **{"fiber_in": FIBER_IN, "fiber_out": FIBER_OUT, "num_edge_scalars": 1, "horizon": 1.0, **changes}
    )


def test_registry_and_schemas_name_the_same_models():
    assert {schema().name for schema in SCHEMAS + CLASSIFIERS} == set(MODELS) == set(GROUPS["model"])


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
def test_a_classifier_takes_the_settings_of_its_schema_by_name(schema: type):
    """All of them are handed to its constructor, which refuses those it does not know."""
    cls = model_class(schema().name)
    assert cls.name == schema().name
    known = inspect.signature(cls.__init__).parameters
    assert [key for key in vars(schema()) if key != "name" and key not in known] == []
    assert "from_config" not in vars(cls)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_setting_of_a_schema_reaches_its_model(schema: type):
    """A key of the schema that ``from_config`` never reads would be a knob without effect."""
    source = inspect.getsource(model_class(schema().name).from_config)
    unread = [key for key in vars(schema()) if key != "name" and key not in source]
    assert unread == []


def test_unknown_model_is_an_error_with_the_nearest_name():
    with pytest.raises(UserError, match="no model is called 'deep_set'; did you mean 'deepset'"):
        model_class("deep_set")
    with pytest.raises(UserError, match=r"known: deepset, dgcnn, linear, modified_fisher, mpnn, .*, tfn"):
        build(SimpleNamespace(name="?"))


@pytest.mark.parametrize("target", MODELS.values())
def test_registry_points_at_modules_that_exist(target: str):
    assert importlib.util.find_spec(target.split(":")[0]) is not None


def test_models_are_imported_when_asked_for():
    code = (
        "import sys, se3t.models as m; m.model_class('linear'); sys.exit('se3t.models.se3_transformer' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
