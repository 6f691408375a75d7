"""W5: start-up. `import octolab` against nothing, and a process to the end of its first round against `import torch`."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.timing import Arms

FIRST_ROUND = """
import numpy as np
import octolab as ol
rng = np.random.default_rng(0)
x, y = rng.normal(size=(6000, 784)).astype("float32"), rng.integers(0, 10, 6000)
problem = ol.problems.Network(ol.problems.MLP(784, 64, 10), features=np.split(x, 100), labels=np.split(y, 100))
ol.run(ol.methods.FedAvg(lr=0.05, local_epochs=1, batch_size=10, cohort=10), problem, rounds=1)
"""


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def bench() -> dict[str, float]:
    arms = Arms(
        empty=lambda: python("pass"),
        octolab=lambda: python("import octolab"),
        torch=lambda: python("import torch"),
        first_round=lambda: python(FIRST_ROUND),
    ).run(repeats=5)
    s = arms.seconds
    rest = arms.ratio("torch", "first_round")
    print(f"W5  import octolab: {1000 * (s['octolab'] - s['empty']):.0f} ms over an empty process (must be <= 300)")
    print(f"W5  process start to end of round 1 (MLP): {rest:.2f} x `import torch` (must be <= 2.0; excellent 1.4)")
    return {"import_ms": 1000 * (s["octolab"] - s["empty"]), "first_round_over_torch": rest}


if __name__ == "__main__":
    bench()
