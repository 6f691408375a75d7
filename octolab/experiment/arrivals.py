"""What came when: the events of an asynchronous run, its staleness, latencies and losses; and the replay of a record."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.arguments import NAMED, PROBLEM, expects, like, path, whole
from octolab.federation.timeline import DONE, IGNORED, LATE, STATES
from octolab.fleets import Recorded

if TYPE_CHECKING:
    import pandas as pd

    from octolab.experiment.run import Run
    from octolab.federation import Federation
    from octolab.methods import Method
    from octolab.problems import Problem


class Arrivals:
    """The part of a `Run` that tells of its devices, as the server saw them."""

    federation: Federation

    @property
    def events(self) -> pd.DataFrame:
        """One row per job that has ended: time (virtual seconds), client, kind, version.

        kind: done, ignored (arrived, and never looked at), dropped (given up), cancelled. version: of the model that the
        job was given; -1 where the server counts none. A synchronous run: the newest replies, kind also late.
        `run.export("events.csv")` writes them, `octolab.replay` runs them again. The newest two million are kept.
        """
        import pandas as pd

        times, numbers, states = self.federation.timeline.ended()
        if len(states) == 0:
            found = self.federation.timeline.segments()
            columns = {"time": found["end"], "client": found["client"], "kind": found["state"], "version": -1}
            return pd.DataFrame(columns, columns=["time", "client", "kind", "version"])
        kinds = np.array(STATES)[states]
        return pd.DataFrame({"time": times[:, 2], "client": numbers[:, 0], "kind": kinds, "version": numbers[:, 1]})

    @property
    def staleness(self) -> pd.DataFrame:
        """How many arrivals had which delay (in versions of the model): delay, accepted, rejected.

        Accepted: the server used it; rejected: it never looked at it. Empty for a method whose jobs carry no version.
        """
        import pandas as pd

        _, numbers, states = self.federation.timeline.ended()
        arrived = np.isin(states, (DONE, IGNORED)) & (numbers[:, 2] >= 0)
        delays, used = numbers[arrived, 2], states[arrived] == DONE
        size = int(delays.max(initial=-1)) + 1
        table = pd.DataFrame(
            {
                "delay": np.arange(size),
                "accepted": np.bincount(delays[used], minlength=size),
                "rejected": np.bincount(delays[~used], minlength=size),
            }
        )
        return table[(table.accepted > 0) | (table.rejected > 0)].reset_index(drop=True)

    @property
    def latency_percentiles(self) -> dict[str, float]:
        """p50, p90, p99 of the virtual seconds from start to arrival, over what arrived; NaN where nothing did."""
        times, _, states = self.federation.timeline.ended()
        seconds = (times[:, 2] - times[:, 0])[np.isin(states, (DONE, IGNORED))]
        if len(states) == 0:
            found = self.federation.timeline.segments()
            came = np.isin(found["state"], [STATES[k] for k in (DONE, LATE)])
            seconds = (found["end"] - found["start"])[came]
        if len(seconds) == 0:
            return {"p50": np.nan, "p90": np.nan, "p99": np.nan}
        return {f"p{q}": float(np.percentile(seconds, q)) for q in (50, 90, 99)}

    @property
    def dropout_rate(self) -> float:
        """Jobs and replies that never came, over those that were started or waited for."""
        fed, timeline = self.federation, self.federation.timeline
        jobs = sum(fed.jobs.counts) if fed.asynchronous else 0
        lost = fed.jobs.lost if fed.asynchronous else 0
        asked = jobs + timeline.asked
        return (lost + timeline.lost) / asked if asked else 0.0


@expects(
    method=NAMED,
    problem=PROBLEM,
    events=like("run.events, a table, or the path of its CSV file", "columns") | path(),
    rounds=whole(0),
)
def replay(
    events: pd.DataFrame | str | os.PathLike,
    method: Method | str,
    problem: Problem,
    *,
    rounds: int | None = None,
    **settings: Any,
) -> Run:
    """Run an asynchronous method on a record of arrivals: `run.events`, or the path of the CSV file it was exported to.

    With the method, the problem, the seed and the start of then, the trajectory is the same, bit for bit (but for the
    bits that cancelled jobs had sent of their replies, which no record holds). With another method, the same devices
    answer when they did then. rounds: steps; by default as many as jobs arrived.
    settings: as of `octolab.run`; a fleet is the record's.
    """
    from octolab.experiment.launch import run
    from octolab.fleets.rows import read_csv

    if "fleet" in settings:
        raise ValueError(f"replay takes the devices from its events: leave out fleet={settings['fleet']!r}.")
    table = read_csv(events, "the events of a run") if isinstance(events, (str, os.PathLike)) else events
    fleet = Recorded.from_events(table)
    arrived = int(table["kind"].isin([STATES[DONE], STATES[IGNORED]]).sum())
    if rounds is None and (arrived == 0 or (table["kind"] == STATES[LATE]).any()):
        raise ValueError("These events are no asynchronous run's: a synchronous one is repeated by its spec and seed.")
    return run(method, problem, rounds=arrived if rounds is None else rounds, fleet=fleet, **settings)


__all__ = ["Arrivals", "replay"]
