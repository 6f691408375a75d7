"""What a late update is worth: a weight s(delay) that any asynchronous method takes as `staleness=`.

    ol.methods.ASGD(staleness=ol.staleness.Reject(5))              # used while the delay is at most 5: Ringmaster with R = 6
    ol.methods.FedBuff(staleness=ol.staleness.Polynomial(0.5))     # 1 / sqrt(1 + delay)

A delay counts server versions, never seconds: how often the model has changed since the update's work began.
"""

from octolab.staleness.policies import Constant, DelayAdaptive, Exponential, Hinge, Polynomial, Reject, Staleness

__all__ = ["Constant", "DelayAdaptive", "Exponential", "Hinge", "Polynomial", "Reject", "Staleness"]
