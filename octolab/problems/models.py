"""The old place of `octolab.problems.networks`, for one version."""

import warnings

from octolab.problems.networks import *  # noqa: F403

warnings.warn("octolab.problems.models is now octolab.problems.networks.", DeprecationWarning, stacklevel=2)
