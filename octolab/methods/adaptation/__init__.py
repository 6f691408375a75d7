"""Optimisers for large and layered models."""
