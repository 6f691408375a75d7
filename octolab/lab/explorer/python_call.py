"""What is set on a state as Python text: the call that does the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octolab.lab import presets
from octolab.notation import call, to_python

if TYPE_CHECKING:
    from octolab.lab.explorer.state import ExplorerState


def broken(line: str, width: int = 100) -> str:
    """A call that is too long for a line, with one argument per line."""
    if len(line) <= width or line.startswith("#"):
        return line
    head, _, body = line.partition("(")
    depth, last, parts = 0, 0, []
    for i, letter in enumerate(body[:-1]):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(body[last:i].strip())
            last = i + 1
    parts.append(body[last:-1].strip())
    return f"{head}(\n" + "".join(f"    {p},\n" for p in parts) + ")"


def written(state: ExplorerState) -> str:
    preset, lines = state.preset, []
    if isinstance(preset, presets.Given):
        spec = preset.problem.spec
        named = f"ol.problems.from_spec({to_python(spec)})" if "given" not in spec else None
        lines.append(f"problem = {named}" if named else f"# problem: the one you made ({preset.problem.name})")
    else:
        arguments = {k: to_python(v) for k, v in preset.arguments().items()}
        first = [
            arguments.pop(k, "") or to_python(getattr(preset, k)) for k in ("dataset", "model") if hasattr(preset, k)
        ]
        lines.append(f"problem = {call(f'ol.problems.{preset.call}', first, arguments)}")
    lines.append(f"method = {to_python(state.method)}")
    arguments = state.arguments()
    devices = state.devices
    fleet = arguments.pop("fleet", None)
    text = {k: to_python(v) for k, v in arguments.items()}
    if fleet is not None:
        text["fleet"] = to_python(fleet) if devices._given is not None else call("ol.Fleet", [], devices.text(state.n))
    lines.append(f"run = {call('ol.run', ['method', 'problem'], text)}")
    lines = [broken(line) for line in lines]
    head = ["import octolab as ol", ""]
    if "np." in "\n".join(lines):
        head.insert(0, "import numpy as np")
    return "\n".join([*head, *lines]) + "\n"
