"""What editors complete: `octolab/methods/names.pyi` names every page. `python -m octolab.testing.stubs` writes it anew."""

from __future__ import annotations

from pathlib import Path

import octolab
from octolab.rooms import members

PLACE = Path(octolab.__file__).parent / "methods" / "names.pyi"


def method_names() -> str:
    """The stub's text: one import for each of octolab's own methods."""
    own = [cls for cls in members("methods").values() if cls.__module__.startswith("octolab.")]
    lines = sorted(f"from {cls.__module__} import {cls.__name__} as {cls.__name__}" for cls in own)
    head = "# Written by `python -m octolab.testing.stubs`: what editors and type checkers find in octolab.methods.\n"
    listed = "".join(f'    "{name}",\n' for name in sorted(cls.__name__ for cls in own))
    return head + "\n".join(lines) + f"\n\n__all__ = [  # noqa: RUF022\n{listed}]\n"


if __name__ == "__main__":
    PLACE.write_text(method_names(), encoding="utf-8")
    print(f"wrote {PLACE}")
