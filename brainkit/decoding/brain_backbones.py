r"""Backbones of deep decoders: what all people share between their aligner and the heads.

| name | class | takes | gives | as in |
|---|---|---|---|---|
| `linear` | `LinearBackbone` | vector | vector | — |
| `residual-mlp` | `ResidualMLP` | vector | vector | MindEye1, MindBridge |
| `residual-gelu` | `ResidualGELU` | vector | vector | Brain-HIVE |
| `mlp-mixer` | `MLPMixer` | vector or tokens | as it took | MindEye2 |
| `token-transformer` | `TokenTransformer` | tokens, parcels × time | either | WAVE, Brain-IT |
| `perceiver` | `Perceiver` | tokens | tokens | UMBRAE |
| `vit3d` | `VolumeTransformer` | volume | either | Neuro-Vision to Language |
| `surface-vit` | `SurfaceTransformer` | flattened surface | either | NeuroPictor |
| `per-tr-linear` | `PerTRLinear` | vector × time | vector | Dynadiff |

A vector is (n, width), tokens are (n, n_tokens, width), and a time axis comes last, as an aligner
gives it. `n_inputs` and `in_tokens` say what a backbone takes, `width` and `n_tokens` what it
gives. Those that read vectors are here, transformers in `brainkit.decoding.brain_transformers`.
"""

from inspect import signature
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional

from brainkit.alignment.person_units import check_share, check_sizes
from brainkit.alignment.trained import ResidualLayers
from brainkit.arrays.registry import imported
from brainkit.errors import InputError, unknown_name

MixerForm = Literal["mended", "published"]


# -- the contract ----------------------------------------------------------------------------------


class Backbone(nn.Module):
    """What people share between an aligner and the heads.

    Attributes
    ----------
    n_inputs : int or None
        Width of what it takes; None where it takes images of the brain.
    in_tokens : int or None
        Tokens that it takes; None where it takes a vector.
    width : int
        Width of what it gives.
    n_tokens : int or None
        Tokens that it gives; None where it gives a vector.
    reads_time : bool
        Whether what it takes has time as a last axis.
    """

    reads_time: bool = False

    def __init__(
        self,
        n_inputs: int | None,
        width: int,
        *,
        in_tokens: int | None = None,
        n_tokens: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"n_inputs": n_inputs, "in_tokens": in_tokens, "n_tokens": n_tokens}
        check_sizes(width=width, **{k: v for k, v in sizes.items() if v is not None})
        self.n_inputs, self.width = n_inputs, width
        self.in_tokens, self.n_tokens = in_tokens, n_tokens

    def check(self, values: Tensor, *shape: int | None) -> None:
        """Refuse what is not (n, *shape), None standing for any size."""
        sizes = values.shape[1:]
        if len(sizes) != len(shape) or any(
            wanted not in (None, size) for wanted, size in zip(shape, sizes, strict=True)
        ):
            wanted_shape = ", ".join("n" if size is None else str(size) for size in (None, *shape))
            raise InputError(
                f"{type(self).__name__} takes ({wanted_shape}); got {tuple(values.shape)}."
            )


# -- vectors ---------------------------------------------------------------------------------------


class LinearBackbone(Backbone):
    """One linear layer: with heads that are linear too, a reduced-rank regression.

    Parameters
    ----------
    n_inputs, width : int
    """

    def __init__(self, n_inputs: int, width: int) -> None:
        super().__init__(n_inputs, width)
        self.linear = nn.Linear(n_inputs, width)

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, n_inputs) to (n, width)."""
        self.check(values, self.n_inputs)
        out: Tensor = self.linear(values)
        return out


class ResidualMLP(Backbone):
    r"""Residual layers of one width, as in MindEye1 (4096) and MindBridge's translator (2048).

    .. math::
        x \leftarrow D_0(\mathrm{GELU}(\mathrm{LN}(x))), \quad
        x \leftarrow x + D(\mathrm{GELU}(\mathrm{LN}(W_i x + b_i))) \;\; i = 1 … \text{depth}

    After a `SubjectLayer` the first step is that of MindEye1; MindBridge's embedder has it already,
    so that its translator leaves it out (``entry=False``).

    Parameters
    ----------
    width : int, default=4096
    depth : int, default=4
    dropout : float, default=0.15
        D's, in training.
    entry : bool, default=True
        Whether there is the first step.
    entry_dropout : float, default=0.5
        Of that first step.

    References
    ----------
    Scotti et al. (2023), Reconstructing the mind's eye: fMRI-to-image with contrastive learning and
    diffusion priors. Wang et al. (2024), MindBridge: a cross-subject brain decoding framework.
    """

    def __init__(
        self,
        width: int = 4096,
        depth: int = 4,
        dropout: float = 0.15,
        *,
        entry: bool = True,
        entry_dropout: float = 0.5,
    ) -> None:
        super().__init__(width, width)
        check_sizes(depth=depth)
        check_share(entry_dropout=entry_dropout)
        first = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Dropout(entry_dropout))
        self.entry = first if entry else None
        self.residual = ResidualLayers(width, depth, dropout)

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, width) to (n, width)."""
        self.check(values, self.n_inputs)
        out: Tensor = self.residual(values if self.entry is None else self.entry(values))
        return out


class ResidualGELU(Backbone):
    r"""One residual network of two layers and a LayerNorm, as on the brain side of Brain-HIVE.

    .. math:: \mathrm{LN}\big(x + D(W_2 \, \mathrm{GELU}(W_1 x + b_1) + b_2)\big)

    Parameters
    ----------
    width : int, default=1024
    dropout : float, default=0.1
        D's, in training.
    norm : bool, default=True
        Whether there is a LayerNorm.
    """

    def __init__(self, width: int = 1024, dropout: float = 0.1, *, norm: bool = True) -> None:
        super().__init__(width, width)
        check_share(dropout=dropout)
        self.inner = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.Dropout(dropout)
        )
        self.norm = nn.LayerNorm(width) if norm else None

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, width) to (n, width)."""
        self.check(values, self.n_inputs)
        out: Tensor = values + self.inner(values)
        return out if self.norm is None else self.norm(out)


class PerTRLinear(Backbone):
    r"""One linear layer for each volume, then one weight for each, as in Dynadiff.

    .. math:: h_t = D(\mathrm{GELU}(\mathrm{LN}(W_t x_t + b_t))), \quad z = \sum_t a_t h_t + c

    What is published maps every :math:`h_t` to the embedding and merges volumes after that. As both
    steps are linear their order makes no difference to what can be learned, and merging first
    costs as many times less as there are volumes.

    Parameters
    ----------
    width : int, default=1552
    n_times : int, default=6
        Volumes (TRs).
    dropout : float, default=0.5

    References
    ----------
    Careil, Benchetrit and King (2025), Dynadiff: single-stage decoding of images from continuously
    evolving fMRI.
    """

    reads_time = True

    def __init__(self, width: int = 1552, n_times: int = 6, dropout: float = 0.5) -> None:
        super().__init__(width, width)
        check_sizes(n_times=n_times)
        check_share(dropout=dropout)
        self.n_times = n_times
        self.per_time = nn.Conv1d(n_times * width, n_times * width, 1, groups=n_times)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.over_time = nn.Linear(n_times, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, width, n_times) to (n, width)."""
        self.check(values, self.width, self.n_times)
        flat = values.transpose(1, 2).reshape(len(values), -1, 1)
        mixed = self.per_time(flat).view(len(values), self.n_times, self.width)
        mixed = self.dropout(functional.gelu(self.norm(mixed)))
        out: Tensor = self.over_time(mixed.transpose(1, 2))[..., 0]
        return out


class MLPMixer(Backbone):
    r"""Mixer blocks, as in MindEye2: networks over the width, then networks over tokens.

    A block has two networks :math:`f(x) = W_2 D(\mathrm{GELU}(W_1 \mathrm{LN}(x)))`, of which the
    first reads the width of each token and the second, g, the tokens of each channel.

    In the form ``"published"`` the two have bypasses of their own, r₁ and r₂, that both start at x:

    .. math::
        r_1 \leftarrow f(x) + r_1, \quad r_2 \leftarrow g(r_1) + r_2, \quad x \leftarrow r_2

    With one token, the published setting, LN over the single token of a channel is a constant
    whatever it is given. Then g is a constant, nothing of f reaches x, and **in evaluation the
    backbone adds one constant to its input**: decoders of this form are linear up to their heads,
    and f gets no gradient. In the form ``"mended"`` each network has the usual bypass,
    :math:`x \leftarrow x + f(x)` and :math:`x \leftarrow x + g(x)`, and one token has no g.

    Parameters
    ----------
    width : int, default=4096
    n_tokens : int, optional
        None for one token, which comes and goes as a vector.
    depth : int, default=4
    dropout : float, default=0.15
    form : {"mended", "published"}, default="mended"

    References
    ----------
    Tolstikhin et al. (2021), MLP-Mixer: an all-MLP architecture for vision. Scotti et al. (2024),
    MindEye2: shared-subject models enable fMRI-to-image with 1 hour of data.
    """

    def __init__(
        self,
        width: int = 4096,
        n_tokens: int | None = None,
        depth: int = 4,
        dropout: float = 0.15,
        *,
        form: MixerForm = "mended",
    ) -> None:
        super().__init__(width, width, in_tokens=n_tokens, n_tokens=n_tokens)
        check_sizes(depth=depth)
        check_share(dropout=dropout)
        if form not in get_args(MixerForm):
            raise unknown_name("form of a mixer", form, get_args(MixerForm))
        self.form = form
        self.over_width = nn.ModuleList(_mixing(width, dropout) for _ in range(depth))
        n_mixed = n_tokens or 1
        mixes = n_mixed > 1 or form == "published"
        self.over_tokens = nn.ModuleList(
            _mixing(n_mixed, dropout) if mixes else nn.Identity() for _ in range(depth)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, width) to (n, width), or (n, n_tokens, width) to the same shape."""
        shape = (self.width,) if self.in_tokens is None else (self.in_tokens, self.width)
        self.check(values, *shape)
        tokens = values[:, None] if self.in_tokens is None else values
        out = self._published(tokens) if self.form == "published" else self._mended(tokens)
        return out[:, 0] if self.in_tokens is None else out

    def _published(self, tokens: Tensor) -> Tensor:
        first, second = tokens, tokens.mT
        for over_width, over_tokens in zip(self.over_width, self.over_tokens, strict=True):
            first = over_width(tokens) + first
            second = over_tokens(first.mT) + second
            tokens = second.mT
        return tokens

    def _mended(self, tokens: Tensor) -> Tensor:
        for over_width, over_tokens in zip(self.over_width, self.over_tokens, strict=True):
            tokens = tokens + over_width(tokens)
            if not isinstance(over_tokens, nn.Identity):
                tokens = tokens + over_tokens(tokens.mT).mT
        return tokens


def _mixing(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, width),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(width, width),
    )


# -- by name ---------------------------------------------------------------------------------------


_HERE, _THERE = "brainkit.decoding.brain_backbones:", "brainkit.decoding.brain_transformers:"

BACKBONES = {
    "linear": _HERE + "LinearBackbone",
    "residual-mlp": _HERE + "ResidualMLP",
    "residual-gelu": _HERE + "ResidualGELU",
    "mlp-mixer": _HERE + "MLPMixer",
    "per-tr-linear": _HERE + "PerTRLinear",
    "token-transformer": _THERE + "TokenTransformer",
    "perceiver": _THERE + "Perceiver",
    "vit3d": _THERE + "VolumeTransformer",
    "surface-vit": _THERE + "SurfaceTransformer",
}


def make_backbone(name: str, **settings: Any) -> Backbone:
    """Build a backbone by its name.

    Raises
    ------
    UnknownNameError
        If there is none of this name.
    InputError
        If it has no setting of a name that is given, or lacks one that it needs.
    """
    if name not in BACKBONES:
        raise unknown_name("backbone", name, list(BACKBONES))
    backbone: Backbone = build_part(imported(BACKBONES[name]), name, settings)
    return backbone


def build_part(kind: Any, name: str, settings: dict[str, Any]) -> Any:
    """Build a part, or say which settings it has where those that are given do not fit."""
    try:
        signature(kind).bind(**settings)
    except TypeError as error:
        raise InputError(
            f"{name!r} is built by {kind.__name__}{signature(kind)}: {error}."
        ) from None
    return kind(**settings)
