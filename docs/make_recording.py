"""Records docs/lab.webp, the README's twenty seconds of the laboratory, in a real browser: python docs/make_recording.py

The catalogue as a web page (Voila): say what hurts, open EF21, run it, look at another axis, save a picture. Needs the
extra `dev` and Chromium. docs/explorer.png, the still picture, is its last view.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.browsing import CHROMIUM, FLAGS, voila  # noqa: E402

WIDTH, HEIGHT, EACH = 1100, 760, 400
"""Pixels of the page, and milliseconds that a frame stays."""
MOST = 1_500_000
FINISHED = "document.querySelector('.octo-status')?.innerText.includes('finished')"


class Recorder:
    """Frames of a page, each shown for so many milliseconds."""

    def __init__(self, page: Any):
        self.page, self.frames, self.lengths = page, [], []

    def take(self, times: int = 1) -> None:
        """What is on the page now, `times` frames long."""
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self.frames.append(picture.resize((WIDTH * 4 // 5, HEIGHT * 4 // 5), Image.Resampling.LANCZOS))
        self.lengths.append(EACH * times)

    def go_on(self, frames: int) -> None:
        """So many frames of what happens by itself."""
        for _ in range(frames):
            self.page.wait_for_timeout(EACH)
            self.take()

    def save(self, path: Path) -> None:
        for quality in (70, 55, 40, 25):
            self.frames[0].save(
                path,
                save_all=True,
                append_images=self.frames[1:],
                duration=self.lengths,
                loop=0,
                quality=quality,
                method=4,
            )
            if path.stat().st_size <= MOST:
                break
        print(f"{path}: {sum(self.lengths) / 1000:.0f} s, {path.stat().st_size / 1e3:.0f} kB")


def play(page: Any, record: Recorder) -> None:
    """The story: what hurts, one method, Run, another axis, a picture."""
    page.locator(".octo-method").first.wait_for()
    record.go_on(1)
    record.take(7)
    page.locator("[data-name=bandwidth]").click()
    page.locator(".octo-why").first.wait_for()
    record.go_on(1)
    record.take(4)
    page.locator("[data-slug=ef21]").first.click()
    page.locator(".octo-explorer .octo-run").wait_for()
    page.wait_for_function("document.querySelector('.js-plotly-plot .main-svg')")
    page.wait_for_timeout(4000)  # the page loads its plots
    record.take(7)
    page.locator(".octo-run").click()
    record.go_on(8)
    page.wait_for_function(FINISHED)
    page.wait_for_timeout(1500)
    record.take(6)
    page.get_by_label("x axis").first.select_option("round")
    record.go_on(2)
    record.take(4)
    page.get_by_label("x axis").first.select_option("bits_up")
    page.locator(".octo-picture-menu summary").first.click()
    record.go_on(2)
    record.take(8)


def main() -> None:
    """Record, and write both files beside this one."""
    from playwright.sync_api import sync_playwright

    home = Path(tempfile.mkdtemp())
    with voila(home, ROOT / "octolab/lab/app.ipynb") as address, sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(120_000)
        page.goto(address)
        record = Recorder(page)
        play(page, record)
        record.save(ROOT / "docs" / "lab.webp")
        page.locator(".octo-picture-menu summary").first.click()
        page.set_viewport_size({"width": 1366, "height": 1100})
        page.wait_for_timeout(2500)
        page.locator(".octo-catalogue").first.screenshot(path=str(ROOT / "docs" / "explorer.png"))
        browser.close()


if __name__ == "__main__":
    main()
