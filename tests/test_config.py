"""The schemas, and what makes a configuration of settings; every committed configuration."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from torch import nn

from se3t import config as schemas
from se3t.cli.help import choices
from se3t.config import SCHEMAS, TARGETS, Config, EvalConfig, conf_dir, to_config, to_eval_config
from se3t.config.compose import compose
from se3t.config.settings import flatten
from se3t.data.nbody.presets import resolve
from se3t.errors import UserError
from se3t.experiments import tasks
from se3t.models import model_class
from se3t.reporting.published import PUBLISHED_NUMBERS
from se3t.runs.identity import first_difference, setting, settings_hash

_EXPERIMENTS = choices("experiment")
_BUDGETS = [(experiment, preset) for experiment in _EXPERIMENTS for preset in choices(f"budget/{experiment}")]


def test_schemas_import_no_torch_and_no_hydra() -> None:
    code = "import sys, se3t.config; print({'torch', 'hydra', 'omegaconf', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_the_preset_of_the_egnn_benchmark_has_its_data_and_batch() -> None:
    published = yaml.safe_load((PUBLISHED_NUMBERS / "egnn.yaml").read_text())["budget"]
    config = to_config(compose("train", ["experiment=nbody", "preset=egnn"]))
    assert (config.data.preset, config.trainer.batch_size) == ("egnn", published["batch_size"])


# --- schemas ------------------------------------------------------------------------------------------------


def test_every_model_and_task_has_a_schema_a_word_and_an_implementation() -> None:
    assert set(SCHEMAS["model"]) == set(choices("model"))
    assert all(issubclass(model_class(name), nn.Module) for name in choices("model"))
    assert set(SCHEMAS["task"]) == set(tasks())
    assert set(choices("task")) == {
        *(set(tasks()) - {"property"}),
        *TARGETS,
        "all",
    }  # a property is chosen by its target
    assert set(choices("preset")) == {preset for _, preset in _BUDGETS}
    assert set(SCHEMAS["data"]) == set(choices("data"))
    for group in SCHEMAS.values():
        assert all(schema().name == name for name, schema in group.items())


def test_defaults_survive_the_way_through_plain_settings() -> None:
    for model in SCHEMAS["model"].values():
        config = Config(model=model())
        assert to_config(asdict(config)) == config


def _limited() -> Iterator[tuple[str, dict[str, Any]]]:
    groups: dict[str, list[type]] = {"": [Config], "optim.": [schemas.OptimConfig], "trainer.": [schemas.TrainerConfig]}
    groups |= {"model.": list(SCHEMAS["model"].values())}
    for prefix, classes in groups.items():
        for schema in classes:
            for item in dataclasses.fields(schema):
                if "above" in item.metadata:
                    yield f"{prefix}{item.name}", {"schema": schema, "kind": item.type, **item.metadata}


@pytest.mark.parametrize(("key", "limits"), [pytest.param(key, limits, id=key) for key, limits in _limited()])
def test_every_number_is_held_to_its_limits(key: str, limits: dict[str, Any]) -> None:
    bad = [limits["at_least"] - 1, limits["above"], limits["at_most"] + 1]
    values = [int(value) for value in bad if math.isfinite(value)]
    assert values, "a number without limits"
    for value in values + ([math.nan, math.inf] if "float" in str(limits["kind"]) else []):
        settings = asdict(Config(model=limits["schema"]()) if key.startswith("model.") else Config())
        *path, name = key.split(".")
        node = settings
        for part in path:
            node = node[part]
        node[name] = value
        with pytest.raises(UserError, match=rf"^{key}={value}.*out of range"):
            to_config(settings)


def test_a_word_outside_the_choices_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"optim\.schedule=cosin: unknown; did you mean 'cosine'\?"):
        to_config({"optim": {"schedule": "cosin"}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainer": {"max_step": 1}}, r"trainer\.max_step: no such setting; did you mean 'max_steps'\?"),
        ({"max_steps": 1}, r"max_steps: no such setting; did you mean 'trainer\.max_steps'\?"),
        ({"model": {"name": "tnf"}}, r"model=tnf: unknown; did you mean 'tfn'\?"),
        ({"model": {"name": "linear", "channels": 4}}, r"model\.channels: no such setting; known: name"),
        ({"trainer": {"max_steps": "many"}}, r"trainer\.max_steps=many: wrong type; expected a whole number"),
        ({"optim": {"lr": None}}, r"optim\.lr=None: wrong type; expected a number"),
        ({"optim": {"clip_norm": "x"}}, r"optim\.clip_norm=x: wrong type; expected a number or null"),
        (
            {"seed": 2**63},
            r"seed=9223372036854775808 is out of range: .* 0 or more and at most 9223372036854775807",
        ),
        (
            {"model": {"name": "set_transformer", "width": 6}},
            r"model\.num_heads=4: must divide model\.width=6; change one",
        ),
        (
            {"model": {"name": "se3_transformer", "ablation": "radial", "radial_basis": "bessel"}},
            r"model\.radial_basis=bessel: has no effect with model\.ablation=radial; leave one out",
        ),
        (
            {"model": {"name": "se3_transformer", "ablation": "attention", "logit_scale": "learned"}},
            r"model\.logit_scale=learned: has no effect with model\.ablation=attention; leave one out",
        ),
        ({"resume": "maybe"}, r"resume=maybe: wrong type; expected true or false"),
        ({"trainer": 3}, r".*TrainerConfig.*value: 3"),
    ],
)
def test_bad_settings_are_named_in_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        to_config(settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("00:10:00", 600), ("00:00:01", 1), ("10:00:00", 36_000), ("99:59:59", 359_999), ("01:02:03:04", 93_784)],
)
def test_a_time_means_what_was_typed_on_the_command_line_and_in_python(time: str, seconds: int) -> None:
    trainer = to_config(compose("train", [f"trainer.max_time={time}"])).trainer
    assert (trainer.max_time, trainer.max_seconds) == (time, seconds)
    assert to_config({"trainer": {"max_time": time}}).trainer == schemas.TrainerConfig(max_time=time)
    assert asdict(trainer).keys() == {item.name for item in dataclasses.fields(schemas.TrainerConfig)}


def test_no_time_is_no_limit() -> None:
    assert to_config(compose("train", ["trainer.max_time=null"])).trainer == to_config(compose("train", [])).trainer
    assert schemas.TrainerConfig().max_seconds == math.inf


@pytest.mark.parametrize(
    "time",
    ["00:00:00", "10:00", "0:10:00", "600", "00:60:00", "00:00:60", "01:24:00:00", "-1:00:00", "1h", "01:00:00:00:00"],
)
def test_any_other_time_is_refused_in_one_sentence(time: str) -> None:
    expected = rf"^trainer\.max_time={time}: expected a time above zero as HH:MM:SS or DD:HH:MM:SS[^\n]*$"
    with pytest.raises(UserError, match=expected):
        to_config(compose("train", [f"trainer.max_time={time}"]))
    with pytest.raises(UserError, match=expected):
        to_config({"trainer": {"max_time": time}})


def test_a_time_in_yaml_is_read_as_typed_or_refused_with_the_quotation_marks_it_needs() -> None:
    for text in ("00:10:00", '"10:00:00"', "'01:02:03:04'", "01:02:03:04"):
        settings = OmegaConf.create(f"trainer:\n  max_time: {text}")
        assert to_config(settings).trainer.max_time == text.strip("\"'")
    with pytest.raises(UserError, match=r'max_time=36000: .* in a YAML file inside quotation marks: "10:00:00"'):
        to_config(OmegaConf.create("trainer:\n  max_time: 10:00:00"))


def test_eval_has_settings_of_its_own() -> None:
    config = to_eval_config({"checkpoint": "x", "trainer": {"precision": "64"}})
    assert config == EvalConfig(checkpoint="x", trainer=schemas.EvalTrainer(precision="64"))
    with pytest.raises(UserError, match=r"split=tset: unknown; did you mean 'test'\?"):
        to_eval_config({"checkpoint": "x", "split": "tset"})
    with pytest.raises(UserError, match="a value is missing"):
        to_eval_config({})


# --- committed configurations ---------------------------------------------------------------------------------


def files_of(name: str) -> dict[str, Any]:
    """What a file of conf sets, with what it builds on, by dotted name."""
    path = conf_dir() / f"{name}.yaml"
    content = yaml.safe_load(path.read_text()) if path.is_file() else {}
    bases = [base.partition("@")[0].strip("/") for base in content.pop("defaults", []) if base != "_self_"]
    return {key: value for base in bases for key, value in files_of(base).items()} | dict(flatten(content))


@pytest.mark.parametrize(("experiment", "preset"), _BUDGETS)
def test_every_configuration_is_its_schemas_then_recipe_then_budget_then_recipe_of_the_preset(
    experiment: str, preset: str
) -> None:
    for model in SCHEMAS["model"]:
        config = to_config(compose("train", [f"experiment={experiment}", f"preset={preset}", f"model={model}"]))
        assert (config.experiment, config.preset) == (experiment, preset)
        assert type(config.model) is SCHEMAS["model"][model]
        parts = {name: type(getattr(config, name))() for name in ("data", "task", "model")}
        names = f"recipe/{experiment}/{model}", f"budget/{experiment}/{preset}", f"recipe/{experiment}/{preset}/{model}"
        expected = dict(flatten(asdict(Config(experiment, preset, **parts))))
        for name in names:
            expected |= files_of(name)
        assert dict(flatten(asdict(config))) == expected
        if experiment == "nbody":
            resolve(config.data)


@pytest.mark.parametrize("target", TARGETS)
def test_a_word_selects_one_of_twelve_targets(target: str) -> None:
    assert to_config(compose("train", ["experiment=qm9", f"task={target}"])).task.target == target


def test_every_file_of_conf_is_reached() -> None:
    known = {"train.yaml", "eval.yaml"}
    known |= {f"{group}/{name}.yaml" for group in ("experiment", "sweep") for name in choices(group)}
    models = choices("model")
    for experiment, preset in _BUDGETS:
        known |= {f"recipe/{experiment}/{model}.yaml" for model in models}
        known |= {f"budget/{experiment}/{preset}.yaml"}
        known |= {f"recipe/{experiment}/{preset}/{model}.yaml" for model in models}
    files = {path.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*.yaml")}
    assert {name for name in files if not name.startswith("paper/")} <= known


def test_learning_rates_follow_the_model_and_the_command_line_wins() -> None:
    rates = {"se3_transformer": 3e-3, "tfn": 3e-3, "set_transformer": 3e-4, "deepset": 1e-3}
    for model, rate in rates.items():
        assert to_config(compose("train", ["experiment=nbody", f"model={model}"])).optim.lr == rate
    assert to_config(compose("train", ["optim.lr=0.5", "model=tfn"])).optim.lr == 0.5


def test_the_default_budget_is_that_of_the_paper() -> None:
    published = yaml.safe_load((PUBLISHED_NUMBERS / "table1.yaml").read_text())["budget"]
    trainer = to_config(compose("train", [])).trainer
    assert {"max_steps": trainer.max_steps, "batch_size": trainer.batch_size} == published


def test_the_command_line_wins_over_a_preset() -> None:
    config = to_config(compose("train", ["trainer.max_steps=7", "preset=smoke", "data.num_train=3"]))
    assert (config.trainer.max_steps, config.data.num_train, config.preset) == (7, 3, "smoke")


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("released", {"graph": "bonds", "channels": 32, "channels_div": 2, "batch_size": 32, "lr": 1e-3}),
        ("paper", {"graph": "complete", "channels": 16, "channels_div": 1, "batch_size": 32, "lr": 1e-3}),
        ("fast", {"graph": "bonds", "channels": 32, "batch_size": 240, "lr": 2e-3, "precision": "bf16"}),
    ],
)
def test_presets_of_qm9_are_the_readings_of_the_paper(preset: str, expected: dict[str, Any]) -> None:
    config = to_config(compose("train", ["experiment=qm9", f"preset={preset}"]))
    found = {**asdict(config.data), **asdict(config.optim), **asdict(config.trainer), **asdict(config.model)}
    assert {name: found[name] for name in expected} == expected
    sizes = {"num_layers": 7, "num_degrees": 4, "num_heads": 8, "pooling": "max", "pool_channels": 128}
    assert {name: found[name] for name in sizes} == sizes
    assert config.optim.final_lr_ratio == 0.1


def test_the_preset_of_qm9_is_released_unless_told() -> None:
    assert to_config(compose("train", ["experiment=qm9"])).preset == "released"


def scanobjectnn(*words: str) -> Config:
    return to_config(compose("train", ["experiment=scanobjectnn", *words]))


def test_the_default_of_scanobjectnn_is_the_protocol_of_the_paper() -> None:
    config = scanobjectnn()
    assert (config.preset, config.data.name, config.data.background, config.data.variant) == (
        "paper",
        "scanobjectnn",
        False,
        "obj",
    )
    task, model, optim, trainer = (asdict(getattr(config, name)) for name in ("task", "model", "optim", "trainer"))
    expected = {"num_points": 128, "sampling": "farthest", "num_neighbors": 10, "height": False, "augmentation": "none"}
    assert {name: task[name] for name in expected} == expected
    layers = {
        "num_layers": 3,
        "last": "attention",
        "num_degrees": 4,
        "channels": 5,
        "num_heads": 1,
        "pool_channels": 64,
    }
    assert {name: model[name] for name in layers} == layers  # three layers and a fourth one, which is pooled
    assert (model["self_interaction"], model["norm"], model["pooling"]) == ("linear", "none", "max")
    rate = {"lr": 0.01, "schedule": "step", "decay_every": 15_000, "decay_ratio": 0.3}
    assert {name: optim[name] for name in rate} == rate
    assert (trainer["max_steps"], trainer["batch_size"]) == (60_000, 10)


@pytest.mark.parametrize(
    ("model", "expected"),
    [("se3_transformer", (3, 200, 40, 5)), ("tfn", (3, 100, 10, 3))],
)
def test_the_preset_of_figure_4_has_its_sizes(model: str, expected: tuple[int, ...]) -> None:
    config = scanobjectnn("preset=figure4", f"model={model}")
    found = (config.model.num_degrees, config.task.num_points, config.task.num_neighbors, config.model.channels)
    assert found == expected
    assert config.trainer.max_steps == 60_000


def test_models_of_scanobjectnn_that_see_coordinates_get_1024_random_points() -> None:
    for model in choices("recipe/scanobjectnn"):
        task = scanobjectnn(f"model={model}").task
        plain = (task.inputs, task.num_points, task.sampling)
        edges = ("edges", 128, "farthest")
        assert plain == (edges if model in ("se3_transformer", "tfn") else ("positions", 1024, "random"))


def test_a_setting_that_came_later_leaves_earlier_runs_what_they_are() -> None:
    before: dict[str, Any] = {"seed": 0, "data": {"name": "molecules", "raw": "mine", "split_seed": 0}}
    after = {"seed": 0, "data": {**before["data"], "key": None}}
    assert settings_hash(after) == settings_hash(before)
    assert first_difference(after, before) is None
    assert settings_hash({"seed": 0, "data": {**before["data"], "key": "id"}}) != settings_hash(before)
    plain, even, odd = (
        {"seed": 0, "model": {"name": "tfn", **own}} for own in ({}, {"parity": True}, {"parity": False})
    )
    assert settings_hash(plain) == settings_hash(odd) != settings_hash(even)
    assert first_difference(plain, odd) is None
    assert first_difference(plain, even) == "model.parity"
    assert [setting(settings, "model.parity") for settings in (plain, even, odd)] == [False, True, False]


def test_parity_of_a_model_without_equivariance_is_refused() -> None:
    words = ["experiment=nbody", "model.parity=true", "model.ablation=equivariance"]
    with pytest.raises(UserError, match=r"model\.parity=true: with model\.ablation=equivariance there is no symmetry"):
        to_config(compose("train", words))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("homo+lomo", "'lomo' is unknown; did you mean 'lumo'"),
        ("homo+homo", "homo is named twice; leave one out"),
        ("all+homo", "expected names with + between them, such as homo+lumo, or all alone"),
        ("homo+", "expected names with + between them"),
        ("al", "'al' is unknown; did you mean 'all'"),
    ],
)
def test_targets_that_mean_nothing_are_refused(target: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"task.target={target}: {words}")):
        to_config(compose("train", ["experiment=qm9", f"task.target={target}"]))
