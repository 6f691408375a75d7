"""Asynchronous methods over fleets of unequal devices."""
