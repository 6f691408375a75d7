"""The old place of `octolab.fleets`, for one version."""

import warnings

from octolab.fleets import *  # noqa: F403

warnings.warn("octolab.federation.fleet is now octolab.fleets.", DeprecationWarning, stacklevel=2)
