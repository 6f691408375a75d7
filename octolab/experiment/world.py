"""Where client functions run, if not here: the worlds that `on=` names, found through the entry points of a package.

A package adds a world by naming its class (made without arguments) in its pyproject.toml:

    [project.entry-points."octolab.worlds"]
    flower = "octolab.flower:InProcess"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from octolab.rooms import nearest

if TYPE_CHECKING:
    from octolab.experiment.run import Run

GROUP = "octolab.worlds"


class Connection(Protocol):
    """A run's connection to its world."""

    remote: bool  # whether the run's own steps happen elsewhere: then `advance` brings the next row

    @property
    def savable(self) -> bool:
        """Whether a run file can be written now: what clients remember must be there to be fetched."""
        ...

    def launch(self) -> None:
        """Start a remote run, if that has not been done."""
        ...

    def advance(self) -> bool:
        """The next round of a remote run. False: it has ended."""
        ...

    def close(self) -> None:
        """Let go of what the session holds; the run may go on later."""
        ...


@runtime_checkable
class World(Protocol):
    """A place that a run can join, such as `ol.flower.InProcess()`: frozen, shareable."""

    def join(self, run: Run) -> Connection:
        """Connect the run: its executor and memory may be replaced by the world's."""
        ...


def worlds() -> dict[str, EntryPoint]:
    """The worlds that installed packages name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def world_of(on: World | str) -> World:
    """The world that `on` names, or is; ValueError in words for what is none."""
    if not isinstance(on, (str, type)) and isinstance(on, World):
        return on
    known = worlds()
    if not isinstance(on, str) or on not in known:
        meant = nearest(on, known) if isinstance(on, str) else ""
        raise ValueError(
            f"on={on!r}: choose {', '.join(map(repr, sorted(known))) or 'an object (no world is installed)'}, or an object "
            f"with join(run), such as ol.flower.SuperLink('host:port').{meant}"
        )
    made = known[on].load()()
    if not isinstance(made, World):
        raise ValueError(f"on={on!r}: {known[on].value} has no join(run), so it is no world.")
    return made
