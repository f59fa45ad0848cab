"""Principal components of embeddings."""

import math

import pytest
import torch

from microgpt.insight.embeddings import principal_components


def test_vectors_in_a_plane_keep_their_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(8, 2, generator=generator)).Q.T  # (2, 8), orthonormal
    vectors = torch.randn(12, 2, generator=generator) @ plane + 3.0
    points, share = principal_components(vectors)
    assert share == pytest.approx(1)
    torch.testing.assert_close(torch.pdist(torch.tensor(points)), torch.pdist(vectors), rtol=1e-4, atol=1e-5)


def test_the_first_component_is_the_direction_of_the_largest_variance() -> None:
    vectors = torch.tensor([[5.0, 0, 0], [-5, 0, 0], [0, 3, 0], [0, -3, 0], [0, 0, 1], [0, 0, -1]])
    points, share = principal_components(vectors)
    sizes = [[abs(x) for x in point] for point in points]
    assert sizes[0] == pytest.approx([5, 0], abs=1e-6) and sizes[2] == pytest.approx([0, 3], abs=1e-6)
    assert sizes[4] == pytest.approx([0, 0], abs=1e-6)
    assert share == pytest.approx((25 + 9) / (25 + 9 + 1))


def test_the_share_of_the_variance_is_that_of_an_eigendecomposition() -> None:
    vectors = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    variances = torch.linalg.eigvalsh(torch.cov(vectors.T))
    points, share = principal_components(vectors)
    assert share == pytest.approx(float(variances[-2:].sum() / variances.sum()), rel=1e-5)
    assert torch.tensor(points).var(0).tolist() == pytest.approx(variances[[-1, -2]].tolist(), rel=1e-4)


def test_vectors_of_width_1_get_a_second_component_of_0() -> None:
    points, share = principal_components(torch.tensor([[1.0], [2.0], [6.0]]))
    assert [abs(x) for x, _ in points] == pytest.approx([2, 1, 3]) and [y for _, y in points] == [0, 0, 0]
    assert share == pytest.approx(1) and not math.isnan(share)
