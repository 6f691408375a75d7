"""Trust: attackers, privacy, and fairness between clients or groups."""
