"""Contrastive losses of brain and image embeddings, and the temperature that they learn.

All begin with the same similarities, `similarity`: which side is normalised is a named option, and
the temperature is a logarithm that is exponentiated in one place, `Temperature` (trap T15).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainkit.errors import InputError, unknown_name

Normalised = Literal["both", "image", "brain", "none"]
LARGEST_SCALE = 100.0


class Temperature(nn.Module):
    r"""The inverse temperature of a contrast, :math:`e^{t}` with t learned.

    It is registered with the module that holds it, so that the optimiser gets it; `forward` gives
    t, clamped from above, and a loss exponentiates it.

    Parameters
    ----------
    start : float, default=1/0.07
        First inverse temperature, as in CLIP (Radford et al. 2021).
    """

    def __init__(self, start: float = 1 / 0.07) -> None:
        super().__init__()
        if not 0 < start <= LARGEST_SCALE:
            raise InputError(
                f"An inverse temperature starts above 0 and up to {LARGEST_SCALE:g}; got {start!r}."
            )
        self.log_scale = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        """Return t, at most the logarithm of 100."""
        return self.log_scale.clamp(max=math.log(LARGEST_SCALE))

    @property
    def scale(self) -> float:
        """The inverse temperature as it is now."""
        return math.exp(float(self.forward().detach()))


def similarity(
    brain: Tensor, image: Tensor, log_scale: Tensor, normalise: Normalised = "both"
) -> Tensor:
    r"""Return scaled similarities of all pairs.

    .. math:: s_{ij} = e^{t} \, b_i \cdot z_j

    Parameters
    ----------
    brain : tensor (n, width) or (n, tokens, width)
        Tokens are compared flattened, as one long vector.
    image : tensor (m, width) or (m, tokens, width)
    log_scale : tensor ()
        The logarithm t of the inverse temperature.
    normalise : {"both", "image", "brain", "none"}, default="both"
        Which side is brought to unit length. With one side alone the length of the other says how
        sure it is.

    Returns
    -------
    tensor (n, m)
        In single precision.

    Raises
    ------
    InputError
        If the widths differ, or there is no such side.
    """
    b, z = brain.flatten(1).float(), image.flatten(1).float()
    if b.shape[1] != z.shape[1]:
        raise InputError(
            f"Embeddings of one width are compared; got {tuple(brain.shape)} from the brain and "
            f"{tuple(image.shape)} of images."
        )
    if normalise not in get_args(Normalised):
        raise unknown_name("side to normalise", normalise, get_args(Normalised))
    if normalise in ("both", "brain"):
        b = functional.normalize(b, dim=1)
    if normalise in ("both", "image"):
        z = functional.normalize(z, dim=1)
    return log_scale.exp() * (b @ z.T)


def info_nce(
    brain: Tensor,
    image: Tensor,
    log_scale: Tensor,
    *,
    normalise: Normalised = "both",
    same: Tensor | None = None,
) -> Tensor:
    r"""Contrast brain and image embeddings, both ways.

    The mean of the cross-entropies of :math:`\mathrm{softmax}_j(s_{ij})` and
    :math:`\mathrm{softmax}_i(s_{ij})` against the pairs that match (van den Oord et al. 2018;
    Radford et al. 2021). Where an image stands in a batch several times, as when several people saw
    it, all of its pairs are right answers of equal weight.

    Parameters
    ----------
    brain, image, log_scale, normalise
        See `similarity`; row i of one belongs to row i of the other.
    same : bool tensor (n, n), optional
        Pairs that match; the diagonal where not given.

    Returns
    -------
    tensor ()
    """
    logits = _square(brain, image, log_scale, normalise)
    if same is None:  # by number, which is quicker than by weights
        number = torch.arange(len(logits), device=logits.device)
        return _both_ways(logits, number, number)
    right = _right_answers(logits, same)
    return _both_ways(logits, right, right.T)


def soft_clip(
    brain: Tensor,
    image: Tensor,
    log_scale: Tensor,
    *,
    normalise: Normalised = "both",
    same: Tensor | None = None,
) -> Tensor:
    r"""Contrast against how alike the images are among themselves (SoftCLIP of MindEye).

    .. math::
        L = \tfrac12 \big[ H\big(\mathrm{softmax}_j(s^{zz}_{ij}), \mathrm{softmax}_j(s_{ij})\big)
        + H\big(\mathrm{softmax}_j(s^{zz}_{ij}), \mathrm{softmax}_j(s_{ji})\big) \big]

    with the similarities :math:`s^{zz}` of the images with each other, which no gradient goes
    through, and the cross-entropy H.

    Parameters
    ----------
    brain, image, log_scale, normalise
        See `similarity`.
    same : ignored
        Equal images are alike anyhow.

    References
    ----------
    Scotti et al. (2023), Reconstructing the mind's eye: fMRI-to-image with contrastive learning and
    diffusion priors.
    """
    logits = _square(brain, image, log_scale, normalise)
    with torch.no_grad():
        alike = similarity(image, image, log_scale, normalise).softmax(dim=1)
    return _both_ways(logits, alike, alike)


@dataclass(frozen=True)
class Mixed:
    """A batch whose rows are mixtures of two.

    Attributes
    ----------
    values : tensor (n, ...)
        ``share · x + (1 − share) · x[partner]``.
    partner : tensor of int (n,)
    share : tensor (n,)
        In [0, 1].
    """

    values: Tensor
    partner: Tensor
    share: Tensor


def mixed(values: Tensor, generator: torch.Generator, beta: float = 0.15) -> Mixed:
    r"""Mix each row of a batch with another, by a share from :math:`\mathrm{Beta}(\beta, \beta)`.

    Parameters
    ----------
    values : tensor (n, ...)
        Responses of one person.
    generator : torch.Generator
        On the CPU.
    beta : float, default=0.15
        Small: most rows stay almost what they are.
    """
    if not beta > 0:
        raise InputError(f"The shares of a mixture are drawn with beta above 0; got {beta!r}.")
    n = len(values)
    partner = torch.randperm(n, generator=generator)
    # A Beta is a ratio of two Gammas, which torch draws from a generator of one's own.
    gammas = torch._standard_gamma(torch.full((2, n), float(beta)), generator=generator)
    gammas = gammas.clamp_min(torch.finfo(gammas.dtype).tiny)
    share = (gammas[0] / gammas.sum(dim=0)).to(values.device)
    partner = partner.to(values.device)
    weight = share.reshape(-1, *[1] * (values.ndim - 1)).to(values.dtype)
    return Mixed(weight * values + (1 - weight) * values[partner], partner, share)


def bi_mixco(
    brain: Tensor,
    image: Tensor,
    log_scale: Tensor,
    partner: Tensor,
    share: Tensor,
    *,
    normalise: Normalised = "both",
    same: Tensor | None = None,
) -> Tensor:
    """Contrast a mixed batch with the images of both of its parts, both ways (BiMixCo).

    Row i of the brain side was made of rows i and ``partner[i]``, by ``share[i]`` and the rest: the
    right answers are the two images, by these weights.

    Parameters
    ----------
    brain, image, log_scale, normalise, same
        See `info_nce`.
    partner, share
        See `Mixed`.

    References
    ----------
    Kim et al. (2020), MixCo: mix-up contrastive learning for visual representation. Scotti et al.
    (2023), with both directions.
    """
    logits = _square(brain, image, log_scale, normalise)
    right = _right_answers(logits, same)
    weight = share[:, None].to(logits.dtype)
    right = weight * right + (1 - weight) * right[partner]  # (brain, image)
    columns = right.sum(dim=0, keepdim=True).clamp_min(torch.finfo(right.dtype).tiny)
    return _both_ways(logits, right, (right / columns).T)


def cosine_distance(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return one less the mean cosine of rows, a scalar; tokens are taken as one long vector."""
    cosine = functional.cosine_similarity(predicted.flatten(1), truth.flatten(1), dim=1)
    return 1 - cosine.mean()


def _square(brain: Tensor, image: Tensor, log_scale: Tensor, normalise: Normalised) -> Tensor:
    if len(brain) != len(image):
        raise InputError(
            f"Pairs are contrasted; got {len(brain)} brain embeddings and {len(image)} of images."
        )
    return similarity(brain, image, log_scale, normalise)


def _right_answers(logits: Tensor, same: Tensor | None) -> Tensor:
    """Return the right answers of each row, their weights summing to 1."""
    if same is None:
        return torch.eye(len(logits), device=logits.device, dtype=logits.dtype)
    matches = same.to(logits.dtype)
    return matches / matches.sum(dim=1, keepdim=True)


def _both_ways(logits: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    """Return the mean of the cross-entropies over images, and over brains."""
    return (
        functional.cross_entropy(logits, forward) + functional.cross_entropy(logits.T, backward)
    ) / 2


CONTRASTS: Mapping[str, Callable[..., Tensor]] = {"info-nce": info_nce, "soft-clip": soft_clip}
