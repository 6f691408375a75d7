"""Modules as users bring them: residual nets, transformers, recurrent nets, dropout, frozen backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(norm(channels) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(x + self.norms[1](self.second(h)))


class Residual(nn.Module):
    """Two blocks at 14 x 14."""

    def __init__(self, norm: Callable[[int], nn.Module], channels: int = 16):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, channels, 3, stride=2, padding=1), norm(channels)
        self.blocks = nn.Sequential(Block(channels, norm), Block(channels, norm))
        self.head = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(torch.relu(self.norm(self.stem(x)))).mean((2, 3)))


class Transformer(nn.Module):
    """Two layers over 20 words."""

    def __init__(self, dropout: float = 0.0, width: int = 32):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, batch_first=True)
        self.words, self.places = nn.Embedding(64, width), nn.Parameter(0.02 * torch.randn(20, width))
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.words(words) + self.places).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.drop, self.head = nn.Linear(64, 128), nn.Dropout(0.3), nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.relu(self.hidden(x))))


def frozen() -> nn.Module:
    module = Residual(group_norm)
    module.requires_grad_(False)
    module.head.requires_grad_(True)
    return module


def group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(4, channels)


class Kind(NamedTuple):
    """A module, the shape of one input (whole numbers below 64 where `words`), and what it must reach at cohort 10."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    must: float
    words: bool = False

    def data(self, clients: int, samples: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        rng = np.random.default_rng(0)
        size = (clients, samples, *self.shape)
        x = rng.integers(0, 64, size) if self.words else rng.standard_normal(size, dtype=np.float32)
        return list(x), list(rng.integers(0, 10, (clients, samples)))


KINDS = {
    "residual, GroupNorm": Kind(lambda: Residual(group_norm), (1, 28, 28), 1.8),
    "residual, GroupNorm, 8 channels": Kind(lambda: Residual(group_norm, 8), (1, 28, 28), 1.8),
    "residual, BatchNorm": Kind(lambda: Residual(nn.BatchNorm2d), (1, 28, 28), 1.8),
    "transformer": Kind(Transformer, (20,), 2.2, True),
    "transformer, dropout": Kind(lambda: Transformer(0.1), (20,), 1.2, True),
    "dropout": Kind(Dropping, (64,), 1.2),
    "frozen backbone": Kind(frozen, (1, 28, 28), 1.2),
    "LSTM": Kind(Recurrent, (12, 8), 0.95),
}
