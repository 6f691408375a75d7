"""The catalogue as a web page (`make app`): search, narrow, open a method in place, run it, come back."""

from __future__ import annotations

import pytest

import octolab as ol
from tests.browser.browsing import ROOT, SHOTS, eventually, fresh_page, needs_chromium, voila

pytestmark = [pytest.mark.browser, needs_chromium]

FILLS = """(() => {
    const plot = document.querySelector('.js-plotly-plot');
    const drawn = (plot.data ?? []).some((t) => (t.x ?? []).length > 5);
    return drawn && Math.abs(plot.querySelector('.main-svg').clientWidth - plot.parentElement.clientWidth) < 20;
})()"""


def test_the_app_is_searched_narrowed_and_opened(tmp_path, browser):
    SHOTS.mkdir(parents=True, exist_ok=True)
    with voila(tmp_path, ROOT / "octolab/lab/app.ipynb") as address, fresh_page(browser) as page:
        page.goto(address)
        page.locator(".octo-method").first.wait_for()
        every = page.locator(".octo-method").count()
        assert every >= len(ol.methods.slugs())
        page.screenshot(path=str(SHOTS / "catalogue.png"))

        page.get_by_label("Search the methods").fill("error feedback")
        page.wait_for_function(f"document.querySelectorAll('.octo-method').length < {every}")
        eventually(page.locator("[data-slug=ef21]").count, (1).__eq__)
        page.locator(".octo-clear").click()
        page.wait_for_function(f"document.querySelectorAll('.octo-method').length === {every}")

        finds_parts(page)
        ticks_two(page)

        def pressed():
            return page.locator("[data-name=bandwidth]").get_attribute("aria-pressed")

        page.locator("[data-name=bandwidth]").click()
        page.locator(".octo-why").first.wait_for()
        eventually(page.locator("[data-slug=ef21]").inner_text, lambda found: "uplink" in found)
        eventually(pressed, "true".__eq__)
        page.screenshot(path=str(SHOTS / "catalogue-narrowed.png"))

        page.locator("[data-slug=ef21]").focus()
        page.keyboard.press("Enter")
        page.locator(".octo-explorer .octo-run").wait_for()
        eventually(page.locator(".octo-explorer h2").inner_text, "EF21".__eq__)
        page.locator(".octo-run").click()
        page.wait_for_function("document.querySelector('.octo-status').innerText.includes('finished')")
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        page.locator(".octo-placeholder").wait_for(state="hidden")
        page.wait_for_function(FILLS)
        page.screenshot(path=str(SHOTS / "catalogue-opened.png"))
        assert page.locator("[data-path='method.lr'] .octo-note").first.inner_text().startswith("=")
        saves_what_is_seen(page)
        page.locator(".octo-back").click()
        page.locator(".octo-method").first.wait_for()
        eventually(pressed, "true".__eq__)  # what was chosen stays


def finds_parts(page):
    """An attack is no method: it has a small card of its own."""
    page.get_by_label("Search the methods").fill("SignFlip")
    page.locator(".octo-part").first.click()
    page.get_by_text("ol.attacks.SignFlip(").first.wait_for()
    page.locator(".octo-back").click()
    page.locator(".octo-clear").click()
    page.locator("[data-tick=diana]").wait_for()


def ticks_two(page):
    """Going back keeps the place; two that are ticked can be compared."""
    page.locator("[data-tick=diana]").first.check()
    page.get_by_text("DIANA: tick a second one").wait_for()
    page.locator("[data-tick=ef21]").first.check()
    page.locator(".octo-compare-two").wait_for()
    page.evaluate("document.querySelector('.octo-shelves').scrollTop = 900")
    page.locator(".octo-compare-two").click()
    page.locator(".octo-explorer .octo-run").wait_for()
    eventually(page.locator(".octo-hint").first.inner_text, lambda found: "Beside it EF21" in found)
    page.locator(".octo-back").click()
    place = "document.querySelector('.octo-shelves')?.scrollTop"
    eventually(lambda: page.evaluate(place), lambda at: at is not None and at > 500, 30)


def saves_what_is_seen(page):
    """The picture has the curves, the axis and the titles that the chart has."""
    page.locator(".octo-picture-menu summary").click()
    page.get_by_label("Kind of picture").select_option(".svg")
    with page.expect_download() as download:
        page.locator(".octo-save").click()
    drawn = download.value.path().read_text(encoding="utf-8")
    plot = page.evaluate("document.querySelector('.js-plotly-plot').data.map((t) => t.name)")
    assert {"EF21", "GD (baseline)"} <= {name.split(",")[0] for name in plot if name}
    assert all(f">{name}<" in drawn for name in ("EF21", "GD (baseline)", "bits sent up, per client"))
