"""Compressors of symmetric matrices: constants, worst cases, bits, and why |M_ij| is the wrong rank."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from octolab.compressors import Bernoulli, MatrixRandK, MatrixTopK, RankR, Scaled, from_spec
from octolab.payloads import Payload

MATRIX = [
    RankR(1),
    RankR(3),
    MatrixTopK(4),
    MatrixTopK(0.3, index="enum"),
    MatrixRandK(0.4),
    Scaled(MatrixRandK(3)),
]
MATRIX += [RankR(6), MatrixTopK(1.0), Bernoulli(0.5, RankR(2))]


def symmetric(x):
    return (x + x.mT) / 2


@pytest.mark.parametrize("c", MATRIX, ids=repr)
def test_bytes_bits_and_message_agree(c, draws, normals):
    x = symmetric(normals(5, 6, 6)).float()
    x[1] = 0.0
    p = c(x, draws(5))
    assert p.dense().shape == x.shape and torch.equal(p.dense(), p.dense().mT)
    assert [8 * len(b) for b in p.encode()] == [-(-int(b) // 8) * 8 for b in p.bits]
    assert torch.equal(Payload.decode(p.encode(), p.meta).dense(), p.dense())
    if c.bits(6) is not None:
        assert p.bits.tolist() == [c.bits(6)] * 5
    assert (p.dense()[1] == 0).all()
    torch.testing.assert_close(p.sum(), p.dense().sum(0))
    torch.testing.assert_close(c(x[2], draws(1)).dense(), c(x[2:3], draws(1)).dense()[0])  # eigenvectors' last bits
    assert from_spec(c.spec) == c


def test_alpha_holds_and_is_attained():
    d = 6
    for c in (RankR(2), MatrixTopK(5)):
        worst = torch.eye(d, dtype=torch.float64)  # equal eigenvalues
        if isinstance(c, MatrixTopK):  # equal entries after ranking: off-diagonals 1/sqrt(2)
            worst = torch.full((d, d), 1 / sqrt(2), dtype=torch.float64).fill_diagonal_(1.0)
        kept = 1 - (c(worst).dense() - worst).pow(2).sum() / worst.pow(2).sum()
        assert float(kept) == pytest.approx(c.alpha(d), abs=1e-12)


def test_alpha_holds_on_random_matrices(normals):
    x = symmetric(normals(200, 5, 5))
    for c in (RankR(1), RankR(4), MatrixTopK(1), MatrixTopK(9)):
        error = (c(x).dense() - x).pow(2).sum((1, 2)) / x.pow(2).sum((1, 2))
        assert (error <= 1 - c.alpha(5) + 1e-12).all()


def test_ranking_by_sqrt_two_keeps_what_plain_ranking_loses():
    """The authors' ranking keeps 0.2525 of this matrix's energy, less than 2K/(d(d+1)) = 1/3."""
    x = torch.tensor([[1.0, 0.99], [0.99, 1.0]], dtype=torch.float64)
    share = MatrixTopK(1)(x).dense().pow(2).sum() / x.pow(2).sum()
    assert MatrixTopK(1).alpha(2) == 1 / 3 and float(share) == pytest.approx(2 * 0.9801 / 3.9602)


def test_randk_of_a_matrix_is_unbiased_with_its_omega(draws, normals):
    n, d = 20_000, 4
    x = symmetric(normals(d, d))
    c = MatrixRandK(3)
    y = c(x.expand(n, d, d), draws(n)).dense()
    assert ((y.mean(0) - x).abs() <= 5 * y.std(0) / sqrt(n)).all()
    relative = (y - x).pow(2).sum((1, 2)) / x.pow(2).sum()
    assert abs(relative.mean() - c.omega(d)) <= 5 * relative.std() / sqrt(n)
    assert c.omega(d) == d * (d + 1) / 6 - 1


def test_rank_one_costs_the_eigenvalue_too():
    assert RankR(1).bits(30) == 32 * 31 and RankR(30).bits(30) == 32 * 465


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RankR(0), "rank=0"),
        (lambda: RankR(4)(torch.eye(3)), "k is 4, but there are only 3"),
        (lambda: RankR(1)(torch.ones(3, 4)), "symmetric matrices"),
        (lambda: MatrixTopK(2)(torch.arange(9.0).reshape(3, 3)), r"Give \(M \+ M\^T\)/2"),
        (lambda: RankR(1)(torch.ones(3)), r"takes reals of shape \(d, d\) or \(m, d, d\)"),
    ],
)
def test_misuse_gets_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
