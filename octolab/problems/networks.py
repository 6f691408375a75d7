"""The bundled networks: a multilayer perceptron, a small convolutional net, a character-level GPT.

They are plain torch modules. Their first weights come from `seed` alone; torch's global generator is neither
read nor moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from octolab.arguments import SEED, expects, whole


@expects(seed=SEED)
def MLP(*widths: int, seed: int = 0) -> nn.Sequential:
    """Linear/ReLU layers of these widths, e.g. MLP(784, 64, 10): 50,890 parameters. Input (B, widths[0]).

    >>> sum(p.numel() for p in MLP(784, 64, 10).parameters())
    50890
    """
    if len(widths) < 2 or any(not isinstance(w, int) or w < 1 for w in widths):
        raise ValueError(f"MLP{widths}: give at least two whole widths >= 1, e.g. MLP(784, 64, 10).")

    def build() -> nn.Sequential:
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return seeded(build, seed)


@expects(channels=whole(1), side=whole(4), classes=whole(2), seed=SEED)
def CNN(channels: int = 1, side: int = 28, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """Two convolutions with pooling and two linear layers; input (B, channels, side, side).

    From side 20 on the convolutions are 5 x 5 without padding (20,522 parameters for 28 x 28 in grey and 10
    classes), below 3 x 3 with padding.
    """
    if side < 4 or channels < 1 or classes < 2:
        raise ValueError(
            f"CNN(channels={channels}, side={side}, classes={classes}): need side >= 4, 1 channel, 2 classes."
        )
    width, pad = (5, 0) if side >= 20 else (3, 1)
    after = ((side + 2 * pad - width + 1) // 2 + 2 * pad - width + 1) // 2

    def build() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, 8, width, padding=pad),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, width, padding=pad),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * after * after, 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )

    return seeded(build, seed)


class CharGPT(nn.Module):
    """A small causal transformer over characters: codes (B, T) in, scores (B, T, vocabulary) out.

    Pre-norm blocks, learnt positions, no dropout. vocabulary=71, context=64 gives 163,335 parameters.
    """

    @expects(vocabulary=whole(1), context=whole(1), width=whole(1), heads=whole(1), blocks=whole(1), seed=SEED)
    def __init__(
        self,
        vocabulary: int,
        context: int = 64,
        width: int = 64,
        heads: int = 4,
        blocks: int = 3,
        seed: int = 0,
    ):
        if width % heads or min(vocabulary, context, width, heads, blocks) < 1:
            raise ValueError(f"CharGPT(width={width}, heads={heads}): width must be a multiple of heads, all >= 1.")
        with torch.random.fork_rng(devices=[]):
            super().__init__()
            self.token = nn.Embedding(vocabulary, width)
            self.position = nn.Embedding(context, width)
            self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary)
        initialise(self, seed)
        generator = torch.Generator().manual_seed(seed)
        for embedding in (self.token, self.position):
            nn.init.normal_(embedding.weight, std=0.02, generator=generator)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        h = self.token(codes) + self.position.weight[: codes.shape[-1]]
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class Block(nn.Module):
    """Attention and a two-layer perceptron, each added to what came in."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        B, T, D = h.shape
        q, k, v = (
            part.view(B, T, self.heads, D // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm1(h)).split(D, dim=-1)
        )
        later = torch.ones(T, T, dtype=torch.bool).triu(1)
        scores = (q @ k.transpose(-2, -1) / math.sqrt(D // self.heads)).masked_fill(later, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, D)
        h = h + self.out(mixed)
        return h + self.down(nn.functional.gelu(self.up(self.norm2(h))))


def seeded(build: Callable[[], nn.Sequential], seed: int) -> nn.Sequential:
    """A module whose weights are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        module = build()
    initialise(module, seed)
    return module


def initialise(module: nn.Module, seed: int) -> None:
    """torch's own rule for Linear and Conv2d (uniform, +-1/sqrt(inputs)), drawn from a generator of this seed."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            bound = 1 / math.sqrt(part.weight[0].numel())
            nn.init.uniform_(part.weight, -bound, bound, generator=generator)
            if part.bias is not None:
                nn.init.uniform_(part.bias, -bound, bound, generator=generator)
