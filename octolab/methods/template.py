"""A page to start from: `ol.methods.template("mine")` prints gradient descent as a method of your own."""

from __future__ import annotations

import re

from octolab.arguments import expects, switch, text

PAGE = '''r"""{name}: say here in one line what it is.

Paper: The title of your paper
Authors: you
Venue: unpublished
arXiv: none
Solves: what it is good at, in a few words
Use: when to take it
Avoid: when not to
Assumes: f is L-smooth
Algorithm:
    for t = 0, 1, ...:
        server sends x
        client i sends grad f_i(x)
        server: x <- x - lr * mean of what came
Up: d numbers
Down: d numbers
Step size: 1/L
"""

import octolab as ol
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):  # what the next step needs; x is the server model
    x: torch.Tensor


@ol.methods.register
class {name}(Method):
    slug = "{slug}"

    lr: float | Theory = param(Theory(), "step size", gt=0, main=True)

    def stepsize(self, problem: Constants) -> float:  # what Theory() means for lr
        return 1 / problem.L

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:  # one round, seen from the server
        replies = fed.call(self.client, s.x)
        return State(x=s.x - self.lr * replies.mean())

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:  # seen from m clients at once: (d,) -> (m, d)
        return cohort.grad(x)


# ol.testing.check_method({name}())   says what is still missing
# ol.run("{slug}", ol.problems.quadratics(n=4, d=10), rounds=50)
'''


@expects(name=text("a slug of lower case letters, digits and hyphens"), show=switch())
def template(name: str = "mine", show: bool = True) -> str:
    """A page of a method to start from, with this slug; printed (unless show=False) and returned.

    ValueError if the name is no slug: lower case letters, digits and hyphens.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(
            f"template({name!r}): give a slug of lower case letters, digits and hyphens, such as 'my-method'."
        )
    page = PAGE.format(slug=name, name="".join(part.capitalize() for part in name.split("-")))
    if show:
        print(page)
    return page
