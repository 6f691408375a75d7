"""The catalogue of all methods: `Search` is its state, `Catalogue` the widget."""

from octolab.lab.catalogue.catalogue import Catalogue
from octolab.lab.catalogue.search import Search

__all__ = ["Catalogue", "Search"]
