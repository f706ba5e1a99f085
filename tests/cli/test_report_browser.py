"""The report in a real browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reporting.test_report import figure3
from se3t.cli.main import main

from .test_report import write_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with runs of all kinds and a view of two models."""
    folder = tmp_path_factory.mktemp("report")
    write_runs(folder / "runs")
    figure3(folder / "figure3.json")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["report", "--figure3", "figure3.json"]) == 0
    finally:
        os.chdir(before)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chromium of the system."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(_BROWSERS)} is installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield opened
        opened.close()


class Opened:
    """The report in a window, and everything that went wrong there."""

    def __init__(self, browser: Browser, report: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = report.as_uri()
        self.page.goto(self.url)

    def close(self) -> None:
        """Whatever was done, the page has loaded nothing and has complained of nothing."""
        self.context.close()
        assert self.wrong == []
        assert self.requests == [self.url]

    @property
    def picture(self) -> str:
        """The pixels of the three-dimensional view."""
        return str(self.page.evaluate("document.getElementById('scene').toDataURL()"))

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait; without the browser's own way, which evaluates text, and that the page forbids."""
        for _ in range(100):
            if holds():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("nothing happened within ten seconds")

    def colour(self) -> str:
        return str(self.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    def systems(self) -> list[str]:
        """The column "model" of the runs that are shown."""
        return self.page.locator("tbody.run:visible > tr:first-child > td:nth-child(3)").all_inner_texts()


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    window = Opened(browser, report)
    yield window
    window.close()


def test_the_slider_turns_the_picture_and_tells_the_distance(opened: Opened) -> None:
    before = opened.picture
    assert opened.text("#angle-text") == "0°"
    assert opened.text("#read-distance-here") == "0"
    opened.page.locator("#angle").press("ArrowRight")
    assert opened.text("#angle-text") == "10°"
    assert opened.page.get_attribute("#angle", "aria-valuetext") == "10°"
    assert opened.picture != before
    here, largest = (float(opened.text(f"#read-distance-{place}")) for place in ("here", "largest"))
    assert 0 < here < largest
    opened.page.locator("#angle").press("End")
    assert opened.text("#angle-text") == "350°"


def test_the_perfect_model_is_at_no_distance_from_the_perfect_rotation(opened: Opened) -> None:
    before = opened.picture
    opened.page.select_option("#model", label="Set Transformer")
    assert opened.picture != before
    opened.page.select_option("#model", label="SE(3)-Transformer")  # which the view has opened on
    assert opened.picture == before
    opened.page.locator("#angle").press("End")
    assert float(opened.text("#read-distance-largest")) < 1e-8
    assert float(opened.text("#read-relative-largest")) < 1e-8


def test_the_error_that_is_read_is_that_of_equation_14(opened: Opened) -> None:
    """The other model turns its predictions half as far: at 180 degrees it is off by a quarter of a turn."""
    opened.page.select_option("#model", label="Set Transformer")
    opened.page.eval_on_selector("#angle", "(it) => { it.value = 18; it.dispatchEvent(new Event('input')); }")
    assert opened.text("#angle-text") == "180°"
    points = [(1.3, 0.2 * number + 0.2) for number in range(5)]
    expected = (sum(2 * (x * x + y * y) for x, y in points) / 5) ** 0.5
    assert float(opened.text("#read-distance-here")) == pytest.approx(expected, rel=2e-3)
    assert float(opened.text("#read-distance-largest")) > expected
    assert float(opened.text("#read-relative-here")) == pytest.approx(expected / 0.13**0.5, rel=2e-3)


def test_play_goes_on_until_pause(opened: Opened) -> None:
    opened.page.click("#play")
    assert opened.text("#play") == "Pause"
    opened.until(lambda: opened.text("#angle-text") != "0°")
    opened.page.click("#play")
    stopped, picture = opened.text("#angle-text"), opened.picture
    assert opened.page.get_attribute("#play", "aria-pressed") == "false"
    opened.page.wait_for_timeout(350)
    assert (opened.text("#angle-text"), opened.picture) == (stopped, picture)


def test_every_checkbox_changes_what_is_shown(opened: Opened) -> None:
    boxes = opened.page.locator("[data-show]")
    assert boxes.count() == 6
    for box in boxes.all():
        before = opened.picture
        box.click()
        assert opened.picture != before
        box.click()
        assert opened.picture == before


def test_the_camera_turns_by_mouse_and_by_keys(opened: Opened) -> None:
    scene = opened.page.locator("#scene")
    scene.scroll_into_view_if_needed()
    first, place = opened.picture, scene.bounding_box()
    assert place is not None
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x + 60, y + 30, steps=4)
    opened.page.mouse.up()
    dragged = opened.picture
    assert dragged != first
    opened.page.mouse.move(x, y)
    assert opened.picture == dragged, "a mouse without its button pressed turns nothing"
    for key in ("ArrowLeft", "ArrowUp", "+", "-"):
        before = opened.picture
        scene.press(key)
        assert opened.picture != before, key
    scene.press("Home")
    assert opened.picture == first


def test_runs_are_sorted_both_ways_by_numbers_and_by_words(opened: Opened) -> None:
    head = opened.page.locator("#run-table thead th", has_text="seed")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert opened.systems()[-1] == "DeepSet"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert opened.systems()[0] == "DeepSet"
    opened.page.locator("#run-table thead th", has_text="model").locator("button").click()
    assert head.get_attribute("aria-sort") == "none"
    assert opened.systems() == ["DeepSet", "Linear", "SE(3)-Transformer", "TFN"]


def test_runs_are_filtered_by_words_and_by_state(opened: Opened) -> None:
    assert opened.text("#count") == "4 runs"
    opened.page.fill("#filter", "tfn")
    assert opened.systems() == ["TFN"]
    assert opened.text("#count") == "1 of 4 runs"
    opened.page.fill("#filter", "")
    opened.page.select_option("#filter-state", "interrupted")
    assert opened.systems() == ["DeepSet"]
    opened.page.select_option("#filter-state", "")
    opened.page.select_option("#filter-experiment", "nbody")
    assert len(opened.systems()) == 4


def test_a_run_opens_to_its_settings_and_where_it_comes_from(opened: Opened) -> None:
    button = opened.page.locator("tbody.run", has_text="<script>alert(1)<|script>").locator(".expand")
    details = opened.page.locator(f"#{button.get_attribute('aria-controls')}")
    assert not details.is_visible()
    button.press("Enter")
    assert details.is_visible()
    assert button.get_attribute("aria-expanded") == "true"
    assert "<script>alert(1)<|script>" in details.inner_text()
    assert "0123456789abcdef" in details.inner_text()
    assert "max_steps: 2000" in details.inner_text()
    button.click()
    assert not details.is_visible()


def test_the_colours_are_those_of_the_system_until_the_reader_chooses(browser: Browser, report: Path) -> None:
    light, dark = "rgb(255, 255, 255)", "rgb(20, 24, 28)"
    for scheme, own, other in (("light", light, dark), ("dark", dark, light)):
        window = Opened(browser, report, color_scheme=scheme)
        assert window.colour() == own
        before = window.picture
        window.page.click("#theme")
        assert window.colour() == other
        assert window.picture != before
        window.page.emulate_media(media="print")
        assert window.colour() == light
        window.close()


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, report: Path) -> None:
    size = {"width": 390, "height": 844}
    window = Opened(browser, report, viewport=size, has_touch=True, is_mobile=True, device_scale_factor=2)
    for button in window.page.locator(".expand").all():
        button.click()
    for summary in window.page.locator("summary").all():
        summary.click()
    width, screen = window.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= screen == 390
    boxes = window.page.locator(".scroll")
    wide = boxes.evaluate_all("(all) => all.filter((box) => box.scrollWidth > box.clientWidth).length")
    assert wide > 0, "wide tables scroll in their own box"
    before = window.picture
    window.page.tap("#play")
    window.until(lambda: window.text("#angle-text") != "0°")
    assert window.picture != before
    window.close()


def test_a_wild_prediction_does_not_break_the_picture(browser: Browser, report: Path, tmp_path: Path) -> None:
    content = json.loads((report.parent / "figure3.json").read_text(encoding="utf-8"))
    content["models"][0]["predictions"][0][0] = [300.0, 400.0, 500.0]
    (tmp_path / "wild.json").write_text(json.dumps(content), encoding="utf-8")
    assert main(["report", "--figure3", str(tmp_path / "wild.json"), "--out", str(tmp_path / "wild.html")]) == 0
    window = Opened(browser, tmp_path / "wild.html")
    for _ in range(30):
        window.page.locator("#scene").press("ArrowRight")
    window.close()


def test_without_a_script_everything_can_be_read(browser: Browser, report: Path) -> None:
    window = Opened(browser, report, java_script_enabled=False)
    assert window.page.locator("tbody.run tr[id]").first.is_visible()
    assert not window.page.locator("#filter").is_visible()
    window.close()
