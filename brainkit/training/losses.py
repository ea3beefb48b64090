"""Losses, as pure functions of tensors."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from brainkit.errors import InputError


def matched_contrast(a: Tensor, b: Tensor, log_scale: Tensor, same: Tensor | None = None) -> Tensor:
    """Contrast two sets of embeddings, both ways, with several right answers where there are some.

    With unit vectors a_i and b_j, the similarities are s_ij = exp(log_scale) a_i · b_j, and the
    loss is the mean of the cross-entropies of softmax_j(s_ij) and softmax_i(s_ij) against the
    matches, each row's right answers weighing the same. With the identity as the matches this is
    the loss of CLIP (Radford et al. 2021); several right answers follow supervised contrastive
    learning (Khosla et al. 2020).

    Parameters
    ----------
    a, b : tensor (n, width)
        Embeddings; they are normalised here.
    log_scale : tensor ()
        Logarithm of the inverse temperature.
    same : bool tensor (n, n), optional
        The pairs (i, j) that match; the diagonal where not given.

    Returns
    -------
    loss : tensor ()

    Raises
    ------
    InputError
        If the shapes differ.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise InputError(
            f"Two sets (n, width) of one shape are contrasted; got {tuple(a.shape)} and "
            f"{tuple(b.shape)}."
        )
    similarity = functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T  # (n, n)
    logits = log_scale.exp() * similarity.float()  # (n, n)
    matches = torch.eye(len(a), device=a.device) if same is None else same.to(logits.dtype)
    forward = functional.cross_entropy(logits, matches / matches.sum(dim=1, keepdim=True))
    backward = functional.cross_entropy(logits.T, matches.T / matches.T.sum(dim=1, keepdim=True))
    return (forward + backward) / 2


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
