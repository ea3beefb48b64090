r"""The network that reads a person's voxels and one trial's responses, and writes an embedding.

After the second half of BrainCoDec (arXiv:2604.08537). A voxel is told by how it is tuned, weights
w on the image embedding and a constant b, :math:`y \approx w \cdot x + b`, and by its response β
to the image that is looked for: one token ``[w, b, β]``. Nothing says in which order the voxels
stand, and there may be any number, so that the network reads people whom it never saw. Register
tokens gather what voxels hold; the first four of them, side by side, become the embedding.

There are two forms. ``"published"`` is the network of the paper: w, b and β as one vector into a
residual block, constants in every linear layer, raw embeddings. ``"inverse"``, which is ours, has
embeddings centred and half-way to whitened axes, blocks without constants, and a product of
response and weights from the start, :math:`h = P [w, b] + c + \beta\, (Q [w, b] + v)`. And it
begins with what the weights imply by themselves, the inverse of the encoder: with embeddings
standard normal on whitened axes and noise of covariance S, an image's expectation is

.. math:: \hat z_0 = (I + W^\top S^{-1} W)^{-1} W^\top S^{-1} (\beta - b),

as van Bergen et al. (2015) decode. Where nothing is known of the noise it is taken as independent,
of variance :math:`1 - |w_v|^2`. The registers that are read start from this, and what the network
writes is added to it: there is to learn how weights err and how voxels tend to be tuned.

Folders that `save_decoder` writes hold ``config.json`` and ``model.safetensors``, never pickle. The
configuration says whom the network learned from, and which encoder's weights it read.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainkit.errors import InputError, unknown_name
from brainkit.features.weights import load_state
from brainkit.training.network_folders import read_network, write_network
from brainkit.training.set_networks import (
    Block,
    ResidualBlock,
    add_linear,
    half_whitened,
    rectified,
)

Float = NDArray[np.float32]
Form = Literal["inverse", "published"]
LEAST_NOISE = 0.05  # of a response's variance
TOKENS_AT_ONCE = (1 << 14, 1 << 18)  # on a processor, on a GPU
KIND = "in-context decoder"
SHIPPED = {"tiny": "tiny/in-context-decoder"}


# -- the network -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecoderArchitecture:
    """The size of the network.

    Parameters
    ----------
    embedding : int
        Numbers in an image's embedding, and so in a voxel's weights.
    width, layers, heads, hidden : int
        Width of a token, blocks, attention heads and inner width of the SwiGLU layers. By default
        those published: 8 blocks, as the paper's code makes them.
    registers, read : int
        Tokens that stand before the voxels, and how many of them are read.
    form : {"inverse", "published"}
        Which network; the module says how they differ.
    """

    embedding: int
    width: int = 768
    layers: int = 8
    heads: int = 8
    hidden: int = 1024
    registers: int = 32
    read: int = 4
    form: Form = "inverse"

    def __post_init__(self) -> None:
        for name in ("embedding", "width", "layers", "heads", "hidden", "registers", "read"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1; got {value!r}.")
        if self.form not in get_args(Form):
            raise unknown_name("form of an in-context decoder", self.form, get_args(Form))
        if self.width % self.heads:
            raise InputError(
                f"The width must be a multiple of the heads; got width={self.width} and "
                f"heads={self.heads}."
            )
        if self.read > self.registers:
            raise InputError(
                f"No more registers can be read than there are; got read={self.read} and "
                f"registers={self.registers}."
            )


class PublishedVoxels(nn.Module):
    """Tokens as published: a residual block on weights, constant and response as one vector.

    Parameters
    ----------
    embedding, width : int
    """

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.block = ResidualBlock(embedding + 2, 2 * width, width, bias=True, dropout=0.0)

    def shared(self, tuning: Tensor) -> Tensor:
        """Return what all trials share of the voxels: their weights (n_voxels, embedding + 1)."""
        return tuning

    def forward(self, voxels: Tensor, responses: Tensor) -> Tensor:
        """Return tokens (n_trials, n_voxels, width).

        Parameters
        ----------
        voxels : tensor (n_voxels, embedding + 1)
        responses : tensor (n_trials, n_voxels)
        """
        response = responses.unsqueeze(-1).to(voxels.dtype)
        both = torch.cat([voxels.expand(len(responses), -1, -1), response], dim=-1)
        tokens: Tensor = self.block(both)
        return tokens


class ProductVoxels(nn.Module):
    r"""Tokens :math:`h = P [w, b] + c + \beta\, (Q [w, b] + v)`, and ``h + M leaky(LN(h))``.

    The constant c is large at first. A normalised token is then nearly linear in what varies, so
    that a voxel that says little weighs little in a mean over tokens.

    Parameters
    ----------
    embedding, width : int
    """

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.voxel = nn.Linear(embedding + 1, 2 * width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, width, bias=False)
        n_axes = min(embedding, width)
        with torch.no_grad():
            self.voxel.bias[:width].normal_()
            self.voxel.weight[width:].zero_()  # Q keeps the first axes, as many as there is room
            self.voxel.weight[width : width + n_axes, :n_axes] = torch.eye(n_axes)

    def shared(self, tuning: Tensor) -> Tensor:
        """Return what all trials share of the voxels, (n_voxels, 2 width)."""
        # The weights of a z-scored response that is all signal have a length of 1.
        voxels: Tensor = self.voxel(tuning * math.sqrt(tuning.shape[1]))
        return voxels

    def forward(self, voxels: Tensor, responses: Tensor) -> Tensor:
        """Return tokens (n_trials, n_voxels, width).

        Parameters
        ----------
        voxels : tensor (n_voxels, 2 width)
            What `shared` gives.
        responses : tensor (n_trials, n_voxels)
        """
        alone, gated = voxels.chunk(2, dim=-1)
        response = responses.contiguous().unsqueeze(-1).to(voxels.dtype)
        total = torch.addcmul(alone, response, gated).contiguous()
        return add_linear(total, rectified(self.norm(total)), self.mix)


class Voxels(NamedTuple):
    """What all trials share of a person's voxels.

    Attributes
    ----------
    shared : tensor (n_voxels, ...)
        The part of the tokens.
    intercept : tensor (n_voxels,)
        Expected response to the mean image.
    inverse : tensor (embedding, n_voxels) or None
        From responses less `intercept` to the expected image on whitened axes.
    """

    shared: Tensor
    intercept: Tensor
    inverse: Tensor | None


class Noise(NamedTuple):
    """Covariance of what weights do not predict of responses: ``level I + factor' factor``.

    Attributes
    ----------
    level : float
    factor : tensor (n_trials, n_voxels)
    """

    level: float
    factor: Tensor


def inverse_of(tuning: Tensor, noise: Noise | None = None) -> Tensor:
    r"""Return the inverse of a linear encoder, :math:`(I + W^\top S^{-1} W)^{-1} W^\top S^{-1}`.

    Parameters
    ----------
    tuning : tensor (n_voxels, embedding)
        Weights W on whitened embeddings, of responses of variance 1.
    noise : Noise, optional
        The covariance S; where not given, voxels are independent and have a noise of variance
        :math:`1 - |w_v|^2`, `LEAST_NOISE` at least.

    Returns
    -------
    tensor (embedding, n_voxels)
    """
    if noise is None:
        variance = (1 - tuning.square().sum(dim=1)).clamp_min(LEAST_NOISE)
        weighted = tuning.T / variance  # (embedding, n_voxels)
    else:  # by the matrix inversion lemma, as there are fewer trials than voxels
        factor = noise.factor
        inner = factor @ factor.T
        inner.diagonal().add_(noise.level)
        shared = torch.linalg.solve(inner, factor @ tuning)  # (n_trials, embedding)
        weighted = (tuning - factor.T @ shared).T / noise.level
    return torch.linalg.solve(torch.eye(len(weighted)).to(tuning) + weighted @ tuning, weighted)


class VoxelTransformer(nn.Module):
    """From voxels' weights and responses to image embeddings.

    `set_space` takes, once and before training, centre and axes of the embeddings from images that
    have nothing to do with the task. The inverse form reads weights on whitened axes, and writes
    embeddings half-way to these; the published form stays in the embeddings' own space. In both
    forms what is written is of one length, as only its direction is trained.

    Parameters
    ----------
    architecture : DecoderArchitecture

    Attributes
    ----------
    log_scale : parameter ()
        Logarithm of the inverse temperature of the contrast that the network is trained with.
    """

    centre: Tensor
    axes: Tensor
    spread: Tensor
    deviation: Tensor
    length: Tensor

    def __init__(self, architecture: DecoderArchitecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.published = published = a.form == "published"
        self.register_buffer("centre", torch.zeros(a.embedding))
        self.register_buffer("axes", torch.eye(a.embedding))
        self.register_buffer("spread", torch.ones(a.embedding))
        self.register_buffer("deviation", torch.ones(a.embedding))
        self.register_buffer("length", torch.ones(()))
        tokens: Any = PublishedVoxels if published else ProductVoxels
        self.tokens = tokens(a.embedding, a.width)
        first = torch.randn(a.registers, a.width)
        self.registers = nn.Parameter(first * (a.width**-0.5 if published else 0.5))
        self.blocks = nn.ModuleList(
            Block(a.width, a.heads, a.hidden, bias=published) for _ in range(a.layers)
        )
        self.readout = ResidualBlock(
            a.read * a.width, 2 * a.width, a.embedding, bias=published, dropout=0.0
        )
        if not published:
            self.start = nn.Linear(a.embedding, a.read * a.width, bias=False)
            with torch.no_grad():  # start near the inverse of the encoder
                for part in (self.readout.second, self.readout.bypass):
                    part.weight.mul_(0.1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @torch.no_grad()
    def set_space(self, embeddings: Tensor) -> None:
        """Take centre and axes from unit-norm embeddings (n_images, embedding)."""
        centre, axes, spread = (part.flip(-1) for part in half_whitened(embeddings))
        self.centre.copy_(centre.flip(-1))
        self.axes.copy_(axes)  # the axis along which images differ most is the first
        self.spread.copy_(spread)
        written = self.into(embeddings)
        self.deviation.copy_(((embeddings - self.centre) @ self.axes).std(dim=0))
        self.length.copy_(written.norm(dim=1).mean())

    def strangeness(self, embeddings: Tensor) -> float:
        """Return the mean squared whitened embedding: 1 for images like those of `set_space`."""
        whitened = (embeddings - self.centre) @ self.axes / self.spread
        return float(whitened.square().mean())

    @property
    def back(self) -> Tensor:
        """The inverse of `axes`, transposed: their columns over their squared lengths."""
        return self.axes / self.axes.square().sum(dim=0)

    def into(self, embeddings: Tensor) -> Tensor:
        """Return embeddings (n, embedding) in the space that the network writes in."""
        return embeddings if self.published else (embeddings - self.centre) @ self.axes

    def out_of(self, written: Tensor) -> Tensor:
        """Return what the network wrote as embeddings, of the length that embeddings have."""
        scaled = nn.functional.normalize(written, dim=1) * self.length
        return scaled if self.published else scaled @ self.back.T + self.centre

    def encode_voxels(self, coef: Tensor, intercept: Tensor, noise: Noise | None = None) -> Voxels:
        """Return what all trials share of the voxels.

        Parameters
        ----------
        coef : tensor (n_voxels, embedding)
            Weights on unit-norm embeddings, of responses z-scored over the support images.
        intercept : tensor (n_voxels,)
        noise : Noise, optional
            Of those responses; see `inverse_of`. The published form makes nothing of it.
        """
        inverse = None
        if not self.published:
            # By how much the response varies along each axis: weights on an axis along which
            # images do not differ say nothing, and encoders leave there whatever they like.
            intercept = intercept + coef @ self.centre
            coef = coef @ self.back * self.deviation
            inverse = inverse_of(coef, noise)
        shared = self.tokens.shared(torch.cat([coef, intercept[:, None]], dim=1))
        return Voxels(shared, intercept, inverse)

    def forward(self, voxels: Voxels, responses: Tensor) -> Tensor:
        """Read trials of one person.

        Parameters
        ----------
        voxels : Voxels
            What `encode_voxels` gives.
        responses : tensor (n_trials, n_voxels)
            Z-scored with the statistics of the support images.

        Returns
        -------
        tensor (n_trials, embedding)
            In the space of `into`; its length has no meaning.
        """
        read = self.tokens(voxels.shared, responses)
        registers = self.registers.to(read.dtype).expand(len(read), -1, -1)
        count, begun = self.architecture.read, None
        if voxels.inverse is not None:
            begun = (responses - voxels.intercept) @ voxels.inverse.T  # (n_trials, embedding)
            started = self.start(begun).unflatten(1, (count, -1)).to(read.dtype)
            registers = torch.cat([registers[:, :count] + started, registers[:, count:]], dim=1)
        tokens = torch.cat([registers, read], dim=1)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        leading, _ = self.blocks[-1].read_leading(tokens, count)  # type: ignore[operator]
        written: Tensor = self.readout(leading.flatten(1)).float()
        return written if begun is None else begun.float() * self.deviation + written


def decode_trials(
    network: VoxelTransformer,
    coef: Tensor,
    intercept: Tensor,
    responses: Tensor,
    n_tokens: int | None = None,
    *,
    noise: Noise | None = None,
) -> Tensor:
    """Decode many trials of one person, a few at a time; no trial depends on another.

    Parameters
    ----------
    network : VoxelTransformer
        In evaluation mode.
    coef, intercept : tensors (n_voxels, embedding), (n_voxels,)
        See `VoxelTransformer.encode_voxels`.
    responses : tensor (n_trials, n_voxels)
    n_tokens : int, optional
        Tokens at once; what suits the network's device where not given.
    noise : Noise, optional
        See `inverse_of`.

    Returns
    -------
    tensor (n_trials, embedding)
        Embeddings, each of the mean length that embeddings have in the space of `into`.
    """
    size = trials_at_once(network, len(coef), n_tokens)
    with torch.inference_mode():
        voxels = network.encode_voxels(coef, intercept, noise)
        parts = [
            network.out_of(network(voxels, responses[start : start + size]))
            for start in range(0, len(responses), size)
        ]
        return torch.cat(parts)


def trials_at_once(network: VoxelTransformer, n_voxels: int, n_tokens: int | None = None) -> int:
    """Return how many trials `decode_trials` reads at a time.

    Parameters
    ----------
    network : VoxelTransformer
    n_voxels : int
    n_tokens : int, optional
        Tokens at once; what suits the network's device where not given.
    """
    n_tokens = n_tokens or TOKENS_AT_ONCE[network.centre.device.type == "cuda"]
    return max(1, n_tokens // (n_voxels + network.architecture.registers))


# -- networks on disk ------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecoderOrigin:
    """What a network learned from.

    Attributes
    ----------
    embedding_model : str or None
        Spec of the model whose embeddings it writes.
    encoder : dict or None
        The encoder whose weights it reads unless told otherwise: ``{"estimator":
        "ROOM:CLASS", "parameters": {...}}``, the name under which the estimator is saved.
    context : (int, int)
        Fewest and most support images of the voxels that it was trained with; (0, 0) for an
        untrained one.
    voxels : (int, int)
        Fewest and most voxels of a training step.
    subjects : tuple of str
        Whose voxels it learned from.
    training : dict
        What is worth knowing of each stage.
    """

    embedding_model: str | None = None
    encoder: Mapping[str, Any] | None = None
    context: tuple[int, int] = (0, 0)
    voxels: tuple[int, int] = (0, 0)
    subjects: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)


def save_decoder(
    network: VoxelTransformer,
    origin: DecoderOrigin,
    folder: str | Path,
    *,
    dtype: Literal["float16", "float32"] = "float32",
) -> Path:
    """Write a network to a folder.

    Parameters
    ----------
    network : VoxelTransformer
    origin : DecoderOrigin
    folder : path
    dtype : {"float32", "float16"}, default="float32"
        What the weights are kept as. They are loaded as float32 in any case.
    """
    parts = {"architecture": asdict(network.architecture), "origin": asdict(origin)}
    return write_network(network, folder, KIND, dtype=dtype, **parts)


def load_decoder(name: str | Path) -> tuple[VoxelTransformer, DecoderOrigin]:
    """Load a network that `save_decoder` wrote.

    Parameters
    ----------
    name : str or path
        ``"tiny"`` for the one that comes with brainkit, or a folder.

    Returns
    -------
    network : VoxelTransformer
        On the CPU, frozen, in evaluation mode.
    origin : DecoderOrigin

    Raises
    ------
    MissingFileError
        If there is none.
    CorruptFileError
        If it is damaged, or of another format than this brainkit reads.
    InputError
        If its weights do not fit its configuration.
    """
    place = SHIPPED.get(str(name), str(name))
    (architecture, origin), weights = read_network(place, KIND, _read_config)
    network = VoxelTransformer(architecture)
    load_state(network, weights)
    return network.eval().requires_grad_(False), origin


def _read_config(
    architecture: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[DecoderArchitecture, DecoderOrigin]:
    origin = dict(given)
    for name in ("context", "voxels"):
        low, high = origin[name]
        origin[name] = (low, high)
    origin["subjects"] = tuple(origin["subjects"])
    return DecoderArchitecture(**architecture), DecoderOrigin(**origin)
