"""Personalisation: a model of its own for every client."""
