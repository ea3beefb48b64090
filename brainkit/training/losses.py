"""Losses, as pure functions of tensors."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from brainkit.training.contrastive import info_nce


def cosine_and_contrast(
    predicted: Tensor, truth: Tensor, log_scale: Tensor, weight: float = 0.1
) -> Tensor:
    r"""Return how far embeddings point from the true ones, plus how ill each finds its own.

    .. math:: \frac{1}{n} \sum_i (1 - \cos(p_i, t_i)) + \lambda\, C(p, t)

    with the contrast C of `brainkit.training.contrastive.info_nce`, as the in-context decoder is
    trained (BrainCoDec).

    Parameters
    ----------
    predicted, truth : tensor (n, width)
        Their lengths do not matter.
    log_scale : tensor ()
        Logarithm of the inverse temperature of the contrast.
    weight : float, default=0.1
        The factor λ.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    contrast = info_nce(predicted, truth, log_scale)
    return 1 - functional.cosine_similarity(predicted, truth).mean() + weight * contrast


def variance_matched_l1(decoded: Tensor, shown: Tensor, latents: Tensor) -> Tensor:
    """Score an autoencoder's output, and keep its latents near unit variance.

    ``mean |decoded − shown| + .3 mean (decoded − shown)² + .01 (log mean(latents²))²``.

    Parameters
    ----------
    decoded, shown : tensor (n, channels, height, width)
    latents : tensor (n, ...)
    """
    error = decoded - shown
    spread = latents.float().square().mean().clamp_min(1e-8).log()
    return error.abs().mean() + 0.3 * error.square().mean() + 0.01 * spread.square()


def squared_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error, a scalar."""
    return (predicted - truth).square().mean()


def concordance_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    r"""Return one less Lin's concordance correlation, over all numbers together.

    .. math::
        1 - \frac{2 \operatorname{cov}(p, y)}
        {\operatorname{var}(p) + \operatorname{var}(y) + (\bar p - \bar y)^2}

    which is 0 where prediction and truth are the same, 1 where they have nothing in common, and 2
    at most. Unlike a correlation it asks for the right mean and the right spread.

    Parameters
    ----------
    predicted, truth : tensor (...)
        Two tensors of one shape; they are flattened, so that a row of several targets counts as so
        many numbers. Two constants that are equal agree: 0.

    References
    ----------
    Lin (1989). A concordance correlation coefficient to evaluate reproducibility. Biometrics
    45:255.
    """
    offset = (predicted.mean() - truth.mean()).square()
    disagreement = (predicted - truth).square().mean()  # var + var − 2 cov + offset
    spread = predicted.var(correction=0) + truth.var(correction=0) + offset
    return disagreement / spread.clamp_min(torch.finfo(spread.dtype).tiny)


def squared_error_and_concordance(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the sum of `squared_error` and `concordance_loss`, as Saha et al. (2024) train."""
    return squared_error(predicted, truth) + concordance_loss(predicted, truth)


REGRESSION_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": squared_error,
    "ccc": concordance_loss,
    "mse+ccc": squared_error_and_concordance,
}
