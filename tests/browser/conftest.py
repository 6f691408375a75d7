"""A headless Chromium for each module of browser tests: playwright allows no second one beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.browsing import CHROMIUM, FLAGS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'octolab[dev]'"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian's package: chromium)")
    with sync_api.sync_playwright() as pw:
        made = pw.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()
