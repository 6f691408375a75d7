"""Devices: how fast they compute, how they are connected, when they drop out. See `octolab.fleets.fleet`."""

from octolab.fleets.fleet import Exponential, Fleet, HalfNormal, Hang, LogNormal

__all__ = ["Exponential", "Fleet", "HalfNormal", "Hang", "LogNormal"]
