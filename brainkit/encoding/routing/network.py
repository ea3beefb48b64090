"""The routing network: a decoder layer whose queries are regions (or targets), read linearly."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainkit.errors import InputError

# -- attention from learned queries to tokens, computed in whichever order is cheaper --------------
#
# The queries are the same for every image. So a head's query can be taken through the key
# projection once, q (W x) = (W' q) x, and be compared with the raw tokens; the weighted mean of
# the raw tokens then goes through the value projection. Nothing is projected token by token, which
# pays where queries times heads are few beside the width. Otherwise keys and values are projected
# and the fused kernel of torch does the rest, without ever holding the weights.


SOFTMAX = 64  # measured on a CPU, at 64 tokens of 128 features and 961 of 768


@dataclass(frozen=True)
class Attention:
    """What learned queries ask of tokens.

    Attributes
    ----------
    queries : Tensor (n_queries, width)
        After their projection.
    key, value : Tensor (width, n_features)
        Projections of a token.
    position : Tensor (n_tokens, width)
        What is added to the projected tokens for keys alone.
    n_heads : int
        Divides `width`.
    """

    queries: Tensor
    key: Tensor
    value: Tensor
    position: Tensor
    n_heads: int

    def is_folded(self) -> bool:
        """Tell which order takes less time, forward and backward.

        For each token, folding costs two products of n_features by heads times queries, and the
        softmax of so many scores, which takes as long as further `SOFTMAX` features would.
        Projecting costs two products of n_features by width and two of width by queries, whose
        backward pass in the fused kernel costs twice as much as that of the others.
        """
        n_queries, width = self.queries.shape
        n_features = self.key.shape[1]
        folded = self.n_heads * n_queries * (n_features + SOFTMAX)
        return folded <= (n_features + 2 * n_queries) * width

    def mix(self, tokens: Tensor) -> Tensor:
        """Return the values that each query gathers.

        Parameters
        ----------
        tokens : Tensor (n, n_tokens, n_features)

        Returns
        -------
        Tensor (n, n_queries, width)
            Heads side by side.
        """
        return self._fold(tokens) if self.is_folded() else self._project(tokens)

    def weights(self, tokens: Tensor) -> Tensor:
        """Return where each query looks, (n, n_heads, n_queries, n_tokens); rows sum to 1."""
        flat = self._scores(tokens).softmax(dim=-1)
        return flat.unflatten(1, (self.n_heads, -1))

    def _heads(self, values: Tensor) -> Tensor:
        """Put heads first: (…, rows, width) to (…, n_heads, rows, width / n_heads)."""
        return values.unflatten(-1, (self.n_heads, -1)).transpose(-3, -2)

    def _scores(self, tokens: Tensor) -> Tensor:
        """Return scaled products of queries and keys, (n, n_heads * n_queries, n_tokens)."""
        queries = self._heads(self.queries)
        queries = queries * queries.shape[-1] ** -0.5
        folded = (queries @ self.key.unflatten(0, (self.n_heads, -1))).flatten(0, 1)
        placed = (queries @ self._heads(self.position).mT).flatten(0, 1)
        n = len(tokens)
        return torch.baddbmm(placed.expand(n, -1, -1), folded.expand(n, -1, -1), tokens.mT)

    def _fold(self, tokens: Tensor) -> Tensor:
        gathered = self._scores(tokens).softmax(dim=-1) @ tokens
        gathered = gathered.unflatten(1, (self.n_heads, -1))
        mixed = gathered @ self.value.unflatten(0, (self.n_heads, -1)).mT
        return mixed.transpose(1, 2).flatten(2)

    def _project(self, tokens: Tensor) -> Tensor:
        keys = self._heads(functional.linear(tokens, self.key) + self.position)
        values = self._heads(functional.linear(tokens, self.value))
        queries = self._heads(self.queries).expand(len(tokens), -1, -1, -1)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return mixed.transpose(1, 2).flatten(2)


# -- where a token is: sines and cosines of its row and its column ---------------------------------


TEMPERATURE = 10_000.0


def sine_positions(height: int, width: int, features: int) -> Tensor:
    r"""Return the position embedding of each cell of a map.

    With y = 2π (row + 1) / height, x = 2π (column + 1) / width and q = features / 4, the first half
    of the features belongs to y, the second to x, and each half holds for i = 0 … q - 1 the pairs

    .. math::
        \sin(y / 10000^{i / q}), \; \cos(y / 10000^{i / q}).

    Parameters
    ----------
    height, width : int
        Of the map, in tokens.
    features : int
        Numbers for each token, a multiple of 4.

    Returns
    -------
    float32 tensor (height * width, features)
        Rows of the map one after the other.

    Raises
    ------
    InputError
        If `features` is no multiple of 4, or the map is empty.

    References
    ----------
    Carion et al. (2020), End-to-end object detection with transformers.
    """
    if features < 4 or features % 4:
        raise InputError(
            f"A position has two coordinates, each with sines and cosines: the width must be a "
            f"multiple of 4; got {features}."
        )
    if height < 1 or width < 1:
        raise InputError(f"A map has at least one row and one column; got {height} × {width}.")
    quarter = features // 4
    periods = TEMPERATURE ** (torch.arange(quarter, dtype=torch.float64) / quarter)

    def waves(count: int) -> Tensor:
        angle = 2 * math.pi * torch.arange(1, count + 1, dtype=torch.float64) / count
        phases = angle[:, None] / periods
        return torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(1)

    rows = waves(height)[:, None].expand(-1, width, -1)
    columns = waves(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).float()


# -- from one vector a query to one number a target; a target reads its own vector alone -----------
#
# The cost is that of one product for each target, (n targets) × (width): never that of a product
# of every query with every target, of which most would be thrown away.


class RowwiseReadout(nn.Module):
    r"""Read target v from its own vector: :math:`\hat y_v = w_v \cdot t_v + b_v`.

    Parameters
    ----------
    n_targets, width : int
    """

    def __init__(self, n_targets: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_targets, width) * _spread(width))
        self.bias = nn.Parameter(torch.zeros(n_targets))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (n, n_targets, width) to (n, n_targets)."""
        read: Tensor = torch.einsum("ntw,tw->nt", vectors, self.weight) + self.bias
        return read


class RegionReadout(nn.Module):
    r"""Read target v from the sum of its regions' vectors.

    .. math::
        \hat y_v = w_v \cdot \sum_{r \ni v} t_r + b_v

    Targets that are in the same regions stand together, and each such group is one product.

    Parameters
    ----------
    membership : bool array (n_regions, n_targets)
    width : int
    """

    sets: Tensor
    place: Tensor

    def __init__(self, membership: NDArray[np.bool_], width: int) -> None:
        super().__init__()
        n_targets = membership.shape[1]
        sets, which = np.unique(membership.T, axis=0, return_inverse=True)
        which = which.reshape(-1)
        order = np.argsort(which, kind="stable")
        self.sizes: list[int] = np.bincount(which, minlength=len(sets)).tolist()
        self.register_buffer("sets", torch.from_numpy(sets.astype(np.float32)), persistent=False)
        self.register_buffer("place", torch.from_numpy(np.argsort(order)), persistent=False)
        # Rows stand in the order of groups, so that no step has to gather them.
        rows = torch.randn(n_targets, width)[torch.from_numpy(order)]
        self.weight = nn.Parameter(rows * _spread(width))
        self.bias = nn.Parameter(torch.zeros(n_targets))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (n, n_regions, width) to (n, n_targets)."""
        summed = torch.einsum("gr,nrw->gnw", self.sets, vectors)
        weights = self.weight.split(self.sizes)
        read = torch.cat([v @ w.mT for v, w in zip(summed, weights, strict=True)], dim=1)
        return read[:, self.place] + self.bias

    def target_weights(self) -> Tensor:
        """Return w in the order of the targets, (n_targets, width)."""
        return self.weight[self.place]


def _spread(width: int) -> float:
    """Return a deviation at which first predictions are small beside targets of unit variance."""
    return float(0.1 * width**-0.5)


# -- the network: one decoder layer whose queries are regions (or targets), and a linear readout ---


class RoutingDecoder(nn.Module):
    r"""Learned queries look at the tokens of an image; each target reads what its query gathered.

    With token vectors x (projected to `width` where they are of another width), their position
    embedding p, and a learned query vector q a region, each of h heads computes

    .. math::
        a = \mathrm{softmax}_\text{tokens}\big((W_q q + b_q)^T W_k (x + p) / \sqrt{width / h}\big),
        \quad m = \sum_\text{tokens} a \, W_v x

    and the m of all heads, side by side, give

    .. math::
        u = W_o m + b_o, \quad
        t = \mathrm{LN}\big(u + W_2 \, \mathrm{relu}(W_1 \mathrm{LN}(u))\big),

    which is a decoder layer of DETR with a target of zeros, no attention among queries, and
    normalisation before the feed-forward part. Constants that keys and values might have are left
    out: the softmax takes no notice of the first, and b_o holds the second.

    Parameters
    ----------
    grid : (int, int)
        Rows and columns of the map of tokens.
    n_features : int
        Of a token.
    readout : RegionReadout or RowwiseReadout
        From vectors of `n_queries` to targets.
    n_queries : int
    n_global : int, default=0
        Tokens before those of the map that have no place on it, such as the class token; what
        stands for their position is learned.
    content : bool, default=True
        False leaves x out of the softmax: queries look at the same places in every image.
    width, n_heads, hidden : int
        Of vectors, a divisor of it, and of the feed-forward layer.
    dropout : float
        Of what attention and the feed-forward part add.

    References
    ----------
    Carion et al. (2020), End-to-end object detection with transformers. Adeli, Minni and
    Kriegeskorte (2025), Transformer brain encoders explain human high-level visual responses.
    """

    position: Tensor

    def __init__(
        self,
        grid: tuple[int, int],
        n_features: int,
        readout: RegionReadout | RowwiseReadout,
        n_queries: int,
        *,
        width: int,
        n_heads: int,
        hidden: int,
        dropout: float,
        n_global: int = 0,
        content: bool = True,
    ) -> None:
        super().__init__()
        if width % n_heads:
            raise InputError(
                f"The width must be a multiple of the number of heads; got {width} and {n_heads}."
            )
        self.n_heads, self.content = n_heads, content
        self.project = nn.Linear(n_features, width) if n_features != width else None
        self.register_buffer("position", sine_positions(*grid, width), persistent=False)
        self.beside = nn.Parameter(torch.randn(n_global, width)) if n_global else None
        self.queries = nn.Parameter(torch.randn(n_queries, width))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.final = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.readout = readout
        for layer in (self.project, self.query, self.key, self.value, self.out):
            if layer is not None:
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (n, n_tokens, n_features) to responses (n, n_targets)."""
        read: Tensor = self.readout(self.vectors(tokens))
        return read

    def vectors(self, tokens: Tensor) -> Tensor:
        """Return what each query makes of each image, (n, n_queries, width)."""
        attention, constant = self._attention()
        gathered = attention.mix(tokens) + constant
        vectors = self.dropout(self.out(gathered))
        inner = self.dropout(functional.relu(self.expand(self.norm(vectors))))
        done: Tensor = self.final(vectors + self.dropout(self.contract(inner)))
        return done

    def attention(self, tokens: Tensor) -> Tensor:
        """Return where each query looks, (n, n_heads, n_queries, n_tokens)."""
        return self._attention()[0].weights(tokens)

    def _attention(self) -> tuple[Attention, Tensor]:
        """Return attention to raw tokens, and what the projection's bias adds to its values.

        The projections of tokens are multiplied into those of keys and values: one product for
        each token less.
        """
        key, value, position = self.key.weight, self.value.weight, self.position
        if self.beside is not None:
            position = torch.cat([self.beside, position])
        constant = torch.zeros((), device=key.device)
        if self.project is not None:
            position = position + self.project.bias
            constant = value @ self.project.bias
            key, value = key @ self.project.weight, value @ self.project.weight
        placed = functional.linear(position, self.key.weight)
        queries = self.query(self.queries)
        if not self.content:
            key = torch.zeros_like(key)
        return Attention(queries, key, value, placed, self.n_heads), constant
