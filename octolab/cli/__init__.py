"""The command line: what notebooks do, without a notebook.

octolab run | compare | resume | export | methods | data | completion; every verb has --json and a --help with an example.
A mistake ends with a sentence on stderr and exit status 2, an interrupt with 130.
"""

from octolab.cli.main import main
from octolab.cli.parser import build

__all__ = ["build", "main"]
