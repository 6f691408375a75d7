"""Step sizes over rounds: a function of the round t = 0, 1, ..., given where a method takes `lr`.

    ol.methods.EF21(lr=ol.schedules.Cosine(0.1, rounds=300))
    ol.methods.EF21(lr=ol.schedules.InverseSqrt(ol.Theory()))        # times what the theorem says on this problem
    ol.methods.FedAvg(lr=lambda t: 0.1 / (t + 1))                    # any function of the round

A schedule depends on the round alone, so a resumed run goes on where it was.
"""

from octolab.schedules.schedule import Constant, Cosine, InverseSqrt, OfRound, Schedule, Step, Warmup, as_schedule

__all__ = ["Constant", "Cosine", "InverseSqrt", "OfRound", "Schedule", "Step", "Warmup", "as_schedule"]
