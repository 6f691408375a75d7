"""Variance reduction."""
