"""Where the time goes: the virtual clock, what devices do, how late their answers come and how stale they are."""

from __future__ import annotations

import numpy as np

from octolab.experiment.curves import thin
from octolab.lab.chart import Chart, Mark
from octolab.lab.dashboard.panels.registry import panel
from octolab.lab.dashboard.segments import DONE, IGNORED, LATE, STATES, at_work, segments
from octolab.lab.dashboard.view import View, counted

GANTT_ROWS, GANTT_SPANS, NEWEST = 40, 1500, 10_000
SPENT = ("hearing", "computing", "sending", "under way", "wasted", "idle")
ACTS = (("hears the model", "start", "received"), ("computes", "received", "computed"), ("sends", "computed", "end"))
ACT_COLOURS = {"hears the model": "#56B4E9", "computes": "#0072B2", "sends": "#009E73"}
BAD_COLOURS = {"ignored": "#E69F00", "dropped": "#D55E00", "late": "#CC79A7", "cancelled": "#999999"}


def _applies(view: View) -> bool:
    return any(len(f.counted.rows) and f.counted.rows[-1, 1] > 0 for f in view.feeds)


@panel("time", "Time", _applies, place=30)
def clock(view: View) -> list[Chart]:
    charts = [virtual(view)]
    found = [latency(view), device_time(view), staleness(view), lost(view), gantt(view)]
    return charts + [c for c in found if not c.empty]


def virtual(view: View) -> Chart:
    marks = view.curves("counted", counted("time"), what="clock")
    label = "round" if view.x == "time" else view.x_label
    if view.x == "time":  # time against time says nothing
        marks = [
            Mark(name, r[:, 0], r[:, 1]) for name in view.groups if (f := view.newest(name)) for r in [f.counted.rows]
        ]
    return Chart("clock", "Virtual clock (seconds)", label, "", marks, linked=view.x != "time")


def latency(view: View) -> Chart:
    """The share of answers that came within t seconds, with P50, P90 and P99 marked."""
    marks, words = [], []
    for name in view.groups:
        seconds = _answers(view, name)
        if not len(seconds) or np.ptp(seconds) == 0:
            continue
        ordered = np.sort(seconds)
        keep = thin(len(ordered), 500)
        marks.append(Mark(name, ordered[keep], (keep + 1) / len(ordered)))
        at = np.quantile(ordered, [0.5, 0.9, 0.99])
        text = [f"P{p}: {v:.3g} s" for p, v in zip((50, 90, 99), at, strict=True)]
        marks.append(Mark(name, at, np.array([0.5, 0.9, 0.99]), "points", part="P50, P90, P99", text=text))
        words.append(", ".join(text))
    note = words[0] if len(words) == 1 else "dots: P50, P90, P99"
    return Chart("latency", "Answers that came within t seconds", "seconds", "", marks, note, percent=True)


def device_time(view: View) -> Chart:
    """How the devices spent the time that the newest segments cover: shares of n devices times seconds."""
    marks = []
    for name in view.groups:
        feed = view.newest(name)
        found = None if feed is None else segments(feed)
        if feed is not None and found is not None and len(found.client):
            fed = feed.run.federation
            busy = np.zeros(0) if feed.over else at_work(fed)[1]
            shares = spent(found.times[-NEWEST:], found.state[-NEWEST:], fed.n, busy, found.total > NEWEST)
            marks.append(Mark(name, list(SPENT), shares, "bars"))
    note = "newest work; wasted: ignored, dropped, late, cancelled"
    return Chart("device time", "Where the devices' time goes", "", "", marks, note, percent=True)


def spent(times: np.ndarray, state: np.ndarray, n: int, busy: np.ndarray, cut: bool = False) -> np.ndarray:
    """Shares of `SPENT`, over n devices, from the first known second to the last; they add up to 1.

    times (s, 4), state (s,) in order of arrival; busy (r,): when the jobs under way started; cut: older segments exist.
    Theirs reach into the time of these, so the window opens when the first of these ended.
    """
    finite = np.where(np.isfinite(times), times, np.nan)
    ends = np.nanmax(finite, axis=1)
    since = float(ends[0] if cut else np.nanmin(finite[:, 0]))
    until = max(float(ends.max()), float(busy.max(initial=since)))
    inside = np.clip(finite, since, until)
    good = state == DONE
    wasted = (np.clip(ends, since, until) - inside[:, 0])[~good].sum()
    pending = (until - np.maximum(busy, since)).sum()
    seconds = np.array([*np.nansum(np.diff(inside[good], axis=1), axis=0), pending, wasted])
    shares = seconds / max(n * (until - since), 1e-300)
    return np.array([*shares, max(0.0, 1.0 - float(shares.sum()))])


def staleness(view: View) -> Chart:
    """Histogram of logged delays: how many updates old a gradient was when it arrived."""
    marks = []
    delays = {name: f.newest("delay") for name in view.groups if (f := view.newest(name)) and "delay" in f.sparse}
    top = max((float(np.nanmax(v)) for v in delays.values() if len(v)), default=0.0)
    edges = np.unique(np.linspace(0, top + 1, 31).astype(int)) if top < 30 else np.linspace(0, top + 1, 31)
    for name, values in delays.items():
        counts, _ = np.histogram(values, edges)
        middle = edges[:-1] if top < 30 else (edges[:-1] + edges[1:]) / 2
        marks.append(Mark(name, np.asarray(middle, dtype=float), counts / max(1, len(values)), "bars"))
    note = "newest arrivals"
    if len(delays) == 1:
        values = next(iter(delays.values()))
        note = (
            f"mean {np.mean(values):.1f}, P90 {np.quantile(values, 0.9):.0f}, largest {values.max():.0f}"
            if len(values)
            else note
        )
    return Chart("staleness", "Staleness: updates since the model was sent", "updates", "", marks, note, percent=True)


def lost(view: View) -> Chart:
    """Replies lost per round in which any was lost, smoothed."""
    marks = [m for m in view.curves("dropped", lambda r: smooth(r[:, -1]), what="lost") if m.kind == "line"]
    note = "dropped out or late; moving average"
    return Chart("dropped", "Replies lost in a round", view.x_label, "", marks, note, linked=True)


def smooth(values: np.ndarray) -> np.ndarray:
    """(t,) a centred moving average over a twentieth of the values."""
    window = max(1, len(values) // 20)
    if window == 1:
        return values
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")


def gantt(view: View) -> Chart:
    """The newest work of the focused run's devices, as thick lines; at most `GANTT_ROWS` devices."""
    feed = view.focused
    found = None if feed is None else segments(feed)
    if feed is None or found is None or not len(found.client):
        return Chart("gantt", "Device timeline", "", "", [])
    if view.canvas:
        return Chart("gantt", "Device timeline", "", "", [Mark(view.focus, found.client[:1], found.state[:1])])
    clients = np.unique(found.client)
    rows = clients[thin(len(clients), GANTT_ROWS)]
    keep = np.flatnonzero(np.isin(found.client, rows))[-GANTT_SPANS:]
    client, times, state = found.client[keep], found.times[keep], STATES[found.state[keep]]
    place = np.searchsorted(rows, client).astype(float)
    marks = []
    good = state == "done"
    for k, (act, _, _) in enumerate(ACTS):
        on = good & (times[:, k + 1] > times[:, k])
        if on.any():
            marks.append(_spans(feed.run.name, act, ACT_COLOURS[act], times[on, k], times[on, k + 1], place[on]))
    for kind, colour in BAD_COLOURS.items():
        on = state == kind
        if on.any():
            end = np.where(np.isfinite(times[on, 3]), times[on, 3], feed.run.federation.now)
            marks.append(_spans(feed.run.name, kind, colour, times[on, 0], end, place[on]))
    some = "" if len(rows) == len(clients) else f", {len(rows)} of {len(clients)} devices"
    note = f"{view.focus}{some}: " + ", ".join(m.part for m in marks)
    return Chart("gantt", "Device timeline", "virtual time (seconds)", "device", marks, note, tall=True)


def _spans(run: str, part: str, colour: str, start: np.ndarray, end: np.ndarray, place: np.ndarray) -> Mark:
    gap = np.full(len(start), np.nan)
    x, y = np.stack([start, end, gap], 1).ravel(), np.stack([place, place, gap], 1).ravel()
    return Mark("", x, y, "spans", part=part, colour=colour, width=5, dash="solid")


def _answers(view: View, name: str) -> np.ndarray:
    """Seconds from the start to the answer of the newest work that was answered."""
    feed = view.newest(name)
    if feed is None:
        return np.zeros(0)
    found = segments(feed)
    times, state = found.times[-NEWEST:], found.state[-NEWEST:]
    came = (state == DONE) | (state == IGNORED) | (state == LATE)
    seconds = times[came, 3] - times[came, 0]
    return seconds[np.isfinite(seconds)]
