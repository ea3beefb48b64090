"""RoutingEncoder: each region looks for itself where in the image to read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, Unpack, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from brainkit.encoding.deep.deep_encoder import FORMAT, DeepEncoder, Training
from brainkit.encoding.deep.rows import as_tokens
from brainkit.encoding.fit_context import FitContext
from brainkit.encoding.routing.network import RegionReadout, RoutingDecoder, RowwiseReadout
from brainkit.encoding.routing.regions import read_regions
from brainkit.errors import CorruptFileError, InputError, unknown_name
from brainkit.evaluation.response_scores import r2

# -- how much each layer's encoder counts in each target's prediction ------------------------------


def layer_weights(scores: ArrayLike, beta: float) -> NDArray[np.float64]:
    r"""Return weights of layers for each target, by their validation scores.

    .. math::
        w_{lv} = \exp(\beta s_{lv}) \big/ \textstyle\sum_k \exp(\beta s_{kv})

    Parameters
    ----------
    scores : array (n_layers, n_targets)
        Pearson's r of each on images held out; NaN counts as 0.
    beta : float
        Not negative: 0 for the plain mean; the larger, the closer to the best layer alone.

    Returns
    -------
    array (n_layers, n_targets)
        Positive, sums to 1 over layers.
    """
    sharp = beta * np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=0.0)
    raised = np.exp(sharp - sharp.max(axis=0))
    return np.asarray(raised / raised.sum(axis=0))


# -- the encoder -----------------------------------------------------------------------------------


Float = NDArray[np.float32]
QUERIES = ("region", "voxel")
ENSEMBLE = (
    "by_layer_",
    "member_weights_",
    "validation_r_",
    "region_names_",
    "n_targets_",
    "single_target_",
)
DEFAULTS: Training = {"batch_size": 64, "average": 0.98}


class RoutingEncoder(DeepEncoder):
    """Attention routing: learned queries for regions, or for single targets, look at the tokens.

    A linear readout reads each target from what the queries of its regions gathered, so that what
    a region prefers is found wherever in the image it stands. See `RoutingDecoder` for the
    equations, which are the published ones; ``docs/published.md`` lists the settings that are not.

    With several layers of a network, X is a mapping from a layer's name to its tokens, such as
    `brainkit.features.extract` gives. An encoder is trained on each layer by itself, and a target's
    prediction is their mean, weighted by the softmax over layers of `beta` times its validation r.
    With several seeds, each layer's prediction is the mean of as many trainings.

    Parameters
    ----------
    regions : None, sequence (n_targets,), array (n_regions, n_targets), or mapping
        Which targets are in which region: a label for each target ("" for none), a matrix that is
        true where a target is in a region, or a mask by name. Targets in several regions read the
        sum of what those gathered; those in none have a query of their own, "rest". None for one
        query that serves all.
    queries : {"region", "voxel"}, default="region"
        A query for each region, or for each target; the cost of the second grows with the number
        of targets, and `regions` has no part in it.
    layers : str or sequence of str, optional
        Which layers of a mapping are used; all where not given.
    beta : float, default=40
        Sharpness of the choice of layers.
    n_seeds : int, default=1
        Trainings on a layer, from `seed` on, each with other first weights, batches and images held
        out; their predictions are averaged. The paper averages ten.
    global_tokens : int, default=0
        How many tokens come before those of the map and have no place on it: 1 for features with
        the class token (``tokens="all"`` of most vision transformers).
    content : bool, default=True
        False makes a query look at the same places whatever the image shows: a static twin with all
        else equal, for what routing adds.
    width : int, optional
        Of queries and what they gather, a multiple of 4 and of `n_heads`. That of the features
        where not given; otherwise tokens are projected first.
    n_heads : int, default=8
    hidden : int, optional
        Width of the feed-forward layer; four times `width` where not given.
    dropout : float, default=0.3
        Of what attention and the feed-forward part add.
    **training
        Parameters that all deep encoders share, see `DeepEncoder`; here `batch_size` is 64 and
        `average` .98 by default.

    Attributes
    ----------
    region_names_ : list of str
        The queries' names, in order; empty for queries of targets.
    members_ : dict of str to RoutingEncoder
        The encoder of each layer, or of each seed, where there are several.
    member_weights_ : array (n_members, n_targets)
        Their part in the prediction, where there are several; columns sum to 1.
    validation_r_ : array (n_targets,)
        Pearson's r on the images held out; the members' weighted mean where there are several.

    References
    ----------
    Adeli, Minni and Kriegeskorte (2025), Transformer brain encoders explain human high-level visual
    responses.
    """

    trained_parts: ClassVar[Sequence[str]] = ("queries", "query", "key", "value", "out", "readout")

    def __init__(  # noqa: PLR0913 - scikit-learn: one argument for each parameter
        self,
        regions: Any = None,
        queries: str = "region",
        *,
        layers: str | Sequence[str] | None = None,
        beta: float = 40.0,
        n_seeds: int = 1,
        global_tokens: int = 0,
        content: bool = True,
        width: int | None = None,
        n_heads: int = 8,
        hidden: int | None = None,
        dropout: float = 0.3,
        **training: Unpack[Training],
    ) -> None:
        super().__init__(**(DEFAULTS | training))
        self.regions = regions
        self.queries = queries
        self.layers = layers
        self.beta = beta
        self.n_seeds = n_seeds
        self.global_tokens = global_tokens
        self.content = content
        self.width = width
        self.n_heads = n_heads
        self.hidden = hidden
        self.dropout = dropout

    def set_context(self, context: FitContext) -> None:
        """Take the regions of a recording's units, where none were given."""
        if self.regions is None and context.regions:
            self.regions = dict(context.regions)

    # ------------------------------------------------------------------------------------- fit

    def fit(
        self,
        X: Any,
        Y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Self:
        """Train on one layer, or on each of several, one after the other.

        Parameters
        ----------
        X : array (n_samples, n_tokens, n_features), or mapping of such by layer
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
            Where `DeepEncoder.fit` raises it, and if regions and targets do not fit, a layer is
            missing, or several layers are to be weighed without images held out.
        """
        for name in ("members_", "member_weights_", "module_"):
            if hasattr(self, name):
                delattr(self, name)
        self._check_parameters()
        if not isinstance(X, Mapping):
            if self.layers is not None:
                raise InputError(
                    f"layers={self.layers!r} was asked for, but X is one array. Give a mapping "
                    "from layers' names to arrays, or leave `layers` out."
                )
            if self.n_seeds == 1:
                return super().fit(X, Y, groups=groups, runs=runs)
        elif self.validation == 0:
            raise InputError(
                "Several layers are weighed by their score on images held out; validation=0 holds "
                "out none. Give a share such as 0.1."
            )
        self.members_ = {
            name: member.fit(tokens, Y, groups=groups, runs=runs)
            for name, member, tokens in self._to_fit(X)
        }
        self.by_layer_ = isinstance(X, Mapping)
        last = list(self.members_.values())[-1]
        for name in ("region_names_", "n_targets_", "single_target_"):
            setattr(self, name, getattr(last, name))
        scores = np.stack([member.validation_r_ for member in self.members_.values()])
        # Seeds are scored on different images, so that their scores do not choose among them.
        beta = self.beta if self.by_layer_ else 0.0
        self.member_weights_ = layer_weights(scores, beta)
        self.validation_r_ = (self.member_weights_ * scores).sum(axis=0)
        return self

    def _to_fit(self, X: Any) -> Iterator[tuple[str, "RoutingEncoder", Any]]:
        """Give the name of each layer or seed, its untrained encoder, and its tokens."""
        if isinstance(X, Mapping):
            for name, tokens in self._chosen(X).items():
                yield name, self._member(name, layers=None), tokens
        else:
            for seed in range(self.seed, self.seed + self.n_seeds):
                name = f"seed-{seed}"
                yield name, self._member(name, seed=seed, n_seeds=1), X

    def _member(self, name: str, **settings: Any) -> "RoutingEncoder":
        folder = None if self.folder is None else f"{self.folder}/{name}"
        member: RoutingEncoder = clone(self).set_params(folder=folder, **settings)
        return member

    def _chosen(self, X: Mapping[str, Any]) -> dict[str, Any]:
        """Return the layers in use, in order."""
        chosen = [self.layers] if isinstance(self.layers, str) else self.layers
        names = list(X) if chosen is None else list(chosen)
        if not names:
            raise InputError("X is a mapping without a layer, or `layers` is empty. Give one.")
        for name in names:
            if name not in X:
                raise unknown_name("layer", name, [str(known) for known in X])
        return {name: X[name] for name in names}

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.queries not in QUERIES:
            raise unknown_name("kind of queries", self.queries, QUERIES)
        if self.queries == "voxel" and self.regions is not None:
            raise InputError(
                "With queries='voxel' each target has a query of its own, and regions have no part "
                "in it. Leave `regions` out, or take queries='region'."
            )
        for name in ("width", "n_heads", "hidden", "n_seeds"):
            value = getattr(self, name)
            if value is not None and (value != int(value) or value < 1):
                raise InputError(f"{name} must be a whole number from 1; got {value!r}.")
        if not (np.isfinite(self.beta) and self.beta >= 0):
            raise InputError(f"beta is a finite number from 0; got {self.beta!r}.")
        if self.global_tokens != int(self.global_tokens) or self.global_tokens < 0:
            raise InputError(
                f"global_tokens must be a whole number from 0; got {self.global_tokens!r}."
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is from 0 to below 1; got {self.dropout!r}.")

    def _n_global(self) -> int:
        return int(self.global_tokens)

    def _module(self, n_tokens: int, n_features: int, n_targets: int) -> RoutingDecoder:
        width = n_features if self.width is None else self.width
        readout: RegionReadout | RowwiseReadout
        if self.queries == "voxel":
            self.region_names_: list[str] = []
            n_queries, readout = n_targets, RowwiseReadout(n_targets, width)
        else:
            regions = read_regions(self.regions, n_targets)
            self.region_names_ = list(regions.names)
            n_queries, readout = len(regions.names), RegionReadout(regions.membership, width)
        return RoutingDecoder(
            self.grid_,
            n_features,
            readout,
            n_queries,
            width=width,
            n_heads=self.n_heads,
            hidden=4 * width if self.hidden is None else self.hidden,
            dropout=self.dropout,
            n_global=self.global_tokens,
            content=self.content,
        )

    # --------------------------------------------------------------------------------- predict

    def predict(self, X: Any) -> Float:
        """Predict the responses, in batches.

        Parameters
        ----------
        X : array (n_samples, n_tokens, n_features), or mapping of such by layer
            As in `fit`.

        Returns
        -------
        float32 array (n_samples, n_targets), or (n_samples,) if fitted so
        """
        if not hasattr(self, "members_"):
            check_is_fitted(self, "module_")
            self._check_one_layer(X)
            return super().predict(X)
        total: Any = 0.0
        for (name, tokens), weight in zip(self._fitted(X), self.member_weights_, strict=True):
            total = total + self.members_[name].predict(tokens) * (
                weight[0] if self.single_target_ else weight
            ).astype(np.float32)
        return np.asarray(total, dtype=np.float32)

    def attention(self, X: Any, *, average_heads: bool = True) -> Any:
        """Return where in each image each query looks.

        Parameters
        ----------
        X : array (n_samples, n_tokens, n_features), or mapping of such by layer
            As in `fit`.
        average_heads : bool, default=True
            Return the mean over heads.

        Returns
        -------
        float32 array (n_samples, n_queries, n_tokens), or dict of such by layer
            Weights that sum to 1 over tokens, for the queries in `region_names_`; after the global
            ones, a token is at row ``token // grid_[1]`` and column ``token % grid_[1]`` of the
            map. The mean over seeds, where there are several. Without the mean over heads,
            (n_samples, n_heads, n_queries, n_tokens).
        """
        if hasattr(self, "members_"):
            maps = {
                name: self.members_[name].attention(tokens, average_heads=average_heads)
                for name, tokens in self._fitted(X)
            }
            return (
                maps if self.by_layer_ else np.mean(list(maps.values()), axis=0, dtype=np.float32)
            )
        check_is_fitted(self, "module_")
        self._check_one_layer(X)
        attention_maps, module = [], cast(RoutingDecoder, self.module_)
        with torch.no_grad():
            for _, x in self._standardised(as_tokens(X, self.n_tokens_, self.n_features_in_)):
                weights = module.attention(x)
                attention_maps.append(
                    (weights.mean(dim=1) if average_heads else weights).cpu().numpy()
                )
        return np.concatenate(attention_maps)

    def score_targets(self, X: Any, Y: ArrayLike) -> NDArray[np.float64]:
        """Return R² of each target, (n_targets,); NaN for a constant one."""
        predicted = self.predict(X)
        truth = np.asarray(Y)
        if truth.shape != predicted.shape:
            raise InputError(f"Y has shape {truth.shape}; the predictions have {predicted.shape}.")
        n = len(truth)
        return np.asarray(r2(truth.reshape(n, -1), predicted.reshape(n, -1)), dtype=np.float64)

    def _check_one_layer(self, X: Any) -> None:
        if isinstance(X, Mapping):
            raise InputError("This encoder was fitted to one array; X is a mapping of layers.")

    def _fitted(self, X: Any) -> list[tuple[str, Any]]:
        """Return the names of members and the tokens that each reads, in order."""
        if not self.by_layer_:
            self._check_one_layer(X)
            return [(name, X) for name in self.members_]
        if not isinstance(X, Mapping):
            raise InputError(
                f"This encoder was fitted to the layers {list(self.members_)}; X must be a mapping "
                "from their names to arrays."
            )
        for name in self.members_:
            if name not in X:
                raise unknown_name("layer", name, [str(known) for known in X])
        return [(name, X[name]) for name in self.members_]

    # ----------------------------------------------------------------------------------- files

    def __brainkit_state__(self) -> dict[str, Any]:
        """Return what `brainkit.save_estimator` keeps beside the parameters."""
        if not hasattr(self, "members_"):
            return super().__brainkit_state__()
        fitted = {name: getattr(self, name) for name in ENSEMBLE}
        return {"format": FORMAT, "fitted": fitted, "members": dict(self.members_)}

    def __brainkit_restore__(self, state: dict[str, Any]) -> None:
        """Take back what `__brainkit_state__` gave."""
        super().__brainkit_restore__(state)
        if "members" not in state:
            return
        if not all(isinstance(member, RoutingEncoder) for member in state["members"].values()):
            raise CorruptFileError("A member of this RoutingEncoder is something else.")
        for name, value in state["fitted"].items():
            setattr(self, name, value)
        self.members_ = state["members"]
