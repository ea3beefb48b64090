"""What networks that read sets have in common: blocks, embeddings, whom they know, their training.

A set has no order: of images that a voxel answered, or of voxels that answered an image. Networks
that read one of any size are transformers without positions, in which a few register tokens gather
what the others hold (the in-context encoder and decoder).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainkit.arrays.array_likes import unmasked
from brainkit.arrays.digest import content_digest
from brainkit.errors import InputError, LeakError, listed
from brainkit.training.trainer import Report, Step, train

Float = NDArray[np.float32]
SLOPE = 0.1  # of the leaky rectifiers
STRANGE = 30.0  # mean squared whitened embedding from which they are another model's

# -- blocks ----------------------------------------------------------------------------------------


def add_linear(total: Tensor, part: Tensor, linear: nn.Linear) -> Tensor:
    """Return ``total + linear(part)``; changes a contiguous `total` where no gradient is kept."""
    if torch.is_grad_enabled():
        added: Tensor = total + linear(part)
        return added
    flat = total.view(-1, total.shape[-1])
    flat.addmm_(part.reshape(-1, part.shape[-1]), linear.weight.T)
    if linear.bias is not None:
        total.add_(linear.bias)
    return total


def rectified(values: Tensor) -> Tensor:
    """Return leaky-rectified values; in place where no gradient is kept."""
    return functional.leaky_relu(values, SLOPE, inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """Two layers beside a linear bypass: ``B x + W₂ leaky(LN(W₁ leaky(LN(x))))``.

    Before each of the two layers stands a dropout.

    Parameters
    ----------
    n_inputs, hidden, n_outputs : int
    bias : bool
        Whether the bypass has a constant, beside that of the second layer.
    dropout : float
    """

    def __init__(
        self, n_inputs: int, hidden: int, n_outputs: int, *, bias: bool, dropout: float
    ) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(n_inputs), nn.LayerNorm(hidden)
        self.first, self.second = nn.Linear(n_inputs, hidden), nn.Linear(hidden, n_outputs)
        self.bypass = nn.Linear(n_inputs, n_outputs, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., n_inputs) to (..., n_outputs)."""
        inner = self.first(self.dropout(rectified(self.first_norm(values))))
        inner = self.dropout(rectified(self.second_norm(inner)))
        return add_linear(self.bypass(values), inner, self.second)


class Block(nn.Module):
    r"""A pre-norm block: attention with queries scaled by the logarithm of the length, and SwiGLU.

    With S tokens, registers among them, and normalised tokens x, the query is
    :math:`q = W_q (\ln(S)\, x) + b_q` and attention :math:`\mathrm{softmax}(q \cdot k / \sqrt d)`:
    without the logarithm attention would spread out as the context grows. There is no positional
    encoding.

    Parameters
    ----------
    width, heads, hidden : int
    bias : bool, default=False
        Whether linear layers have constants.
    dropout : float, default=0
        Of attention weights, and of what attention adds.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, bias: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.in_projection = nn.Linear(width, 3 * width, bias=bias)  # queries, keys, values
        self.out_projection = nn.Linear(width, width, bias=bias)
        self.feed_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * hidden, bias=bias)  # what is squashed, what it gates
        self.down = nn.Linear(hidden, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def scale(self, length: float) -> float:
        """Return the factor on query times key for a number of tokens, registers counted."""
        return math.log(length) / math.sqrt(self.in_projection.in_features // self.heads)

    def _constants(self) -> tuple[Tensor, ...] | tuple[None, None, None]:
        """Return the constants of queries, keys and values, each (width,), where there are any."""
        bias = self.in_projection.bias
        return (None, None, None) if bias is None else bias.chunk(3)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (n_sets, length, width); changes its input where no gradient is kept."""
        sets, length, width = tokens.shape
        joint = functional.linear(
            self.attention_norm(tokens), self.in_projection.weight, self.in_projection.bias
        )
        query, key, value = joint.view(sets, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        constant, scale = self._constants()[0], self.scale(length)
        if constant is not None:  # which the logarithm does not scale
            bias = constant.view(self.heads, 1, -1).to(query.dtype)
            query, scale = torch.lerp(bias, query, math.log(length)), self.scale(math.e)
        left_out = self.dropout.p if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=left_out, scale=scale
        )
        mixed = mixed.transpose(1, 2).reshape(sets, length, width)
        return self._feed(self._add(tokens, mixed))

    def read_first(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the block gives for token 0 alone, and how that attends.

        Returns
        -------
        first : tensor (n_sets, width)
            As `forward`'s first token, to rounding.
        attention : tensor (n_sets, length)
            Mean over heads; sums to 1.
        """
        first, attention = self.read_leading(tokens, 1)
        return first[:, 0], attention[:, 0]

    def read_leading(self, tokens: Tensor, count: int) -> tuple[Tensor, Tensor]:
        r"""Return what the block gives for the first tokens alone, and how they attend.

        Keys and values are not computed: :math:`q \cdot K x = (K'q) \cdot x` and
        :math:`\sum_i a_i V x_i = V \sum_i a_i x_i`.

        Parameters
        ----------
        tokens : tensor (n_sets, length, width)
        count : int
            How many tokens are read.

        Returns
        -------
        leading : tensor (n_sets, count, width)
            As `forward`'s first tokens, to rounding.
        attention : tensor (n_sets, count, length)
            Mean over heads; sums to 1.
        """
        length, width = tokens.shape[1:]
        normed = self.attention_norm(tokens)
        query_weight, key_weight, value_weight = self.in_projection.weight.view(
            3, self.heads, -1, width
        )
        query = math.log(length) * torch.einsum("vqw,hdw->vqhd", normed[:, :count], query_weight)
        asked, _, given = self._constants()  # the keys' adds the same to all scores of a query
        if asked is not None:
            query = query + asked.view(self.heads, -1)
        probe = torch.einsum("vqhd,hdw->vqhw", query, key_weight) / math.sqrt(query.shape[-1])
        scores = probe.flatten(1, 2) @ normed.transpose(1, 2)  # (n_sets, count × heads, length)
        attention = torch.softmax(scores, dim=-1)
        kept = functional.dropout(attention, self.dropout.p, self.training)
        read = (kept @ normed).unflatten(1, (count, self.heads))  # (n_sets, count, heads, width)
        mixed = torch.einsum("vqhw,hdw->vqhd", read, value_weight).flatten(2)
        if given is not None:  # as often as attention is left: once, but where dropout took some
            left = kept.sum(dim=-1).unflatten(1, (count, self.heads, 1))
            mixed = mixed + (left * given.view(self.heads, -1)).flatten(2)
        leading = self._add(tokens[:, :count].contiguous(), mixed)
        return self._feed(leading), attention.unflatten(1, (count, self.heads)).mean(dim=2)

    def _add(self, tokens: Tensor, mixed: Tensor) -> Tensor:
        """Add what attention mixed."""
        if self.training and self.dropout.p:
            added: Tensor = tokens + self.dropout(self.out_projection(mixed))
            return added
        return add_linear(tokens, mixed, self.out_projection)

    def _feed(self, tokens: Tensor) -> Tensor:
        normed = self.feed_norm(tokens)
        if torch.is_grad_enabled():
            squashed, gated = self.gate(normed).chunk(2, dim=-1)
            return add_linear(tokens, functional.silu(squashed) * gated, self.down)
        # Two products: each half lies contiguous, is changed in place, and fits into the cache.
        squashing, gating = self.gate.weight.chunk(2)
        below, above = (None, None) if self.gate.bias is None else self.gate.bias.chunk(2)
        inner = functional.silu(functional.linear(normed, squashing, below), inplace=True)
        inner.mul_(functional.linear(normed, gating, above))
        return add_linear(tokens, inner, self.down)


# -- embeddings, and whom a network learned from ---------------------------------------------------


def unit_norm(embeddings: Any) -> Float:
    """Return embeddings (n, embedding) of length 1 each, as float32.

    Raises
    ------
    InputError
        If they are not a table of finite numbers, are masked, or one of them is zero.
    """
    values = np.asarray(unmasked(embeddings, "The embeddings"), dtype=np.float32)
    if values.ndim != 2 or not len(values):
        raise InputError(f"Embeddings are (n_images, embedding); got the shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError("The embeddings hold NaN or infinities; leave those images out.")
    length = np.linalg.norm(values, axis=1, keepdims=True)
    if not length.all():
        raise InputError(
            f"{int((length == 0).sum())} embeddings are zero and have no direction, the first of "
            f"them number {int(np.flatnonzero(length == 0)[0])}; leave those images out."
        )
    units: Float = values / length
    return units


def half_whitened(embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return centre, axes and spread of a space half-way to whitened axes.

    ``(x - centre) @ axes`` are embeddings centred, turned to their principal axes and divided,
    along each, by the root of its standard deviation, with a mean square of 1 over all axes;
    ``/ spread`` makes whitened ones of these.

    Parameters
    ----------
    embeddings : tensor (n_images, embedding)
        Of unit norm.

    Returns
    -------
    centre : double tensor (embedding,)
    axes : double tensor (embedding, embedding)
        Orthogonal columns.
    spread : double tensor (embedding,)
    """
    wide = embeddings.double()
    n_images, width = wide.shape
    centre = wide.mean(dim=0)
    values, axes = torch.linalg.eigh((wide - centre).T @ (wide - centre) / n_images)
    # Axes of which few images tell little are taken to vary more than they did in those.
    share = width / (width + 10 * n_images)
    deviation = ((1 - share) * values.clamp_min(0) + share * values.mean()).sqrt()
    # A mean square of 1 over all axes, whatever share of the variance the first ones hold.
    factor = 1 / (deviation * deviation.mean()).sqrt()
    return centre, axes * factor, deviation * factor


def check_embeddings(
    network: Any, origin: Any, embeddings: Float, model: str | None = None
) -> None:
    """Raise `InputError` unless embeddings are, as far as can be told, of the network's model.

    Parameters
    ----------
    network : Module
        With `architecture`, whose `embedding` is the width, `centre` and `strangeness`.
    origin : object
        Its `embedding_model` is the spec of their model, or None.
    embeddings : float32 array (n_images, embedding)
        Unit norm.
    model : str, optional
        Spec of their model; where it is given, it is believed, else their distribution is looked
        at.
    """
    width, known = network.architecture.embedding, origin.embedding_model
    whose = f"those of {known}" if known else "those that it was trained on"
    if embeddings.shape[1] != width:
        raise InputError(
            f"The network reads embeddings of {width} numbers, {whose}; got {embeddings.shape[1]}."
        )
    if model is not None:
        if known is not None and model != known:
            raise InputError(f"The network reads the embeddings of {known}; got those of {model}.")
        return
    strangeness = network.strangeness(torch.from_numpy(embeddings).to(network.centre.device))
    if strangeness > STRANGE:
        raise InputError(
            f"These embeddings do not look like {whose}: their whitened variance is "
            f"{strangeness:.0f} times that of those. Extract them with the network's own model and "
            "layer; if they are its own, of unusual images, say so by embedding_model."
        )


def check_excluded(held_out: Iterable[str], trained_on: Iterable[str]) -> None:
    """Raise if a subject that is to be predicted was, or is to be, learned from.

    Raises
    ------
    LeakError
        With the subjects in ``ids``.
    """
    both = sorted(set(held_out) & set(trained_on))
    if both:
        raise LeakError(
            f"{listed(both)} {'is' if len(both) == 1 else 'are'} to be predicted as new, but "
            "belongs to the subjects that the network learns from. Leave it out of the training, "
            "or take a checkpoint that was trained without it.",
            both,
        )


# -- what they learn from, and a stage of it -------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """What one person's voxels did: what a network of sets learns from.

    Attributes
    ----------
    embeddings : float32 array (n_images, embedding)
        Unit norm.
    responses : float array (n_images, n_voxels)
        Averaged over an image's repeats.
    noise : float32 array (n_voxels,), optional
        Standard deviation of one trial's noise, where `responses` are the noise-free ones of a
        simulated person: noise is added afresh at each draw, and never to answers.
    """

    embeddings: Float
    responses: NDArray[np.floating[Any]]
    noise: Float | None = None

    def __post_init__(self) -> None:
        if self.responses.ndim != 2 or len(self.responses) != len(self.embeddings):
            raise InputError(
                f"Responses are (n_images, n_voxels) for the {len(self.embeddings)} images of the "
                f"embeddings; got the shape {self.responses.shape}."
            )
        if not np.isfinite(self.responses).all():
            raise InputError("The responses hold NaN or infinities; leave those voxels out.")

    def measured(
        self,
        generator: np.random.Generator,
        rows: NDArray[np.intp],
        voxels: NDArray[np.intp] | slice,
        repeats: tuple[int, int],
    ) -> Float:
        """Return responses to some images, with the noise of a random number of trials."""
        responses = self.responses[rows][:, voxels].astype(np.float32)
        if self.noise is not None:
            low, high = repeats
            averaged = np.float32(np.sqrt(generator.integers(low, high + 1)))
            drawn = generator.standard_normal(responses.shape, dtype=np.float32)
            responses += drawn * (self.noise[voxels] / averaged)
        return responses


def train_on_sets(
    network: nn.Module,
    loss: Callable[[nn.Module, Step], Tensor],
    stage: Any,
    source: Any,
    validation: Any,
    validate: Callable[[nn.Module], float],
    *,
    kind: str,
    folder: Path | None = None,
    parts: Sequence[str] = (),
) -> Report:
    """Train a network of sets by one stage, whose state is told apart by all that it depends on.

    Parameters
    ----------
    network : Module
    loss : callable
        See `brainkit.training.train`.
    stage : dataclass
        With a `name` and a `schedule`.
    source, validation : object
        What sets are drawn from, and for validation; the latter may be None.
    validate : callable
        Score of the network, where there is a `validation`.
    kind : str
        Beginning of the progress bar's text.
    folder : path, optional
    parts : sequence of str
    """
    identity = None
    if folder is not None:
        settings = {name: value for name, value in asdict(stage).items() if name != "schedule"}
        identity = {
            "stage": settings,
            "first_weights": content_digest(network.state_dict()),
            "source": content_digest(source),
            "validation": content_digest(validation),
        }
    return train(
        network,
        loss,
        stage.schedule,
        folder=None if folder is None else folder / stage.name,
        identity=identity,
        validate=None if validation is None else validate,
        description=f"{kind}, {stage.name}",
        parts=parts,
    )
