"""A dashboard's place in a notebook: whether anybody looks, and what stays when it is gone."""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

from octolab.experiment.progress import in_kernel
from octolab.lab.display import cell, in_voila, put


def expects_a_browser() -> bool:
    """Whether to make the figure (a program of 5 MB) at once.

    In a kernel, not where nobody will look (papermill, nbclient): such a client names no cell. The figure is made all
    the same as soon as a browser says that it is there.
    """
    if not in_kernel():
        return True
    if os.environ.get("OCTOLAB_LIVE", "1") == "0" or os.environ.get("OCTOLAB_FAST", "0") == "1":
        return False
    return cell() is not None or in_voila()


class Twin:
    """The static card under a widget: in the saved notebook and hidden while the widget is there. name: its CSS class.

    card: gives its HTML as things stand. over: whether it will not change any more. Whoever executes a notebook without
    a screen hears only what is said before a cell ends: a card that has become final is brought up to date by then.
    """

    def __init__(self, card: Callable[[], str], over: Callable[[], bool]):
        self.name, self._card, self.handle = f"octo-card-{uuid.uuid4().hex[:10]}", card, None
        self._over, self.final = over, False

    def html(self) -> str:
        lonely = f".jp-OutputArea-child:has(+ .jp-OutputArea-child .{self.name}) > .jp-OutputArea-output:not(:has(*))"
        style = f"<style>{lonely} {{ display: none; }}</style>"  # a lab that finds no widget says so in bare text
        return f"<div class='{self.name}'>{style}{self._card()}</div>"

    def show(self, widget: Any) -> None:
        """Display the widget, and the card below it."""
        from IPython.display import HTML, display

        put(widget)
        self.final = self._over()
        self.handle = display(HTML(self.html()), display_id=True)
        _shown.add(self)
        _listen()

    def update(self) -> None:
        """Bring the card up to date, where one is displayed."""
        from IPython.display import HTML

        self.final = self._over()  # before the card is made: what ends meanwhile is not lost
        if self.handle is not None:
            self.handle.update(HTML(self.html()))

    def cell_ends(self) -> None:
        if not self.final and self._over():
            self.update()


_shown: weakref.WeakSet[Twin] = weakref.WeakSet()


@cache
def _listen() -> None:
    """From now on cards are brought up to date when a cell ends."""
    from IPython import get_ipython

    shell: Any = get_ipython()
    if shell is not None:
        shell.events.register("post_run_cell", _cell_ends)


def _cell_ends(_: Any = None) -> None:
    for twin in list(_shown):
        twin.cell_ends()
