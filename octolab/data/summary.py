"""A partition in words: a line per client with a bar per class, then a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.data.dataset import listed

if TYPE_CHECKING:
    from octolab.data.partition import Partition

LEVELS = "▁▂▃▄▅▆▇█"
MOST_ROWS, MOST_COLUMNS = 20, 40


def title(p: Partition) -> str:
    """One line: the split, its clients, its samples."""
    split = p.spec["split"]
    fields = ", ".join(f"{k}={_short(v)}" for k, v in split.items() if k not in ("kind", "arguments"))
    return (
        f"{split['kind']}({fields}): {p.n:,} client{'s' if p.n != 1 else ''}, {int(p.sizes.sum()):,} samples "
        f"(train {int(p.train_sizes.sum()):,}, test {int(p.test_sizes.sum()):,}), seed {p.spec['seed']}"
    )


def text(p: Partition) -> str:
    """The partition as text: a line per client (20 at most), its sizes, a bar per class; then a summary."""
    counts = p.histogram()
    merged, per_column = _merge(counts)
    rows = rows_shown(p.n)
    width = max(6, *(len(client_name(p, i)) for i in rows if i is not None))
    lines = [
        f"Partition {title(p)}",
        f"{'client':<{width}} {'train':>6} {'test':>5}  labels{_legend(p, per_column)}",
    ]
    for i in rows:
        if i is None:
            lines.append(f"{'...':<{width}}    ... {p.n - MOST_ROWS:,} more clients")
        else:
            bars = _bars(merged[i])
            lines.append(f"{client_name(p, i):<{width}} {p.train_sizes[i]:>6,} {p.test_sizes[i]:>5,}  {bars}")
    lines += [f"{key}: {value}" for key, value in summary(p, counts)]
    return "\n".join(lines)


def summary(p: Partition, counts: np.ndarray) -> list[tuple[str, str]]:
    """What the rows cannot show of many clients: sizes, classes per client, notes."""
    sizes = p.sizes
    lines = [("samples per client", _spread(sizes))]
    if counts.shape[1] > 1:
        lines.append(("labels per client", f"{_spread((counts > 0).sum(axis=1))} of {counts.shape[1]}"))
    return lines + [("note", note) for note in p.notes]


def rows_shown(n: int) -> list[int | None]:
    """The clients to show, None for the gap: all up to MOST_ROWS, else the first ones and the last three."""
    if n <= MOST_ROWS:
        return list(range(n))
    return [*range(MOST_ROWS - 3), None, *range(n - 3, n)]


def _merge(counts: np.ndarray) -> tuple[np.ndarray, int]:
    """Neighbouring classes added up so that at most MOST_COLUMNS columns remain, and how many go into one."""
    per_column = -(-counts.shape[1] // MOST_COLUMNS)
    starts = np.arange(0, counts.shape[1], per_column)
    return np.add.reduceat(counts, starts, axis=1), per_column


def _bars(row: np.ndarray) -> str:
    """One character per class: a dot for none, else a bar in eighths of the client's largest class."""
    top = max(1, int(row.max()))
    return "".join("·" if v == 0 else LEVELS[min(7, int(8 * v / top))] for v in row.tolist())


def _legend(p: Partition, per_column: int) -> str:
    if not p.classes:
        return " (none: the targets are numbers)"
    if per_column > 1:
        return f" ({len(p.classes)} of them, {per_column} to a column)"
    names = class_names(p)
    return f" {''.join(names)}" if max(map(len, names)) == 1 else f", left to right: {listed(names, 12)}"


def class_names(p: Partition) -> list[str]:
    if not p.classes:
        return ["samples"]
    return [repr(c) if isinstance(c, str) and not c.strip() else str(c) for c in p.classes]


def client_name(p: Partition, i: int) -> str:
    return f"{i} {p.client_names[i]}"[:40] if p.client_names else str(i)


def _spread(values: np.ndarray) -> str:
    return f"least {int(values.min()):,}, median {np.median(values):,.0f}, most {int(values.max()):,}"


def _short(value: Any) -> str:
    if isinstance(value, dict) and "kind" in value:
        inner = ", ".join(f"{k}={_short(v)}" for k, v in value.items() if k != "kind")
        return f"{value['kind']}({inner})"
    return repr(value)
