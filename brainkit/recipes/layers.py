"""Which layer of a network does each region follow? Layers in one pass, one encoder a layer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from brainkit.data.recording import Recording
from brainkit.encoding import (
    EncodingProtocol,
    SpaceComparison,
    compare_spaces,
    stimuli_in_use,
)
from brainkit.errors import InputError
from brainkit.features import Precomputed, SingleSpace, extract
from brainkit.features.backbones.backbone import open_backbone
from brainkit.features.reduction import SparseProjection
from brainkit.recipes.building import Known, build_features, build_model
from brainkit.recipes.schema import FeatureSpec, LayersRecipe

ENERGY = "oriented energy"


def compare_layers(
    recording: Recording,
    recipe: LayersRecipe,
    *,
    regions: Sequence[str] | None = None,
    known: Known | None = None,
) -> SpaceComparison:
    """Fit one encoder a layer of a model, and one to oriented energy, and compare them.

    Every layer is flattened, so that where things are is kept, and then reduced by one sparse
    random projection a layer, so that all layers have as many features.

    Parameters
    ----------
    recording : Recording
        (trial, unit), with image stimuli.
    recipe : LayersRecipe
        Which layers of which network, and how they are compared.
    regions : sequence of str, optional
        Regions to sum up.
    known : dict, optional
        Features to share between runs, see `build_features`.

    Raises
    ------
    InputError, UnknownNameError, SplitError
        If there are no stimuli, no such layer, or the split has several folds.
    """
    stimuli = recording.stimuli
    if stimuli is None:
        raise InputError("Comparing layers needs image stimuli; this recording has none.")
    settings = recipe.protocol
    protocol = EncodingProtocol(
        settings.split,
        zscore=settings.zscore,
        unseen=settings.unseen,
        average_repeats=settings.average_repeats,
        resample=settings.resample,
    )
    used = stimuli_in_use(recording, protocol, settings.n_train, settings.seed)
    rows = np.unique(np.concatenate(used))
    backbone = open_backbone(recipe.network)
    values = extract(
        backbone,
        stimuli.select(rows),
        pool="flatten",
        layers=recipe.layers,
        reduce=SparseProjection(n_components=recipe.components, seed=settings.seed),
    )
    spaces: dict[str, Any] = {}
    if recipe.energy:
        energy = FeatureSpec(kind="oriented-energy", scale="feature")
        spaces[ENERGY] = build_features([energy], recipe.components, known)
    ids = stimuli.ids[rows]
    spaces |= {
        name: SingleSpace(Precomputed(values[name], ids), scale="space") for name in recipe.layers
    }
    found = compare_spaces(
        recording,
        spaces,
        build_model(recipe.model),
        protocol,
        regions=regions,
        n_train=settings.n_train,
        seed=settings.seed,
    )
    ran = [{"part": type(backbone).__name__, **told} for told in backbone.ran]
    info = {**found.recording.info, "ran": ran}  # for the manifest: no part of the network is kept
    return replace(found, recording=replace(found.recording, info=info))
