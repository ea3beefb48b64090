r"""The network that reads a voxel's support set and writes the voxel's linear encoder.

A voxel is a task: n images with embeddings :math:`x_i` and its responses :math:`y_i` to them go in,
weights w and a constant b come out, and its response to a new image is predicted as
:math:`w \cdot x + b` (Yu et al. 2025, BraInCoRL, arXiv:2505.15813). Nothing says in which order the
images stand, so that their order cannot matter.

Two things are laid out for speed, as all voxels of a brain share their support images. The first
linear layer sees image and response apart, :math:`h = P x + y\,(Q x + v)`, rather than one vector
that holds both, so that P x and Q x are computed once an image and not once a voxel and image. And
of the last block only register 0 is read; with one query a head, its keys and values need not be
computed: :math:`q \cdot K x = (K'q) \cdot x` and :math:`\sum_i a_i V x_i = V \sum_i a_i x_i`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainkit.encoding.in_context.products import add_product, product
from brainkit.errors import InputError

SLOPE = 0.1  # of the leaky rectifiers
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
    """

    embedding: int
    width: int = 560
    layers: int = 20
    heads: int = 10
    hidden: int = 2048
    registers: int = 4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is not int or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1; got {value!r}.")
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


def _rectified(values: Tensor) -> Tensor:
    return functional.leaky_relu(values, SLOPE, inplace=not torch.is_grad_enabled())


class SupportTokens(nn.Module):
    r"""Tokens of a support set: a residual block on :math:`h_i = P x_i + y_i (Q x_i + v)`.

    ``token = h + M leaky(LN(h))``. The product of response and embedding is there from the start,
    so that a mean over tokens already holds the covariance X'y.

    Parameters
    ----------
    embedding, width : int
    """

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.image = nn.Linear(embedding, 2 * width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, width, bias=False)

    def forward(self, images: Tensor, responses: Tensor) -> Tensor:
        """Return tokens (n_voxels, n_images, width).

        Parameters
        ----------
        images : tensor (n_images, 2 width)
            What `image` gives, shared by all voxels.
        responses : tensor (n_images, n_voxels)
        """
        alone, gated = images.chunk(2, dim=-1)
        total = torch.addcmul(alone, responses.T.contiguous().unsqueeze(-1), gated)
        return add_product(total, _rectified(self.norm(total)), self.mix)


class Block(nn.Module):
    """A pre-norm block: attention with queries scaled by the logarithm of the length, and SwiGLU.

    With S tokens, registers among them, ``softmax(ln(S) q·k / √d)``: without the logarithm
    attention would spread out as the context grows. There is no positional encoding.

    Parameters
    ----------
    width, heads, hidden : int
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.in_projection = nn.Linear(width, 3 * width, bias=False)  # queries, keys, values
        self.out_projection = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * hidden, bias=False)  # what is squashed, what it gates
        self.down = nn.Linear(hidden, width, bias=False)

    def scale(self, length: int) -> float:
        """Return the factor on query times key for a number of tokens, registers counted."""
        return math.log(length) / math.sqrt(self.in_projection.in_features // self.heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (n_voxels, length, width); changes its input where no gradient is kept."""
        voxels, length, width = tokens.shape
        joint = product(self.attention_norm(tokens), self.in_projection.weight)
        query, key, value = joint.view(voxels, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=self.scale(length))
        mixed = mixed.transpose(1, 2).reshape(voxels, length, width)
        return self._feed(add_product(tokens, mixed, self.out_projection))

    def read_first(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the block gives for token 0 alone, and how that attends.

        Returns
        -------
        first : tensor (n_voxels, width)
            As `forward`'s first token, to rounding.
        attention : tensor (n_voxels, length)
            Mean over heads; sums to 1.
        """
        length, width = tokens.shape[1:]
        normed = self.attention_norm(tokens)
        query_weight, key_weight, value_weight = self.in_projection.weight.view(
            3, self.heads, -1, width
        )
        query = torch.einsum("vw,hdw->vhd", normed[:, 0], query_weight)
        probe = torch.einsum("vhd,hdw->vhw", query, key_weight) * self.scale(length)
        attention = torch.softmax(probe @ normed.transpose(1, 2), dim=-1)  # (voxels, heads, length)
        mixed = torch.einsum("vhw,hdw->vhd", attention @ normed, value_weight).flatten(1)
        first = add_product(tokens[:, 0].contiguous(), mixed, self.out_projection)
        return self._feed(first), attention.mean(dim=1)

    def _feed(self, tokens: Tensor) -> Tensor:
        normed = self.feed_norm(tokens)
        if torch.is_grad_enabled():
            squashed, gated = self.gate(normed).chunk(2, dim=-1)
            return add_product(tokens, functional.silu(squashed) * gated, self.down)
        # Two products: each half lies contiguous, is changed in place, and fits into the cache.
        squashing, gating = self.gate.weight.chunk(2)
        inner = functional.silu(product(normed, squashing), inplace=True)
        return add_product(tokens, inner.mul_(product(normed, gating)), self.down)


class Readout(nn.Module):
    """Residual block from register 0 to weights and a constant.

    ``B r + W₂ leaky(LN(W₁ leaky(LN(r))))``

    Parameters
    ----------
    width, n_outputs : int
    """

    def __init__(self, width: int, n_outputs: int) -> None:
        super().__init__()
        hidden = 2 * width
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(hidden)
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, n_outputs)
        self.bypass = nn.Linear(width, n_outputs, bias=False)

    def forward(self, register: Tensor) -> Tensor:
        """Return (n_voxels, n_outputs)."""
        inner = self.first(_rectified(self.first_norm(register)))
        return self.second(_rectified(self.second_norm(inner))) + self.bypass(register)


class InContextNetwork(nn.Module):
    """From support images and responses to hyper-weights.

    Embeddings are centred and turned to their principal axes first, each divided by the root of
    its standard deviation (half-way to whitening), by statistics of images that have nothing to do
    with the task; `set_space` sets them once, before training. The hyper-weights are turned back.

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
        self.register_buffer("centre", torch.zeros(a.embedding))
        self.register_buffer("axes", torch.eye(a.embedding))
        self.register_buffer("spread", torch.ones(a.embedding))
        self.tokens = SupportTokens(a.embedding, a.width)
        self.registers = nn.Parameter(0.5 * torch.randn(a.registers, a.width))
        self.blocks = nn.ModuleList([Block(a.width, a.heads, a.hidden) for _ in range(a.layers)])
        self.readout = Readout(a.width, a.embedding + 1)
        with torch.no_grad():  # start near the mean response, whatever the support
            for part in (self.readout.second, self.readout.bypass):
                part.weight.mul_(0.1)

    @torch.no_grad()
    def set_space(self, embeddings: Tensor) -> None:
        """Take centre, axes and spread from unit-norm embeddings (n_images, embedding)."""
        wide = embeddings.double()
        n_images, width = wide.shape
        centre = wide.mean(dim=0)
        values, axes = torch.linalg.eigh((wide - centre).T @ (wide - centre) / n_images)
        # Axes of which few images tell little are taken to vary more than they did in those.
        share = width / (width + 10 * n_images)
        deviation = ((1 - share) * values.clamp_min(0) + share * values.mean()).sqrt()
        # A mean square of 1 over all axes, whatever share of the variance the first ones hold.
        factor = 1 / (deviation * deviation.mean()).sqrt()
        self.centre.copy_(centre)
        self.axes.copy_(axes * factor)
        self.spread.copy_(deviation * factor)

    def strangeness(self, embeddings: Tensor) -> float:
        """Return the mean squared whitened embedding: 1 for images like those of `set_space`."""
        whitened = (embeddings - self.centre) @ self.axes / self.spread
        return float(whitened.square().mean())

    def encode_images(self, embeddings: Tensor) -> Tensor:
        """Return the part of the tokens that all voxels share, (n_images, 2 width)."""
        return self.tokens.image((embeddings - self.centre) @ self.axes)

    def forward(self, images: Tensor, responses: Tensor) -> HyperWeights:
        """Read voxels that share their support images.

        Parameters
        ----------
        images : tensor (n_images, 2 width)
            What `encode_images` gives for unit-norm embeddings.
        responses : tensor (n_images, n_voxels)
            Z-scored over the images of each voxel.

        Returns
        -------
        HyperWeights
            For z-scored responses.
        """
        own = self.tokens(images, responses)
        registers = self.registers.to(own.dtype).expand(len(own), -1, -1)
        tokens = torch.cat([registers, own], dim=1)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        first, attention = self.blocks[-1].read_first(tokens)  # type: ignore[operator]
        written = self.readout(first).float()
        with torch.autocast(written.device.type, enabled=False):
            coef = written[:, :-1] @ self.axes.T
            intercept = written[:, -1] - coef @ self.centre
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
    n_tokens = n_tokens or TOKENS_AT_ONCE[embeddings.device.type == "cuda"]
    size = max(1, round(n_tokens / (n_images + network.architecture.registers)))
    whole = HyperWeights(
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
            for target, values in zip(whole[: 2 + attention], part, strict=False):
                target[start : start + size] = values
    return whole


def _keep_freed_memory() -> None:
    """Let the C library keep what is freed for what comes next.

    A batch's tensors are a few megabytes each. glibc would hand those pages back to the system
    after each batch and take new ones, zeroed, for the next, which costs a quarter of the time. It
    keeps up to twice the largest block that it saw freed; this one is never touched.
    """
    torch.empty(KEPT, dtype=torch.uint8)
