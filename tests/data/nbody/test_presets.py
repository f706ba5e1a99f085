from __future__ import annotations

import dataclasses

import pytest
from omegaconf import OmegaConf

from se3t.config import NBodyData
from se3t.config.schemas import RANDOM_STARTS, redraws_starts
from se3t.data.nbody.presets import PRESETS, NBodySettings, resolve
from se3t.errors import UserError


@pytest.mark.parametrize(
    ("preset", "horizon", "steps"),
    [
        ("calibrated", 1.0, 1000),
        ("calibrated_random", 0.78, 780),
        ("text", 0.5, 500),
        ("authors", 1.0, 1000),
        ("egnn", 1.0, 1000),
    ],
)
def test_presets_have_the_horizon_of_their_definition(preset: str, horizon: float, steps: int) -> None:
    settings = resolve(NBodyData(preset=preset))
    assert settings.horizon == pytest.approx(horizon, rel=1e-12)
    assert settings.horizon_frames * settings.sample_every == steps
    assert settings.preset == preset


def test_frames_are_every_so_many_steps() -> None:
    assert NBodySettings().num_frames == 49  # steps 100 to 4900
    assert resolve(NBodyData()).num_frames == 249  # one step in 20, for the horizon of 780 steps
    assert NBodySettings(num_steps=101).num_frames == 1  # step 100 is reached, and step 101 is not
    assert NBodySettings(num_steps=100).num_frames == 0


def test_starts_of_the_presets() -> None:
    assert {name: preset.start for name, preset in PRESETS.items()} == {
        "calibrated": 0,
        "calibrated_random": "random",
        "text": "random",
        "authors": "random",
        "egnn": 30,
    }
    assert PRESETS["egnn"].last_frame == 40
    assert PRESETS["calibrated"].last_frame == 10
    assert PRESETS["text"].last_frame == 48


def test_records_and_presets_agree_on_which_starts_are_drawn_anew() -> None:
    assert {name for name, preset in PRESETS.items() if preset.redraws} == set(RANDOM_STARTS)
    for preset in PRESETS:
        for start in (None, "random", "random_once", "first", "4"):
            data = NBodyData(preset=preset, start=start)
            assert redraws_starts(dataclasses.asdict(data)) == resolve(data).redraws


def test_every_knob_overrides_its_preset() -> None:
    knobs = dataclasses.asdict(NBodySettings(preset="text"))
    changes = {name: type(value)(3) for name, value in knobs.items() if name not in ("preset", "start")}
    settings = resolve(NBodyData(preset="text", **(changes | {"num_steps": 800, "start": "4"})))
    assert dataclasses.asdict(settings) == changes | {"preset": "text", "num_steps": 800, "start": 4}


def test_a_config_node_and_a_dataclass_resolve_alike() -> None:
    config = NBodyData(preset="egnn", box=4.0, start="random")
    assert resolve(OmegaConf.structured(config)) == resolve(config)


@pytest.mark.parametrize(
    ("word", "start"), [("first", 0), ("random", "random"), ("random_once", "random_once"), ("7", 7), (7, 7)]
)
def test_start_words(word: str | int, start: int | str) -> None:
    config = OmegaConf.structured(NBodyData)
    config.start = word
    assert resolve(config).start == start


def test_the_digest_tells_all_settings_apart() -> None:
    base = NBodySettings()
    values = dataclasses.asdict(base)
    changed = [dataclasses.replace(base, **{name: type(value)(77)}) for name, value in values.items()]
    assert len({settings.digest() for settings in [base, *changed]}) == len(changed) + 1


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"data\.preset: no preset 'calibratd'.*did you mean 'calibrated'\?.*egnn"):
        resolve(NBodyData(preset="calibratd"))


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("num_train", 0),
        ("num_valid", 0),
        ("num_test", -1),
        ("num_particles", 1),
        ("step_size", 0.0),
        ("step_size", float("nan")),
        ("num_steps", 1),
        ("sample_every", 0),
        ("box", -1.0),
        ("box", 0.5),
        ("box", float("inf")),
        ("position_scale", 0.0),
        ("speed", -0.5),
        ("max_force", 0.0),
        ("max_force", float("nan")),
        ("start", "last"),
        ("start", "-1"),
        ("start", "210"),
        ("horizon_frames", 0),
        ("horizon_frames", 249),
        ("data_seed", -1),
    ],
)
def test_a_knob_out_of_range_is_named_with_what_was_expected(knob: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"^data\.{knob}\b.*(expected|must be)"):
        resolve(NBodyData(**{knob: value}))


def test_the_last_possible_start_is_accepted() -> None:
    assert resolve(NBodyData(start="209")).last_frame == 248
    assert resolve(NBodyData(start="random", horizon_frames=248)).num_starts == 1
