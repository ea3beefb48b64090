r"""Alignment that is trained together with a decoder: torch modules from people's units to tokens.

| module | a person's parameters | shared |
|---|---|---|
| `SubjectLayer` | one linear layer, units → width | nothing |
| `OuterTokens` | one linear layer and a scale for each token | nothing |
| `PooledMaxima` | an embedder and a builder of one fixed size | nothing |
| `ClusterTokens` | an embedding of each unit | queries, keys and values |
| `PositionAttention` | nothing: where units are | everything |

Parameters of a person stand under ``people.<number>.``, in the order in which people were added;
all others are shared. Adding a person changes no weight of anybody else.
"""

from abc import ABC, abstractmethod
from inspect import signature
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainkit.alignment.person_units import PersonUnits, check_share, check_sizes
from brainkit.errors import InputError, listed, unknown_name

Start = Literal["uniform", "normal"]


# -- the contract ----------------------------------------------------------------------------------


class TrainedAlignment(nn.Module, ABC):
    """Person's units → what people share, with parameters that a decoder trains.

    Attributes
    ----------
    width : int
        Numbers in a shared vector, or in each token.
    n_tokens : int or None
        Tokens of a sample; None where a sample is one vector.
    subjects : tuple of str
        People in the order in which they were added.
    people : ModuleList
        What belongs to each of them.
    needs_clusters : bool
        Of the class: whether a person's units have to be in shared clusters.
    """

    needs_clusters: ClassVar[bool] = False

    def __init__(self, width: int, n_tokens: int | None = None) -> None:
        super().__init__()
        check_sizes(width=width, **({} if n_tokens is None else {"n_tokens": n_tokens}))
        self.width, self.n_tokens = width, n_tokens
        self.subjects: tuple[str, ...] = ()
        self.n_units: dict[str, int] = {}
        self.people = nn.ModuleList()

    def add_subject(self, subject: str, person: PersonUnits) -> None:
        """Create a person's parameters; those of others and the shared ones stay as they are.

        They are drawn from torch's global generator, on the device and of the type of the
        parameters that are there already.

        Raises
        ------
        InputError
            If the person is there already, or something is not known of their units that this
            alignment needs.
        """
        if subject in self.subjects:
            raise InputError(
                f"{subject!r} is in this {type(self).__name__} already; people are "
                f"{listed(self.subjects)}."
            )
        known = next(self.parameters(), None)
        module = self._person(subject, person)
        if known is not None:
            module = module.to(device=known.device, dtype=known.dtype)
        self.people.append(module)
        self.subjects = (*self.subjects, subject)
        self.n_units = {**self.n_units, subject: person.n_units}

    def of_subject(self, subject: str) -> list[str]:
        """Return the names of the parameters that are this person's; all others are shared.

        Raises
        ------
        UnknownNameError
            If there is no such person.
        """
        prefix = f"people.{self._number(subject)}."
        return [name for name, _ in self.named_parameters() if name.startswith(prefix)]

    def forward(self, responses: Tensor, subject: str) -> Tensor:
        """Map one person's responses to the shared space.

        Parameters
        ----------
        responses : tensor (n, n_units) or (n, n_units, n_times)
            With a time axis, every time point is mapped alone.
        subject : str
            Whose they are.

        Returns
        -------
        tensor (n, width) or (n, n_tokens, width), with n_times as a last axis where there is one

        Raises
        ------
        UnknownNameError
            If the person was not added.
        InputError
            If responses are of another number of units.
        """
        number = self._number(subject)
        flat, n_times = self._flat(responses, subject)
        shared = self._map(flat, number)
        if n_times is None:
            return shared
        in_time: Tensor = shared.unflatten(0, (-1, n_times)).movedim(1, -1)
        return in_time

    def extra_losses(self, responses: Tensor, subject: str, shared: Tensor) -> dict[str, Tensor]:
        """Return what this alignment adds to a decoder's loss, by name; {} where nothing.

        Parameters
        ----------
        responses : tensor (n, n_units) or (n, n_units, n_times)
        subject : str
        shared : tensor
            What `forward` gave for them.
        """
        self._number(subject)
        return {}

    @abstractmethod
    def _person(self, subject: str, person: PersonUnits) -> nn.Module:
        """Return a person's module."""

    @abstractmethod
    def _map(self, responses: Tensor, number: int) -> Tensor:
        """Map (n, n_units) of the person of this number to the shared space."""

    def _number(self, subject: str) -> int:
        if subject not in self.subjects:
            raise unknown_name("subject", subject, self.subjects)
        return self.subjects.index(subject)

    def _flat(self, responses: Tensor, subject: str) -> tuple[Tensor, int | None]:
        """Return responses (rows, n_units), times as rows, and the number of times."""
        n_units = self.n_units[subject]
        if responses.ndim not in (2, 3) or responses.shape[1] != n_units:
            raise InputError(
                f"Responses of {subject!r} must be (n, {n_units}) or (n, {n_units}, time); got "
                f"{tuple(responses.shape)}."
            )
        if responses.ndim == 2:
            return responses, None
        return responses.transpose(1, 2).flatten(0, 1), responses.shape[2]


class ResidualLayers(nn.Module):
    r"""Layers of one width, each with a bypass.

    .. math:: x \leftarrow x + D(\mathrm{GELU}(\mathrm{LN}(W x + b)))

    Parameters
    ----------
    width, depth : int
    dropout : float
        The share D leaves out in training.
    """

    def __init__(self, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        check_sizes(width=width)
        check_share(dropout=dropout)
        self.layers = nn.ModuleList(dense(width, width, dropout) for _ in range(depth))

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        for layer in self.layers:
            values = values + layer(values)
        return values


def dense(n_inputs: int, n_outputs: int, dropout: float) -> nn.Sequential:
    """Return a linear layer, LayerNorm, GELU and dropout, one after the other."""
    return nn.Sequential(
        nn.Linear(n_inputs, n_outputs),
        nn.LayerNorm(n_outputs),
        nn.GELU(),
        nn.Dropout(dropout),
    )


# -- one linear layer a person ---------------------------------------------------------------------


class SubjectLayer(TrainedAlignment):
    r"""One linear layer a person: :math:`z = W_s x + b_s`.

    With weight decay on it this is the ridge layer of MindEye2 (width 4096); with ``"normal"``
    first weights and responses in time it is the first layer of Dynadiff (width 1552).

    Parameters
    ----------
    width : int, default=4096
    bias : bool, default=True
        Whether there is a constant b.
    start : {"uniform", "normal"}, default="uniform"
        What first weights are drawn from, with V units: uniform within ±1/√V as in torch's linear
        layers, or normal of deviation 1/√V. b starts at what torch draws, or at 0.

    References
    ----------
    Scotti et al. (2024), MindEye2: shared-subject models enable fMRI-to-image with 1 hour of data.
    Careil, Benchetrit and King (2025), Dynadiff: single-stage decoding of images from continuously
    evolving fMRI.
    """

    def __init__(self, width: int = 4096, *, bias: bool = True, start: Start = "uniform") -> None:
        super().__init__(width)
        if start not in get_args(Start):
            raise unknown_name("start of a subject layer", start, get_args(Start))
        self.bias, self.start = bias, start

    def _person(self, subject: str, person: PersonUnits) -> nn.Module:
        layer = nn.Linear(person.n_units, self.width, bias=self.bias)
        if self.start == "normal":
            nn.init.normal_(layer.weight, std=person.n_units**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        return layer

    def _map(self, responses: Tensor, number: int) -> Tensor:
        shared: Tensor = self.people[number](responses)
        return shared


class OuterTokens(TrainedAlignment):
    r"""Tokens that are multiples of one vector, as in UMBRAE.

    Every unit's response is spread over tokens k, and one linear layer then reads the units, which
    comes down to

    .. math:: t_k = u_k \, W x + c_k \, W \mathbf 1 + b

    so that all tokens of a sample carry the same `width` numbers of the brain.

    Parameters
    ----------
    n_tokens : int, default=256
    width : int, default=1024

    References
    ----------
    Xia et al. (2024), UMBRAE: unified multimodal brain decoding.
    """

    def __init__(self, n_tokens: int = 256, width: int = 1024) -> None:
        super().__init__(width, n_tokens)

    def _person(self, subject: str, person: PersonUnits) -> nn.Module:
        assert self.n_tokens is not None
        return nn.ModuleDict(
            {
                "spread": nn.Linear(1, self.n_tokens),
                "read": nn.Linear(person.n_units, self.width),
            }
        )

    def _map(self, responses: Tensor, number: int) -> Tensor:
        person: Any = self.people[number]
        spread, read = person["spread"], person["read"]
        vector = functional.linear(responses, read.weight)[:, None]
        constant = torch.outer(spread.bias, read.weight.sum(dim=1)) + read.bias
        tokens: Tensor = spread.weight * vector + constant
        return tokens


# -- pooling to one length, an embedder and a builder a person -------------------------------------


class Bottleneck(nn.Module):
    r"""A low-rank bypass: :math:`x + B \, \mathrm{relu}(A x + a) + b`; it starts as the identity.

    Parameters
    ----------
    width, rank : int
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, width) to (n, width)."""
        added: Tensor = values + self.up(functional.relu(self.down(values)))
        return added


class _PooledPerson(nn.Module):
    def __init__(self, n_pooled: int, width: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.embedder = nn.Sequential(Bottleneck(n_pooled, rank), *dense(n_pooled, width, dropout))
        self.builder = nn.Sequential(
            nn.Linear(width, n_pooled),
            nn.LayerNorm(n_pooled),
            nn.GELU(),
            Bottleneck(n_pooled, rank),
        )


class PooledMaxima(TrainedAlignment):
    r"""Maxima of stretches of units, then an embedder a person, with a builder that leads back.

    Units in the order in which they stand are cut into `n_pooled` stretches of almost equal length
    (stretch i runs from :math:`\lfloor i V / P \rfloor` to before :math:`\lceil (i + 1) V / P
    \rceil`, so that neighbours may overlap by one unit, and units repeat where there are fewer than
    `n_pooled`), and the maximum of each is kept. Where a stretch is in the brain differs between
    people: pooling makes sizes equal, the embedder alone aligns.

    With pooled responses x, embedder E and builder B of a person, two losses are added:

    .. math::
        \text{rec} = \mathrm{mean}\,(B_a(E_a(x)) - x)^2, \quad
        \text{cyc} = \mathrm{mean}\,(E_b(B_b(E_a(x))) - E_a(x))^2

    The second is averaged over all other people b, where the published training draws one of them
    at each step; it is left out where there is nobody else. Reset-tuning of a new person trains
    what `of_subject` names and nothing else.

    Parameters
    ----------
    n_pooled : int, default=8192
    width : int, default=2048
    rank : int, default=128
        Of the low-rank bypass before the embedder's linear layer and after the builder's.
    dropout : float, default=0.5
        Of the embedding, in training.

    References
    ----------
    Wang et al. (2024), MindBridge: a cross-subject brain decoding framework.
    """

    def __init__(
        self, n_pooled: int = 8192, width: int = 2048, rank: int = 128, dropout: float = 0.5
    ) -> None:
        super().__init__(width)
        check_sizes(n_pooled=n_pooled, rank=rank)
        check_share(dropout=dropout)
        self.n_pooled, self.rank, self.dropout = n_pooled, rank, dropout

    def pool(self, responses: Tensor) -> Tensor:
        """Return maxima of stretches of units, (n, n_pooled), of responses (n, n_units)."""
        return functional.adaptive_max_pool1d(responses[:, None], self.n_pooled)[:, 0]

    def extra_losses(self, responses: Tensor, subject: str, shared: Tensor) -> dict[str, Tensor]:
        """Return the mean squared errors ``rec`` and, where there are others, ``cyc``."""
        number = self._number(subject)
        flat, n_times = self._flat(responses, subject)
        if n_times is not None:
            shared = shared.movedim(-1, 1).flatten(0, 1)
        person: Any = self.people[number]
        losses = {"rec": functional.mse_loss(person.builder(shared), self.pool(flat))}
        others: list[Any] = [p for k, p in enumerate(self.people) if k != number]
        if others:
            cycles = [functional.mse_loss(p.embedder(p.builder(shared)), shared) for p in others]
            losses["cyc"] = torch.stack(cycles).mean()
        return losses

    def _person(self, subject: str, person: PersonUnits) -> nn.Module:
        return _PooledPerson(self.n_pooled, self.width, self.rank, self.dropout)

    def _map(self, responses: Tensor, number: int) -> Tensor:
        person: Any = self.people[number]
        shared: Tensor = person.embedder(self.pool(responses))
        return shared


# -- shared clusters of units, one token each ------------------------------------------------------


class _ClusterPerson(nn.Module):
    """Embeddings of a person's units, and which units stand in which cluster."""

    order: Tensor
    clusters: Tensor

    def __init__(self, embeddings: Tensor, clusters: NDArray[Any], n_clusters: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(embeddings)
        order = np.argsort(clusters, kind="stable")
        self.register_buffer("order", torch.from_numpy(order))
        self.register_buffer("clusters", torch.from_numpy(clusters[order]))
        self.n_clusters = n_clusters
        self.sizes: list[int] = np.bincount(clusters, minlength=n_clusters).tolist()
        self.register_load_state_dict_post_hook(_recount)  # type: ignore[no-untyped-call]


def _recount(module: nn.Module, _: Any) -> None:
    """Count the units of each cluster anew: what was loaded may have others."""
    assert isinstance(module, _ClusterPerson)
    module.sizes = torch.bincount(module.clusters, minlength=module.n_clusters).tolist()


class ClusterTokens(TrainedAlignment):
    r"""One token for each shared cluster of units, by attention to the units of that cluster.

    With a person's unit embeddings e, responses x and the learned query q of cluster c,

    .. math::
        a_v = \mathrm{softmax}_{v \in c}\big(q_c \cdot W_k (x_v e_v) / \sqrt d\big), \quad
        t_c = W_v \sum_{v \in c} a_v x_v e_v

    Attention never leaves a cluster. A cluster in which a person has no unit gives a token of
    zeros. A new person trains e alone.

    A person needs `PersonUnits.clusters`. Embeddings start at those of `PersonUnits` where they are
    `width` wide, and at normal draws where there are none.

    Parameters
    ----------
    n_clusters : int, default=128
    width : int, default=512
        Of embeddings and tokens.

    References
    ----------
    Beliy et al. (2026), Brain-IT: image reconstruction from fMRI via a brain-interaction
    transformer.
    """

    needs_clusters = True

    def __init__(self, n_clusters: int = 128, width: int = 512) -> None:
        super().__init__(width, n_clusters)
        self.queries = nn.Parameter(torch.randn(n_clusters, width))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)

    def attention(self, responses: Tensor, subject: str) -> Tensor:
        """Return how much each unit weighs in its cluster's token, (n, n_units).

        Weights of the units of a cluster sum to 1.
        """
        number = self._number(subject)
        flat, n_times = self._flat(responses, subject)
        person: Any = self.people[number]
        parts = torch.cat(self._weights(person, flat[:, person.order]), dim=1)
        weights = parts[:, torch.argsort(person.order)]
        return weights if n_times is None else weights.unflatten(0, (-1, n_times)).movedim(1, -1)

    def _person(self, subject: str, person: PersonUnits) -> nn.Module:
        n_clusters, clusters, given = len(self.queries), person.clusters, person.embeddings
        if clusters is None:
            raise InputError(
                f"ClusterTokens need the shared cluster of each unit of {subject!r}: give "
                "PersonUnits(clusters=fit_clusters(...).assign(embeddings))."
            )
        if clusters.max() >= n_clusters:
            raise InputError(
                f"Clusters of {subject!r} go up to {clusters.max()}; here are {n_clusters}, "
                "counted from 0."
            )
        if given is not None and given.shape[1] != self.width:
            raise InputError(
                f"Embeddings of {subject!r} are {given.shape[1]} wide and the tokens {self.width}: "
                f"make ClusterTokens(width={given.shape[1]}), or give clusters alone and let "
                "embeddings start anew."
            )
        start = torch.randn(person.n_units, self.width) if given is None else torch.tensor(given)
        return _ClusterPerson(start, clusters, n_clusters)

    def _weights(self, person: Any, ordered: Tensor) -> list[Tensor]:
        """Return attention (n, units) within each cluster; units stand cluster by cluster."""
        asked = functional.linear(self.queries, self.key.weight.T) * self.width**-0.5
        # The score of a unit is its response times one number, whatever the sample.
        factor = (asked[person.clusters] * person.embeddings[person.order]).sum(dim=1)
        scores = ordered * factor
        return [part.softmax(dim=1) for part in scores.split(person.sizes, dim=1)]

    def _map(self, responses: Tensor, number: int) -> Tensor:
        person: Any = self.people[number]
        ordered = responses[:, person.order]
        weighted = torch.cat(self._weights(person, ordered), dim=1) * ordered
        embeddings = person.embeddings[person.order]
        parts = zip(
            weighted.split(person.sizes, dim=1), embeddings.split(person.sizes), strict=True
        )
        tokens: Tensor = self.value(torch.stack([w @ e for w, e in parts], dim=1))
        return tokens


# -- attention by where units are ------------------------------------------------------------------


class PositionAttention(TrainedAlignment):
    r"""Learned queries that look at places of the brain, then tokens by a residual network.

    With the position p of unit v in units of `extent`, fixed frequencies :math:`F` drawn from a
    normal distribution of deviation `sigma`, and learned queries q,

    .. math::
        k_v = \mathrm{MLP}\big([\sin 2\pi F p_v, \cos 2\pi F p_v]\big), \quad
        A = \mathrm{softmax}_v(q \cdot k_v / \sqrt{r}), \quad h = A x

    after which residual layers and one linear layer make `n_tokens` tokens. A depends on where a
    person's units are and on nothing that was measured: for one person it is one linear map, which
    `freeze_attention` computes once. Nobody has parameters of their own; a new person needs
    positions alone. The order of units makes no difference.

    The published network has embeddings of regions beside positions; they are not here.

    Parameters
    ----------
    n_queries : int, default=1024
    rank : int, default=128
        Width of queries and keys.
    n_tokens : int, default=128
    width : int, default=1024
        Of a token.
    n_frequencies : int, default=192
        Each gives a sine and a cosine.
    sigma : float, default=5
        Deviation of frequencies, in cycles per `extent`.
    extent : float, default=200
        Millimetres; about the length of a brain.
    depth : int, default=4
        Residual layers of `n_queries` numbers.
    dropout : float, default=0.15
        Of residual layers, in training.

    References
    ----------
    Qiu et al. (2025), MindLLM: a subject-agnostic and versatile model for fMRI-to-text decoding.
    Tancik et al. (2020), Fourier features let networks learn high frequency functions.
    """

    frequencies: Tensor

    def __init__(
        self,
        n_queries: int = 1024,
        rank: int = 128,
        n_tokens: int = 128,
        width: int = 1024,
        *,
        n_frequencies: int = 192,
        sigma: float = 5.0,
        extent: float = 200.0,
        depth: int = 4,
        dropout: float = 0.15,
    ) -> None:
        super().__init__(width, n_tokens)
        check_sizes(n_queries=n_queries, rank=rank, n_frequencies=n_frequencies, depth=depth)
        if not (sigma > 0 and extent > 0):
            raise InputError(f"sigma and extent are above 0; got {sigma} and {extent}.")
        self.extent = extent
        self.register_buffer("frequencies", torch.randn(3, n_frequencies) * sigma)
        self.key = nn.Sequential(
            nn.Linear(2 * n_frequencies, rank), nn.GELU(), nn.Linear(rank, rank)
        )
        self.queries = nn.Parameter(torch.randn(n_queries, rank))
        self.residual = ResidualLayers(n_queries, depth, dropout)
        self.tokens = nn.Linear(n_queries, n_tokens * width)
        # A hook and not a method: modules above this one load states as well.
        self.register_load_state_dict_post_hook(_recompute)  # type: ignore[no-untyped-call]

    def attention(self, subject: str) -> Tensor:
        """Return where each query looks in a person's brain, (n_queries, n_units).

        Rows sum to 1.
        """
        return self._attention(self.people[self._number(subject)])

    def freeze_attention(self) -> None:
        """Compute everybody's attention once and train what comes after it alone.

        People who are added later get theirs at once, and loading a state computes all again. Where
        queries or keys are made trainable again, what was computed is not used.
        """
        for parameter in self._attending():
            parameter.requires_grad_(False)
        for person in self.people:
            self._keep(person)

    def add_subject(self, subject: str, person: PersonUnits) -> None:
        """Add a person, of whom positions must be known; no parameters are created."""
        super().add_subject(subject, person)
        if self._is_frozen():
            self._keep(self.people[-1])

    def _attending(self) -> list[nn.Parameter]:
        return [self.queries, *self.key.parameters()]

    def _is_frozen(self) -> bool:
        return not any(parameter.requires_grad for parameter in self._attending())

    def _keep(self, person: Any) -> None:
        with torch.no_grad():
            person.register_buffer("attention", self._attention(person), persistent=False)

    def _refresh(self) -> None:
        for person in self.people:
            if person.attention is not None:
                self._keep(person)

    def _person(self, subject: str, person: PersonUnits) -> nn.Module:
        if person.positions is None:
            raise InputError(
                f"PositionAttention needs the position of each unit of {subject!r}, in "
                "millimetres of a space that people share: give PersonUnits(positions=...), "
                "(n_units, 3)."
            )
        module = nn.Module()
        module.register_buffer("positions", torch.from_numpy(person.positions))
        module.register_buffer("attention", None, persistent=False)
        return module

    def _attention(self, person: Any) -> Tensor:
        phases = (2 * torch.pi / self.extent) * (person.positions @ self.frequencies)
        keys = self.key(torch.cat([phases.sin(), phases.cos()], dim=1))
        scores = self.queries @ keys.T * self.queries.shape[1] ** -0.5
        attention: Tensor = scores.softmax(dim=1)
        return attention

    def _map(self, responses: Tensor, number: int) -> Tensor:
        person: Any = self.people[number]
        kept = person.attention is not None and self._is_frozen()
        attention: Tensor = person.attention if kept else self._attention(person)
        hidden = self.residual(responses @ attention.T)
        tokens: Tensor = self.tokens(hidden).unflatten(1, (self.n_tokens, self.width))
        return tokens


def _recompute(module: nn.Module, _: Any) -> None:
    assert isinstance(module, PositionAttention)
    module._refresh()


# -- by name ---------------------------------------------------------------------------------------


TRAINED: dict[str, type[TrainedAlignment]] = {
    "subject-layer": SubjectLayer,
    "outer-tokens": OuterTokens,
    "pooled-maxima": PooledMaxima,
    "cluster-tokens": ClusterTokens,
    "position-attention": PositionAttention,
}


def make_alignment(name: str, **settings: Any) -> TrainedAlignment:
    """Build an alignment by its name.

    Raises
    ------
    UnknownNameError
        If there is none of this name.
    InputError
        If it has no setting of a name that is given.
    """
    if name not in TRAINED:
        raise unknown_name("trained alignment", name, list(TRAINED))
    kind = TRAINED[name]
    try:
        signature(kind).bind(**settings)
    except TypeError as error:
        raise InputError(
            f"{name!r} is built by {kind.__name__}{signature(kind)}: {error}."
        ) from None
    return kind(**settings)
