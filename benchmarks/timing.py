"""Arms that alternate in one process; ratios are medians of per-repetition ratios. Only ratios are to be trusted."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

from threadpoolctl import threadpool_limits

threadpool_limits(1)  # every arm on one thread, unless it says otherwise


class Arms:
    """Named functions to time against each other: `Arms(octolab=f, bound=g).run(5).ratio("octolab", "bound")`."""

    def __init__(self, **arms: Callable[[], object]):
        self.arms, self.times = arms, {name: [] for name in arms}

    def run(self, repeats: int = 5, warm: bool = True) -> Arms:
        names = list(self.arms)
        if warm:
            for name in names:
                self.arms[name]()
        for r in range(repeats):
            for name in names[r % len(names) :] + names[: r % len(names)]:  # rotating order
                gc.collect()
                start = time.perf_counter()
                self.arms[name]()
                self.times[name].append(time.perf_counter() - start)
        return self

    @property
    def seconds(self) -> dict[str, float]:
        """Median seconds of each arm."""
        return {name: statistics.median(values) for name, values in self.times.items()}

    def ratio(self, fast: str, slow: str) -> float:
        """How many times faster `fast` is than `slow`: the median of slow/fast per repetition."""
        return statistics.median(s / f for f, s in zip(self.times[fast], self.times[slow], strict=True))


class Inside:
    """Seconds spent in the outermost of the watched functions."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def watch(self, function: Any) -> Any:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - start

        return watched


def thousands(x: float) -> str:
    return f"{x / 1000:,.0f} k"
