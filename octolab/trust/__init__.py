"""Attackers and robust aggregators (accountants and fairness metrics come with their issues)."""
