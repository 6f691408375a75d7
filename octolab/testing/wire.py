"""What really goes over the wire: every message encoded, decoded and weighed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from octolab.federation import Each
from octolab.payloads import Dense, Payload


class Wire:
    """Listens to a federation: encodes every message, and counts the bits that really went over the wire."""

    def __init__(self, fed: Any):
        self.messages, self.jobs = 0, list[Any]()
        self.up, self.down = np.zeros(fed.n), np.zeros(fed.n)
        evaluate, following = fed.executor.run, fed.jobs.next

        def run(fed: Any, fn: Any, ids: np.ndarray, down: tuple, event: int) -> Any:
            result = evaluate(fed, fn, ids, down, event)
            for payload in result.payloads:
                if payload is not None:
                    np.add.at(self.up, ids, self.weigh(payload))
            np.add.at(self.down, ids, sum(_size(item) for item in down))
            return result

        def arrival() -> Any:
            self.jobs.append(following())
            return self.jobs[-1]

        fed.executor.run = run
        fed.jobs.next = fed.next = arrival  # type: ignore[method-assign]

    def arrived(self) -> np.ndarray:
        """Bits up per client, jobs included; those that the server ignored are evaluated now."""
        for job in self.jobs:
            self.up[job.client] += self.weigh(job.payload)[0]
        return self.up

    def weigh(self, payload: Any) -> np.ndarray:
        """Bits (m,) of stacked messages, each compared with its bytes."""
        each = np.zeros(len(payload))
        for i in range(len(payload)):
            message = payload[i]
            data, each[i] = message.encode(), message.bits
            assert len(data) == math.ceil(each[i] / 8), f"{message!r} encodes to {len(data)} bytes."
            back, here = type(message).decode(data, message.meta).dense().double(), message.dense().double()
            close = torch.allclose(back, here, rtol=1e-6, atol=1e-30 + 1e-6 * float(here.abs().max()))
            assert close, f"{message!r} does not decode to what the server used."
            self.messages += 1
        return each


def _size(item: Any) -> float:
    """Bits of one thing sent down, from its bytes."""
    if isinstance(item, torch.Tensor):
        return 8.0 * len(Dense(item.reshape(-1)).encode())
    if isinstance(item, (bool, np.bool_)):
        return 1.0
    if isinstance(item, Payload):
        return float(item.bits)
    if isinstance(item, Each):
        return 32.0 * item.values[0].numel()
    if isinstance(item, (list, tuple)):
        return sum(_size(i) for i in item)
    return 0.0 if item is None else 32.0
