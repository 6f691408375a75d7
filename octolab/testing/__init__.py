"""A checker of methods: what every method in octolab keeps, and what yours can keep too.

    import octolab as ol
    ol.testing.check_method(MyMethod(lr=0.1))            # on the three standard problems
    ol.testing.check_method(MyMethod(lr=0.1), problem)   # on a problem of your own

Each promise is a function `(method, problem) -> remark`. Its docstring is the promise in one sentence; it
raises AssertionError with what was broken, or `NotApplicable` with why it does not concern the method.
`tests/conformance` asks all of them of every method in the catalogue.
"""

from octolab.testing.checker import ONCE, PROMISES, Report, check_method
from octolab.testing.problems import STANDARD, NotApplicable, fitted, home

__all__ = ["ONCE", "PROMISES", "STANDARD", "NotApplicable", "Report", "check_method", "fitted", "home"]
