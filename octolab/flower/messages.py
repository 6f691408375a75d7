"""What octolab writes into Flower's messages, and the words in which a node declines; both ends use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord, Message, RecordDict

if TYPE_CHECKING:
    from octolab.problems.problem import Problem

RECORD, TASK, MEMORY = "octolab", "octolab.task", "octolab.memory"
UNKNOWN, LOST, STALE, RAISED = "unknown task", "lost memory", "stale", "raised"

DataHook = Callable[[int | None, int], "Problem"]
"""(client, clients) -> the problem as this client's node sees it; client None: as the server does."""


def content(values: dict[str, Any]) -> RecordDict:
    return RecordDict({RECORD: ConfigRecord(values)})


def values(message: Message) -> Any:
    """What octolab wrote into a message; ValueError for somebody else's."""
    if RECORD not in message.content:
        raise ValueError(f"The message holds no {RECORD!r} record: it does not come from octolab's server.")
    return message.content[RECORD]


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
