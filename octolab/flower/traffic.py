"""What really travelled: payload bytes, and Flower's envelope around them apart."""

from __future__ import annotations

from typing import Any

COLUMNS = ("function", "messages_up", "payload_up", "envelope_up", "messages_down", "payload_down", "envelope_down")


class Traffic:
    """Bytes by client function, both ways. payload: the encoded messages that the ledger charges, in whole bytes.
    envelope: everything else of a serialised Flower message (names, metadata, JSON that both ends could know).
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[int]] = {}

    def count(self, label: str, down: Any, up: Any) -> None:
        """One message down or up under a label, the client function's name."""
        from flwr.common.serde import message_to_proto

        row = self.rows.setdefault(label, [0] * 6)
        for message, first in ((up, 0), (down, 3)):
            if message is None:
                continue
            record = message.content["octolab"]
            payload = sum(len(blob) for blob in record.get("data", ()))
            row[first] += 1
            row[first + 1] += payload
            row[first + 2] += message_to_proto(message).ByteSize() - payload

    def total(self, column: str) -> int:
        """Bytes, or messages, of one column over all functions."""
        at = COLUMNS.index(column) - 1
        return sum(row[at] for row in self.rows.values())

    @property
    def envelope(self) -> float:
        """Envelope bytes per payload byte."""
        payload = self.total("payload_up") + self.total("payload_down")
        return (self.total("envelope_up") + self.total("envelope_down")) / payload if payload else float("nan")

    def table(self) -> Any:
        """A pandas table, one row per client function."""
        import pandas as pd

        return pd.DataFrame([[label, *row] for label, row in self.rows.items()], columns=list(COLUMNS))

    def __repr__(self) -> str:
        up, down = self.total("payload_up"), self.total("payload_down")
        outside = self.total("envelope_up") + self.total("envelope_down")
        return f"Traffic: {up:,} bytes up, {down:,} down, {outside:,} of envelope"
