r"""The network that reads a voxel's support set and writes the voxel's linear encoder.

A voxel is a task: n images with embeddings :math:`x_i` and its responses :math:`y_i` to them go in,
weights w and a constant b come out, and its response to a new image is predicted as
:math:`w \cdot x + b` (Yu et al. 2025, BraInCoRL, arXiv:2505.15813). Nothing says in which order the
images stand, so that their order cannot matter.

There are two forms. ``"published"`` is the network of the paper: raw embeddings, a first residual
block that reads image and response as one vector, constants in every linear layer, dropout.
``"product"``, which is ours, differs in three things. Embeddings are centred and brought half-way
to whitened axes. The first layer has a product of response and image, :math:`h = P x + y\,(Q x +
v)`, so that a mean over tokens already holds the covariance X'y, and P x and Q x are computed once
an image and not once a voxel and image. Blocks have no constants. The two are compared in the
docs, ``docs/published.md``.

In both, of the last block only register 0 is read; with one query a head, its keys and values need
not be computed: :math:`q \cdot K x = (K'q) \cdot x` and :math:`\sum_i a_i V x_i = V \sum_i a_i
x_i`.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from brainkit.errors import InputError, unknown_name
from brainkit.training.set_networks import (
    Block,
    ResidualBlock,
    add_linear,
    half_whitened,
    rectified,
)

Form = Literal["product", "published"]

TOKENS_AT_ONCE = (2048, 1 << 17)  # on a processor, on a GPU
KEPT = 31 << 20  # bytes; glibc learns from blocks of less than 32 MiB


@dataclass(frozen=True)
class Architecture:
    """The size of the network.

    Parameters
    ----------
    embedding : int
        Numbers in an image's embedding.
    width, layers, heads, hidden, registers : int
        Width of a token, blocks, attention heads, inner width of the SwiGLU layers, and tokens
        that stand before the images. By default those published for embeddings of 512.
    form : {"product", "published"}
        Which network; the module says how they differ.
    dropout : float, default=0
        Share that is left out in training: of what residual blocks multiply, of tokens, of
        attention and of what attention adds. Published is .5.
    """

    embedding: int
    width: int = 560
    layers: int = 20
    heads: int = 10
    hidden: int = 2048
    registers: int = 4
    form: Form = "product"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("embedding", "width", "layers", "heads", "hidden", "registers"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1; got {value!r}.")
        if self.form not in get_args(Form):
            raise unknown_name("form of an in-context network", self.form, get_args(Form))
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is a share from 0 to below 1; got {self.dropout!r}.")
        if self.width % self.heads:
            raise InputError(
                f"The width must be a multiple of the heads; got width={self.width} and "
                f"heads={self.heads}."
            )


class HyperWeights(NamedTuple):
    """What the network writes for each voxel.

    Attributes
    ----------
    coef : tensor (n_voxels, embedding)
        Weights w on the embedding.
    intercept : tensor (n_voxels,)
    attention : tensor (n_voxels, n_images)
        How much register 0 attends to each support image in the last block, mean over heads. The
        rest of 1 went to the registers.
    """

    coef: Tensor
    intercept: Tensor
    attention: Tensor


class ProductTokens(nn.Module):
    r"""Tokens of a support set: a residual block on :math:`h_i = P x_i + y_i (Q x_i + v)`.

    ``token = h + M leaky(LN(h))``. The product of response and embedding is there from the start,
    so that a mean over tokens already holds the covariance X'y.

    Parameters
    ----------
    embedding, width : int
    dropout : float
    """

    def __init__(self, embedding: int, width: int, dropout: float) -> None:
        super().__init__()
        self.image = nn.Linear(embedding, 2 * width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def shared(self, embeddings: Tensor) -> Tensor:
        """Return what all voxels share of the images, (n_images, 2 width)."""
        images: Tensor = self.image(embeddings)
        return images

    def forward(self, images: Tensor, responses: Tensor) -> Tensor:
        """Return tokens (n_voxels, n_images, width).

        Parameters
        ----------
        images : tensor (n_images, 2 width)
            What `shared` gives.
        responses : tensor (n_images, n_voxels)
        """
        alone, gated = images.chunk(2, dim=-1)
        total = torch.addcmul(alone, responses.T.contiguous().unsqueeze(-1), gated)
        return add_linear(total, self.dropout(rectified(self.norm(total))), self.mix)


class PublishedTokens(nn.Module):
    """Tokens of a support set as published: a residual block on image and response as one vector.

    Parameters
    ----------
    embedding, width : int
    dropout : float
    """

    def __init__(self, embedding: int, width: int, dropout: float) -> None:
        super().__init__()
        self.block = ResidualBlock(embedding + 1, 2 * width, width, bias=True, dropout=dropout)

    def shared(self, embeddings: Tensor) -> Tensor:
        """Return what all voxels share of the images: the embeddings, (n_images, embedding)."""
        return embeddings

    def forward(self, images: Tensor, responses: Tensor) -> Tensor:
        """Return tokens (n_voxels, n_images, width).

        Parameters
        ----------
        images : tensor (n_images, embedding)
        responses : tensor (n_images, n_voxels)
        """
        response = responses.T.unsqueeze(-1)  # (n_voxels, n_images, 1)
        both = torch.cat([images.expand(len(response), -1, -1), response.to(images.dtype)], dim=-1)
        tokens: Tensor = self.block(both)
        return tokens


class InContextNetwork(nn.Module):
    """From support images and responses to hyper-weights.

    `set_space` takes, once and before training, the centre, the principal axes and their spread
    from images that have nothing to do with the task. The product form reads embeddings that are
    centred, turned to those axes and divided, along each, by the root of its standard deviation
    (half-way to whitening); its hyper-weights are turned back. The published form reads embeddings
    as they are; the space serves to tell those of another model.

    Parameters
    ----------
    architecture : Architecture
    """

    centre: Tensor
    axes: Tensor
    spread: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.published = published = a.form == "published"
        self.register_buffer("centre", torch.zeros(a.embedding))
        self.register_buffer("axes", torch.eye(a.embedding))
        self.register_buffer("spread", torch.ones(a.embedding))
        tokens: Any = PublishedTokens if published else ProductTokens
        self.tokens = tokens(a.embedding, a.width, a.dropout)
        first = torch.randn(a.registers, a.width)
        self.registers = nn.Parameter(first * ((a.width + 1) ** -0.5 if published else 0.5))
        self.dropout = nn.Dropout(a.dropout)
        self.blocks = nn.ModuleList(
            Block(a.width, a.heads, a.hidden, bias=published, dropout=a.dropout)
            for _ in range(a.layers)
        )
        self.readout = ResidualBlock(
            a.width, 2 * a.width, a.embedding + 1, bias=published, dropout=a.dropout
        )
        if not published:
            with torch.no_grad():  # start near the mean response, whatever the support
                for part in (self.readout.second, self.readout.bypass):
                    part.weight.mul_(0.1)

    @torch.no_grad()
    def set_space(self, embeddings: Tensor) -> None:
        """Take centre, axes and spread from unit-norm embeddings (n_images, embedding)."""
        centre, axes, spread = half_whitened(embeddings)
        self.centre.copy_(centre)
        self.axes.copy_(axes)
        self.spread.copy_(spread)

    def strangeness(self, embeddings: Tensor) -> float:
        """Return the mean squared whitened embedding: 1 for images like those of `set_space`."""
        whitened = (embeddings - self.centre) @ self.axes / self.spread
        return float(whitened.square().mean())

    def encode_images(self, embeddings: Tensor) -> Tensor:
        """Return the part of the tokens that all voxels share, (n_images, ...)."""
        read = embeddings if self.published else (embeddings - self.centre) @ self.axes
        shared: Tensor = self.tokens.shared(read)
        return shared

    def forward(self, images: Tensor, responses: Tensor) -> HyperWeights:
        """Read voxels that share their support images.

        Parameters
        ----------
        images : tensor (n_images, ...)
            What `encode_images` gives for unit-norm embeddings.
        responses : tensor (n_images, n_voxels)
            Z-scored over the images of each voxel.

        Returns
        -------
        HyperWeights
            For z-scored responses.
        """
        read = self.tokens(images, responses)
        registers = self.registers.to(read.dtype).expand(len(read), -1, -1)
        tokens = self.dropout(torch.cat([registers, read], dim=1))
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        first, attention = self.blocks[-1].read_first(tokens)  # type: ignore[operator]
        written = self.readout(first).float()
        coef, intercept = written[:, :-1], written[:, -1]
        if not self.published:
            with torch.autocast(written.device.type, enabled=False):
                coef = coef @ self.axes.T
                intercept = intercept - coef @ self.centre
        return HyperWeights(coef, intercept, attention[:, self.architecture.registers :])


def hyper_weights(
    network: InContextNetwork,
    embeddings: Tensor,
    responses: Tensor,
    n_tokens: int | None = None,
    *,
    attention: bool = True,
) -> HyperWeights:
    """Read many voxels, a few at a time so that their tokens stay in the processor's cache.

    Parameters
    ----------
    network : InContextNetwork
        In evaluation mode.
    embeddings : tensor (n_images, embedding)
        Unit norm, on the network's device.
    responses : tensor (n_images, n_voxels)
        Z-scored.
    n_tokens : int, optional
        Tokens at once; what suits a processor's cache, or a GPU, where not given.
    attention : bool, default=True
        False leaves it out, (n_voxels, 0), which spares memory where voxels and images are many.

    Returns
    -------
    HyperWeights
    """
    n_images, n_voxels = responses.shape
    size = voxels_at_once(network, n_images, n_tokens)
    weights = HyperWeights(
        torch.empty(n_voxels, embeddings.shape[1], device=embeddings.device),
        torch.empty(n_voxels, device=embeddings.device),
        torch.empty(n_voxels, n_images if attention else 0, device=embeddings.device),
    )
    if embeddings.device.type == "cpu":
        _keep_freed_memory()
    with torch.inference_mode():
        images = network.encode_images(embeddings)
        for start in range(0, n_voxels, size):
            part = network(images, responses[:, start : start + size])
            for target, values in zip(weights[: 2 + attention], part, strict=False):
                target[start : start + size] = values
    return weights


def voxels_at_once(network: InContextNetwork, n_images: int, n_tokens: int | None = None) -> int:
    """Return how many voxels `hyper_weights` reads at a time.

    Parameters
    ----------
    network : InContextNetwork
    n_images : int
        Of the support set.
    n_tokens : int, optional
        Tokens at once; what suits the network's device where not given.
    """
    n_tokens = n_tokens or TOKENS_AT_ONCE[network.centre.device.type == "cuda"]
    return max(1, round(n_tokens / (n_images + network.architecture.registers)))


def _keep_freed_memory() -> None:
    """Let the C library keep what is freed for what comes next.

    A batch's tensors are a few megabytes each. glibc would hand those pages back to the system
    after each batch and take new ones, zeroed, for the next, which costs a quarter of the time. It
    keeps up to twice the largest block that it saw freed; this one is never touched.
    """
    torch.empty(KEPT, dtype=torch.uint8)
