"""The point y that the clients and the server all hold in LoCoDL and BiCoLoR, and advance by themselves."""

from __future__ import annotations

from typing import Any

from octolab.methods.page import Cohort, Theory, torch


class Anchored:
    """Clients with x_i, u_i of their own and a common y, v, of which they keep what it was k steps ago.

    Between communications y moves by y <- y - lr (ridge y - v), for which no data are needed: `coast` does k steps at
    once, when y is asked for.
    """

    lr: Theory[float]
    ridge: Theory[float]
    batch_size: int | None

    def after_a_step(self, cohort: Cohort, taken: float) -> torch.Tensor:
        """x_i (m, d) after a step on f_i - (taken/2)|x|^2: x_i - lr (grad f_i(x_i) - taken x_i - u_i)."""
        x, u = cohort.memory.x, cohort.memory.u  # both are copies
        slope = u.sub_(cohort.grad(x, cohort.batch(self.batch_size))).add_(x, alpha=taken)
        return x.add_(slope, alpha=self.lr)

    def coast(self, y: torch.Tensor, v: torch.Tensor, k: int) -> torch.Tensor:
        """y (d,) or (m, d) after k steps."""
        left = (1 - self.lr * self.ridge) ** k
        return left * y + ((1 - left) / self.ridge if self.ridge else self.lr * k) * v

    def model(self, s: Any) -> torch.Tensor:
        return self.coast(s.y, s.v, s.k)

    def begin(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.x, cohort.memory.u = x.expand(cohort.m, -1), cohort.zeros()
        self.restore(cohort, x, torch.zeros_like(x), 0)

    def restore(self, cohort: Cohort, y: torch.Tensor, v: torch.Tensor, k: int) -> None:
        """For a client that has lost y and v: it keeps its own x_i and u_i."""
        cohort.memory.y_here, cohort.memory.v_here = y.expand(cohort.m, -1), v.expand(cohort.m, -1)
        cohort.memory.k = y.new_full((cohort.m,), k, dtype=torch.int64)

    def here(self, cohort: Cohort) -> tuple[torch.Tensor, torch.Tensor]:
        """y after one more step, and v, (d,) each: clients who are asked for them all hold the same."""
        y, v = cohort.memory.y_here[0], cohort.memory.v_here[0]
        return self.coast(y, v, int(cohort.memory.k[0]) + 1), v
