"""The old place of `octolab.randomness`, for one version."""

import warnings

from octolab.randomness import *  # noqa: F403

warnings.warn("octolab.federation.randomness is now octolab.randomness.", DeprecationWarning, stacklevel=2)
