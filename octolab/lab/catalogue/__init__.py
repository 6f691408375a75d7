"""The catalogue of all methods: `Shelf` is its state, `Catalogue` the widget."""

from octolab.lab.catalogue.catalogue import Catalogue
from octolab.lab.catalogue.shelf import Shelf

__all__ = ["Catalogue", "Shelf"]
