"""How torch's layers are computed for all clients of a `Stack` at once: products, attention, convolutions, norms.

Arguments carry torch's names, since torch's modules pass some of them by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from octolab.problems.kernels.arithmetic import aligned, image_means, rule, stacked
from octolab.problems.kernels.stack import Function, Stack, order

Size = int | tuple[int, ...]

SHORT = 64  # length of texts up to which attention is computed by plain products


# -- products ------------------------------------------------------------------------------------------------------------
@rule("matmul __matmul__ bmm mm")
def matmul(func: Function, a: torch.Tensor, b: torch.Tensor) -> object:
    if a.dim() < 2 or b.dim() < 2:
        return NotImplemented
    rank = max(a.dim(), b.dim())
    return Stack(torch.matmul(aligned(a, rank), aligned(b, rank)))


@rule("linear")
def linear(func: Function, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> object:
    if not stacked(input) or (stacked(bias) and not stacked(weight)):
        return NotImplemented
    return Stack(product(input.rows, weight, bias))


def product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x W' + b for rows (K, ..., F), with everybody's weight or each client's."""
    if not stacked(weight):
        return F.linear(rows, weight, bias)
    W, flat = weight.rows.mT, rows.reshape(len(rows), -1, rows.shape[-1])
    if stacked(bias):
        out = torch.baddbmm(bias.rows[:, None, :], flat, W)
    else:
        out = torch.bmm(flat, W) if bias is None else torch.bmm(flat, W) + bias
    return out.view(*rows.shape[:-1], -1)


@rule("embedding")
def embedding(func: Function, input: torch.Tensor, weight: torch.Tensor, *args: Any, **kwargs: Any) -> object:
    if any(kwargs.pop(name, None) for name in ("max_norm", "scale_grad_by_freq", "sparse")) or any(args[1:]):
        return NotImplemented
    hole = args[0] if args else kwargs.pop("padding_idx", None)
    kwargs.pop("norm_type", None)
    if kwargs:
        return NotImplemented
    if not stacked(weight):
        return Stack(F.embedding(input.rows, weight, hole)) if stacked(input) else NotImplemented
    K, V = weight.rows.shape[:2]
    table, first = weight.rows.flatten(0, 1), (V * torch.arange(K)).view(K, *[1] * input.dim())
    at = (input.rows if stacked(input) else input.expand(K, *input.shape)) + first
    if hole is None or hole < 0 or not table.requires_grad:
        return Stack(table[at] if hole is None else F.embedding(at, table))
    kept = torch.ne(at - first, hole).unsqueeze(-1)
    out = F.embedding(at, table)
    return Stack(torch.where(kept, out, out.detach()))


@rule("scaled_dot_product_attention")
def attention(
    func: Function,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> object:
    if dropout_p or not (stacked(query) and stacked(key) and stacked(value)) or query.shape[:-2] != key.shape[:-2]:
        return NotImplemented
    return Stack(attended(query.rows, key.rows, value.rows, aligned(attn_mask, query.dim()), is_causal))


def attended(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    """softmax(q k' / sqrt(D) + mask) v over (..., T, D); by plain products, which are faster than torch's for short texts."""
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if q.shape[-2] * k.shape[-2] > SHORT**2:
        return F.scaled_dot_product_attention(q, k, v, mask)
    lead, (q, k, v) = q.shape[:-2], (t.reshape(-1, *t.shape[-2:]) for t in (q, k, v))
    scores = torch.bmm(q * q.shape[-1] ** -0.5, k.mT)
    if mask is not None:
        apart = scores.view(*lead, *scores.shape[1:])
        apart = apart.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else apart + mask
        scores = apart.view(scores.shape)
    out = torch.bmm(scores.softmax(-1), v)
    return out.view(*lead, *out.shape[1:])


@rule("multi_head_attention_forward")
def heads(
    func: Function,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    width: int,
    count: int,
    W: torch.Tensor,
    b: torch.Tensor | None,
    *rest: Any,
    **kw: Any,
) -> object:
    """Attention of texts (T, B, E) as nn.MultiheadAttention calls it, without dropout, padding and added tokens."""
    bias_k, bias_v, zero, dropout, out_W, out_b = rest
    mask = kw.get("attn_mask")
    odd = (bias_k, bias_v, kw.get("key_padding_mask"), kw.get("static_k"), kw.get("static_v"), kw.get("q_proj_weight"))
    refused = zero or kw.get("need_weights", True) or (dropout and kw.get("training", True)) or query.dim() != 3
    if refused or any(v is not None for v in odd) or not (stacked(query) and stacked(key) and stacked(value)):
        return NotImplemented
    if query is key and key is value:
        q, k, v = product(query.rows.transpose(1, 2), W, b).chunk(3, -1)
    else:
        weights, biases = W.chunk(3), (None,) * 3 if b is None else b.chunk(3)
        parts = zip((query, key, value), weights, biases, strict=True)
        q, k, v = (product(x.rows.transpose(1, 2), w, c) for x, w, c in parts)
    q, k, v = (t.unflatten(-1, (count, -1)).transpose(2, 3) for t in (q, k, v))  # (K, B, heads, T, D)
    if mask is not None and mask.dim() == 3:
        mask = mask.view(-1, count, *mask.shape[1:])
    out = attended(q, k, v, mask, bool(kw.get("is_causal", False)) and mask is None)
    return Stack(product(out.transpose(2, 3).flatten(3), out_W, out_b).transpose(1, 2)), None


# -- images and norms ----------------------------------------------------------------------------------------------------
def folded(func: Function, x: Stack, *args: object, **kwargs: object) -> Stack:
    """A function that treats each sample alone, with everybody's weights."""
    rows = x.rows
    out = func(rows.flatten(0, 1), *args, **kwargs)
    return Stack(out.view(*rows.shape[:2], *out.shape[1:]))


def flat(value: torch.Tensor | None, clients: int) -> torch.Tensor | None:
    """Numbers of channels (C,), or of each client's (K, C), as (K C,)."""
    if value is None:
        return None
    return (value.rows if isinstance(value, Stack) else value.expand(clients, -1)).reshape(-1)


def resumed(wide: torch.Tensor, x: Stack) -> Stack:
    """(B, K C, ...) as a stack: images as they are, others in rows."""
    if wide.dim() == 4:
        return Stack(wide, x.clients)
    return Stack(wide.unflatten(1, (x.clients, -1)).transpose(0, 1))


@rule("conv1d conv2d conv3d")
def convolution(
    func: Function,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> object:
    if not stacked(input) or input.dim() != weight.dim():
        return NotImplemented
    if not stacked(weight):
        plain = not stacked(bias)
        return folded(func, input, weight, bias, stride, padding, dilation, groups) if plain else NotImplemented
    wide, kernels, K = input.beside(), weight.rows.flatten(0, 1), input.clients
    if kernels.dim() == 4:
        kernels = kernels.contiguous(memory_format=order(wide))
    return resumed(func(wide, kernels, flat(bias, K), stride, padding, dilation, groups * K), input)


@rule("max_pool2d avg_pool2d adaptive_avg_pool2d max_pool1d avg_pool1d adaptive_avg_pool1d")
def pooled(func: Function, input: Stack, *args: object, **kwargs: object) -> object:
    if input.dim() != (4 if func.__name__.endswith("2d") else 3) or kwargs.get("return_indices"):
        return NotImplemented
    if input.images and func.__name__ == "adaptive_avg_pool2d" and args in ((1,), ((1, 1),), ([1, 1],)):
        return Stack(image_means(input)[..., None, None])
    if input.images:
        return Stack(func(input.value, *args, **kwargs), input.clients)
    return folded(func, input, *args, **kwargs)


@rule("group_norm")
def group_norm(
    func: Function,
    input: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> object:
    if not stacked(input):
        return NotImplemented
    if not stacked(weight) and not stacked(bias):
        return folded(F.group_norm, input, num_groups, weight, bias, eps)
    K = input.clients
    wide = input.beside().contiguous()  # torch is slow at small groups of channels that lie last; images stay so
    return resumed(F.group_norm(wide, num_groups * K, flat(weight, K), flat(bias, K), eps), input)


@rule("batch_norm")
def batch_norm(
    func: Function,
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> object:
    """Normalisation of K C channels; running statistics move in place."""
    if not stacked(input):
        return NotImplemented
    held = (running_mean, running_var, weight, bias)
    if not training and not any(map(stacked, held)):
        return folded(F.batch_norm, input, *held, False, momentum, eps)
    if training and running_mean is not None and not stacked(running_mean):
        return NotImplemented  # everybody's statistics cannot move for each
    mean, var, W, b = (flat(value, input.clients) for value in held)
    return resumed(F.batch_norm(input.beside(), mean, var, W, b, training, momentum, eps), input)


@rule("layer_norm")
def layer_norm(
    func: Function,
    input: torch.Tensor,
    normalized_shape: list[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> object:
    if not stacked(input):
        return NotImplemented
    if not stacked(weight) and not stacked(bias):
        return Stack(F.layer_norm(input.rows, normalized_shape, weight, bias, eps))
    out = F.layer_norm(input.rows, normalized_shape, None, None, eps)
    W, b = aligned(weight, input.dim()), aligned(bias, input.dim())
    if W is not None and b is not None:
        return Stack(torch.addcmul(b, out, W))
    return Stack(out if W is None else out * W)
