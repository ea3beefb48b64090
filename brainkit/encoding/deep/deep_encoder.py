"""The base of every encoder that is trained by gradient descent.

A subclass says which torch module it is; checking, standardising, holding images out, training,
early stopping, resuming, predicting and saving are the same for all and stand here.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from brainkit.arrays.array_likes import unmasked
from brainkit.arrays.devices import pick_device, pick_precision
from brainkit.arrays.digest import content_digest
from brainkit.arrays.seeds import rng
from brainkit.encoding.deep.rows import (
    Epochs,
    Float,
    Index,
    TokenRows,
    as_targets,
    as_tokens,
    chunks,
    fit_scale,
    hold_out,
    resolve_grid,
    rows_digest,
    standard_tensors,
    standardise,
)
from brainkit.errors import CorruptFileError, InputError, unknown_name
from brainkit.evaluation.response_scores import pearson_r, r2
from brainkit.linear.folds import group_codes
from brainkit.training import Report, Schedule, Step, train
from brainkit.training.losses import REGRESSION_LOSSES
from brainkit.training.module_state import load_weights, weights_of

# -- the parameters that deep encoders share -------------------------------------------------------


class Training(TypedDict, total=False):
    """Parameters of every deep encoder; `brainkit.encoding.deep.DeepEncoder` describes them."""

    loss: str
    epochs: int
    batch_size: int
    learning_rate: float
    final_rate: float
    clip: float
    weight_decay: float
    average: float | None
    validation: float
    patience: int
    seed: int
    device: str
    precision: str
    grid: tuple[int, int] | None
    folder: str | Path | None
    progress: bool


# -- the encoder -----------------------------------------------------------------------------------


FORMAT = 1
# Parameters that change no weight, or whose part in them the schedule of the training knows.
WITHOUT_EFFECT = frozenset({"folder", "progress", "device", "epochs", "patience", "precision"})


class DeepEncoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Encoder from token features to responses, trained by gradient descent.

    Features (n, token, feature) are the tokens of a map, row by row; without a class token, where
    a subclass does not say otherwise.
    Features and targets are standardised by the statistics of the training rows, which `predict`
    undoes. A share of the images is held out of training; after each epoch the mean over targets
    of Pearson's r on them is taken, and the weights of the best epoch are kept.

    A subclass writes `_module`, and where it needs to `_loss`, `_penalty` and `_initialise`. Its
    ``__init__`` takes its own parameters by name and the shared ones as
    ``**training: Unpack[Training]``. What it sets in `fit` under a name that ends in ``_``
    (numbers, text, arrays and containers of them) is saved and loaded with it, and is there before
    `_module` is called again.

    Parameters
    ----------
    loss : {"mse", "ccc", "mse+ccc"}
        What the training makes small: the mean squared error; one less the concordance correlation
        of all standardised responses of a batch (`brainkit.training.losses.concordance_loss`); or
        their sum.
    epochs : int, default=30
        At most; fewer where the validation score stops rising.
    batch_size : int, default=32
        Rows in a step.
    learning_rate : float, default=1e-3
        Of AdamW, after a warm-up; falls along a cosine.
    final_rate : float, default=0.02
        What the learning rate falls to, as a share of it; 1 keeps it.
    clip : float, default=1.0
        Largest norm of the gradient.
    weight_decay : float, default=0.01
        Of matrices and kernels.
    average : float, optional
        Decay of a running mean of the weights, which is judged and kept in place of them.
    validation : float, default=0.1
        Share of the groups (images) held out for early stopping; 0 trains for all epochs.
    patience : int, default=5
        Epochs without a better validation score before training stops.
    seed : int, default=0
    device : str, default="auto"
        A GPU if there is one.
    precision : {"auto", "float32", "bfloat16"}
        Of matrix products in training; "auto" is bfloat16 on a GPU. Weights, validation and
        predictions are in float32.
    grid : (int, int), optional
        Rows and columns of the map; a square where not given.
    folder : path, optional
        Where the states of trainings are kept, each fit's in a sub-folder of its own, which the
        rows of the data in their order, the groups, the images held out, the parameters and the
        seed name. An interrupted fit goes on from there and ends with the same weights; a fit that
        differs in anything, as those of other folds, of a null or of other responses do, begins
        anew beside it. So one folder serves any number of fits, clones and processes.
    progress : bool, default=True
        Show loss and score while it takes longer than two seconds.

    Attributes
    ----------
    module_ : torch.nn.Module
        In evaluation mode, with the weights of the best epoch; from standardised features to
        standardised responses.
    report_ : brainkit.training.Report
        Trained and frozen parameters, losses, scores, seconds.
    validation_r_ : array (n_targets,)
        Pearson's r on the images held out, with the weights kept; NaN without validation.
    best_epoch_ : int
        The epoch, counted from 1, whose weights are kept.
    scale_ : dict of str to array
        The training statistics.
    grid_ : (int, int)
    device_, dtype_ : str
        Where the module is, and what its weights and predictions are in; `report_` says on which
        devices the steps of the training ran.
    precision_ : str
        Of matrix products in training, as it ran.
    batch_size_ : int
    n_features_in_, n_tokens_, n_targets_ : int
    """

    # Names of parts that have to be trained: an error if one is frozen, missing or unused.
    trained_parts: ClassVar[Sequence[str]] = ()

    def __init__(  # noqa: PLR0913 - scikit-learn: one argument for each parameter
        self,
        *,
        loss: str = "mse",
        epochs: int = 30,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        final_rate: float = 0.02,
        clip: float = 1.0,
        weight_decay: float = 0.01,
        average: float | None = None,
        validation: float = 0.1,
        patience: int = 5,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        grid: tuple[int, int] | None = None,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.final_rate = final_rate
        self.clip = clip
        self.weight_decay = weight_decay
        self.average = average
        self.validation = validation
        self.patience = patience
        self.seed = seed
        self.device = device
        self.precision = precision
        self.grid = grid
        self.folder = folder
        self.progress = progress

    @classmethod
    def _get_param_names(cls) -> list[str]:
        """Return scikit-learn's parameters: a subclass's own and those of this class."""
        names = set()
        for kind in cls.__mro__:
            if issubclass(kind, DeepEncoder) and "__init__" in vars(kind):
                signature = inspect.signature(vars(kind)["__init__"]).parameters.values()
                names |= {p.name for p in signature if p.kind is not p.VAR_KEYWORD} - {"self"}
        return sorted(names)

    # ------------------------------------------------------------------- what a subclass writes

    def _module(self, n_tokens: int, n_features: int, n_targets: int) -> nn.Module:
        """Return the untrained module: ``forward(x)``, (batch, token, feature) → (batch, target).

        Called with torch's generator seeded. `grid_` is set.
        """
        raise TypeError(f"{type(self).__name__} does not say which module it trains (_module).")

    def _n_global(self) -> int:
        """Return how many tokens, before those of the map, stand for the whole image."""
        return 0

    def _loss(self, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of a batch of standardised features and responses, a scalar."""
        return REGRESSION_LOSSES[self.loss](module(x).float(), y)

    def _penalty(self, module: nn.Module) -> Tensor:
        """Return what is added to the loss for the weights alone, a scalar."""
        return torch.zeros((), device=next(module.parameters()).device)

    def _initialise(self, module: nn.Module, rows: TokenRows) -> None:
        """Start the module from the training rows, where a better start is known, in place."""

    # ------------------------------------------------------------------------------------- fit

    def fit(
        self,
        X: Any,
        Y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Self:
        """Train the module.

        Parameters
        ----------
        X : array (n_samples, n_tokens, n_features)
            May be a memory map; rows are read a batch at a time.
        Y : array (n_samples, n_targets) or (n_samples,)
        groups : array (n_samples,), optional
            Samples of one group, such as the repeats of an image, are held out together.
        runs : array (n_samples,), optional
            Used as groups where none are given.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If the data hold NaN, a target is constant, the tokens make no map, rows do not match,
            or there is no such device.
        """
        self._check_parameters()
        tokens = as_tokens(X)
        targets = as_targets(Y, len(tokens))
        device = pick_device(self.device)
        precision = pick_precision(self.precision, device)
        n_samples, self.n_tokens_, self.n_features_in_ = (int(size) for size in tokens.shape)
        self.n_targets_, self.single_target_ = targets.shape[1], np.ndim(Y) == 1
        self.grid_ = resolve_grid(self.grid, self.n_tokens_ - self._n_global())
        images = runs if groups is None else groups
        held = hold_out(n_samples, self.validation, images, self.seed)
        training = np.setdiff1d(np.arange(n_samples), held)
        scale = fit_scale(tokens, targets, training, held)
        self.scale_ = asdict(scale)
        rows, judged = (TokenRows(tokens, targets, r, scale, device) for r in (training, held))
        identity = None
        if self.folder is not None:
            codes = group_codes(images, n_samples)
            identity = self._identity(rows_digest(tokens, targets, codes, held))
        module = self._build().to(device)
        self._initialise(module, rows)
        self.report_ = self._train(module, rows, judged, precision, identity)
        self.module_, self.device_, self.dtype_ = module, str(device), "float32"
        self.precision_, self.batch_size_ = precision, self.batch_size
        self.validation_r_ = self._validation_r(module, judged)
        best = self.report_.best_step or self.report_.steps
        self.best_epoch_ = -(-best // Epochs(len(rows), self.batch_size, self.seed).steps)
        return self

    def _check_parameters(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            value = getattr(self, name)
            if value != int(value) or value < 1:
                raise InputError(f"{name} must be a whole number from 1; got {value!r}.")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise InputError(
                f"learning_rate must be above 0 and weight_decay 0 or more; got "
                f"{self.learning_rate!r} and {self.weight_decay!r}."
            )
        if not 0 <= self.final_rate <= 1 or not self.clip > 0:
            raise InputError(
                f"final_rate is a share from 0 to 1 and clip is above 0; got {self.final_rate!r} "
                f"and {self.clip!r}."
            )
        if self.loss not in REGRESSION_LOSSES:
            raise unknown_name("loss", self.loss, tuple(REGRESSION_LOSSES))

    def _build(self) -> nn.Module:
        """Return the module with the first weights that the seed gives, on the CPU."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng(self.seed, "weights").integers(2**62)))
            return self._module(self.n_tokens_, self.n_features_in_, self.n_targets_)

    def _train(
        self,
        module: nn.Module,
        rows: TokenRows,
        judged: TokenRows,
        precision: str,
        identity: dict[str, Any] | None,
    ) -> Report:
        drawn = Epochs(len(rows), self.batch_size, self.seed)
        steps = drawn.steps * self.epochs
        schedule = Schedule(
            steps=steps,
            learning_rate=self.learning_rate,
            final=self.final_rate,
            clip=self.clip,
            warmup=min(100, steps // 10),
            weight_decay=self.weight_decay,
            average=self.average,
            precision=precision,
            seed=self.seed,
            checkpoint_every=drawn.steps,
            validate_every=drawn.steps,
            patience=self.patience if len(judged) else None,
        )

        def loss(current: nn.Module, step: Step) -> Tensor:
            x, y = rows.batch(drawn.numbers(step.number))
            return self._loss(current, x, y) + self._penalty(current)

        return train(
            module,
            loss,
            schedule,
            folder=self.folder,
            validate=self._judge(judged) if len(judged) else None,
            description=type(self).__name__,
            parts=self.trained_parts,
            identity=identity,
            progress=self.progress,
        )

    def _identity(self, data: str) -> dict[str, Any]:
        """Return what the weights depend on beyond the schedule, for checkpoints.

        Parameters
        ----------
        data : str
            The digest of all rows, see `rows_digest`.
        """
        parameters = self.get_params(deep=False)
        return {
            "estimator": f"{type(self).__module__}.{type(self).__qualname__}",
            "parameters": {
                name: content_digest(value)
                for name, value in parameters.items()
                if name not in WITHOUT_EFFECT
            },
            "data": data,
        }

    def _judge(self, judged: TokenRows) -> Callable[[nn.Module], float]:
        def score(module: nn.Module) -> float:
            r = self._validation_r(module, judged)
            return float(np.nanmean(r)) if np.isfinite(r).any() else 0.0

        return score

    def _validation_r(self, module: nn.Module, judged: TokenRows) -> NDArray[np.float64]:
        """Return each target's r; 0 for a constant prediction, NaN for a constant truth."""
        if not len(judged):
            return np.full(self.n_targets_, np.nan)
        pairs = []
        with torch.no_grad():
            for x, y in judged.batches(self.batch_size):
                pairs.append((y.cpu().numpy(), module(x).float().cpu().numpy()))
        truth, predicted = (np.concatenate(side) for side in zip(*pairs, strict=True))
        r = np.asarray(pearson_r(truth, predicted), dtype=np.float64)
        return np.where(np.isnan(r) & (np.ptp(truth, axis=0) > 0), 0.0, r)

    # --------------------------------------------------------------------------------- predict

    def _standardised(self, tokens: Any) -> Iterator[tuple[Index, Tensor]]:
        """Go through new rows in batches of row numbers and standardised tokens, in order.

        For predictions, and for what else a subclass reads from the module, such as attention.
        """
        device = torch.device(self.device_)
        moments = standard_tensors(self.scale_["x_mean"], self.scale_["x_scale"], device)
        for rows, values in chunks(tokens, np.arange(len(tokens)), self.batch_size):
            yield rows, standardise(torch.from_numpy(values).to(device), moments)

    def predict(self, X: Any) -> Float:
        """Predict the responses, in batches.

        Parameters
        ----------
        X : array (n_samples, n_tokens, n_features)

        Returns
        -------
        float32 array (n_samples, n_targets), or (n_samples,) if fitted so

        Raises
        ------
        InputError
            If X has other tokens or features than in `fit`, or holds NaN.
        """
        check_is_fitted(self, "module_")
        tokens = as_tokens(X, self.n_tokens_, self.n_features_in_)
        predicted = np.empty((len(tokens), self.n_targets_), dtype=np.float32)
        self.module_.eval()
        with torch.no_grad():
            for rows, x in self._standardised(tokens):
                predicted[rows] = self.module_(x).float().cpu().numpy()
        predicted = predicted * self.scale_["y_scale"] + self.scale_["y_mean"]
        return predicted[:, 0] if self.single_target_ else predicted

    def score_targets(self, X: Any, Y: ArrayLike) -> NDArray[np.float64]:
        """Return R² of each target, (n_targets,); NaN for a constant one."""
        predicted = self.predict(X).reshape(len(X), -1)
        truth = np.asarray(unmasked(Y, "Y")).reshape(len(X), -1)
        return np.asarray(r2(truth, predicted), dtype=np.float64)

    def score(self, X: Any, Y: ArrayLike) -> float:
        """Return the mean over targets of `score_targets`; NaN if all targets are constant."""
        scores = self.score_targets(X, Y)
        scores = scores[np.isfinite(scores)]
        return float(scores.mean()) if scores.size else float("nan")

    # ----------------------------------------------------------------------------------- files

    def __brainkit_state__(self) -> dict[str, Any]:
        """Return what `brainkit.save_estimator` keeps beside the parameters."""
        if not hasattr(self, "module_"):
            return {"format": FORMAT}
        attributes = {"module_", "report_"}
        return {
            "format": FORMAT,
            "fitted": {
                name: value
                for name, value in vars(self).items()
                if name.endswith("_") and not name.startswith("_") and name not in attributes
            },
            "report": asdict(self.report_),
            "module": weights_of(self.module_),
        }

    def __brainkit_restore__(self, state: dict[str, Any]) -> None:
        """Take back what `__brainkit_state__` gave; a GPU is used where there is one and wanted."""
        if state["format"] != FORMAT:
            raise CorruptFileError(
                f"This {type(self).__name__} was saved in format {state['format']}; this brainkit "
                f"reads {FORMAT}. Fit it anew, or load it with the version that saved it."
            )
        if "module" not in state:
            return
        for name, value in state["fitted"].items():
            if not name.endswith("_") or name.startswith("_"):
                raise CorruptFileError(f"{name} is not the name of a fitted attribute.")
            setattr(self, name, value)
        module = self._build()
        load_weights(module, state["module"], type(self).__name__)
        here = self.device != "cpu" and torch.cuda.is_available()
        device = pick_device(self.device) if here else torch.device("cpu")
        self.module_ = module.to(device).eval()
        self.device_ = str(device)
        self.report_ = Report.from_dict(state["report"])
