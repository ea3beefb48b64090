"""Compare the geometry of a model's layers with that of people's regions (RSA)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.data.dissimilarities import Dissimilarities
from brainkit.errors import InputError
from brainkit.evaluation import Interval
from brainkit.evaluation.metrics import metric_entry
from brainkit.evaluation.rsa import (
    PeakDifference,
    RDMBootstrap,
    RDMCeiling,
    RDMPermutation,
    RDMSimilarity,
    bootstrap_rdms,
    compare_rdms,
    held_out_best,
    held_out_interval,
    peak_difference,
    permute_rdms,
    rdm,
    rdm_noise_ceiling,
    rdm_stack,
)

LEVEL = 0.95


@dataclass(frozen=True)
class RSAProtocol:
    """How layers are compared with regions.

    Parameters
    ----------
    dissimilarity : str
        From a layer's features to its RDM, see `brainkit.evaluation.rsa.rdm`.
    comparison : str
        Of RDMs, see `brainkit.evaluation.rsa.compare_rdms`.
    bootstraps, permutations : int
        Samples of people and stimuli, and relabellings of stimuli.
    seed : int
        Of both.
    """

    dissimilarity: str = "correlation"
    comparison: str = "spearman"
    bootstraps: int = 1000
    permutations: int = 1000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class RSAResult:
    """What came of comparing a model's layers with people's regions.

    Attributes
    ----------
    data : Dissimilarities
        The people's.
    protocol : RSAProtocol
        How they were compared.
    layers : DataFrame
        A row a region and layer: ``similarity`` (mean over people), ``low`` and ``high`` (95 %
        interval over people and stimuli), ``null`` (mean over relabelled stimuli), ``p`` and
        ``p_familywise`` (over all layers and regions).
    people : DataFrame
        A row a region, layer and subject: ``similarity``.
    ceilings : dict
        By region, then ``"matched"`` and ``"mean"``: RDMCeiling.
    null_maximum : float
        The similarity that the best of all layers and regions reaches in 5 % of relabellings.
    best : DataFrame
        A row a region: its best layer and that layer's similarity, what the best layer reaches by
        luck (``null_best``), and the similarity of the layer that the other people choose.
    order : dict
        (early region, late region) to how many layers later the late one's best comes.
    rise : dict
        (early region, late region) to how much more similarity rises from the first layer to the
        last, by its linear trend over layers, for the late region than for the early one; paired
        within people, 95 % interval over people and stimuli.
    model_rdms : dict
        By layer, (stimuli, stimuli).
    metrics : dict
        By metric id.
    """

    data: Dissimilarities
    protocol: RSAProtocol
    layers: pd.DataFrame
    people: pd.DataFrame
    ceilings: dict[str, dict[str, RDMCeiling]]
    null_maximum: float
    best: pd.DataFrame
    order: dict[tuple[str, str], PeakDifference]
    rise: dict[tuple[str, str], Interval]
    model_rdms: dict[str, NDArray[np.float64]]
    metrics: dict[str, Any]


def layer_rdm(features: ArrayLike, dissimilarity: str = "correlation") -> NDArray[np.float64]:
    """Compute the RDM of a layer, all tokens and channels side by side.

    Parameters
    ----------
    features : array_like of shape (n_stimuli, n_features) or (n_stimuli, n_tokens, n_features)
        From `brainkit.features.extract`.
    dissimilarity : str, default "correlation"
        See `brainkit.evaluation.rsa.rdm`.

    Returns
    -------
    numpy.ndarray of shape (n_stimuli, n_stimuli)
    """
    given = np.asarray(features)
    if given.ndim < 2:
        raise InputError(f"A layer's features have shape {given.shape}: one row a stimulus.")
    return rdm(given.reshape(len(given), -1), dissimilarity)


def assess_rsa(
    data: Dissimilarities, model_rdms: Mapping[str, ArrayLike], protocol: RSAProtocol
) -> RSAResult:
    """Compare every layer with every region, beside ceilings and a null.

    Parameters
    ----------
    data : Dissimilarities
        People's RDMs by region, from early to late.
    model_rdms : mapping of str to array (stimuli, stimuli)
        By layer, in the order of the forward pass.
    protocol : RSAProtocol
        How.

    Returns
    -------
    RSAResult

    Raises
    ------
    InputError
        If there is no layer, or RDMs do not fit the stimuli or are constant.
    """
    if not model_rdms:
        raise InputError("RSA needs the RDM of at least one layer; got none.")
    checked = {name: rdm_stack(part, f"layer {name}")[0] for name, part in model_rdms.items()}
    n_stimuli = len(data.stimuli)
    for name, part in checked.items():
        if len(part) != n_stimuli:
            raise InputError(
                f"The RDM of layer {name} is of {len(part)} stimuli, the people's of {n_stimuli}."
            )
    models = np.stack(list(checked.values()))
    people = np.stack([data[region] for region in data.regions])
    comparison, seed = protocol.comparison, protocol.seed
    similarity = {region: compare_rdms(models, data[region], comparison) for region in data.regions}
    ceilings = {
        region: {
            pool: rdm_noise_ceiling(data[region], comparison, pool=pool)
            for pool in ("matched", "mean")
        }
        for region in data.regions
    }
    null = permute_rdms(models, people, comparison, n=protocol.permutations, seed=seed)
    bootstrap = bootstrap_rdms(models, people, comparison, n=protocol.bootstraps, seed=seed)
    layers = _layer_table(list(checked), data.regions, bootstrap, null)
    best = _best_table(layers, similarity, null)
    pairs = list(combinations(range(len(data.regions)), 2))
    order = {(data.regions[i], data.regions[j]): peak_difference(bootstrap, i, j) for i, j in pairs}
    rise = {
        (data.regions[i], data.regions[j]): bootstrap.interval(_trend_weights(bootstrap, i, j))
        for i, j in pairs
        if len(models) > 1
    }
    return RSAResult(
        data=data,
        protocol=protocol,
        layers=layers,
        people=_people_table(list(checked), data.subjects, similarity),
        ceilings=ceilings,
        null_maximum=float(np.quantile(null.null.max(axis=(1, 2)), 0.95)),
        best=best,
        order=order,
        rise=rise,
        model_rdms=checked,
        metrics=_metrics(layers, best, ceilings, protocol) | _order_metrics(order, rise, protocol),
    )


def _trend_weights(bootstrap: RDMBootstrap, early: int, late: int) -> NDArray[np.float64]:
    """Weigh similarities by a linear trend over layers, of one region less another."""
    weights = np.zeros(bootstrap.observed.shape)
    place = np.linspace(-0.5, 0.5, len(weights))
    weights[:, late] = place / (place @ place)
    weights[:, early] -= weights[:, late]
    return weights


def _layer_table(
    names: list[str], regions: list[str], bootstrap: RDMBootstrap, null: RDMPermutation
) -> pd.DataFrame:
    rows = []
    for group, region in enumerate(regions):
        for model, name in enumerate(names):
            interval = bootstrap.cell(model, group)
            rows.append(
                {
                    "region": region,
                    "layer": name,
                    "similarity": interval.value,
                    "low": interval.low,
                    "high": interval.high,
                    "null": float(null.null[:, model, group].mean()),
                    "p": float(null.p[model, group]),
                    "p_familywise": float(null.p_familywise[model, group]),
                }
            )
    return pd.DataFrame(rows)


def _people_table(
    names: list[str], subjects: tuple[str, ...], similarity: Mapping[str, RDMSimilarity]
) -> pd.DataFrame:
    return pd.DataFrame(
        {"region": region, "layer": name, "subject": subject, "similarity": float(value)}
        for region, values in similarity.items()
        for name, row in zip(names, np.asarray(values), strict=True)
        for subject, value in zip(subjects, row, strict=True)
    )


def _best_table(
    layers: pd.DataFrame, similarity: Mapping[str, RDMSimilarity], null: RDMPermutation
) -> pd.DataFrame:
    rows = []
    # The best of several layers beats 0 by luck: its null is the best of each relabelling.
    luck = null.null.max(axis=1).mean(axis=0)
    for (region, values), lucky in zip(similarity.items(), luck, strict=True):
        part = layers[layers["region"] == region].reset_index(drop=True)
        top = int(part["similarity"].argmax())
        chosen = held_out_best(values)[1]
        held_out = held_out_interval(values, LEVEL)
        rows.append(
            {
                "region": region,
                "layer": part["layer"][top],
                "position": top + 1,
                "of": len(part),
                **part.loc[top, ["similarity", "low", "high", "null", "p_familywise"]].to_dict(),
                "null_best": float(lucky),
                "held_out": held_out.value,
                "held_out_low": held_out.low,
                "held_out_high": held_out.high,
                "chosen": ", ".join(dict.fromkeys(part["layer"][chosen])),
            }
        )
    return pd.DataFrame(rows)


def _metrics(
    layers: pd.DataFrame,
    best: pd.DataFrame,
    ceilings: Mapping[str, Mapping[str, RDMCeiling]],
    protocol: RSAProtocol,
) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for row in best.to_dict("records"):
        region = row["region"]
        part = layers[layers["region"] == region].set_index("layer")["similarity"]
        matched, plain = ceilings[region]["matched"], ceilings[region]["mean"]
        n = matched.n_subjects
        name = f"rsa_best_layer[{region}]"
        metrics[name] = metric_entry(
            name,
            Interval(row["similarity"], row["low"], row["high"], n, LEVEL, n),
            nulls={"best_of_relabelled_stimuli": row["null_best"]},
            settings=_settings(protocol),
            p_familywise=row["p_familywise"],
            layer=row["layer"],
            by_layer=part.to_dict(),
            ceiling={"lower": matched.lower, "upper": matched.upper, "bound": matched.bound},
            ceiling_of_mean_rdm={"lower": plain.lower, "upper": plain.upper},
        )
        name = f"rsa_layer_chosen_by_others[{region}]"
        metrics[name] = metric_entry(
            name,
            Interval(row["held_out"], row["held_out_low"], row["held_out_high"], n, LEVEL, n),
            nulls={"relabelled_stimuli": row["null"]},
            settings=_settings(protocol),
        )
    return metrics


def _order_metrics(
    order: Mapping[tuple[str, str], PeakDifference],
    rise: Mapping[tuple[str, str], Interval],
    protocol: RSAProtocol,
) -> dict[str, Any]:
    """Return what is said of the order of regions along the layers."""
    metrics: dict[str, Any] = {}
    for (early, late), gap in order.items():
        name = f"rsa_layers_between_best[{early}, {late}]"
        n = gap.n_subjects
        metrics[name] = metric_entry(
            name,
            Interval(gap.value, gap.low, gap.high, n, LEVEL, n),
            nulls={"same_layer": 0.0},
            settings=_settings(protocol),
            later_in_bootstrap=gap.later,
        )
    for (early, late), interval in rise.items():
        name = f"rsa_rise_over_layers[{late} minus {early}]"
        metrics[name] = metric_entry(
            name, interval, nulls={"same_rise": 0.0}, settings=_settings(protocol)
        )
    return metrics


def _settings(protocol: RSAProtocol) -> dict[str, Any]:
    return {"dissimilarity": protocol.dissimilarity, "comparison": protocol.comparison}
