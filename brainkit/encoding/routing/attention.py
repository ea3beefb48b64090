"""Attention from learned queries to tokens, computed in whichever order is cheaper.

The queries are the same for every image. So a head's query can be taken through the key
projection once, q (W x) = (W' q) x, and be compared with the raw tokens; the weighted mean of the
raw tokens then goes through the value projection. Nothing is projected token by token, which pays
where queries times heads are few beside the width. Otherwise keys and values are projected and the
fused kernel of torch does the rest, without ever holding the weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

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
