"""Feature shift: the same labels everywhere, but every client measures its features in its own way."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from octolab.data.splits.base import Draft, Samples, Split, stream
from octolab.data.splits.quantity import IID
from octolab.params import param, settle
from octolab.rooms import register

COLOURS = (1, 3, 4)  # how many planes make a picture


@register("splits")
@dataclass(frozen=True)
class FeatureShift(Split):
    """Client i sees T_i(x) = gain_i * R_i(x) + offset_i; who holds which sample is decided by `base`.

    - R_i rotates by an angle drawn uniformly from [-rotation, rotation] degrees. Images (N, H, W) and
      (N, C, H, W) are turned about their centre (bilinear, zeros from outside); flat features (N, d) are turned in each
      plane of neighbours (0, 1), (2, 3), ..., which keeps every sample's norm (an odd last feature stays).
    - gain_i = exp(scale * g), g standard normal: one number per client.
    - offset_i has one entry per feature, normal with standard deviation `shift`, the same for all samples of
      the client.

    The changes apply to a client's train and test samples when they are read with `partition.client(i,
    dataset)`; `dataset` itself, and its global test set, stay as they are. They depend on the seed and the
    client only.
    """

    rotation: float = param(30.0, "largest angle, degrees", ge=0, le=180)
    scale: float = param(0.0, "spread of a client's gain", ge=0, le=10)
    shift: float = param(0.0, "spread of a client's offsets", ge=0)
    base: Split = field(default_factory=IID)

    def __post_init__(self) -> None:
        settle(self)
        if self.rotation == self.scale == self.shift == 0:
            raise ValueError("FeatureShift changes nothing: rotation, scale and shift are all 0. Set one of them > 0.")
        if not isinstance(self.base, Split) or isinstance(self.base, FeatureShift):
            raise ValueError(f"FeatureShift's base is {self.base!r}; give another split, e.g. IID().")

    def assign(self, samples: Samples, n: int | None, seed: int) -> Draft:
        if samples.codes.ndim > 1:
            raise ValueError("FeatureShift changes numbers, and these samples are text. Use Natural() or IID().")
        draft = self.base.assign(samples, n, seed)
        rng = stream(seed, "FeatureShift")
        angles = np.deg2rad(self.rotation * (2 * rng.random(draft.n) - 1))
        gains = np.exp(self.scale * rng.standard_normal(draft.n))
        transforms = ClientTransforms(angles, gains, float(self.shift), seed)
        return Draft(draft.owners, draft.n, draft.notes, draft.client_names, transforms)


@dataclass(frozen=True, eq=False)
class ClientTransforms:
    """FeatureShift's draw: angles (n,) in radians, gains (n,), the offsets' standard deviation and seed."""

    angles: np.ndarray
    gains: np.ndarray
    shift: float
    seed: int

    def offset(self, client: int, shape: tuple[int, ...]) -> np.ndarray:
        """The client's offset, of one sample's shape, float64."""
        return self.shift * stream(self.seed, "FeatureShift offset", client).standard_normal(shape)

    def apply(self, client: int, x: np.ndarray) -> np.ndarray:
        """T_client(x) for floats x (m, d) or (m, H, W), in x's dtype. ValueError for other dtypes."""
        if x.dtype.kind != "f":
            raise ValueError(
                f"FeatureShift needs features of floats; these are {x.dtype}. Load the data as float32 "
                "(dtype='float32')."
            )
        out: np.ndarray = x
        if self.angles[client] != 0:
            turn = rotate_images if x.ndim in (3, 4) else rotate_pairs
            out = turn(out, self.angles[client])
        out = out * self.gains[client]
        if self.shift > 0:
            out = out + self.offset(client, x.shape[1:])
        return np.asarray(out, x.dtype)


def rotate_pairs(x: np.ndarray, angle: float) -> np.ndarray:
    """Samples (m, ...) turned by angle (radians) in the planes of features (0, 1), (2, 3), ..."""
    flat = x.reshape(len(x), int(np.prod(x.shape[1:], dtype=np.int64)))
    even = flat.shape[1] // 2 * 2
    a, b = flat[:, 0:even:2], flat[:, 1:even:2]
    out = flat.copy()
    out[:, 0:even:2] = np.cos(angle) * a - np.sin(angle) * b
    out[:, 1:even:2] = np.sin(angle) * a + np.cos(angle) * b
    return out.reshape(x.shape)


def rotate_images(x: np.ndarray, angle: float) -> np.ndarray:
    """Images (m, H, W) or (m, C, H, W) turned by angle (radians) about their centre, plane by plane, bilinear, zeros
    from outside. Of (m, H, W, C) with 1, 3 or 4 colours last, the planes are those of the colours.
    """
    if x.ndim == 4 and x.shape[-1] in COLOURS and x.shape[1] not in COLOURS:
        return np.moveaxis(rotate_images(np.moveaxis(x, -1, 1), angle), 1, -1)
    height, width = x.shape[-2:]
    row, col = np.mgrid[0:height, 0:width].astype(np.float64)
    row, col = row - (height - 1) / 2, col - (width - 1) / 2
    from_row = np.cos(angle) * row + np.sin(angle) * col + (height - 1) / 2
    from_col = -np.sin(angle) * row + np.cos(angle) * col + (width - 1) / 2
    top, left = np.floor(from_row).astype(int), np.floor(from_col).astype(int)
    down, right = from_row - top, from_col - left
    out = np.zeros(x.shape, np.float64)
    for dr, weight_r in ((0, 1 - down), (1, down)):
        for dc, weight_c in ((0, 1 - right), (1, right)):
            r, c = top + dr, left + dc
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            weight = np.where(inside, weight_r * weight_c, 0.0)
            out += x[..., np.clip(r, 0, height - 1), np.clip(c, 0, width - 1)] * weight
    return out
