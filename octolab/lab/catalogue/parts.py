"""Parts that are no methods (attacks, compressors, samplers, fleets, splits, ...): found by words, shown as cards."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from html import escape

from octolab import rooms
from octolab.lab.explorer.knobs import made
from octolab.lab.values import card, value_card

OTHERS = tuple(room for room in rooms.ROOMS if room not in ("methods", "problems", "stops"))


@dataclass(frozen=True)
class Part:
    """One part. room, name: where it is registered; noun: what it is; summary: the first line of its documentation."""

    room: str
    name: str
    noun: str
    summary: str

    @property
    def text(self) -> str:
        return f"{self.name} {self.noun} {self.room} {self.summary}".lower()


@cache
def _parts() -> tuple[Part, ...]:
    return tuple(
        Part(room, name, rooms.ROOMS[room].noun, (inspect.getdoc(thing) or "").partition("\n")[0])
        for room in OTHERS
        for name, thing in sorted(rooms.members(room).items())
    )


def found(words: list[str]) -> list[Part]:
    """The parts in which every word occurs; none without words."""
    return [part for part in _parts() if words and all(word in part.text for word in words)]


def part_card(room: str, name: str) -> str:
    """A part's own small card: what it is, its parameters, the text that makes it. ValueError for an unknown one."""
    thing = rooms.find(room, name)
    example = made(thing) if isinstance(thing, type) else None
    where = (
        f"<p><small>a {escape(rooms.ROOMS[room].noun)}: {escape(rooms.ROOMS[room].public)}.{escape(name)}</small></p>"
    )
    if example is not None:
        return where + value_card(example)
    return where + card(f"<b>{escape(name)}</b><pre>{escape(inspect.getdoc(thing) or '')}</pre>")
