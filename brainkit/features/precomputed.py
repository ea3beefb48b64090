"""Features that are ready: computed elsewhere, looked up by stimulus."""

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit.arrays.array_likes import as_array
from brainkit.data.stimuli import Stimuli
from brainkit.data.text import as_names
from brainkit.errors import InputError, listed
from brainkit.features.reduction import feature_array


class Precomputed(TransformerMixin, BaseEstimator):
    """Features of your own, a row a stimulus, in place of a space that computes them.

    ``assess_encoder(recording, values, model, protocol)`` takes an array or a table as it is and
    makes one of these; in a stack, name it yourself.

    Parameters
    ----------
    values : array (n_stimuli, n_features) or DataFrame
        A DataFrame's index names the stimuli by their ids, unless it merely counts them.
    ids : array (n_stimuli,), optional
        Ids of the stimuli that the rows belong to, as in ``stimuli.ids``. Where not given, row i
        belongs to stimulus i of the recording.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit import Stimuli
    >>> from brainkit.features import Precomputed, read_for
    >>> space = Precomputed(np.array([[1.0], [2.0], [3.0]]), ids=["a", "b", "c"])
    >>> stimuli = Stimuli(np.zeros((2, 4, 4)), ids=["c", "a"])
    >>> space.fit_transform(read_for(space, stimuli, [0, 1])).tolist()
    [[3.0], [1.0]]
    """

    def __init__(self, values: Any, ids: Any = None) -> None:
        self.values = values
        self.ids = ids

    @property
    def reads(self) -> str:
        """A name of this table: spaces of one stack that read other tables read something else."""
        return f"table {id(self.values)}"

    def read(self, stimuli: Stimuli, rows: ArrayLike) -> NDArray[np.float32]:
        """Return the features of stimuli by row, (n, n_features).

        Raises
        ------
        InputError
            If the features are no table of finite numbers in single precision, or lack a stimulus.
        """
        values, ids = self._checked()
        wanted = np.asarray(rows)
        if ids is None:
            if len(values) != len(stimuli):
                raise InputError(
                    f"There are features of {len(values)} stimuli and {len(stimuli)} stimuli: give "
                    "a row for each, or ids that say which stimulus each row belongs to."
                )
            return values[wanted]
        place = {name: number for number, name in enumerate(ids.tolist())}
        names = stimuli.ids[wanted].tolist()
        lacking = [name for name in names if name not in place]
        if lacking:
            raise InputError(
                f"There are no features for {len(lacking)} stimuli, with ids {listed(lacking)}."
            )
        return values[[place[name] for name in names]]

    def _checked(self) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        ids = self.ids
        if ids is None and isinstance(self.values, pd.DataFrame):
            index = self.values.index
            ids = None if index.equals(pd.RangeIndex(len(index))) else index
        with np.errstate(over="ignore"):
            array = np.asarray(feature_array(self.values), dtype=np.float32)
        if not np.isfinite(array).all():
            raise InputError(
                "Features that are ready hold NaN or infinity, or exceed single precision "
                "(3.4e38): mend those rows, or divide by their scale, first."
            )
        if ids is None:
            return array, None
        names = as_names(ids)
        if len(names) != len(array) or len(np.unique(names)) != len(names):
            raise InputError(
                f"ids must name each of the {len(array)} rows of features once; got {len(names)}, "
                f"{len(np.unique(names))} of them different."
            )
        return array, names

    def fit(self, values: Any, y: None = None) -> Self:
        """Do nothing."""
        return self

    def transform(self, values: Any) -> NDArray[np.float32]:
        """Return the features that `read` gave."""
        return np.asarray(values, dtype=np.float32)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> "Precomputed":
        return Precomputed(self.values, self.ids)  # the table is not copied


def as_features(features: Any) -> Any:
    """Return a feature space as it is, and an array or a table as `Precomputed`.

    Raises
    ------
    InputError
        If it is neither, such as a class, a dict, or a sparse or masked array.
    """
    if hasattr(features, "fit") and not isinstance(features, type):  # tables have a transform too
        return features
    as_array(features, "The features (a feature space, or a table, a row a stimulus)")
    return Precomputed(features)
