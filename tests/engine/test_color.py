from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_neural_style.engine.color import luminance, match_color, with_luminance


def moments(image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    pixels = image[0].flatten(1).double().numpy()
    return pixels.mean(1), np.cov(pixels, bias=True)


def mild(seed: int, shape: tuple[int, int] = (40, 30)) -> torch.Tensor:
    """An image of correlated colours far from 0 and 1, so that nothing is clamped."""
    random = np.random.default_rng(seed)
    mixing = np.eye(3) + random.uniform(-0.3, 0.3, (3, 3))
    colors = random.normal(0, 0.03, (*shape, 3)) @ mixing + random.uniform(0.4, 0.6, 3)
    return torch.from_numpy(colors).permute(2, 0, 1)[None].float()


def test_recoloured_content_has_the_styles_mean_and_covariance():
    content, style = mild(1), mild(2, (20, 20))
    mean, covariance = moments(match_color(content, [style], [1.0]))
    expected_mean, expected_covariance = moments(style)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-5)
    np.testing.assert_allclose(covariance, expected_covariance, atol=5e-6)


def test_an_image_in_its_own_colours_stays():
    content = mild(3)
    torch.testing.assert_close(match_color(content, [content], [1.0]), content, atol=1e-4, rtol=0)


def test_several_styles_are_mixed_by_weight():
    one, two = torch.full((1, 3, 8, 8), 0.45), torch.full((1, 3, 4, 4), 0.55)
    mixed = match_color(mild(4), [one, two], [3.0, 1.0])
    assert mixed.mean().item() == pytest.approx(0.475, abs=1e-4)


def test_constant_images_do_not_break_it():
    constant = torch.full((1, 3, 8, 8), 0.5)
    assert torch.isfinite(match_color(constant, [mild(5)], [1.0])).all()
    assert torch.isfinite(match_color(mild(5), [constant], [1.0])).all()


def test_luminance_is_replaced_and_colours_are_kept():
    image, y = mild(6), torch.full((1, 1, 40, 30), 0.5)
    changed = with_luminance(image, y)
    torch.testing.assert_close(luminance(changed), y)
    assert luminance(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)).item() == pytest.approx(0.299)
    torch.testing.assert_close(changed - luminance(changed), image - luminance(image))
