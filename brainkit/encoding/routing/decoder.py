"""The network: one decoder layer whose queries are regions (or targets), and a linear readout."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainkit.encoding.routing.attention import Attention
from brainkit.encoding.routing.positions import sine_positions
from brainkit.encoding.routing.readout import RegionReadout, RowwiseReadout
from brainkit.errors import InputError


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
        found = self.dropout(self.out(gathered))
        inner = self.dropout(functional.relu(self.expand(self.norm(found))))
        done: Tensor = self.final(found + self.dropout(self.contract(inner)))
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
