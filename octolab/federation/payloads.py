"""The old place of `octolab.payloads`, for one version."""

import warnings

from octolab.payloads import *  # noqa: F403

warnings.warn("octolab.federation.payloads is now octolab.payloads.", DeprecationWarning, stacklevel=2)
