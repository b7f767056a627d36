from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_neural_style.engine import losses
from napari_neural_style.engine.losses import (
    Target,
    add_gram_gradient,
    content_constant,
    content_terms,
    gram_matrix,
    style_constant,
    style_terms,
    total_variation,
    total_variation_gradient,
)


def test_gram_matrix_of_ones_is_one_per_position():
    gram = gram_matrix(torch.ones(1, 5, 7, 3))
    assert torch.equal(gram, torch.ones(5, 5))
    assert torch.equal(gram * 21, torch.ones(5, 21) @ torch.ones(21, 5))


def test_gram_matrix_takes_both_shapes_and_bfloat16():
    features = torch.rand(1, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(gram_matrix(features), gram_matrix(features[0].flatten(1)))
    assert gram_matrix(features.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(("count", "positions"), [(64, 20000), (256, 300), (3, 1)])
def test_gram_matrix_of_bfloat16_is_as_exact_as_float32(count, positions):
    features = torch.rand(count, positions, generator=torch.Generator().manual_seed(3)).bfloat16()
    exact = gram_matrix(features.double())
    assert (gram_matrix(features) - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("far", [0.0, 0.1, 3.0])
def test_of_bfloat16_only_the_difference_from_a_near_gram_matrix_is_rounded(guided, far):
    generator = torch.Generator().manual_seed(4)
    features = torch.rand(64, 5000, generator=generator).bfloat16()
    guide = F.normalize(torch.rand(5000, generator=generator), dim=0) if guided else None
    exact = gram_matrix(features, guide)
    near = exact + far * torch.rand(64, 64, generator=generator)
    found = gram_matrix(features, guide, near=near)
    assert (found - exact).norm() < 2**-8 * (near - exact).norm() + 1e-5 * exact.norm()


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (3, 4, 4), (5,)])
def test_gram_matrix_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="shape"):
        gram_matrix(torch.ones(shape))


@pytest.mark.parametrize("normalization", ["relative", "paper", "mean"])
def test_identical_inputs_have_no_loss(normalization):
    features = torch.rand(1, 4, 6, 5, dtype=torch.float64)
    content = Target("conv1_1", features, content_constant(features, normalization))
    gram = gram_matrix(features)
    style = Target("conv1_1", gram, style_constant(gram, normalization))
    terms, slopes = style_terms({("conv1_1", 0): gram}, [style])
    assert sum(content_terms([features - content.value], [content]) + terms) == 0
    assert not slopes["conv1_1", 0].any()


def test_total_variation_of_a_checkerboard_is_two():
    board = (torch.arange(6)[:, None] + torch.arange(9)) % 2
    assert total_variation(board.double()[None, None]) == 2
    assert total_variation(torch.ones(1, 3, 4, 4)) == 0


def test_paper_gradients():
    """Equations 2 and 6 of the paper, at the pre-activation: F - P and (FFᵀ - SSᵀ)F / (N²M²), 0 where F is 0."""
    generator = torch.Generator().manual_seed(2)
    pre, other = torch.randn(2, 1, 4, 5, 6, dtype=torch.float64, generator=generator)
    n, m = 4, 30
    pre.requires_grad_()
    features, compared = pre.relu(), other.relu()
    flat, s = features.detach()[0].flatten(1), compared[0].flatten(1)
    active = (flat > 0).double()

    content = Target("x", compared, content_constant(compared, "paper"))
    (gradient,) = torch.autograd.grad(content_terms([features - compared], [content])[0], pre, retain_graph=True)
    torch.testing.assert_close(gradient[0].flatten(1), (flat - s) * active)

    gram = gram_matrix(compared)
    style = Target("x", gram, style_constant(gram, "paper"))
    _, slopes = style_terms({("x", 0): gram_matrix(features.detach())}, [style])
    slope = torch.zeros_like(features)
    add_gram_gradient(slope, features.detach(), slopes["x", 0])
    (gradient,) = torch.autograd.grad(features, pre, slope)
    torch.testing.assert_close(gradient[0].flatten(1), (flat @ flat.T - s @ s.T) @ flat / (n**2 * m**2) * active)


def test_style_terms_of_one_gram_matrix_share_their_slope():
    generator = torch.Generator().manual_seed(5)
    gram, *others = torch.rand(3, 4, 4, dtype=torch.float64, generator=generator)
    targets = [Target("x", other, factor, label=2) for other, factor in zip(others, (0.5, 3.0), strict=True)]
    terms, slopes = style_terms({("x", 2): gram}, targets, weight=7.0)
    gram.requires_grad_()
    expected = [7 * target.factor * (gram - target.value).square().sum() for target in targets]
    torch.testing.assert_close(torch.stack(terms), torch.stack(expected).detach())
    torch.testing.assert_close(slopes["x", 2], *torch.autograd.grad(sum(expected), gram))


def test_gradients_agree_with_finite_differences():
    image = torch.rand(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(total_variation, image)
    (expected,) = torch.autograd.grad(total_variation(image), image)
    torch.testing.assert_close(total_variation_gradient(image.detach()), expected)
    assert torch.autograd.gradcheck(gram_matrix, image)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_gradient_at_features_is_that_of_autograd(guided, layout):
    generator = torch.Generator().manual_seed(3)
    features, known = torch.rand(2, 1, 4, 3, 5, dtype=torch.float64, generator=generator)
    slope = torch.rand(4, 4, dtype=torch.float64, generator=generator)
    slope += slope.T.clone()
    guide = torch.rand(15, dtype=torch.float64, generator=generator) if guided else None
    features.requires_grad_()
    (expected,) = torch.autograd.grad((slope * 0.3 * gram_matrix(features, guide)).sum(), features)
    gradient = known.clone(memory_format=layout)
    add_gram_gradient(gradient, features.detach(), slope, guide, share=0.3)
    torch.testing.assert_close(gradient - known, expected)


@pytest.mark.parametrize("guided", [False, True])
def test_products_of_features_are_the_same_as_convolutions(guided, monkeypatch):
    generator = torch.Generator().manual_seed(5)
    features = torch.rand(1, 32, 20, 700, generator=generator).contiguous(memory_format=torch.channels_last)
    slope = torch.rand(32, 32, generator=generator)
    slope += slope.T.clone()
    guide = F.normalize(torch.rand(14000, generator=generator), dim=0) if guided else None
    grams, gradients = [], []
    for faster in (False, True):
        monkeypatch.setattr(losses, "_convolves_faster", lambda features, faster=faster: faster)
        grams.append(gram_matrix(features, guide))
        gradients.append(torch.ones_like(features))
        add_gram_gradient(gradients[-1], features, slope, guide, share=0.3)
    torch.testing.assert_close(grams[1], grams[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=0)


def test_relative_constants_have_a_floor():
    """Beside nothing, what rounding leaves is next to nothing."""
    nothing, rounding = torch.zeros(1, 4, 3, 3), torch.full((1, 4, 3, 3), 1e-5)
    assert content_constant(nothing, "relative") * rounding.square().sum() < 1e-3
    assert style_constant(gram_matrix(nothing), "relative") * gram_matrix(rounding).square().sum() < 1e-3
