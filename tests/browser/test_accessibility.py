"""axe-core finds no serious violation in the catalogue and the explorer, all levels open.

axe-core comes from npm into build/ when the test first runs; where npm or its registry is not to be had, this is
skipped with that reason. Nothing of it is in the repository.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile

import pytest

from tests.browser.browsing import ROOT, eventually, fresh_page, needs_chromium, notebook, voila

pytestmark = [pytest.mark.browser, needs_chromium]

AXE = ROOT / "build" / "axe" / "axe.min.js"
CHECK = """async (context) => (await axe.run(context, { resultTypes: ['violations'] })).violations
    .filter((v) => ['serious', 'critical'].includes(v.impact))
    .map((v) => `${v.id} (${v.impact}): ${v.help}: ` + v.nodes.slice(0, 4).map((n) => n.html.slice(0, 160)).join(' || '))"""


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core is not here, and there is no npm to fetch it")
        AXE.parent.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run([npm, "pack", "axe-core@4"], cwd=AXE.parent, check=True, capture_output=True, timeout=60)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"axe-core is not here, and npm could not fetch it ({type(error).__name__})")
        with tarfile.open(next(AXE.parent.glob("axe-core-*.tgz"))) as packed:
            AXE.write_bytes(packed.extractfile("package/axe.min.js").read())
    return AXE.read_text(encoding="utf-8")


def test_no_serious_violation_in_the_catalogue_and_an_explorer_with_all_levels(tmp_path, axe, browser):
    cells = ["import octolab as ol\nol.lab()", "ol.lab('ef21', 'quadratics', rounds=50)"]
    (tmp_path / "page.ipynb").write_text(notebook(*cells))
    with voila(tmp_path / "home", tmp_path / "page.ipynb") as address, fresh_page(browser, bypass_csp=True) as page:
        page.goto(address)
        page.locator(".octo-explorer .octo-run").wait_for()
        page.locator(".octo-method").first.wait_for()
        page.locator(".octo-more summary").click()
        page.locator(".octo-run").click()
        page.wait_for_function(
            "document.querySelector('.octo-explorer .octo-buttons ~ .octo-status').innerText.includes('finished')"
        )
        for level in (1, 2, 3):
            page.locator(f".octo-level-{level}").click()
        page.locator(".octo-algorithm mjx-container").first.wait_for()
        page.locator('[data-path="run.rounds"] input.octo-entry').last.fill("-1")  # an error on show
        page.keyboard.press("Enter")
        page.locator('[data-path="run.rounds"] .octo-error').last.wait_for()
        page.evaluate(axe)
        parts = {"include": [[".octo-catalogue"], [".octo-explorer"]]}
        eventually(lambda: page.evaluate(CHECK, parts), [].__eq__, seconds=10)


def test_everything_can_be_reached_and_pressed_from_the_keyboard(tmp_path, browser):
    (tmp_path / "page.ipynb").write_text(notebook("import octolab as ol\nol.lab('ef21', 'quadratics', rounds=50)"))
    with voila(tmp_path / "home", tmp_path / "page.ipynb") as address, fresh_page(browser) as page:
        page.goto(address)
        page.locator(".octo-run").wait_for()
        page.locator(".octo-placeholder").wait_for(state="hidden")
        reached = set()
        page.locator(".octo-explorer .octo-cite a").focus()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate(
                    "document.activeElement.className + ' ' + (document.activeElement.closest('[data-path]')?.dataset.path ?? '')"
                )
            )
        said = " ".join(reached)
        for wanted in (
            "problem",
            "problem.spread",
            "method.lr",
            "method.compressor.k",
            "octo-run",
            "octo-step",
            "octo-level-1",
            "octo-level-3",
        ):
            assert wanted in said, f"{wanted} is not reached with Tab"
        page.locator(".octo-run").focus()
        page.keyboard.press("Space")
        page.wait_for_function(
            "document.querySelector('.octo-side .octo-buttons ~ .octo-status').innerText.includes('finished')"
        )
        page.locator(".octo-level-1").focus()
        page.keyboard.press("Enter")
        page.locator('[data-path="run.rounds"]').wait_for()
