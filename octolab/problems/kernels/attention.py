"""torch's multi-head attention, with an addressed draw of what it drops."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from octolab.problems.kernels.dropout import Dropout


class Attention(nn.MultiheadAttention):
    """nn.MultiheadAttention in training: the same numbers, but for which of its weights are dropped (`Dropout`)."""

    drop: Dropout

    def forward(  # type: ignore[override]
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not self.training or query.dim() != 3:
            given = (key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
            return super().forward(query, key, value, *given)
        q, k, v = self._projected(query, key, value)
        scores = (q * q.shape[-1] ** -0.5) @ k.mT  # (B, heads, T, S)
        if attn_mask is not None:
            scores = _masked(scores, attn_mask.view(-1, *scores.shape[1:]) if attn_mask.dim() == 3 else attn_mask)
        if key_padding_mask is not None:
            scores = _masked(scores, key_padding_mask[:, None, None, :])
        weights = self.drop(scores.softmax(-1))
        out = F.linear((weights @ v).transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)
        shown = None if not need_weights else weights.mean(1) if average_attn_weights else weights
        return out if self.batch_first else out.transpose(0, 1), shown

    def _projected(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> list[torch.Tensor]:
        """Queries, keys and values (B, heads, T, D)."""
        W, b = self.in_proj_weight, self.in_proj_bias
        turn = (lambda x: x) if self.batch_first else (lambda x: x.transpose(0, 1))
        if query is key and key is value:
            parts = F.linear(turn(query), W, b).chunk(3, -1)
        else:
            biases = (None,) * 3 if b is None else b.chunk(3)
            parts = tuple(
                F.linear(turn(x), w, c) for x, w, c in zip((query, key, value), W.chunk(3), biases, strict=True)
            )
        return [part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts]


def _masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return scores.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


def address(module: nn.Module, first: int) -> None:
    """Address what attention drops, in this module. first: the number of the first of them, after other dropouts."""
    for part in module.modules():
        if type(part) is nn.MultiheadAttention and part.dropout and _usual(part):
            part.drop = Dropout(float(part.dropout), first)
            part.__class__ = Attention
            first += 1


def _usual(part: nn.MultiheadAttention) -> bool:
    """One projection for all three, no added tokens, no hooks: else torch draws, and clients train one by one."""
    hooked = part._forward_hooks or part._forward_pre_hooks
    return part.in_proj_weight is not None and part.bias_k is None and not part.add_zero_attn and not hooked


def restore(module: nn.Module) -> None:
    """torch's own attention again."""
    for part in module.modules():
        if isinstance(part, Attention):
            del part.drop
            part.__class__ = nn.MultiheadAttention  # type: ignore[assignment]
