"""What octolab writes into Flower's messages, and the words in which a node declines; both ends use it."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord, Message, RecordDict

if TYPE_CHECKING:
    from octolab.problems.problem import Problem

RECORD, TASK, MEMORY = "octolab", "octolab.task", "octolab.memory"
UNKNOWN, LOST, STALE, RAISED = "unknown task", "lost memory", "stale", "raised"

DataHook = Callable[..., "Problem"]
"""(client, clients) -> the problem as this client's node sees it; client None: as the server does. A hook with a third
argument is given the node's own config too, a dict such as {"partition-id": 0, "data-path": "/data/clinic.csv"}; the
server's is empty.
"""


def content(values: dict[str, Any]) -> RecordDict:
    return RecordDict({RECORD: ConfigRecord(values)})


def values(message: Message) -> Any:
    """What octolab wrote into a message; ValueError for somebody else's."""
    if RECORD not in message.content:
        raise ValueError(f"The message holds no {RECORD!r} record: it does not come from octolab's server.")
    return message.content[RECORD]


def hooked(hook: DataHook, client: int | None, clients: int, node: Mapping[str, Any] | None = None) -> Problem:
    """What a data hook answers; it may leave out the node's config."""
    some = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(hook).parameters.values()
    wants_node = sum(p.kind in some for p in found) > 2 or any(
        p.kind is inspect.Parameter.VAR_POSITIONAL for p in found
    )
    return hook(client, clients, dict(node or {})) if wants_node else hook(client, clients)


def name_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(problem: Problem) -> dict[str, Any]:
    """What server and node must agree on: clients, parameters, precision, layers."""
    layers = [[q.name, *q.shape] for q in problem.layout]
    return {
        "clients": problem.n,
        "parameters": problem.d,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "layers": name_of(json.dumps(layers)),
    }


class Refusal(Exception):
    """What a node answers when it cannot do what it was asked; `code` says which way."""

    def __init__(self, code: str, text: str):
        super().__init__(text)
        self.code = code
