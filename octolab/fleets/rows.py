"""Reading tables of devices: columns that are known by name, and every bad row named."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 10


def bad_rows(what: str, problems: list[str]) -> str:
    """One sentence for all of them; the first ten in words."""
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    count = "1 bad row" if len(problems) == 1 else f"{len(problems)} bad rows"
    return f"{what} has {count}: {'; '.join(problems[:SHOWN])}{more}."


def read_csv(path: str | os.PathLike, what: str) -> pd.DataFrame:
    """The table in a file, or a ValueError in words."""
    import pandas as pd

    if not os.path.isfile(path):
        raise ValueError(f"There is no file {str(path)!r}: give the path of a CSV file with {what}.")
    try:
        return pd.read_csv(path, skip_blank_lines=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a CSV table with {what}: {error}.") from None


def columns_of(table: pd.DataFrame, known: dict[str, bool], what: str) -> dict[str, np.ndarray]:
    """The known columns that are there, as float64; NaN where a cell is no number. known: name -> must it be there."""
    names = [str(c).strip() for c in table.columns]
    missing = [name for name, needed in known.items() if needed and name not in names]
    if missing:
        raise ValueError(f"{what} lacks the column {', '.join(missing)}; it has {', '.join(names) or 'none'}.")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{what} has the column {name!r}, which means nothing here.{hint} Known: {', '.join(known)}."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"{what} has a column twice: {', '.join(names)}.")
    return {name: _floats(table[column]) for name, column in zip(names, table.columns, strict=True)}


def _floats(column: Any) -> np.ndarray:
    import pandas as pd

    return np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
