"""The network that a contrastive decoder trains: the brain's side, the images' side, their loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainkit.alignment.person_units import PersonUnits
from brainkit.alignment.trained import make_alignment
from brainkit.arrays.registry import imported
from brainkit.decoding.brain_backbones import BACKBONES, Backbone, ResidualGELU, make_backbone
from brainkit.decoding.decoder_heads import BrainDecoder, Head, make_head
from brainkit.decoding.diffusion_prior import DiffusionPrior
from brainkit.decoding.people_rows import TrainingRows
from brainkit.decoding.spread import SPREADS
from brainkit.errors import InputError, unknown_name
from brainkit.training.contrastive import (
    CONTRASTS,
    Mixed,
    Normalised,
    Temperature,
    bi_mixco,
    cosine_distance,
    mixed,
)

Spec = Mapping[str, Any]
ImageSideKind = Literal["fixed", "linear", "residual"]
ROWS_AT_ONCE, DRAWN_AT_ONCE = 4096, 256


class ContrastiveNetwork(nn.Module):
    """The brain's side, the images' side and the temperature between them.

    Parameters
    ----------
    brain : BrainDecoder
        With the heads ``"embedding"`` and ``"retrieval"``.
    image : Module
        From standardised embeddings (n, width) to what the retrieval head is compared with.
    prior : DiffusionPrior, optional
        From what the embedding head gives to standardised embeddings.
    """

    def __init__(
        self, brain: BrainDecoder, image: nn.Module, prior: DiffusionPrior | None = None
    ) -> None:
        super().__init__()
        self.brain, self.image, self.temperature = brain, image, Temperature()
        self.prior = prior

    def freeze_unused(self, objective: "Objective") -> None:
        """Let parts that a loss does not look at require no gradient."""
        unused = [] if objective.contrast else ["brain.heads.retrieval", "image", "temperature"]
        read = getattr(self.brain.heads["retrieval"], "of", None) == "embedding"
        if not (objective.regression or objective.cosine or self.prior is not None or read):
            unused.append("brain.heads.embedding")
        for part in unused:
            self.get_submodule(part).requires_grad_(False)

    @torch.no_grad()
    def decoded(self, rows: TrainingRows, which: Tensor, head: str) -> NDArray[np.float32]:
        """Return what a head gives of some training rows, (n, width)."""
        outputs = []
        for part in which.split(ROWS_AT_ONCE):
            for name, values in rows.of_people(part.to(rows.person.device)):
                aligned = values if rows.aligned else self.brain.align(values, name)
                outputs.append(self.brain.decode(aligned, [head])[head].flatten(1).float().cpu())
        return np.asarray(torch.cat(outputs).numpy())

    def draw(self, predicted: NDArray[np.float32], seed: int, steps: int) -> NDArray[np.float32]:
        """Return standardised embeddings that the prior draws, every row from the same noise.

        Parameters
        ----------
        predicted : array (n, width)
            What the embedding head gives.
        seed : int
        steps : int
            Of drawing.
        """
        prior = self.prior
        assert prior is not None
        shape = (-1, prior.n_tokens, prior.width) if prior.n_tokens > 1 else (-1, prior.width)
        brain = torch.from_numpy(predicted).to(prior.positions.device).reshape(shape)
        with torch.no_grad():
            parts = [prior.sample(part, seed, steps=steps) for part in brain.split(DRAWN_AT_ONCE)]
        return np.asarray(torch.cat(parts).flatten(1).float().cpu().numpy())


class ImageSide(nn.Module):
    """A linear map that starts as the identity, and a residual network after it where asked for.

    Parameters
    ----------
    width, n_outputs : int
    residual : bool
        Whether there is a residual network, see `ResidualGELU`.
    dropout : float
        Of that network.
    """

    def __init__(self, width: int, n_outputs: int, *, residual: bool, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, n_outputs)
        start_as_identity(self.linear)
        self.residual = ResidualGELU(n_outputs, dropout, norm=False) if residual else None

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map (n, width) to (n, n_outputs)."""
        out: Tensor = self.linear(embeddings)
        return out if self.residual is None else self.residual(out)


def start_as_identity(layer: nn.Linear) -> None:
    """Let a linear layer pass on what it is given, cut or filled up with zeros, in place."""
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)


CHOICES = {
    "start": ("ridge", "random"),
    "image_side": ("fixed", "linear", "residual"),
    "loss": tuple(CONTRASTS),
    "spread": SPREADS,
    "new_person": ("joint", "adapter"),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise where the parameters of a contrastive decoder make no sense, alone or together.

    Raises
    ------
    UnknownNameError, InputError
    """
    for name, known in CHOICES.items():
        if settings[name] not in known:
            raise unknown_name(name, str(settings[name]), [str(one) for one in known])
    if settings["start"] == "ridge" and (
        settings["alignment"] != "subject-layer" or settings["mix"]
    ):
        raise InputError(
            "start='ridge' fits linear layers of people before anything is trained: it goes "
            "with alignment='subject-layer' and mix=0. Take start='random' for others."
        )
    for name in ("contrast", "regression", "cosine"):
        if not settings[name] >= 0:
            raise InputError(f"{name} is a weight, 0 or more; got {settings[name]!r}.")
    weights = settings["contrast"] + settings["regression"] + settings["cosine"]
    if not weights > 0 and settings["prior"] is None:
        raise InputError("contrast, regression and cosine are all 0: nothing is trained.")
    if settings["fused_width"] and (settings["image_side"] == "fixed" or not settings["contrast"]):
        raise InputError(
            f"fused_width={settings['fused_width']}: further embeddings are for an image side that "
            "is trained by contrast. Take image_side='residual' and contrast above 0."
        )
    if not 0 <= settings["validation"] < 1 or not 0 <= settings["mix"] <= 1:
        raise InputError(
            f"validation and mix are shares from 0 to below 1, and to 1; got "
            f"{settings['validation']!r} and {settings['mix']!r}."
        )


def build_network(
    people: Mapping[str, PersonUnits],
    width: int,
    *,
    alignment: tuple[str, Spec],
    backbone: tuple[str, Spec],
    heads: Mapping[str, Spec],
    image_side: ImageSideKind,
    fused_width: int,
    prior: Spec | None,
    dropout: float,
    identity: bool,
) -> ContrastiveNetwork:
    """Return the untrained network of some people.

    Parameters
    ----------
    people : mapping of str to PersonUnits
    width : int
        Of the embeddings.
    alignment, backbone : (str, mapping)
        Name and parameters, see `brainkit.alignment.trained` and
        `brainkit.decoding.brain_backbones`. What a part takes from the one before is filled in.
    heads : mapping of str to mapping
        The parameters of ``"embedding"`` and ``"retrieval"``, with their ``"kind"``; what is not
        given is a linear head as wide as the embeddings.
    image_side : {"fixed", "linear", "residual"}
    fused_width : int
        Of further embeddings that the image side sees beside those that are predicted.
    prior : mapping, optional
        Parameters of a `DiffusionPrior` of the embedding head's tokens; no prior where None.
    dropout : float
        Of the image side, and of a backbone whose settings do not say.
    identity : bool
        Whether linear heads start as the identity.
    """
    aligner = make_alignment(alignment[0], **alignment[1])
    for subject, units in people.items():
        aligner.add_subject(subject, units)
    trunk = _backbone(backbone, aligner, dropout)
    specs: dict[str, Spec] = {
        "embedding": {"width": width},
        "retrieval": {"width": width + fused_width},
    }
    specs |= heads
    built = {name: _head(spec, trunk) for name, spec in specs.items()}
    if identity:
        for head in built.values():
            linear = getattr(head, "linear", None)
            if isinstance(linear, nn.Linear):
                start_as_identity(linear)
    image: nn.Module = nn.Identity()
    if image_side != "fixed":
        residual = image_side == "residual"
        n_outputs = specs["retrieval"].get("width", built["retrieval"].width)
        image = ImageSide(width + fused_width, n_outputs, residual=residual, dropout=dropout)
    brain = BrainDecoder(aligner, trunk, built)
    if prior is None:
        return ContrastiveNetwork(brain, image)
    n_tokens = specs["embedding"].get("n_tokens", 1)
    token_width = specs["embedding"]["width"]
    return ContrastiveNetwork(brain, image, DiffusionPrior(token_width, n_tokens, **prior))


def _backbone(backbone: tuple[str, Spec], aligner: Any, dropout: float) -> Backbone:
    name, settings = backbone
    known = signature(imported(BACKBONES[name])).parameters if name in BACKBONES else {}
    offered = {
        "width": aligner.width,
        "n_inputs": aligner.width,
        "in_tokens": aligner.n_tokens,
        "n_tokens": aligner.n_tokens,
        "dropout": dropout,
    }
    fitting = {key: value for key, value in offered.items() if key in known}
    return make_backbone(name, **{**fitting, **settings})


def _head(spec: Spec, trunk: Backbone) -> Head:
    settings = dict(spec)
    kind = settings.pop("kind", "embedding")
    if kind != "projector" and "of" not in settings:  # else it reads another head
        settings = {"n_inputs": trunk.width, "in_tokens": trunk.n_tokens, **settings}
    return make_head(kind, **settings)


# -- the loss --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objective:
    r"""What training makes small.

    .. math::
        \lambda_c\, C(r, t) + \lambda_r\, \mathrm{mean}(\hat e - z)^2
        + \lambda_{\cos} (1 - \cos(\hat e, z)) + \lambda_p\, P(\hat e, z)
        + \text{what the alignment adds}

    with the loss P of a diffusion prior, where there is one.

    Attributes
    ----------
    loss : str
        The contrast C, of `brainkit.training.contrastive.CONTRASTS`.
    normalise : {"both", "image", "brain", "none"}
    contrast, regression, cosine, prior : float
        The weights.
    """

    loss: str
    normalise: Normalised
    contrast: float
    regression: float
    cosine: float
    prior: float = 0.0

    def __call__(
        self,
        network: Any,
        rows: TrainingRows,
        chosen: Tensor,
        noise: torch.Generator,
        mixing: torch.Generator | None = None,
    ) -> Tensor:
        """Return the loss of some rows, a scalar.

        Parameters
        ----------
        network : ContrastiveNetwork
        rows : TrainingRows
        chosen : tensor of int (n,)
            Ascending.
        noise : torch.Generator
            Of the prior, on the CPU.
        mixing : torch.Generator, optional
            Mix each person's responses by it, see `brainkit.training.contrastive.mixed`.
        """
        chosen = chosen.to(rows.person.device)
        shared, mixtures, total, start = [], [], torch.zeros((), device=chosen.device), 0
        for name, responses in rows.of_people(chosen):
            values = responses
            if mixing is not None:
                mixture = mixed(values, mixing)
                mixtures.append(Mixed(mixture.values, mixture.partner + start, mixture.share))
                values = mixture.values
            start += len(values)
            aligned = values if rows.aligned else network.brain.align(values, name)
            shared.append(aligned)
            if not rows.aligned:
                for extra in network.brain.extra_losses(values, name, aligned).values():
                    total = total + extra
        outputs = network.brain.decode(torch.cat(shared))
        targets, image = rows.targets[chosen], rows.image[chosen]
        joined = _joined(mixtures)
        if self.contrast:
            sides = outputs["retrieval"], network.image(targets), network.temperature()
            distinct = len(torch.unique(image)) == len(image)
            same = None if distinct else image[:, None] == image[None, :]
            total = total + self.contrast * self._contrast(sides, same, joined)
        if self.regression or self.cosine:
            predicted = outputs["embedding"].flatten(1)
            truth = targets[:, : predicted.shape[1]]
            truth = truth if joined is None else _mix(truth, joined)
            total = total + self.regression * functional.mse_loss(predicted, truth)
            total = total + self.cosine * cosine_distance(predicted, truth)
        if network.prior is not None:
            tokens = outputs["embedding"]
            wanted = targets[:, : tokens[0].numel()].reshape(tokens.shape)
            total = total + self.prior * network.prior.loss(tokens, wanted, noise)
        return total

    def _contrast(
        self, sides: tuple[Tensor, Tensor, Tensor], same: Tensor | None, mixture: Mixed | None
    ) -> Tensor:
        options: dict[str, Any] = {"normalise": self.normalise, "same": same}
        if mixture is None:
            return CONTRASTS[self.loss](*sides, **options)
        return bi_mixco(*sides, mixture.partner, mixture.share, **options)


def _joined(mixtures: Sequence[Mixed]) -> Mixed | None:
    """Put the partners and shares of several people's mixtures together."""
    if not mixtures:
        return None
    partner = torch.cat([one.partner for one in mixtures])
    return Mixed(mixtures[0].values, partner, torch.cat([one.share for one in mixtures]))


def _mix(targets: Tensor, mixture: Mixed) -> Tensor:
    """Mix targets as the responses were mixed."""
    share = mixture.share[:, None]
    return share * targets + (1 - share) * targets[mixture.partner]
