r"""ContrastiveDecoder: responses of one or several people → embeddings, trained by contrast.

A person's layer maps units to what people share, a backbone and two heads that serve everybody make
two vectors of it: an *embedding*, trained by squared error, to generate from; and one to *retrieve*
by, trained by contrast with the image side, which is trained too.

    responses ─ layer of the person ─▶ shared ─ backbone ─┬─ embedding head ─▶ ê       (squared error)
                                                          └─ retrieval head ─▶ r ┐
    embeddings of the images, standardised ─ image side ────────────────────▶ t ┴ contrast

With few thousand images a layer of a person has many more weights than there are numbers to learn
them from, and trained by contrast it learns its training trials by heart. `start="ridge"`
therefore fits each person's layer in closed form and trains what is shared on what these layers
give for images that they had *not* seen (`brainkit.linear.out_of_fold`). `start="random"` trains
everything at once, as published.
"""  # noqa: E501

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from brainkit.alignment.person_units import (
    PersonUnits,
    TuningClusters,
)
from brainkit.alignment.trained import TRAINED
from brainkit.arrays.array_likes import as_array
from brainkit.arrays.devices import pick_device, pick_precision
from brainkit.arrays.digest import content_digest
from brainkit.arrays.seeds import rng
from brainkit.decoding.contrastive_network import (
    ROWS_AT_ONCE,
    ContrastiveNetwork,
    ImageSideKind,
    Objective,
    build_network,
    check_settings,
)
from brainkit.decoding.people_rows import (
    PersonScale,
    TrainingRows,
    checked_pairs,
    held_out_images,
    image_numbers,
    units_in_use,
    whose_rows,
)
from brainkit.decoding.ridge_start import SharedVectors, fit_layer
from brainkit.decoding.spread import spread_gain, standard_scores, to_length
from brainkit.errors import CorruptFileError, InputError, listed
from brainkit.linear.out_of_fold import StackedRidge
from brainkit.training import Report, Schedule, Step, train
from brainkit.training.contrastive import Normalised, similarity
from brainkit.training.module_state import load_weights, only_trained, weights_of

Array = NDArray[Any]
Float = NDArray[np.float32]
RIDGE_ALPHAS = tuple(float(alpha) for alpha in np.geomspace(100, 1e6, 9))
FORMAT = 1
WITHOUT_EFFECT = frozenset({"folder", "progress", "device", "precision"})


class ContrastiveDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Decoder from responses to embeddings, by contrast, for one person or several at once.

    With r the retrieval vectors and t those of the image side, ê the predicted and z the true
    standardised embeddings, the loss of a batch is

    .. math::
        \lambda_c\, C(r, t) + \lambda_r\, \mathrm{mean}(\hat e - z)^2
        + \lambda_{\cos} \big(1 - \cos(\hat e, z)\big) + \text{what the alignment adds}

    C is InfoNCE or SoftCLIP with a learned temperature, and BiMixCo for the first `mix` of the
    steps. Where several people saw an image, all pairs of it are right answers.

    A share of the images is held out; the weights with the best validation score (less the loss
    above) are kept, or with ``validation=0`` those after all steps: `checkpoint_` says which.

    Parameters
    ----------
    alignment : str, default="subject-layer"
        What maps a person's units to what people share, see `brainkit.alignment.trained`.
    alignment_settings, backbone_settings : mapping, optional
        Their parameters, such as ``{"width": 4096}``.
    backbone : str, default="residual-gelu"
        See `brainkit.decoding.brain_backbones`.
    heads : mapping, optional
        ``{"embedding": {"kind": ..., ...}, "retrieval": {...}}``, see
        `brainkit.decoding.decoder_heads`. Both are linear where not given.
    start : {"ridge", "random"}, default="ridge"
        Whether a person's layer is fitted by ridge to the standardised embeddings, which makes the
        shared vector as wide as these, or is trained with everything else.
    image_side : {"fixed", "linear", "residual"}, default="residual"
        What is trained on the side of the images: nothing, a linear map, or a residual network
        after it.
    fused_width : int, default=0
        How many of the last columns of the embeddings are those of further networks, which are
        retrieved by and not given by `predict`. With a trained image side this is the fused target
        of Brain-HIVE.
    loss : {"info-nce", "soft-clip"}, default="info-nce"
    normalise : {"both", "image", "brain", "none"}, default="both"
        Which side of the contrast is brought to unit length.
    mix : float, default=0
        Share of the steps, the first, in which responses are mixed and BiMixCo is the contrast;
        1/3 in MindEye. Not with ``start="ridge"``, whose responses are mapped already.
    contrast, regression, cosine : float, default=1, 1, 0
        The weights :math:`\lambda`.
    prior : mapping, optional
        Parameters of a `brainkit.decoding.diffusion_prior.DiffusionPrior`, trained beside, which
        draws the embeddings that `predict` gives; with it nothing is done about their spread.
    prior_weight : float, default=30
        Of its loss, as in MindEye.
    prior_steps : int, default=20
        Of drawing.
    spread : {"dimension", "whole", None}, default="whole"
        How predicted embeddings get back the spread that true ones have, see
        `brainkit.reconstruction.EmbeddingDecoder`: from predictions for training images that the
        weights had not seen.
    renormalise : bool, default=True
        Bring each prediction to the mean length of the training embeddings.
    new_person : {"joint", "adapter"}, default="joint"
        With several people: whether the last of them to be named (the tested person) is trained
        together with the others, or added after the training of the others, by its own layer alone.
    alphas : sequence of float
        Candidate penalties of ``start="ridge"``.
    cv : int, default=5
        Folds of it; images stay whole.
    steps, batch_size : int, default=600, 512
    learning_rate, final_rate, weight_decay, clip, average, precision
        See `brainkit.training.Schedule`.
    dropout : float, default=0.3
        Of the image side, and of the backbone where its settings do not say.
    validation : float, default=0.1
        Share of the images held out to choose the checkpoint.
    patience : int, optional
        Validations without a better score before training stops; never where not given.
    seed : int, default=0
    device : str, default="auto"
    positions : mapping of str to array (n_units, 3), optional
        Where each person's units are, in millimetres, for alignment by it.
    folder : path, optional
        Where states of trainings are kept, see `brainkit.training.train`.
    progress : bool, default=True

    Attributes
    ----------
    module_ : ContrastiveNetwork
    subjects_ : tuple of str
        People, in the order of their layers.
    people_ : dict of str to PersonScale
        Columns of X that are each person's, those that vary, and their statistics.
    mean_, scale_ : array (width,)
        Of the training embeddings.
    predicted_mean_, predicted_scale_, gain_ : array (width,)
        See `brainkit.reconstruction.EmbeddingDecoder`.
    norm_ : float
    alpha_ : dict of str to float
        Penalty of each person's layer, with ``start="ridge"``.
    shared_ : SharedVectors
        With ``start="ridge"``: what people's layers give of each image, for people to come.
    clusters_ : dict of str to array
        Of alignments by clusters of units: see `brainkit.alignment.person_units.TuningClusters`.
    report_ : brainkit.training.Report
    checkpoint_ : str
        Which weights were kept, and by what.
    device_, dtype_, batch_size_
        What ran.

    References
    ----------
    Scotti et al. (2023, 2024), MindEye and MindEye2. Brain-HIVE (ICLR 2026), for the image side.
    """

    def __init__(  # noqa: PLR0913 - scikit-learn: one argument for each parameter
        self,
        alignment: str = "subject-layer",
        backbone: str = "residual-gelu",
        *,
        alignment_settings: dict[str, Any] | None = None,
        backbone_settings: dict[str, Any] | None = None,
        heads: dict[str, Any] | None = None,
        start: Literal["ridge", "random"] = "ridge",
        image_side: ImageSideKind = "residual",
        fused_width: int = 0,
        loss: str = "info-nce",
        normalise: Normalised = "both",
        mix: float = 0.0,
        contrast: float = 1.0,
        regression: float = 1.0,
        cosine: float = 0.0,
        prior: dict[str, Any] | None = None,
        prior_weight: float = 30.0,
        prior_steps: int = 20,
        spread: Literal["dimension", "whole"] | None = "whole",
        renormalise: bool = True,
        new_person: Literal["joint", "adapter"] = "joint",
        alphas: Sequence[float] = RIDGE_ALPHAS,
        cv: int = 5,
        steps: int = 600,
        batch_size: int = 512,
        learning_rate: float = 1e-3,
        final_rate: float = 0.0,
        weight_decay: float = 0.05,
        clip: float = 1.0,
        average: float | None = None,
        dropout: float = 0.3,
        validation: float = 0.1,
        patience: int | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        positions: Any = None,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        self.alignment = alignment
        self.backbone = backbone
        self.alignment_settings = alignment_settings
        self.backbone_settings = backbone_settings
        self.heads = heads
        self.start = start
        self.image_side = image_side
        self.fused_width = fused_width
        self.loss = loss
        self.normalise = normalise
        self.mix = mix
        self.contrast = contrast
        self.regression = regression
        self.cosine = cosine
        self.prior = prior
        self.prior_weight = prior_weight
        self.prior_steps = prior_steps
        self.spread = spread
        self.renormalise = renormalise
        self.new_person = new_person
        self.alphas = alphas
        self.cv = cv
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.final_rate = final_rate
        self.weight_decay = weight_decay
        self.clip = clip
        self.average = average
        self.dropout = dropout
        self.validation = validation
        self.patience = patience
        self.seed = seed
        self.device = device
        self.precision = precision
        self.positions = positions
        self.folder = folder
        self.progress = progress

    # ---------------------------------------------------------------------------------- network

    def network(self, people: Mapping[str, PersonUnits], width: int) -> ContrastiveNetwork:
        """Return the untrained network of some people, for embeddings of a width.

        Under ``torch.device("meta")`` it takes no memory, which is how published sizes are counted.
        """
        settings = dict(self.alignment_settings or {})
        if self.start == "ridge":
            settings["width"] = width + self.fused_width
        return build_network(
            people,
            width,
            alignment=(self.alignment, settings),
            backbone=(self.backbone, self.backbone_settings or {}),
            heads=self.heads or {},
            image_side=self.image_side,
            fused_width=self.fused_width,
            prior=self.prior,
            dropout=self.dropout,
            identity=self.start == "ridge",
        )

    # -------------------------------------------------------------------------------------- fit

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
        people: ArrayLike | None = None,
    ) -> Self:
        """Train on everyone's rows.

        Parameters
        ----------
        X : array (n_samples, n_units)
            Responses. Of people with fewer units than others the columns beyond theirs are 0.
        y : array (n_samples, width)
            Embeddings of what was shown.
        groups : array (n_samples,), optional
            Image of each row: its rows stay in one fold, and are right answers for each other.
        runs : array (n_samples,), optional
            Used as groups where none are given.
        people : array of str (n_samples,), optional
            Whose each row is; one person's all of them where not given.

        Raises
        ------
        InputError
            If data hold NaN, shapes do not fit, a setting is out of range, or a person has fewer
            images than there are folds.
        """
        check_settings(self.get_params(deep=False))
        X, Z, whose = checked_pairs(X, y, people)
        images = image_numbers(runs if groups is None else groups, len(X))
        self.subjects_ = tuple(str(name) for name in dict.fromkeys(whose))
        self.people_: dict[str, PersonScale] = {}
        self.alpha_: dict[str, float] = {}
        self.clusters_: dict[str, Array] = {}
        last = self.subjects_[-1]
        apart = self.new_person == "adapter" and len(self.subjects_) > 1
        first = whose != last if apart else np.ones(len(X), dtype=bool)
        if apart:
            self.subjects_ = self.subjects_[:-1]
        self._fit_targets(Z[first])
        self._train_all(X[first], Z[first], images[first], whose[first])
        if apart:
            self.add_subject(X[~first], Z[~first], last, groups=images[~first])
        return self

    def add_subject(
        self, X: ArrayLike, y: ArrayLike, subject: str, groups: ArrayLike | None = None
    ) -> Self:
        """Add a new person by a layer of its own; every other weight stays as it is, bit for bit.

        Parameters
        ----------
        X : array (n_samples, n_units)
            The new person's responses.
        y : array (n_samples, width)
            Embeddings of what was shown, of the same network as in `fit`.
        subject : str
        groups : array (n_samples,), optional
            Image of each row, by the numbers that `fit` was given: with ``start="ridge"`` what
            others' brains gave for it is learned from, where it is known of enough images.

        Raises
        ------
        InputError
            If the person is there already, embeddings have another width, or rows are too few.
        """
        check_is_fitted(self, "module_")
        if subject in self.subjects_:
            raise InputError(
                f"{subject!r} is among this decoder's people already: {listed(self.subjects_)}."
            )
        X, Z, _ = checked_pairs(X, y)
        if Z.shape[1] != len(self.mean_):
            raise InputError(
                f"This decoder was trained on embeddings {len(self.mean_)} wide; got {Z.shape[1]}."
            )
        images = image_numbers(groups, len(X))
        self.subjects_ = (*self.subjects_, subject)
        targets = self.standardise(Z)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng(self.seed, "weights", subject).integers(2**62)))
            responses = self._read_person(subject, X)
            described = self._describe({subject: responses}, {subject: targets})
            self._alignment().add_subject(subject, described[subject])
        if self.start == "ridge":
            folds = tuple(self.alphas), self.cv
            fit = self.shared_.fit_new(subject, responses, targets, images, *folds)
            self._set_layer(subject, fit)
            return self
        mine = self.module_.brain.of_subject(subject)
        if not mine:  # where units are says it all
            return self
        rows = self._rows((subject,), [responses], targets, images)
        with only_trained(self.module_, [f"brain.{name}" for name in mine]):
            self._train(rows, images, f"adapter of {subject}")
        return self

    def _fit_targets(self, Z: Float) -> None:
        self.mean_ = Z.mean(axis=0, dtype=np.float64).astype(np.float32)
        deviation = Z.std(axis=0, dtype=np.float64)
        self.scale_ = np.where(deviation > 0, deviation, 1.0).astype(np.float32)
        lengths = np.linalg.norm(self._predicted(Z), axis=1)
        self.norm_ = float(lengths.mean(dtype=np.float64))

    def _predicted(self, embeddings: Float) -> Float:
        """Return the columns that are predicted: all but those of further, fused networks."""
        return embeddings[..., : embeddings.shape[-1] - self.fused_width]

    def standardise(self, embeddings: ArrayLike) -> Float:
        """Return embeddings less the training mean, over the training standard deviation."""
        return standard_scores(embeddings, self.mean_, self.scale_)

    def _read_person(self, subject: str, X: Float) -> Float:
        """Keep which columns are a person's and their statistics; return them standardised."""
        scale = PersonScale.of(subject, X)
        self.people_ = {**self.people_, subject: scale}
        return scale(X)

    def _describe(
        self, responses: Mapping[str, Float], targets: Mapping[str, Float]
    ) -> dict[str, PersonUnits]:
        """Return what is known of people's units, with clusters by tuning where they are needed."""
        units = {name: units_in_use(self.positions, self.people_[name]) for name in responses}
        if self.alignment not in TRAINED or not TRAINED[self.alignment].needs_clusters:
            return units
        if not self.clusters_:
            n_clusters = int((self.alignment_settings or {}).get("n_clusters", 128))
            fitted = TuningClusters.fit(responses, targets, n_clusters, seed=self.seed)
            self.clusters_ = fitted.as_arrays()
        clusters = TuningClusters.from_arrays(self.clusters_)
        return {
            name: replace(one, clusters=clusters.assign(responses[name], targets[name]))
            for name, one in units.items()
        }

    def _train_all(self, X: Float, Z: Float, images: Array, whose: Array) -> None:
        targets = self.standardise(Z)
        number = np.array([self.subjects_.index(name) for name in whose])
        members = [np.flatnonzero(number == k) for k in range(len(self.subjects_))]
        responses = [
            self._read_person(name, X[rows])
            for name, rows in zip(self.subjects_, members, strict=True)
        ]
        device = pick_device(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng(self.seed, "weights").integers(2**62)))
            shown = [targets[rows] for rows in members]
            described = self._describe(
                *(dict(zip(self.subjects_, side, strict=True)) for side in (responses, shown))
            )
            self.module_ = self.network(described, Z.shape[1] - self.fused_width).to(device)
        self.device_, self.dtype_ = str(device), "float32"
        self.module_.freeze_unused(self._objective())
        order = np.concatenate(members)
        if self.start == "ridge":
            for k, (name, mine) in enumerate(zip(self.subjects_, members, strict=True)):
                known = targets[mine], images[mine]
                fit = fit_layer(name, responses[k], *known, tuple(self.alphas), self.cv)
                self._set_layer(name, fit)
                responses[k] = fit.predictions
            self._alignment().requires_grad_(False)
            self.shared_ = SharedVectors.of(np.concatenate(responses), images[order])
        rows = self._rows(self.subjects_, responses, targets[order], images[order])
        held = self._train(rows, images[order], type(self).__name__)
        self._calibrate(rows, held)

    def _set_layer(self, subject: str, fit: StackedRidge) -> None:
        """Put a closed-form fit in place of a person's layer."""
        self.alpha_ = {**self.alpha_, subject: fit.alpha}
        layer: Any = self._alignment().people[self.subjects_.index(subject)]
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(fit.coef))
            layer.bias.copy_(torch.from_numpy(fit.intercept))

    def _alignment(self) -> Any:
        return self.module_.brain.alignment

    def _rows(
        self, people: Sequence[str], responses: Sequence[Float], targets: Float, images: Array
    ) -> TrainingRows:
        return TrainingRows.of(
            people, responses, targets, images,
            aligned=self.start == "ridge", device=torch.device(self.device_),
        )  # fmt: skip

    def _train(self, rows: TrainingRows, images: Array, description: str) -> Array:
        """Train what requires a gradient; return the rows that were held out."""
        held = held_out_images(images, self.validation, self.seed)
        training = np.setdiff1d(np.arange(len(images)), held)
        size = self.batch_size_ = min(self.batch_size, len(training))
        every = max(1, min(50, self.steps // 4))
        self.precision_ = pick_precision(self.precision, torch.device(self.device_))
        schedule = Schedule(
            steps=self.steps,
            learning_rate=self.learning_rate,
            final=self.final_rate,
            warmup=min(50, self.steps // 10),
            weight_decay=self.weight_decay,
            clip=self.clip,
            average=self.average,
            precision=self.precision_,
            seed=self.seed,
            checkpoint_every=max(every, 200),
            validate_every=every,
            patience=(self.patience or self.steps) if len(held) else None,  # keeps the best
        )
        objective = self._objective()
        n_mixed, judged = round(self.mix * self.steps), torch.from_numpy(held)

        def loss(network: nn.Module, step: Step) -> torch.Tensor:
            chosen = np.sort(step.rng("rows").choice(training, size, replace=False))
            noise = step.generator
            mixing = noise if step.number < n_mixed else None
            return objective(network, rows, torch.from_numpy(chosen), noise, mixing)

        def validate(network: nn.Module) -> float:
            return -float(objective(network, rows, judged, torch.Generator().manual_seed(0)))

        self.report_ = train(
            self.module_,
            loss,
            schedule,
            folder=self.folder,
            validate=validate if len(held) else None,
            description=description,
            identity=None if self.folder is None else self._identity(rows, held),
            progress=self.progress,
        )
        self.checkpoint_ = f"after all of {self.report_.steps} steps, a fixed schedule"
        if len(held):
            self.checkpoint_ = (
                f"after step {self.report_.best_step} of {self.steps}, the best by the loss on "
                f"{len(np.unique(images[held]))} training images held out"
            )
        return held

    def _objective(self) -> Objective:
        weights = (self.contrast, self.regression, self.cosine, self.prior_weight)
        return Objective(self.loss, self.normalise, *weights)

    def _identity(self, rows: TrainingRows, held: Array) -> dict[str, Any]:
        """Return what the weights depend on beyond the schedule, for checkpoints."""
        parameters = self.get_params(deep=False)
        arrays = [rows.person, *rows.responses, rows.targets, rows.image]
        weights = weights_of(self.module_)
        return {
            "estimator": type(self).__qualname__,
            "parameters": {
                name: content_digest(value)
                for name, value in parameters.items()
                if name not in WITHOUT_EFFECT
            },
            "people": list(rows.people),
            "data": content_digest([array.cpu().numpy() for array in arrays], held, weights),
        }

    # --------------------------------------------------------------------------------- predict

    def _calibrate(self, rows: TrainingRows, held: Array) -> None:
        """Measure how much predictions shrink, on images that the weights had not seen."""
        which = held if len(held) else np.arange(len(rows.targets))
        self.module_.eval()
        predicted = self.module_.decoded(rows, torch.from_numpy(which), "embedding")
        self.predicted_mean_ = predicted.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.predicted_scale_ = predicted.std(axis=0, dtype=np.float64).astype(np.float32)
        self.gain_ = spread_gain(self.predicted_scale_, self.spread)

    def _outputs(self, X: ArrayLike, people: Any, head: str) -> Float:
        """Return what a head gives, (n, width), person by person and in batches."""
        check_is_fitted(self, "module_")
        responses = as_array(X, "X")
        names = whose_rows(people, len(responses), self.subjects_)
        device = torch.device(self.device_)
        out: Float | None = None
        self.module_.eval()
        with torch.no_grad():
            for name in dict.fromkeys(names):
                mine = np.flatnonzero(names == name)
                values = self.people_[str(name)](responses[mine])
                for start in range(0, len(mine), ROWS_AT_ONCE):
                    part = slice(start, start + ROWS_AT_ONCE)
                    tensor = torch.from_numpy(values[part]).to(device)
                    aligned = self.module_.brain.align(tensor, name)
                    given = self.module_.brain.decode(aligned, [head])[head].flatten(1)
                    if out is None:
                        out = np.empty((len(responses), given.shape[1]), dtype=np.float32)
                    out[mine[part]] = given.float().cpu().numpy()
        if out is None:
            raise InputError("There are no responses to decode: X has no rows.")
        return out

    def predict_standardised(self, X: ArrayLike, people: Any = None) -> Float:
        """Predict what images are retrieved by, as wide as what `retrieval_targets` gives.

        Parameters
        ----------
        X : array (n_samples, n_units)
        people : array of str (n_samples,), optional
            Whose each row is; the person that was named last in `fit`, or added last, where not
            given.

        Returns
        -------
        array (n_samples, width)
        """
        return self._outputs(X, people, "retrieval" if self.contrast else "embedding")

    def retrieval_targets(self, embeddings: ArrayLike) -> Float:
        """Return what embeddings of images become on the image side, to be retrieved by."""
        check_is_fitted(self, "module_")
        targets = self.standardise(embeddings)
        if not self.contrast:
            return self._predicted(targets)
        device = torch.device(self.device_)
        with torch.no_grad():
            parts = [
                self.module_.image(torch.from_numpy(targets[k : k + ROWS_AT_ONCE]).to(device))
                for k in range(0, len(targets), ROWS_AT_ONCE)
            ]
        return np.concatenate([part.flatten(1).float().cpu().numpy() for part in parts])

    def similarity(self, X: ArrayLike, embeddings: ArrayLike, people: Any = None) -> Float:
        """Return the similarities that were trained, (n_samples, n_images)."""
        brain, image = self.predict_standardised(X, people), self.retrieval_targets(embeddings)
        scale = self.module_.temperature().detach().cpu()
        tensors = torch.from_numpy(brain), torch.from_numpy(image)
        return np.asarray(similarity(*tensors, scale, self.normalise).numpy(), dtype=np.float32)

    def predict(self, X: ArrayLike, people: Any = None) -> Float:
        """Predict embeddings with the spread that embeddings have, to generate from.

        A row's prediction depends on that row alone (trap T01).

        Parameters
        ----------
        X, people
            See `predict_standardised`.

        Returns
        -------
        array (n_samples, width)
        """
        if not self.regression and not self.cosine and self.prior is None:
            raise InputError(
                "This decoder was trained by contrast alone (regression=0, cosine=0): it retrieves "
                "images, by predict_standardised, and has no embeddings to generate from."
            )
        predicted = self._outputs(X, people, "embedding")
        if self.prior is not None:
            predicted = self.module_.draw(predicted, self.seed, self.prior_steps)
        elif self.spread is not None:
            predicted = (predicted - self.predicted_mean_) * self.gain_
        scale, mean = self._predicted(self.scale_), self._predicted(self.mean_)
        embeddings = np.asarray(predicted * scale + mean, dtype=np.float32)
        return to_length(embeddings, self.norm_) if self.renormalise else embeddings

    # ----------------------------------------------------------------------------------- files

    def __brainkit_state__(self) -> dict[str, Any]:
        """Return what `brainkit.save_estimator` keeps beside the parameters."""
        if not hasattr(self, "module_"):
            return {"format": FORMAT}
        apart = {"module_", "report_", "people_", "shared_"}
        fitted = {k: v for k, v in vars(self).items() if k.endswith("_") and k not in apart}
        return {
            "format": FORMAT,
            "fitted": fitted,
            "people": {name: asdict(one) for name, one in self.people_.items()},
            "shared": asdict(self.shared_) if self.start == "ridge" else None,
            "report": asdict(self.report_),
            "module": weights_of(self.module_),
        }

    def __brainkit_restore__(self, state: dict[str, Any]) -> None:
        """Take back what `__brainkit_state__` gave."""
        if state["format"] != FORMAT:
            raise CorruptFileError(
                f"This decoder was saved in format {state['format']}; this brainkit reads {FORMAT}."
            )
        if "module" not in state:
            return
        for name, value in state["fitted"].items():
            if not name.endswith("_") or name.startswith("_"):
                raise CorruptFileError(f"{name} is not the name of a fitted attribute.")
            setattr(self, name, value)
        self.subjects_ = tuple(self.subjects_)
        self.people_ = {name: PersonScale(**one) for name, one in state["people"].items()}
        if state["shared"] is not None:
            self.shared_ = SharedVectors(**state["shared"])
        people = {name: units_in_use(self.positions, self.people_[name]) for name in self.subjects_}
        people = {name: one.placeholder() for name, one in people.items()}
        module = self.network(people, len(self._predicted(self.mean_)))
        load_weights(module, state["module"], type(self).__name__)
        here = self.device != "cpu" and torch.cuda.is_available()
        device = pick_device(self.device) if here else torch.device("cpu")
        self.module_, self.device_ = module.to(device).eval(), str(device)
        self.report_ = Report.from_dict(state["report"])
