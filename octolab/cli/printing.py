"""What the command line prints: results in words or as JSON, pages, and errors as sentences."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octolab.experiment import Comparison, Run


def report(finished: Run, a: argparse.Namespace) -> None:
    """Save what was asked for, then print the result: what is lost on the way to the screen is then on disk."""
    if a.save:
        finished.save(a.save)
    if a.csv:
        finished.history.to_csv(a.csv, index=False)
    if a.json:
        error = None if finished.error is None else str(finished.error)
        last = {k: v for k, v in finished.recorder.last.items() if isinstance(v, (int, float))}
        print_json({"status": finished.status, **last, "error": error, "spec": finished.spec})
    else:
        print(finished)
        for place in filter(None, (a.save, a.csv)):
            print(f"  wrote {place}")


def print_json(value: Any) -> None:
    """As JSON, numbers that JSON lacks as null."""
    print(json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """JSON has no inf and nan: null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def page(result: Comparison) -> str:
    """A comparison as one HTML page without scripts."""
    style = "body{font-family:sans-serif;margin:2em}td,th{padding:2px 10px;text-align:right}"
    head = f"<meta charset='utf-8'><title>octolab comparison</title><style>{style}</style>"
    return f"<!doctype html><html lang='en'>{head}<body>{result._repr_html_()}</body></html>"
