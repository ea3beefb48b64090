"""Scoring by a preset: images resized, looked at and counted as it says; tables of one preset."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, QuantityError, listed, unknown_name
from brainkit.evaluation.caption_scores import CaptionScores, score_captions
from brainkit.evaluation.checked_arrays import real_array
from brainkit.evaluation.gallery_retrieval import drawn_retrieval, retrieval
from brainkit.evaluation.identification import (
    identification_contest,
    share_beaten,
    share_strictly_beaten,
)
from brainkit.evaluation.image_scores import (
    correlation_distance,
    greyscale,
    pixel_correlation,
    ssim,
)
from brainkit.evaluation.intervals import Estimate, ItemScores, mean_score
from brainkit.evaluation.metrics import metric_entry
from brainkit.evaluation.presets import ImageScore, Judge, Preset, Resize, RetrievalScore

if TYPE_CHECKING:
    pass

Single = NDArray[np.float32]
# network(images, layers): images (n, 3, side, side), resized and normalised; features by layer.
Network = Callable[[Single, Sequence[str]], Mapping[str, ArrayLike]]


@dataclass(frozen=True)
class PresetScores:
    """Scores by one preset.

    Attributes
    ----------
    preset : Preset
    scores : dict of str to ItemScores
        By metric id.
    n : int
        Images, or items of the gallery.
    candidates : dict of str to int
        Of retrieval, how many items a query chooses from.
    left_out : tuple of str
        Ids of images that were left out, for want of a caption.
    """

    preset: Preset
    scores: dict[str, ItemScores]
    n: int
    candidates: Mapping[str, int] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, float]:
        """The scores alone, by metric id."""
        return {name: one.estimate.value for name, one in self.scores.items()}

    def entries(self, nulls: Mapping[str, "PresetScores"] | None = None) -> dict[str, Any]:
        """Return the scores as ``metrics.json`` holds them.

        Parameters
        ----------
        nulls : mapping of str to PresetScores, optional
            Scores of null predictions of the same items, such as ``"shuffled_brain"``.

        Returns
        -------
        dict
            By metric id, see `brainkit.evaluation.metrics.metric_entry`.

        Raises
        ------
        QuantityError
            If a null was scored by another preset, or on other items.
        """
        if nulls:
            comparison({"the scores": self, **nulls})
        return {
            name: metric_entry(
                name,
                _stated(one.estimate),
                nulls={null: _stated(other.scores[name].estimate) for null, other in nulls.items()}
                if nulls
                else None,
                n=one.estimate.n,
                n_candidates=(self.candidates or {}).get(name),
            )
            for name, one in self.scores.items()
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Give a table's rows: metric, column, value, low, high, n, better, preset."""
        known = self.preset.metrics
        for name, one in self.scores.items():
            interval = one.estimate.interval()
            yield {
                "metric": name,
                "column": known[name].column,
                "value": interval.value,
                "low": interval.low,
                "high": interval.high,
                "n": interval.n,
                "better": known[name].better,
                "preset": self.preset.name,
            }


def _stated(estimate: Estimate) -> Estimate | float:
    """Return a score with its interval, or the number alone where it has none."""
    return estimate if estimate.freedom > 0 else estimate.value


def comparison(systems: Mapping[str, PresetScores]) -> list[dict[str, Any]]:
    """Put several systems' scores into one table, if they are of one preset.

    Parameters
    ----------
    systems : mapping of str to PresetScores
        Scores by the name of a system.

    Returns
    -------
    list of dict
        A row a metric: its id, column and which values are better; each system's value; and
        ``best``, the names of the systems that are best by that direction.

    Raises
    ------
    QuantityError
        If presets differ, or numbers of images, or what was scored.
    """
    if not systems:
        raise InputError("There is no system to compare: give scores by the name of a system.")
    by_preset: dict[str, list[str]] = {}
    for name, one in systems.items():
        by_preset.setdefault(one.preset.name, []).append(name)
    if len(by_preset) > 1:
        told = "; ".join(f"{preset}: {listed(names)}" for preset, names in by_preset.items())
        raise QuantityError(
            f"Scores of {len(by_preset)} presets do not compare, since each resizes, looks and "
            f"counts in its own way ({told}). Score all systems' images by one preset, or make a "
            "table for each."
        )
    first = next(iter(systems.values()))
    for name, one in systems.items():
        lacking = sorted(set(first.scores) ^ set(one.scores))
        if one.n != first.n or lacking or one.left_out != first.left_out:
            raise QuantityError(
                f"{next(iter(systems))} and {name} were scored on {first.n} and {one.n} images"
                + (f", and only one of them by {listed(lacking)}" if lacking else "")
                + (", and other images were left out" if one.left_out != first.left_out else "")
                + ": score the same images by the same metrics."
            )
    table = []
    for metric in first.scores:
        score = first.preset.metrics[metric]
        values = {name: one.values[metric] for name, one in systems.items()}
        best = (max if score.better == "higher" else min)(values.values())
        table.append(
            {"metric": metric, "column": score.column, "better": score.better}
            | {"values": values, "best": [name for name, value in values.items() if value == best]}
        )
    return table


# -- images, retrieval, captions -------------------------------------------------------------------


def score_images(
    preset: Preset,
    images: ArrayLike,
    reconstructions: ArrayLike,
    networks: Mapping[str, Network] | None = None,
    *,
    any_number: bool = False,
    batch_size: int = 32,
    **rows: Any,
) -> PresetScores:
    """Score reconstructions.

    Parameters
    ----------
    preset : Preset
    images, reconstructions : array_like of shape (n, height, width, 3)
        RGB, of 8 bits or in [0, 1]; row i of one belongs to row i of the other. Sides may have
        sizes of their own.
    networks : mapping of str to callable, optional
        The functions of `Preset.networks`: from images (n, 3, side, side), float32, resized and
        normalised as the preset says, and names of layers, to features (n, ...) by layer.
        `brainkit.features.judging_networks` loads them.
    any_number : bool, default False
        Score other numbers of images than the preset is defined on too. Such scores do not
        compare with published ones.
    batch_size : int, default 32
        Images that are resized and looked at together.
    **rows
        ``fold``, ``image``, ``units`` and ``training``, see
        `brainkit.evaluation.identification.contest`.

    Returns
    -------
    PresetScores
        By metric id the mean with what each image adds to it, and the images' scores. A
        reconstruction without any variance is unrelated to its image: it correlates by 0.

    Raises
    ------
    InputError
        If the preset scores no images, a network is not given, the sides differ in number, are
        no RGB images, or are not as many as the preset is defined on.
    """
    if not preset.images:
        raise InputError(f"The preset {preset.id} scores no reconstructions; {preset.offers()}.")
    lacking = [name for name in preset.networks if name not in (networks or {})]
    if lacking:
        raise InputError(
            f"The preset {preset.id} judges by {listed(preset.networks)}, and networks has no "
            f"{listed(lacking)}. `brainkit.features.judging_networks.load_networks` loads them "
            "from a local folder and says how to get what is not there."
        )
    real, made = _rgb(images, "images"), _rgb(reconstructions, "reconstructions")
    if len(real) != len(made):
        raise InputError(
            f"There are {len(made)} reconstructions and {len(real)} images: give pairs in order."
        )
    preset.check_number(len(real), any_number)
    scores: dict[str, ItemScores] = {}
    plain = {k: v for k, v in rows.items() if k in ("units", "training")}
    if plain.get("units") is None and rows.get("image") is not None:
        plain["units"] = rows["image"]
    features: dict[tuple[Judge, str], tuple[Single, Single]] = {}
    for score in preset.images:
        if score.judge is None:
            values = _pixel_scores(score, preset.first_resize, real, made, batch_size)
            one = mean_score(values, bounds=(-1.0, 1.0), **plain)
        else:
            judge = score.judge
            if (judge, judge.layer) not in features:
                features = _looked_at(preset, judge, real, made, networks or {}, batch_size)
            first, second = features[judge, judge.layer]
            if score.kind == "identification" and score.direction is not None:
                strict = score.ties == "failure"
                one = identification_contest(
                    second,
                    first,
                    score.direction,
                    score=share_strictly_beaten if strict else share_beaten,
                    **rows,
                )
            else:
                distances = correlation_distance(first, second)
                distances = np.where(np.isnan(distances), 1.0, distances)
                one = mean_score(distances, bounds=(0.0, 2.0), **plain)
        scores[f"{preset.id}_{score.name}"] = one
    return PresetScores(preset, scores, len(real))


def _looked_at(
    preset: Preset,
    judge: Judge,
    real: NDArray[np.generic],
    made: NDArray[np.generic],
    networks: Mapping[str, Network],
    batch_size: int,
) -> dict[tuple[Judge, str], tuple[Single, Single]]:
    """Return features of both sides, of all layers for which images are prepared alike."""
    alike = [
        one.judge
        for one in preset.images
        if one.judge is not None
        and (one.judge.network, one.judge.weights, one.judge.resize, one.judge.mean)
        == (judge.network, judge.weights, judge.resize, judge.mean)
    ]
    layers = list(dict.fromkeys(one.layer for one in alike))
    sides = [
        _features(networks[judge.network], judge, layers, preset.first_resize, one, batch_size)
        for one in (real, made)
    ]
    return {(one, one.layer): (sides[0][one.layer], sides[1][one.layer]) for one in alike}


def score_retrieval(
    preset: Preset,
    brain: ArrayLike,
    gallery: ArrayLike,
    gallery_name: str,
    *,
    truth: ArrayLike | None = None,
    any_number: bool = False,
    seed: int = 0,
) -> PresetScores:
    """Score retrieval, in each direction that the preset has.

    Parameters
    ----------
    preset : Preset
    brain : array_like of shape (n, ...)
        Embeddings predicted from the brain.
    gallery : array_like of shape (n, ...) or (n_gallery, ...)
        Embeddings of what is searched; row i belongs to row i of the brain's where `truth` is
        not given.
    gallery_name : str
        ``"test-images"`` or ``"class-centroids"``.
    truth : array_like of int of shape (n,), optional
        Row of the gallery that is right for each of the brain's; see
        `brainkit.evaluation.gallery_rows`.
    any_number : bool, default False
        See :func:`score_images`; here of the gallery.
    seed : int, default 0
        Seed of what is drawn.

    Returns
    -------
    PresetScores
        A median rank has no interval.

    Raises
    ------
    UnknownNameError
        If the preset has no such gallery.
    InputError
        If the preset scores no retrieval, or arrays do not fit.
    """
    if not preset.retrieval:
        raise InputError(f"The preset {preset.id} scores no retrieval; {preset.offers()}.")
    known = list(dict.fromkeys(one.gallery for one in preset.retrieval))
    if gallery_name not in known:
        raise unknown_name(f"gallery of the preset {preset.id}", gallery_name, known)
    n_gallery = len(np.asarray(gallery))
    preset.check_number(n_gallery, any_number)
    scores: dict[str, ItemScores] = {}
    candidates: dict[str, int] = {}
    for score in preset.retrieval:
        if score.gallery != gallery_name:
            continue
        name = f"{preset.id}_{score.name}"
        candidates[name] = min(score.drawn or n_gallery, n_gallery)
        scores[name] = _retrieved(preset, score, brain, gallery, truth, seed)
    return PresetScores(preset, scores, n_gallery, candidates)


def _retrieved(
    preset: Preset,
    score: RetrievalScore,
    brain: ArrayLike,
    gallery: ArrayLike,
    truth: ArrayLike | None,
    seed: int,
) -> ItemScores:
    if truth is not None and (score.direction == "brain_from_image" or score.drawn is not None):
        raise InputError(
            f"{preset.id} asks for the brain's row of every image too: give as many of both, in "
            "order, and no truth."
        )
    if score.drawn is not None:
        return drawn_retrieval(
            brain,
            gallery,
            score.direction,
            n=score.drawn,
            draws=score.draws or 1,
            generator=rng(seed, "retrieval", score.direction),
            similarity=score.similarity,
        )
    pair = (brain, gallery) if score.direction == "image_from_brain" else (gallery, brain)
    found = retrieval(
        *pair,
        direction=score.direction,
        gallery_name=score.gallery,
        truth=truth,
        k=min(score.top or 1, len(np.asarray(pair[1]))),
        similarity=score.similarity,
    )
    if score.top is not None:
        return mean_score(found.hits.astype(np.float64), bounds=(0.0, 1.0))
    ranks = np.asarray(found.ranks + 1, dtype=np.float64)
    unknown = np.zeros(len(ranks))
    return ItemScores(ranks, Estimate(found.median_rank, unknown, len(ranks), 0))


def score_all_captions(
    preset: Preset,
    captions: Mapping[str, str | None],
    references: Mapping[str, Sequence[str]],
    *,
    missing: Literal["raise", "leave_out"] = "raise",
    any_number: bool = False,
) -> PresetScores:
    """Score captions; see `brainkit.evaluation.score_captions`.

    Parameters
    ----------
    preset : Preset
    captions, references, missing
        See `brainkit.evaluation.score_captions`.
    any_number : bool, default False
        See :func:`score_images`.

    Returns
    -------
    PresetScores

    Raises
    ------
    InputError
        If the preset scores no captions, or as `brainkit.evaluation.score_captions` does.
    """
    if not preset.captions:
        raise InputError(f"The preset {preset.id} scores no captions; {preset.offers()}.")
    preset.check_number(len(references), any_number)
    metrics = [one.name for one in preset.captions]
    found: CaptionScores = score_captions(captions, references, metrics, missing=missing)
    scores = {f"{preset.id}_{name}": one for name, one in found.scores.items()}
    return PresetScores(preset, scores, len(found.images), left_out=found.left_out)


# -- images: from pixels to scores, a batch at a time ----------------------------------------------


def _rgb(images: ArrayLike, name: str) -> NDArray[np.generic]:
    array = real_array(images, name)
    if array.ndim != 4 or array.shape[-1] != 3 or not array.size:
        raise InputError(
            f"{name} has shape {array.shape}, expected RGB images (n, height, width, 3)."
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise InputError(f"{name} has dtype {array.dtype}, expected uint8, or floats in [0, 1].")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"{name} spans {low:g} to {high:g}, expected [0, 1]: divide by the format's largest "
            "value, clip what a generator overshoots, and leave no NaN."
        )
    return array


def resized(images: NDArray[np.generic], resize: Resize | None) -> Single:
    """Bring images to a square.

    Parameters
    ----------
    images : array (n, height, width, 3)
        Of 8 bits, or in [0, 1].
    resize : Resize or None
        None to keep the size.

    Returns
    -------
    float32 array (n, side, side, 3)
        In [0, 1]; bicubic resizing of floats may overshoot.
    """
    scaled = images.astype(np.float32)
    if images.dtype == np.uint8:
        scaled /= 255.0
    if resize is None:
        return scaled
    if resize.pixels == "uint8":
        from PIL import Image

        method = Image.Resampling[resize.filter.upper()]
        eight_bit = np.rint(scaled * 255.0).astype(np.uint8)
        size = (resize.side, resize.side)
        pictures = [np.asarray(Image.fromarray(one).resize(size, method)) for one in eight_bit]
        return np.stack(pictures).astype(np.float32) / np.float32(255.0)
    if scaled.shape[1:3] == (resize.side, resize.side):
        return scaled
    import torch

    tensor: torch.Tensor = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))),
        size=(resize.side, resize.side),
        mode=resize.filter,
        align_corners=False,
        antialias=resize.antialias,
    )
    return np.asarray(tensor.numpy().transpose(0, 2, 3, 1), dtype=np.float32)


def _batches(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _pixel_scores(
    score: ImageScore,
    first: Resize | None,
    real: NDArray[np.generic],
    made: NDArray[np.generic],
    batch_size: int,
) -> NDArray[np.float64]:
    values = np.empty(len(real))
    for batch in _batches(len(real), batch_size):
        one, two = (resized(resized(side[batch], first), score.resize) for side in (real, made))
        if score.kind == "ssim":
            grey = greyscale(one), greyscale(two)
            values[batch] = ssim(*grey, data_range=1.0, variant=score.variant or "gaussian-2d")
        else:
            r = np.asarray(pixel_correlation(one, two))
            values[batch] = np.where(np.isnan(r), 0.0, r)
    return values


def features_of(
    network: Network, judge: Judge, images: NDArray[np.generic], batch_size: int = 32
) -> Single:
    """Return what a network makes of images at a judge's layer, (n, features), flattened."""
    layers = [judge.layer]
    return _features(network, judge, layers, None, _rgb(images, "images"), batch_size)[judge.layer]


def _features(
    network: Network,
    judge: Judge,
    layers: Sequence[str],
    first: Resize | None,
    images: NDArray[np.generic],
    batch_size: int,
) -> dict[str, Single]:
    """Return what a network makes of images, (n, features) by layer."""
    mean, std = (np.array(three, dtype=np.float32) for three in (judge.mean, judge.std))
    parts: dict[str, list[Single]] = {layer: [] for layer in layers}
    for batch in _batches(len(images), batch_size):
        seen = (resized(resized(images[batch], first), judge.resize) - mean) / std
        given = network(np.ascontiguousarray(seen.transpose(0, 3, 1, 2)), layers)
        for layer in layers:
            values = np.asarray(given[layer], dtype=np.float32)
            if len(values) != len(seen):
                raise InputError(
                    f"The network {judge.network} gave {len(values)} rows of {layer or 'features'} "
                    f"for {len(seen)} images: expected one a row."
                )
            parts[layer].append(values.reshape(len(values), -1))
    return {layer: np.concatenate(values) for layer, values in parts.items()}
