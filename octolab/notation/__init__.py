"""Objects written down, and back: methods, compressors, samplers, fleets and all else that a room holds.

    to_json(TopK(0.05))       {"kind": "compressors.TopK", "k": 0.05, "index": "auto"}     from_json
    to_text(TopK(0.05))       "TopK:0.05"                                                  from_text
    to_python(TopK(0.05))     "ol.compressors.TopK(0.05)"                                  from_python

Names are looked up in `octolab.rooms`, parameters in `octolab.params`; nothing is ever evaluated or imported from outside.
What is not understood raises a ValueError with the nearest names.
"""

from octolab.notation.building import build
from octolab.notation.json import from_json, parse_json, to_json
from octolab.notation.python import call, from_python, to_python
from octolab.notation.text import arguments_of_text, from_text, meaning, number, read, split_list, to_text

__all__ = [
    "arguments_of_text",
    "build",
    "call",
    "from_json",
    "from_python",
    "from_text",
    "meaning",
    "number",
    "parse_json",
    "read",
    "split_list",
    "to_json",
    "to_python",
    "to_text",
]
