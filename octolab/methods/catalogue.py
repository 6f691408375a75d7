"""Every page in the families' folders, registered in the room "methods" by its slug: importing this module reads them all."""

from __future__ import annotations

import importlib
import pkgutil

from octolab import methods
from octolab.methods.method import Method
from octolab.rooms import register


def _read() -> None:
    for family in pkgutil.iter_modules(methods.__path__):
        if not family.ispkg:
            continue
        package = importlib.import_module(f"{methods.__name__}.{family.name}")
        for page in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{page.name}")
            for thing in list(vars(module).values()):
                own = isinstance(thing, type) and issubclass(thing, Method) and thing.__module__ == module.__name__
                if own and thing.slug:
                    register("methods", thing.slug)(thing)


_read()
