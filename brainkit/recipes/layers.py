"""Which layer of a network does each region follow? Layers in one pass, one encoder a layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import FunctionTransformer

from brainkit.data.recording import Recording
from brainkit.encoding import (
    EncodingProtocol,
    FeatureTable,
    SpaceComparison,
    VoxelwiseRidge,
    compare_spaces,
    stimuli_in_use,
)
from brainkit.errors import InputError
from brainkit.features import (
    OrientedEnergy,
    PrincipalSpace,
    SingleSpace,
    extract,
)
from brainkit.features.projection import SparseProjection

ALPHAS = tuple(float(alpha) for alpha in np.geomspace(0.01, 100, 9))
ENERGY = "oriented energy"


def compare_layers(
    recording: Recording,
    model: str,
    layers: Sequence[str],
    protocol: EncodingProtocol,
    *,
    regions: Sequence[str] | None = None,
    n_components: int = 1000,
    n_train: int | None = None,
    energy: bool = True,
    seed: int = 0,
) -> SpaceComparison:
    """Fit one encoder a layer of a model, and one to oriented energy, and compare them.

    Every layer is flattened, so that where things are is kept, and then reduced by one sparse
    random projection a layer, so that all layers have as many features.

    Parameters
    ----------
    recording : Recording
        (trial, unit), with image stimuli.
    model : str
        As for `brainkit.features.extract`, without layers.
    layers : sequence of str
        From the earliest to the latest.
    protocol : EncodingProtocol
        Of one fold.
    regions : sequence of str, optional
        Regions to sum up.
    n_components : int, default=1000
        Features of each space.
    n_train : int, optional
        Training stimuli to fit on; all where not given.
    energy : bool, default=True
        Compare oriented energy too.
    seed : int, default=0
        Of the choice of items and of the projections.
    """
    stimuli = recording.stimuli
    if stimuli is None:
        raise InputError("Comparing layers needs image stimuli; this recording has none.")
    rows = _rows_needed(recording, protocol, n_train, seed)
    values = extract(
        model,
        stimuli.read(rows),
        pool="flatten",
        layers=list(layers),
        reduce=SparseProjection(n_components=n_components, seed=seed),
    )
    inputs = {name: FeatureTable(rows, features) for name, features in values.items()}
    spaces: dict[str, Any] = {}
    if energy:
        spaces[ENERGY] = PrincipalSpace(SingleSpace(OrientedEnergy()), n_components)
    spaces |= {name: SingleSpace(FunctionTransformer(), scale="space") for name in layers}
    return compare_spaces(
        recording,
        spaces,
        VoxelwiseRidge(alphas=ALPHAS, cv=3),
        protocol,
        inputs=inputs,
        regions=regions,
        n_train=n_train,
        seed=seed,
    )


def _rows_needed(
    recording: Recording, protocol: EncodingProtocol, n_train: int | None, seed: int
) -> NDArray[np.int64]:
    """Return the rows of the stimuli that are fitted on, choose or test, ascending."""
    fold = recording.split(protocol.split, seed=seed).folds[0]
    used = stimuli_in_use(fold.train.stimulus_rows(), n_train, seed)
    return np.unique(np.concatenate([*used, fold.test.stimulus_rows()])).astype(np.int64)
