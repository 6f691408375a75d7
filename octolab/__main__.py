"""`python -m octolab` is the command `octolab`."""

import sys

from octolab.cli import main

if __name__ == "__main__":
    sys.exit(main())
