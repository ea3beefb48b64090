r"""Heads of deep decoders, and the decoder that holds them.

| name | class | gives | for instance |
|---|---|---|---|
| `direct` | `DirectHead` | what the backbone gives | Brain-HIVE's brain side |
| `embedding` | `EmbeddingHead` | (n, width) | an image embedding |
| `tokens` | `TokensHead` | (n, n_tokens, width) | 257 × 768 of an image, 77 × 768 of a text |
| `map` | `MapHead` | (n, channels, size, size) | latents 4 × 28 × 28, depth 1 × 64 × 64, colours |
| `projector` | `Projector` | as another head, projected | what retrieval compares |
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from brainkit.alignment.person_units import check_share, check_sizes
from brainkit.alignment.trained import TrainedAlignment
from brainkit.decoding.brain_backbones import Backbone, build_part
from brainkit.errors import InputError, listed, unknown_name

# -- heads -----------------------------------------------------------------------------------------


class Head(nn.Module):
    """From what a backbone gives to one target.

    Attributes
    ----------
    n_inputs : int
        Width of what it takes.
    in_tokens : int or None
        Tokens that it takes; None where it takes a vector.
    width : int
        Last axis of what it gives.
    of : str or None
        The head whose output it takes; None where it takes what the backbone gives.
    """

    def __init__(
        self, n_inputs: int, width: int, in_tokens: int | None = None, of: str | None = None
    ) -> None:
        super().__init__()
        tokens = {} if in_tokens is None else {"in_tokens": in_tokens}
        check_sizes(n_inputs=n_inputs, width=width, **tokens)
        self.n_inputs, self.width = n_inputs, width
        self.in_tokens, self.of = in_tokens, of

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Return all that the head gives: its target under ``""``, anything beside by name."""
        return {"": self(features)}


class DirectHead(Head):
    """No layer: what the backbone, or another head, gives is the target, a vector or tokens.

    Parameters
    ----------
    n_inputs : int
    in_tokens : int, optional
        Tokens that the backbone gives; None where it gives a vector.
    of : str, optional
        Name of another head: one output then serves two losses, as MindBridge's does.
    """

    def __init__(self, n_inputs: int, in_tokens: int | None = None, of: str | None = None) -> None:
        super().__init__(n_inputs, n_inputs, in_tokens, of)

    def forward(self, features: Tensor) -> Tensor:
        """Return what is given."""
        return features


class EmbeddingHead(Head):
    """One linear layer to a vector; of tokens it reads the mean.

    Parameters
    ----------
    n_inputs, width : int
    in_tokens : int, optional
        Tokens that the backbone gives; None where it gives a vector.
    """

    def __init__(self, n_inputs: int, width: int, in_tokens: int | None = None) -> None:
        super().__init__(n_inputs, width, in_tokens)
        self.linear = nn.Linear(n_inputs, width)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, n_inputs) or (n, in_tokens, n_inputs) to (n, width)."""
        vectors = features if self.in_tokens is None else features.mean(dim=1)
        out: Tensor = self.linear(vectors)
        return out


class TokensHead(Head):
    r"""Tokens of an image or a text.

    Of a vector, one linear layer gives all numbers of all tokens. Of tokens, where they are as many
    as are wanted, one linear layer reads each; otherwise a linear map over tokens T changes their
    number first, :math:`T X W^T + b`. With `token_hidden` T is a product of two such maps, each
    with a constant, as in NeuroPictor (257 → 128 → 77).

    Parameters
    ----------
    n_inputs : int
    n_tokens, width : int
        Of the target, such as 257 and 768.
    in_tokens : int, optional
        Tokens that the backbone gives; None where it gives a vector.
    token_hidden : int, optional
        Tokens between `in_tokens` and `n_tokens`.
    norm : bool, default=False
        Whether a LayerNorm comes last.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tokens: int,
        width: int,
        in_tokens: int | None = None,
        *,
        token_hidden: int | None = None,
        norm: bool = False,
    ) -> None:
        super().__init__(n_inputs, width, in_tokens)
        check_sizes(n_tokens=n_tokens)
        self.n_tokens = n_tokens
        self.over_tokens: nn.Module | None = None
        if in_tokens is None:
            if token_hidden is not None:
                raise InputError("token_hidden is for heads that read tokens; give in_tokens too.")
            self.linear = nn.Linear(n_inputs, n_tokens * width)
        else:
            counts = [n for n in (in_tokens, token_hidden, n_tokens) if n is not None]
            if token_hidden is not None or in_tokens != n_tokens:
                steps = pairwise(counts)
                self.over_tokens = nn.Sequential(*(nn.Linear(a, b) for a, b in steps))
            self.linear = nn.Linear(n_inputs, width)
        self.norm = nn.LayerNorm(width) if norm else None

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, n_inputs) or (n, in_tokens, n_inputs) to (n, n_tokens, width)."""
        if self.over_tokens is not None:
            features = self.over_tokens(features.mT).mT
        out: Tensor = self.linear(features)
        if self.in_tokens is None:
            out = out.unflatten(1, (self.n_tokens, self.width))
        return out if self.norm is None else self.norm(out)


class Projector(Head):
    r"""Three linear layers, each after a LayerNorm and a GELU, on every token of another head.

    What is trained by squared error (or by a diffusion prior) and what is trained by contrast then
    need not be the same vector, as in MindEye1 (768 → 2048 → 2048 → 768) and MindEye2 (1664).

    Parameters
    ----------
    n_inputs : int
        Width of the other head's tokens.
    hidden : int, optional
        `n_inputs` where not given.
    width : int, optional
        Of what is given, `n_inputs` where not given.
    of : str, default="tokens"
        Name of the other head.

    References
    ----------
    Scotti et al. (2023), Reconstructing the mind's eye: fMRI-to-image with contrastive learning and
    diffusion priors.
    """

    def __init__(
        self, n_inputs: int, hidden: int | None = None, width: int | None = None, of: str = "tokens"
    ) -> None:
        hidden, width = hidden or n_inputs, width or n_inputs
        super().__init__(n_inputs, width, of=of)
        check_sizes(hidden=hidden)
        sizes = [n_inputs, hidden, hidden, width]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.LayerNorm(before), nn.GELU(), nn.Linear(before, after)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., n_inputs) to (..., width)."""
        out: Tensor = self.layers(features)
        return out


class ConvBlock(nn.Module):
    r"""Two convolutions with a bypass: :math:`Px + C_2 S(C_1 S(x))`, S = SiLU after GroupNorm.

    Parameters
    ----------
    before, after : int
        Channels; where they differ P is a 1 × 1 convolution, otherwise the identity.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = _group_norm(before), _group_norm(after)
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.bypass = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, before, h, w) to (n, after, h, w)."""
        inner = self.first(functional.silu(self.first_norm(values)))
        inner = self.second(functional.silu(self.second_norm(inner)))
        out: Tensor = self.bypass(values) + inner
        return out


def _group_norm(channels: int) -> nn.GroupNorm:
    groups = next(n for n in (32, 16, 8, 4, 2, 1) if channels % n == 0)
    return nn.GroupNorm(groups, channels)


class MapHead(Head):
    """A picture-like target: latents of an autoencoder, a depth map, a map of colours.

    A linear layer gives a small map of `hidden` channels, which is normalised, widened and then
    doubled in size, with convolutions, until it has `size`. With ``flat`` the linear layer gives
    the target itself, as in ridge decoders of latents.

    Parameters
    ----------
    n_inputs : int
    channels : int, default=4
        4 of Stable Diffusion's latents, 1 of depth, 3 of colours.
    size : int, default=28
        Pixels along an edge; `start` times a power of 2.
    in_tokens : int, optional
        Tokens that the backbone gives, whose mean is read; None where it gives a vector.
    start : int, default=7
        Pixels along an edge of the small map.
    hidden : int, default=64
        Channels of the small map; an even number.
    dropout : float, default=0.3
        Of the small map.
    flat, bounded : bool, default=False
        Whether there are no convolutions; whether a sigmoid keeps what is given within 0..1.
    contrast : int, optional
        Width of vectors, one for each pixel of the small map, for a contrastive loss beside. They
        are given as ``<name of the head>.contrast``, (n, start², contrast).

    References
    ----------
    Scotti et al. (2024), MindEye2: shared-subject models enable fMRI-to-image with 1 hour of data.
    Xia et al. (2024), DREAM: visual decoding from reversing human visual system.
    """

    def __init__(
        self,
        n_inputs: int,
        channels: int = 4,
        size: int = 28,
        in_tokens: int | None = None,
        *,
        start: int = 7,
        hidden: int = 64,
        dropout: float = 0.3,
        flat: bool = False,
        bounded: bool = False,
        contrast: int | None = None,
    ) -> None:
        super().__init__(n_inputs, size, in_tokens)
        check_sizes(channels=channels, start=start, hidden=hidden)
        check_share(dropout=dropout)
        self.channels, self.size, self.bounded = channels, size, bounded
        self.start, self.hidden = start, hidden
        self.contrast: nn.Module | None = None
        if flat:
            if contrast is not None:
                raise InputError("A flat map has no small map to contrast; leave out one of both.")
            self.linear = nn.Linear(n_inputs, channels * size**2)
            self.up: nn.Module | None = None
            return
        doublings = (size // start).bit_length() - 1
        if start * 2**doublings != size or hidden % 2:
            raise InputError(
                f"A map grows from start to size by doubling, and hidden is even; got start="
                f"{start}, size={size} and hidden={hidden}."
            )
        self.linear = nn.Linear(n_inputs, hidden * start**2)
        self.dropout, self.norm = nn.Dropout(dropout), nn.GroupNorm(1, hidden)
        self.up = _upsampler(hidden, channels, doublings)
        if contrast is not None:
            check_sizes(contrast=contrast)
            self.contrast = _pixel_projector(hidden, contrast)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, n_inputs) or (n, in_tokens, n_inputs) to (n, channels, size, size)."""
        return self.outputs(features)[""]

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Return the map, and the vectors to contrast where there are some."""
        vectors = features if self.in_tokens is None else features.mean(dim=1)
        numbers = self.linear(vectors)
        if self.up is None:
            return {"": self._bound(numbers.unflatten(1, (self.channels, self.size, self.size)))}
        small = self.dropout(numbers).unflatten(1, (self.hidden, self.start, self.start))
        small = self.norm(small)
        out = {"": self._bound(self.up(small))}
        if self.contrast is not None:
            out["contrast"] = self.contrast(small).flatten(2).mT
        return out

    def _bound(self, values: Tensor) -> Tensor:
        return values.sigmoid() if self.bounded else values


def _upsampler(hidden: int, channels: int, doublings: int) -> nn.Sequential:
    wide = 2 * hidden
    layers: list[nn.Module] = [
        nn.Conv2d(hidden, wide, 3, padding=1), ConvBlock(wide, wide), ConvBlock(wide, wide)
    ]  # fmt: skip
    for _ in range(doublings):
        narrow = max(wide // 2, hidden // 2)
        layers += [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(wide, wide, 3, padding=1),
            ConvBlock(wide, narrow),
            ConvBlock(narrow, narrow),
        ]
        wide = narrow
    return nn.Sequential(
        *layers, _group_norm(wide), nn.SiLU(), nn.Conv2d(wide, channels, 3, padding=1)
    )


def _pixel_projector(hidden: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(hidden, width, 1, bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
    )


HEADS: dict[str, type[Head]] = {
    "direct": DirectHead,
    "embedding": EmbeddingHead,
    "tokens": TokensHead,
    "map": MapHead,
    "projector": Projector,
}


def make_head(name: str, **settings: Any) -> Head:
    """Build a head by the name of its kind.

    Raises
    ------
    UnknownNameError
        If there is no such kind.
    InputError
        If it has no setting of a name that is given, or lacks one that it needs.
    """
    if name not in HEADS:
        raise unknown_name("head", name, list(HEADS))
    head: Head = build_part(HEADS[name], name, settings)
    return head


# -- the decoder -----------------------------------------------------------------------------------


class BrainDecoder(nn.Module):
    """People's units → what they share → backbone → heads.

    Parameters
    ----------
    alignment : Module or None
        A `TrainedAlignment`, or a fixed aligner's `as_module()`; None where the backbone takes
        responses as they are.
    backbone : Backbone
    heads : mapping of str to Head
        At least one, by the names that their outputs get. Names have no dot.

    Raises
    ------
    InputError
        If there is no head, or two parts that follow each other do not fit.
    UnknownNameError
        If a head takes the output of one that is not there.

    Examples
    --------
    >>> decoder = BrainDecoder(  # doctest: +SKIP
    ...     SubjectLayer(4096),
    ...     ResidualMLP(4096),
    ...     {"tokens": TokensHead(4096, 257, 768), "retrieval": Projector(768, 2048)},
    ... )
    >>> decoder(responses, "subj01")["retrieval"].shape  # doctest: +SKIP
    torch.Size([32, 257, 768])
    """

    def __init__(
        self, alignment: nn.Module | None, backbone: Backbone, heads: Mapping[str, Head]
    ) -> None:
        super().__init__()
        if not heads or any(not name or "." in name for name in heads):
            raise InputError(
                f"A decoder has heads, whose names have no dot; got {listed(heads) or 'none'}."
            )
        self.alignment, self.backbone = alignment, backbone
        self.heads = nn.ModuleDict(heads)
        self._check()

    def forward(
        self, responses: Tensor, subject: str | None = None, heads: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Decode one person's responses.

        Parameters
        ----------
        responses : tensor (n, n_units), (n, n_units, n_times), or what the backbone takes
        subject : str, optional
            Whose they are; needed where there is an alignment.
        heads : sequence of str, optional
            Which to compute; all where not given.

        Returns
        -------
        dict of str to tensor
            By head; what a head gives beside its target as ``<head>.<name>``.

        Raises
        ------
        UnknownNameError
            If there is no such head, or no such person.
        InputError
            If the person is not named, or responses have another shape.
        """
        return self.decode(self.align(responses, subject), heads)

    def align(self, responses: Tensor, subject: str | None = None) -> Tensor:
        """Return what people share, as the backbone takes it."""
        if self.alignment is None:
            return responses
        if subject is None:
            raise InputError("Whose responses are they? Give the subject.")
        shared: Tensor = self.alignment(responses, subject)
        return shared

    def decode(self, shared: Tensor, heads: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return what the heads make of what `align` gave."""
        wanted = list(self.heads) if heads is None else list(heads)
        for name in wanted:
            if name not in self.heads:
                raise unknown_name("head", name, list(self.heads))
        features = self.backbone(shared)
        outputs: dict[str, dict[str, Tensor]] = {}
        for name in wanted:
            self._compute(name, features, outputs)
        return {
            f"{name}.{beside}" if beside else name: value
            for name in wanted
            for beside, value in outputs[name].items()
        }

    def extra_losses(self, responses: Tensor, subject: str, shared: Tensor) -> dict[str, Tensor]:
        """Return what the alignment adds to the loss; {} where it is not trained."""
        if not isinstance(self.alignment, TrainedAlignment):
            return {}
        return self.alignment.extra_losses(responses, subject, shared)

    def of_subject(self, subject: str) -> list[str]:
        """Return the names of the parameters that are a person's; all others are shared."""
        if not isinstance(self.alignment, TrainedAlignment):
            return []
        return [f"alignment.{name}" for name in self.alignment.of_subject(subject)]

    def _compute(self, name: str, features: Tensor, outputs: dict[str, dict[str, Tensor]]) -> None:
        if name in outputs:
            return
        head: Any = self.heads[name]
        if head.of is not None:
            self._compute(head.of, features, outputs)
            features = outputs[head.of][""]
        outputs[name] = head.outputs(features)

    def _check(self) -> None:
        alignment, backbone = self.alignment, self.backbone
        if isinstance(alignment, TrainedAlignment):
            tokens = None if backbone.reads_time else backbone.in_tokens
            if (alignment.width, alignment.n_tokens) != (backbone.n_inputs, tokens):
                raise InputError(
                    f"{type(alignment).__name__} gives {_said(alignment.width, alignment.n_tokens)}"
                    f" and {type(backbone).__name__} takes {_said(backbone.n_inputs, tokens)}."
                )
        for name, module in self.heads.items():
            head: Any = module
            if head.of is not None:
                self._check_chain(name)
            elif (head.n_inputs, head.in_tokens) != (backbone.width, backbone.n_tokens):
                raise InputError(
                    f"{type(backbone).__name__} gives {_said(backbone.width, backbone.n_tokens)} "
                    f"and the head {name!r} takes {_said(head.n_inputs, head.in_tokens)}."
                )

    def _check_chain(self, name: str) -> None:
        """Refuse a head that takes the output of itself, of another width or of none."""
        heads: Any = self.heads
        passed = [name]
        while (before := heads[passed[-1]].of) is not None:
            if before not in heads:
                raise unknown_name("head", before, list(heads))
            if before in passed:
                raise InputError(f"Heads take each other's output: {listed([*passed, before])}.")
            passed.append(before)
        width = heads[passed[1]].width
        if width != heads[name].n_inputs:
            raise InputError(
                f"The head {passed[1]!r} gives vectors of {width} numbers and the head {name!r} "
                f"takes {heads[name].n_inputs}."
            )


def _said(width: int | None, n_tokens: int | None) -> str:
    if width is None:
        return "images of the brain"
    return f"vectors of {width}" if n_tokens is None else f"{n_tokens} tokens of {width}"
