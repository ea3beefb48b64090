"""People who meet in the features of what they saw, by encoders, with no stimulus in common."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.alignment.aligner import Affine, Aligner, Real
from brainkit.alignment.common_stimuli import Person
from brainkit.alignment.functional import Penalties, cross_validated_ridge
from brainkit.alignment.solutions import readout_of_encoder, thin_scores
from brainkit.arrays.array_likes import as_array
from brainkit.arrays.sources import Index
from brainkit.errors import InputError, unknown_name
from brainkit.features.feature_spaces import as_features, read_for


class ByFeatures(Aligner):
    r"""People meet in the features of what they saw, by encoders: no stimulus has to be shared.

    For each person ridge gives :math:`x = W_s f + b_s + e`, with the variance D of e from held-out
    stimuli; responses go to the features that they say were there,

    .. math:: z = (W_s'D_s^{-1}W_s + \lambda P)^{-1} W_s'D_s^{-1} (x - b_s),

    P being the inverse variance of the features. The way back is the encoder's prediction.

    Parameters
    ----------
    features : feature space, array (n_stimuli, n_features), DataFrame, or mapping
        A transformer of `brainkit.features`, or features that are ready, a row a stimulus. A
        mapping has an array for each person: a row for each of their stimuli or, of continuous
        recordings, a row for each sample.
    n_components : int, optional
        The shared space are that many leading principal components of the standardised features;
        all that vary where not given.
    alphas : "auto" or sequence of float, default="auto"
        Penalties of the encoders.
    cv : int, default=5
        Folds by which they are chosen, and D is measured.
    penalty : float, default=1.0
        λ: 1 for the posterior mean, 0 for the pseudo-inverse.
    seed : int, default=0
        Of the folds.

    Attributes
    ----------
    feature_mean_, feature_scale_ : arrays (n_features,)
        Of all people's stimuli.
    feature_basis_ : array (n_features, n_shared)
    feature_variance_ : array (n_shared,)
    coef_ : dict of str to float32 array (n_units, n_shared)
        W.
    level_ : dict of str to float32 array (n_units,)
        b.
    readout_ : dict of str to float32 array (n_units, n_shared)
    """

    invertible = True

    def __init__(
        self,
        features: Any = None,
        n_components: int | None = None,
        alphas: Any = "auto",
        cv: int = 5,
        penalty: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.features, self.n_components, self.alphas = features, n_components, alphas
        self.cv, self.penalty, self.seed = cv, penalty, seed

    def _learn(self, people: list[Person]) -> None:
        seen = self._read(people)
        together = np.concatenate(seen).astype(np.float64)  # (all samples, n_features)
        self.feature_mean_, scale = together.mean(axis=0), together.std(axis=0)
        self.feature_scale_ = np.where(scale > 0, scale, 1.0)
        standard = (together - self.feature_mean_) / self.feature_scale_
        thin = thin_scores(standard, self.n_components)
        if not thin.scores.shape[1]:
            raise InputError("No feature varies over the stimuli: there is nothing to align by.")
        self.feature_basis_ = thin.axes(standard)
        self.feature_variance_ = (thin.scores**2).mean(axis=0)
        for person, values in zip(people, seen, strict=True):
            self._encode(person, values)

    def _learn_new(self, person: Person, rows: Index) -> None:
        (values,) = self._read([person], fitted=True)
        self._encode(person, values)

    def _encode(self, person: Person, features: Real) -> None:
        standard = (features - self.feature_mean_) / self.feature_scale_
        scores = standard @ self.feature_basis_  # (n, n_shared)
        n_samples = len(scores)
        scale = float((scores**2).mean())
        pair = scores, person.values
        penalties = Penalties(scale, self.alphas, self.cv, self.seed)
        fit = cross_validated_ridge("ByFeatures", person, pair, np.arange(n_samples), penalties)
        noise = fit.errors[fit.chosen, np.arange(len(fit.chosen))] / n_samples
        noise = np.maximum(noise, 1e-6 * max(float(noise.mean()), 1e-12))
        readout = readout_of_encoder(fit.coef, noise, 1 / self.feature_variance_, self.penalty)
        self._keep("coef_", person.subject, fit.coef.astype(np.float32))
        self._keep("level_", person.subject, fit.intercept.astype(np.float32))
        self._keep("readout_", person.subject, readout.astype(np.float32))

    def _read(self, people: Sequence[Person], *, fitted: bool = False) -> list[Real]:
        """Return the features of each person's samples."""
        shown = [self._shown(person) for person in people]
        if isinstance(self.features, Mapping):
            return [self._of_person(p, rows) for p, rows in zip(people, shown, strict=True)]
        if self.features is None:
            raise InputError(
                "ByFeatures needs features=: a feature space such as those of brainkit.features, "
                "or an array (n_stimuli, n_features)."
            )
        lacking = [person.subject for person in people if person.recording.stimuli is None]
        if not lacking:
            return self._of_stimuli(people, shown, fitted=fitted)
        if not hasattr(self.features, "fit"):
            table = as_array(self.features, "features")
            return [_rows_of(table, rows, "features") for rows in shown]
        raise InputError(
            f"The recording of {lacking[0]!r} has no stimuli to take features of: make it with "
            "stimuli=, or give features that are ready, a row a stimulus."
        )

    def _of_stimuli(
        self, people: Sequence[Person], shown: Sequence[Index], *, fitted: bool
    ) -> list[Real]:
        """Return what the feature space gives, fitted on the stimuli of all people together."""
        if not fitted:
            self.space_ = clone(as_features(self.features))
        read = [
            read_for(self.space_, stimuli, rows)
            for person, rows in zip(people, shown, strict=True)
            if (stimuli := person.recording.stimuli) is not None
        ]
        if not fitted:
            self.space_.fit(_joined(read))
        return [np.asarray(self.space_.transform(part)) for part in read]

    def _shown(self, person: Person) -> Index:
        if person.shown is None:
            raise InputError(
                f"ByFeatures takes (trial, unit) with stimuli, or (sample, unit) with features of "
                f"each sample as a mapping; the recording of {person.subject!r} names no stimulus "
                "of each trial, or has a time axis."
            )
        return person.shown

    def _of_person(self, person: Person, rows: Index) -> Real:
        if person.subject not in self.features:
            raise unknown_name("subject (of features)", person.subject, list(self.features))
        what = f"features of {person.subject!r}"
        return _rows_of(as_array(self.features[person.subject], what), rows, what)

    def _map(self, subject: str) -> Affine:
        return Affine.of(self.readout_[subject], before=self.level_[subject])

    def _inverse_map(self, subject: str) -> Affine:
        return Affine.of(self.coef_[subject].T, after=self.level_[subject])


def _rows_of(table: NDArray[Any], rows: Index, what: str) -> Real:
    if table.ndim != 2 or len(table) <= rows.max(initial=-1) or not np.isfinite(table).all():
        raise InputError(
            f"{what} must be finite numbers (stimuli, features) with {rows.max(initial=-1) + 1} "
            f"rows or more; got {table.dtype} of shape {table.shape}."
        )
    return np.asarray(table[rows])


def _joined(readings: Sequence[Any]) -> Any:
    """Put what spaces read of several people's stimuli under one another."""
    first = readings[0]
    if not hasattr(first, "parts"):
        return np.concatenate([np.asarray(part) for part in readings])
    rows = zip(*(reading.parts for reading in readings), strict=True)
    return type(first)(tuple(_joined(parts) for parts in rows))
