"""Transformer backbones of deep decoders: over tokens, over volumes and over flattened surfaces."""

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from brainkit.alignment.person_units import check_share, check_sizes
from brainkit.decoding.brain_backbones import Backbone
from brainkit.errors import InputError, unknown_name

Summary = Literal["tokens", "first", "last", "mean"]

POSITION_SPREAD = 0.02  # deviation of first position embeddings, as in GPT-2 and ViT


# -- tokens ----------------------------------------------------------------------------------------


class TransformerBlock(nn.Module):
    """A pre-norm block: attention, then a feed-forward network of four times the width.

    Parameters
    ----------
    width, heads : int
    dropout : float, default=0
        Of what both add.
    causal : bool, default=False
        Whether a token sees itself and those before it alone.
    cross : bool, default=False
        Whether it attends to tokens that are given beside, and not to its own.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        *,
        causal: bool = False,
        cross: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise InputError(
                f"The width must be a multiple of the heads; got width={width} and heads={heads}."
            )
        self.heads, self.causal = heads, causal
        self.attention_norm = nn.LayerNorm(width)
        self.context_norm = nn.LayerNorm(width) if cross else None
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Map (n, n_tokens, width) to the same shape; `context` is what a cross block looks at."""
        normed = self.attention_norm(tokens)
        looked_at = normed
        if self.context_norm is not None:
            assert context is not None
            looked_at = self.context_norm(context)
        key, value = self.key_value(looked_at).chunk(2, dim=-1)
        mixed = attend(self.query(normed), key, value, self.heads, causal=self.causal)
        tokens = tokens + self.dropout(self.out(mixed))
        inner = functional.gelu(self.expand(self.feed_norm(tokens)))
        fed: Tensor = tokens + self.dropout(self.contract(inner))
        return fed


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, *, causal: bool = False
) -> Tensor:
    """Return scaled dot-product attention of tokens (n, n_tokens, width), heads side by side."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return mixed.transpose(1, 2).flatten(2)


class Trunk(nn.Module):
    """Position embeddings, self-attention blocks and a LayerNorm, for a fixed number of tokens.

    Parameters
    ----------
    n_tokens, width, depth, heads : int
    dropout : float
    causal : bool, default=False
    cls : bool, default=False
        Whether a learned token stands before the others.
    """

    def __init__(
        self,
        n_tokens: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        *,
        causal: bool = False,
        cls: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(depth=depth, heads=heads)
        check_share(dropout=dropout)
        self.cls = nn.Parameter(torch.randn(width) * POSITION_SPREAD) if cls else None
        self.positions = nn.Parameter(torch.randn(n_tokens + cls, width) * POSITION_SPREAD)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, dropout, causal=causal) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, n_tokens, width) to the same shape, with one token more where there is a CLS."""
        if self.cls is not None:
            tokens = torch.cat([self.cls.expand(len(tokens), 1, -1), tokens], dim=1)
        tokens = tokens + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.norm(tokens)
        return out


def _summarised(tokens: Tensor, summary: Summary) -> Tensor:
    if summary == "tokens":
        return tokens
    if summary == "mean":
        return tokens.mean(dim=1)
    return tokens[:, 0 if summary == "first" else -1]


def _check_summary(summary: Summary, *, cls: bool) -> None:
    known = [name for name in get_args(Summary) if cls or name != "first"]
    if summary not in known:
        raise unknown_name("summary of tokens", summary, known)


class TokenTransformer(Backbone):
    r"""A transformer over tokens: of clusters, of parcels, or of volumes in time.

    Tokens are projected to `width`, get learned embeddings of their positions and pass blocks of
    self-attention. With `n_queries`, one learned query for each output location (a token of the
    image) then attends to them in `query_depth` blocks of cross-attention, as in Brain-IT. With
    ``time_tokens`` a token is a volume and holds all parcels; with ``causal`` besides, and 4 layers
    of 12 heads and 768 over DiFuMo's 1024 parcels × 5 TR, this is the network of WAVE.

    Parameters
    ----------
    n_inputs : int
        Numbers in a token that is given.
    in_tokens : int
        Tokens, or volumes.
    width, depth, heads : int
    dropout : float, default=0.1
    n_queries : int, optional
        Output locations; None gives the tokens themselves.
    query_depth : int, default=1
    causal : bool, default=False
    time_tokens : bool, default=False
        Whether what comes is (n, n_inputs, time), as aligners give it.
    summary : {"tokens", "mean", "last"}, default="tokens"
        Whether all tokens are given, their mean, or the last of them.

    References
    ----------
    Beliy et al. (2026), Brain-IT: image reconstruction from fMRI via a brain-interaction
    transformer. Wang et al. (2024), WAVE: decoding visual experience and mapping semantics through
    whole-brain analysis using fMRI foundation models. Thomas, Ré and Poldrack (2022),
    Self-supervised learning of brain dynamics from broad neuroimaging data.
    """

    def __init__(  # noqa: PLR0913 - sizes, all but the first by name
        self,
        n_inputs: int,
        in_tokens: int,
        width: int = 768,
        depth: int = 4,
        heads: int = 12,
        *,
        dropout: float = 0.1,
        n_queries: int | None = None,
        query_depth: int = 1,
        causal: bool = False,
        time_tokens: bool = False,
        summary: Summary = "tokens",
    ) -> None:
        _check_summary(summary, cls=False)
        given = n_queries or in_tokens
        n_tokens = given if summary == "tokens" else None
        super().__init__(n_inputs, width, in_tokens=in_tokens, n_tokens=n_tokens)
        self.reads_time, self.summary = time_tokens, summary
        self.project = nn.Linear(n_inputs, width)
        self.trunk = Trunk(in_tokens, width, depth, heads, dropout, causal=causal)
        self.queries: nn.Parameter | None = None
        if n_queries is not None:
            check_sizes(n_queries=n_queries, query_depth=query_depth)
            self.queries = nn.Parameter(torch.randn(n_queries, width) * POSITION_SPREAD)
            self.reading = nn.ModuleList(
                TransformerBlock(width, heads, dropout, cross=True) for _ in range(query_depth)
            )
            self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor) -> Tensor:
        """Map tokens (n, in_tokens, n_inputs), or (n, n_inputs, in_tokens) where they are times.

        Returns
        -------
        tensor (n, n_tokens, width) or (n, width)
        """
        if self.reads_time:
            self.check(values, self.n_inputs, self.in_tokens)
            values = values.mT
        self.check(values, self.in_tokens, self.n_inputs)
        tokens: Tensor = self.trunk(self.project(values))
        if self.queries is not None:
            read: Tensor = self.queries.expand(len(tokens), -1, -1)
            for block in self.reading:
                read = block(read, tokens)
            tokens = self.norm(read)
        return _summarised(tokens, self.summary)


class Perceiver(Backbone):
    r"""Learned latents that look, layer after layer, at the tokens and at themselves.

    .. math::
        z \leftarrow z + W_o \, \mathrm{att}\big(W_q \bar z, W_{kv} [\bar x; \bar z]\big), \quad
        z \leftarrow z + W_2 \, \mathrm{GELU}(W_1 \bar z)

    with bars for LayerNorms. No linear layer has a constant. Tokens have no positions, so that
    their order makes no difference.

    Parameters
    ----------
    in_tokens : int, default=256
    width : int, default=1024
        Of tokens, latents and what is given.
    n_latents : int, default=256
    depth : int, default=6
    heads, head_width : int
        By default 16 heads of 96.

    References
    ----------
    Jaegle et al. (2021), Perceiver. Alayrac et al. (2022), Flamingo. Xia et al. (2024), UMBRAE:
    unified multimodal brain decoding.
    """

    def __init__(
        self,
        in_tokens: int = 256,
        width: int = 1024,
        n_latents: int = 256,
        depth: int = 6,
        *,
        heads: int = 16,
        head_width: int = 96,
    ) -> None:
        super().__init__(width, width, in_tokens=in_tokens, n_tokens=n_latents)
        check_sizes(depth=depth, heads=heads, head_width=head_width)
        self.latents = nn.Parameter(torch.randn(n_latents, width))
        self.layers = nn.ModuleList(_PerceiverLayer(width, heads, head_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor) -> Tensor:
        """Map tokens (n, in_tokens, width) to (n, n_latents, width)."""
        self.check(values, self.in_tokens, self.n_inputs)
        latents = self.latents.expand(len(values), -1, -1)
        for layer in self.layers:
            latents = layer(values, latents)
        out: Tensor = self.norm(latents)
        return out


class _PerceiverLayer(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.token_norm, self.latent_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        normed = self.latent_norm(latents)
        both = torch.cat([self.token_norm(tokens), normed], dim=1)
        key, value = self.key_value(both).chunk(2, dim=-1)
        latents = latents + self.out(attend(self.query(normed), key, value, self.heads))
        fed: Tensor = latents + self.feed(latents)
        return fed


# -- images of the brain ---------------------------------------------------------------------------


class VolumeTransformer(Backbone):
    """A vision transformer over cubes of a volume, those that a mask touches alone.

    The volume is padded with zeros behind its last voxels until cubes fill it. Voxels outside of
    the mask are given to the network where they share a cube with the mask; where responses come as
    vectors, (n, voxels of the mask), they are 0.

    Parameters
    ----------
    mask : bool array (x, y, z)
        Such as the union of people's visual cortex on the grid that volumes are resampled to
        (83 × 104 × 81 as published).
    patch : int, default=14
        Voxels along an edge of a cube.
    width, depth, heads : int
    dropout : float, default=0
    summary : {"first", "tokens", "mean"}, default="first"
        Whether the CLS token is given, all tokens with it in front, or their mean.

    References
    ----------
    Shen et al. (2024), Neuro-vision to language: enhancing brain recording-based visual
    reconstruction and language interaction (arXiv:2404.19438).
    """

    cubes: Tensor
    inside: Tensor

    def __init__(
        self,
        mask: ArrayLike,
        patch: int = 14,
        width: int = 768,
        depth: int = 16,
        heads: int = 12,
        *,
        dropout: float = 0.0,
        summary: Summary = "first",
    ) -> None:
        _check_summary(summary, cls=True)
        check_sizes(patch=patch)
        inside = np.asarray(mask)
        if inside.dtype != bool or inside.ndim != 3 or not inside.any():
            raise InputError(
                f"The mask is a volume of bool with at least one voxel; got {inside.dtype} of "
                f"shape {inside.shape} with {int((inside != 0).sum())} voxels."
            )
        cubes = _cubes(inside, patch)
        n_tokens = len(cubes) + 1 if summary == "tokens" else None
        super().__init__(None, width, n_tokens=n_tokens)
        self.shape, self.summary = inside.shape, summary
        self.n_voxels = int(inside.sum())
        self.register_buffer("cubes", torch.from_numpy(cubes))
        self.register_buffer("inside", torch.from_numpy(np.flatnonzero(inside)))
        self.project = nn.Linear(patch**3, width)
        self.trunk = Trunk(len(cubes), width, depth, heads, dropout, cls=True)

    def forward(self, values: Tensor) -> Tensor:
        """Map volumes (n, x, y, z), or voxels of the mask (n, n_voxels).

        Returns
        -------
        tensor (n, width) or (n, n_tokens, width)
        """
        if values.ndim == 2:
            self.check(values, self.n_voxels)
            flat = values.new_zeros(len(values), math.prod(self.shape))
            flat = flat.index_copy(1, self.inside, values)
        else:
            self.check(values, *self.shape)
            flat = values.flatten(1)
        # The last column is what stands behind the volume.
        padded = functional.pad(flat, (0, 1))
        return _summarised(self.trunk(self.project(padded[:, self.cubes])), self.summary)


def _cubes(mask: np.ndarray[Any, Any], patch: int) -> np.ndarray[Any, Any]:
    """Return the flat indices of the voxels of each cube that a mask touches.

    Returns
    -------
    int array (n_cubes, patch ** 3)
        `mask.size` stands for what is behind the volume.
    """
    behind = [(0, -size % patch) for size in mask.shape]
    index = np.pad(np.arange(mask.size).reshape(mask.shape), behind, constant_values=mask.size)
    inside = np.pad(mask, behind)

    def cut(volume: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        x, y, z = (size // patch for size in volume.shape)
        parts = volume.reshape(x, patch, y, patch, z, patch).transpose(0, 2, 4, 1, 3, 5)
        return parts.reshape(x * y * z, patch**3)

    return cut(index)[cut(inside).any(axis=1)]


class SurfaceTransformer(Backbone):
    """A vision transformer over a flattened cortical surface, as NeuroPictor's brain encoder.

    Parameters
    ----------
    size : int, default=256
        Pixels along an edge of the flattened surface.
    patch : int, default=16
        Pixels along an edge of a patch; divides `size`.
    width, depth, heads : int
        By default those of ViT-L, which give 257 tokens of 1024 numbers.
    channels : int, default=1
    dropout : float, default=0
    summary : {"tokens", "first", "mean"}, default="tokens"

    References
    ----------
    Huo et al. (2024), NeuroPictor: refining fMRI-to-image reconstruction via multi-individual
    pretraining and multi-level modulation. Qian et al. (2023), fMRI-PTE.
    """

    def __init__(
        self,
        size: int = 256,
        patch: int = 16,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        *,
        channels: int = 1,
        dropout: float = 0.0,
        summary: Summary = "tokens",
    ) -> None:
        _check_summary(summary, cls=True)
        check_sizes(size=size, patch=patch, channels=channels)
        if size % patch:
            raise InputError(f"Patches of {patch} pixels do not fill an edge of {size}.")
        count = (size // patch) ** 2
        super().__init__(None, width, n_tokens=count + 1 if summary == "tokens" else None)
        self.size, self.channels, self.summary = size, channels, summary
        self.project = nn.Conv2d(channels, width, patch, patch)
        self.trunk = Trunk(count, width, depth, heads, dropout, cls=True)

    def forward(self, values: Tensor) -> Tensor:
        """Map surfaces (n, channels, size, size) to (n, n_tokens, width) or (n, width)."""
        self.check(values, self.channels, self.size, self.size)
        return _summarised(self.trunk(self.project(values).flatten(2).mT), self.summary)
