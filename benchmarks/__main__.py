"""`python -m benchmarks [--record] [w1 w2 ...]`: every workload in a process of its own; --record writes RESULTS.md."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Benchmark results

Written by `python -m benchmarks --record`. Arms alternate in one process; a ratio is the median of
per-repetition ratios. Absolute times move with the machine's load, ratios much less. "must" and
"excellent" are our own targets.

Machine: {machine}.

```
{lines}
```
"""


def machine() -> str:
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), {versions}"


def merged(new: str) -> list[str]:
    """The new lines, and the recorded ones of workloads that were not run, in order."""
    lines = new.splitlines()
    ran = {line[:2] for line in lines}
    recorded = (HERE / "RESULTS.md").read_text().splitlines() if (HERE / "RESULTS.md").exists() else []
    kept = [line for line in recorded if line[:1] == "W" and line[1:2].isdigit() and line[:2] not in ran]
    return sorted(kept + lines, key=lambda line: line[:2])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="w1, w2, ... (default: all)")
    parser.add_argument(
        "--record", action="store_true", help="write benchmarks/RESULTS.md (what is not run keeps its lines)"
    )
    arguments = parser.parse_args()
    scripts = sorted(p.stem for p in HERE.glob("w*.py"))
    chosen = [s for s in scripts if not arguments.workloads or s.split("_")[0] in arguments.workloads]
    lines, failed = [], 0
    for script in chosen:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", f"benchmarks.{script}"],
            capture_output=True,
            text=True,
            cwd=HERE.parent,
        )
        output = done.stdout.strip() or done.stderr.strip().splitlines()[-1]
        print(output, flush=True)
        lines.append(output)
        failed += done.returncode != 0
    if arguments.record:
        (HERE / "RESULTS.md").write_text(HEAD.format(machine=machine(), lines="\n".join(merged("\n".join(lines)))))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
