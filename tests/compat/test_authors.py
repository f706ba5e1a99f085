"""What the authors' weights show, what a configuration must add, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from se3t.compat import authors
from se3t.errors import UserError
from se3t.models.se3_transformer import SE3Transformer
from se3t.models.tfn import TFN

from .files import own

SE3T = "authors_nbody_se3t_cat"


def load(name: str, config: dict[str, Any] | None = None, **changes: Any) -> Any:
    file = own(name)
    return authors.load(file["state_dict"], config, **{"couplings": file["Q_J"], "source": "file", **changes})


def test_shapes_decide_what_they_show() -> None:
    found = load(SE3T, {"n_heads": 2})
    assert isinstance(found.model, SE3Transformer)
    assert found.settings["cls"] == "experiments.nbody.nbody_models.SE3Transformer"
    expected = {"num_layers": 1, "num_channels": 4, "num_degrees": 3, "mid_channels": 2, "si_m": "att", "x_ij": "cat"}
    assert {name: found.settings[name] for name in expected} == expected
    tfn = load("authors_qm9_tfn")
    assert isinstance(tfn.model, TFN)
    assert {name: tfn.settings[name] for name in ("num_layers", "norm_layers", "edge_dim", "atom_feature_size")} == {
        "num_layers": 3,
        "norm_layers": 1,
        "edge_dim": 4,
        "atom_feature_size": 6,
    }


@pytest.mark.parametrize(
    ("name", "config", "changes", "missing"),
    [
        (SE3T, {}, {}, ["n_heads"]),
        (SE3T, {}, {"couplings": None}, ["n_heads", "Q_J"]),
        ("authors_nbody_se3t_add", {}, {}, ["n_heads", "x_ij"]),
        ("authors_nbody_se3t_add", {"n_heads": 1}, {}, ["x_ij"]),
        ("authors_qm9_se3t_avg", {}, {"couplings": None}, ["n_heads", "pooling", "Q_J"]),
        ("authors_nbody_tfn", {}, {"couplings": None}, ["Q_J"]),
    ],
)
def test_nothing_is_guessed(name: str, config: dict[str, Any], changes: dict[str, Any], missing: list[str]) -> None:
    with pytest.raises(UserError, match="file: the weights do not show") as error:
        load(name, config, **changes)
    assert [word for word in ("n_heads", "x_ij", "pooling", "Q_J") if f"{word} (" in str(error.value)] == missing


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"num_channels": 8},
            r"does not fit the configuration: parameter 'Gblock.0.*should have shape \[\d+, 4\], it has",
        ),
        ({"num_degrees": 2}, "does not fit the configuration: "),
        ({"num_layers": 2}, "does not fit the configuration: "),
        ({"div": 1}, "does not fit the configuration: parameter 'Gblock.0.GMAB.v"),
        ({"si_e": "1x1"}, r"parameter 'Gblock.2.project.transform.1' of shape \[2, 6\] is missing"),
        ({"x_ij": "add"}, "does not fit the configuration: "),
        ({"x_ij": "mul"}, "x_ij='mul': expected add or cat or null"),
        ({"n_head": 2}, "'n_head' is no argument of this model; did you mean 'n_heads'"),
        ({"n_heads": "two"}, "n_heads='two': expected a whole number of at least 1"),
        ({"n_heads": 3}, "2 channels of degree 0 cannot be divided among 3 heads"),
        ({"div": 0}, "div=0: expected a number above 0"),
        ({"div": None}, "div=null: expected a number above 0"),
        ({"div": 100}, "no channel is left for keys and values"),
        ({"si_m": "foo"}, "si_m='foo': expected 1x1 or att"),
        ({"cls": "former"}, "the configuration says cls=former"),
        (
            {"cls": "experiments.nbody.nbody_models.TFN"},
            "the weights are those of .*SE3Transformer, the configuration says",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load(SE3T, {"n_heads": 2, **config})


def test_relative_positions_that_weights_do_not_show_change_the_function() -> None:
    models = [load("authors_nbody_se3t_add", {"n_heads": 1, "x_ij": word}).model for word in ("add", None)]
    assert [model.relative_position for model in models] == ["to_target", "none"]
    assert [set(model.state_dict()) for model in models] == [set(models[0].state_dict())] * 2


def test_other_weights_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"not weights of the authors' code: expected parameters named Gblock.0.*'weight'"
    ):
        authors.load({"weight": torch.zeros(3)}, {}, couplings={}, source="file")
    part = {f"net.{name}": value for name, value in own("authors_nbody_tfn")["state_dict"].items()}
    with pytest.raises(UserError, match=r"for the part that begins like this give --prefix net\."):
        authors.load(part, {}, couplings={}, source="file")
    with pytest.raises(UserError, match="as in the other code: --from nvidia"):
        authors.load(own("nvidia_full")["state_dict"], {}, couplings={}, source="file")
    with pytest.raises(UserError, match=r"block0\.0…, there are none"):
        authors.load({}, {}, couplings={}, source="file")


@pytest.mark.parametrize("name", list(authors.CLASSES.values()))
def test_a_class_is_built_from_its_arguments(name: str) -> None:
    sizes = {"num_layers": 2, "num_channels": 4, "num_degrees": 2}
    more = {"n_heads": 1, "x_ij": "add"} if "nbody" in name else {"n_heads": 1, "pooling": "max"}
    built = authors.build({"cls": name, **sizes, **more}, own(SE3T)["Q_J"], radial_hidden=4)
    again = authors.load(built.state_dict(), {"cls": name, **more}, couplings=own(SE3T)["Q_J"], source="own")
    assert again.arguments == built.arguments


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(UserError, match=r"cls=Net: expected one of experiments.nbody"):
        authors.build({"cls": "Net"}, {})
    with pytest.raises(UserError, match=r"do not show num_layers .number of layers., num_channels"):
        authors.build({"cls": authors.CLASSES["nbody_tfn"]}, {})
