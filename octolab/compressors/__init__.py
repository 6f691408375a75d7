"""Compressors: what a client makes of a vector before it sends it, with constants alpha and omega and exact bits.

c = TopK(0.05);  payload = c(x);  payload.bits, payload.dense();  c.alpha(d), c.bits(d)
RandK(0.1) | Natural()        chains;   Bucketed(QSGD(127), 512);   PerTensor(TopK(0.01));   catalog() is a table of
them all
"""

from octolab.compressors.combinators import Bernoulli, Bucketed, Chain, PerTensor, Scaled, TopKQSGD
from octolab.compressors.compressor import Compressor, catalog, from_spec
from octolab.compressors.matrices import MatrixRandK, MatrixTopK, RankR
from octolab.compressors.quantizers import (
    QSGD,
    LinfDithering,
    Natural,
    NaturalDithering,
    SignNorm,
    UniformQuantizer,
)
from octolab.compressors.sparsifiers import BlockTopK, Identity, PermK, RandK, TopK

__all__ = [
    "QSGD",
    "Bernoulli",
    "BlockTopK",
    "Bucketed",
    "Chain",
    "Compressor",
    "Identity",
    "LinfDithering",
    "MatrixRandK",
    "MatrixTopK",
    "Natural",
    "NaturalDithering",
    "PerTensor",
    "PermK",
    "RandK",
    "RankR",
    "Scaled",
    "SignNorm",
    "TopK",
    "TopKQSGD",
    "UniformQuantizer",
    "catalog",
    "from_spec",
]
