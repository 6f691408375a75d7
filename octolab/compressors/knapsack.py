"""Dividing a budget of bits among layers: an exact multiple-choice knapsack, for many clients at once."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST = 20_000_000
"""Numbers held at once, clients times states, before the problem counts as too large to be solved exactly."""


def knapsack(error: np.ndarray, cost: np.ndarray, budget: Any) -> np.ndarray:
    """One option per layer with the least total error within the budget, exactly. Returns (m, layers) option numbers.

    error: (m, layers, options) >= 0, each client's own; cost: (layers, options) whole bits, the same for all;
    budget: (m,) bits. Where not even the cheapest options fit, they are chosen.

    Dynamic programming over the layers. A state is (cost, error) of the layers so far; one that costs no less than
    another and errs no less is dropped. States of all clients lie side by side in (m, states) arrays.

    >>> knapsack(np.array([[[4.0, 0.0], [9.0, 1.0]]]), np.array([[1, 5], [1, 5]]), [6])
    array([[0, 1]])
    """
    m, layers, options = error.shape
    if m == 0:
        return np.zeros((0, layers), dtype=np.int64)
    least = cost.min(axis=1)
    room = np.maximum(np.broadcast_to(np.asarray(budget, dtype=np.float64), (m,)), least.sum())
    after = np.append(np.cumsum(least[::-1])[::-1][1:], 0)  # the least that the later layers will cost
    spent, erred = np.zeros((m, 1)), np.zeros((m, 1))
    trail: list[np.ndarray] = []
    for j in range(layers):
        width = spent.shape[1] * options
        if m * width > MOST:
            raise ValueError(
                f"dividing a budget among {layers} layers for {m} clients takes {m * width:,} states after {j + 1} layers: "
                f"too many to be exact. Join small layers, or choose one k for the whole model (spend='k')."
            )
        c = (spent[:, :, None] + cost[j]).reshape(m, width)
        e = (erred[:, :, None] + error[:, j, None, :]).reshape(m, width)
        impossible = c + after[j] > room[:, None]
        c[impossible], e[impossible] = np.inf, np.inf
        order = np.argsort(e, axis=1, kind="stable")
        order = np.take_along_axis(order, np.argsort(np.take_along_axis(c, order, 1), axis=1, kind="stable"), 1)
        c, e = np.take_along_axis(c, order, 1), np.take_along_axis(e, order, 1)
        best_before = np.minimum.accumulate(e, axis=1)
        better = np.ones_like(e, dtype=bool)
        better[:, 1:] = e[:, 1:] < best_before[:, :-1]
        better &= np.isfinite(c)
        front = int(better.sum(axis=1).max())
        keep = np.argsort(~better, axis=1, kind="stable")[:, :front]  # the better ones first, in their order
        dead = ~np.take_along_axis(better, keep, 1)
        spent, erred = np.take_along_axis(c, keep, 1), np.take_along_axis(e, keep, 1)
        spent[dead], erred[dead] = np.inf, np.inf
        trail.append(np.take_along_axis(order, keep, 1))
    at = erred.argmin(axis=1)
    chosen = np.empty((m, layers), dtype=np.int64)
    for j in range(layers - 1, -1, -1):
        origin = trail[j][np.arange(m), at]
        chosen[:, j], at = origin % options, origin // options
    return chosen
