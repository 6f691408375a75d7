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
        page.locator(".octo-back").click()
        page.locator(".octo-method").first.wait_for()
        eventually(pressed, "true".__eq__)  # what was chosen stays
