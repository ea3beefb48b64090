"""The noise ceiling of each unit, by the name that a recipe gives.

- ``"ncsnr"``: from the noise of repeated trials (Allen et al., 2022; mixed numbers of repeats by
  its equation for them); needs stimuli shown three times or more. ``"nsd"`` is the same.
- ``"split-half"``: from the correlation of halves of the repeats, stepped up by Spearman and Brown;
  needs stimuli shown twice or more.
- ``"cross-subject"``: from how well other subjects' responses to the test stimuli predict the
  subject's own, extrapolated to ever more subjects; needs two others who saw them.
  ``"cross-subject-all"`` predicts from all others at once, of whom one is enough.

Of continuous data, in which nothing repeats, the ceilings by others are the only ones: others'
samples at the same moments of the same runs stand for stimuli that they saw too.

- ``"auto"``: NSD's where enough stimuli were shown three times, that of split halves where
  they were shown twice, and none where they were not.

Responses are standardised for a ceiling as they are for the scores that it divides. The equations
are those of `brainkit.evaluation.noise_ceiling`. Test responses enter all of them, as
in any ceiling of a test set; nothing is selected by it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainkit.data.dependence import shown_by, shows_stimuli
from brainkit.data.preparing import Prepared, prepare_split
from brainkit.data.recording import Recording
from brainkit.errors import InputError, PenaltyWarning, listed, told_once, unknown_name
from brainkit.evaluation import NoiseCeiling, noise_ceiling
from brainkit.linear.ridge_estimator import CrossValidatedRidge

if TYPE_CHECKING:
    from brainkit.encoding.judging import EncodingProtocol

Array = NDArray[Any]

LEAST_REPEATS = {"ncsnr": 3, "split-half": 2}
LEAST_OTHERS = {"cross-subject": 2, "cross-subject-all": 1}
CEILINGS = (*LEAST_REPEATS, *LEAST_OTHERS)
FEWEST_STIMULI = 10


def check_ceiling(
    recording: Recording, name: str | None, others: Mapping[str, Recording]
) -> str | None:
    """Return the name of a ceiling, once the recording is seen to have what it needs.

    Parameters
    ----------
    recording : Recording
        Whose ceiling is wanted.
    name : str or None
        The ceiling's name, or None for none.
    others : mapping of str to Recording
        Other subjects.

    Raises
    ------
    UnknownNameError
        If there is no such ceiling.
    InputError
        If stimuli do not repeat often enough, or too few others saw them.
    """
    if name is None:
        return None
    name = "ncsnr" if name == "nsd" else name
    if name == "auto" and not shows_stimuli(recording):
        return None
    if name == "auto":
        counts = _repeated(recording)
        fit = [other for other, n_stimuli in counts.items() if n_stimuli >= FEWEST_STIMULI]
        return fit[0] if fit else None
    if name not in CEILINGS:
        raise unknown_name("noise ceiling", name, ("auto", *CEILINGS))
    if name in LEAST_REPEATS and not shows_stimuli(recording):
        raise InputError(
            f"The noise ceiling {name!r} rests on repeats of stimuli, and {recording.subject} has "
            "no trials that show some. Choose ceiling=None, 'auto', or, with others of the same "
            "clock, 'cross-subject'."
        )
    if name in LEAST_REPEATS:
        _check_repeats(recording, name)
    else:
        _check_others(recording, name, others)
    return name


def _repeated(recording: Recording) -> dict[str, int]:
    """Return how many stimuli were shown often enough for each ceiling that needs repeats."""
    counts = np.unique(recording.stimulus_rows(), return_counts=True)[1]
    return {other: int((counts >= least).sum()) for other, least in LEAST_REPEATS.items()}


def _check_repeats(recording: Recording, name: str) -> None:
    counts = np.unique(recording.stimulus_rows(), return_counts=True)[1]
    repeated = _repeated(recording)
    if repeated[name] >= FEWEST_STIMULI:
        return
    tally = np.unique(counts, return_counts=True)
    shown = listed(f"{n} shown {k}×" for k, n in zip(*tally, strict=True))
    way = " or ".join(other for other, n in repeated.items() if n >= FEWEST_STIMULI)
    raise InputError(
        f"The noise ceiling {name!r} needs at least {FEWEST_STIMULI} stimuli that were shown "
        f"{LEAST_REPEATS[name]} times or more; {recording.subject} has {repeated[name]} ({shown}). "
        f"Choose ceiling={f'{way!r} or ' if way else ''}None, or 'auto'."
    )


def _check_others(recording: Recording, name: str, others: Mapping[str, Recording]) -> None:
    keys = _ids(recording, shown_by(recording))
    shared = {who: np.isin(keys, _ids(other, shown_by(other))) for who, other in others.items()}
    enough = [who for who, seen in shared.items() if len(np.unique(keys[seen])) >= FEWEST_STIMULI]
    if len(enough) < LEAST_OTHERS[name]:
        raise InputError(
            f"The noise ceiling {name!r} needs at least {LEAST_OTHERS[name]} other subjects who "
            f"saw {FEWEST_STIMULI} or more of the stimuli of {recording.subject} (of continuous "
            "data: have samples at the same moments of the same runs); there are "
            f"{len(enough)} among {len(others)} ({listed(others) or 'no other subject'}). Choose "
            "another ceiling, or None."
        )


def unit_ceiling(
    recording: Recording,
    protocol: "EncodingProtocol",
    folds: Sequence[Prepared],
    others: Mapping[str, Recording],
) -> tuple[NoiseCeiling | None, dict[str, Any]]:
    """Estimate each unit's ceiling, for responses that average as many trials as the test items.

    Parameters
    ----------
    recording : Recording
    protocol : EncodingProtocol
        Names the ceiling.
    folds : sequence of Prepared
        Of the recording, with the protocol's first seed.
    others : mapping of str to Recording
        Other subjects, for the ceilings that rest on them.

    Returns
    -------
    ceiling : NoiseCeiling (units,) or None
    facts : dict
        ``name``, ``zscore`` (what responses were standardised by), ``n_repeats`` (trials that a
        test item averages, harmonic mean), and how many ``stimuli`` and which ``subjects`` it
        rests on.

    Raises
    ------
    InputError
        See `check_ceiling`.
    """
    name = check_ceiling(recording, protocol.ceiling, others)
    if name is None:
        return None, {}
    if name in LEAST_OTHERS:
        return _from_others(recording, protocol, folds, others, name)
    rows = recording.stimulus_rows()
    ceiling = noise_ceiling(
        _standardised(recording, protocol, folds).targets(),
        rows,
        n_repeats=_tally(np.concatenate([_repeats(fold) for fold in folds])),
        definition="nsd" if name == "ncsnr" else name,
        min_repeats=LEAST_REPEATS[name],
        min_images=FEWEST_STIMULI,
    )
    counts = np.unique(rows, return_counts=True)[1]
    n_stimuli = int((counts >= LEAST_REPEATS[name]).sum())
    return ceiling, _facts(name, protocol, ceiling, n_stimuli, [recording.subject])


def _standardised(
    recording: Recording, protocol: "EncodingProtocol", folds: Sequence[Prepared]
) -> Recording:
    """Standardise all trials as those that are scored: with one fold by its training statistics.

    With several folds, whose training parts together are all trials, by the statistics of all.
    """
    if protocol.zscore is None:
        return recording
    (only, *more) = recording.split(protocol.split, seed=protocol.seeds[0]).folds
    rows = only.rows["train"] if not more else None
    return recording.zscore(protocol.zscore, fit_on=rows, unseen=protocol.unseen)


def _from_others(
    recording: Recording,
    protocol: "EncodingProtocol",
    folds: Sequence[Prepared],
    others: Mapping[str, Recording],
    name: str,
) -> tuple[NoiseCeiling, dict[str, Any]]:
    """Predict the test items from what others' brains did at the same stimuli."""
    shown = _ids(recording, np.concatenate([fold.test_stimuli for fold in folds]))
    tables = {}
    for who, other in others.items():
        ids, values = _test_means(other, protocol)
        if len(np.intersect1d(ids, shown)) >= FEWEST_STIMULI:
            tables[who] = ids, values
    common = np.unique(shown)
    for ids, _ in tables.values():
        common = np.intersect1d(common, ids)
    if len(tables) < LEAST_OTHERS[name] or len(common) < FEWEST_STIMULI:
        raise InputError(
            f"The noise ceiling {name!r} needs {FEWEST_STIMULI} stimuli or more in the test parts "
            f"of {recording.subject} and of {LEAST_OTHERS[name]} others at least; by the split "
            f"{protocol.split} there are {len(common)} for {listed(tables) or 'no other subject'}. "
            "Choose a split with a shared test part, another ceiling, or None."
        )
    # By stimulus, so that in folds of consecutive items the items of one stay together; of
    # continuous data in the order of time.
    items = np.flatnonzero(np.isin(shown, common))
    place = np.concatenate([fold.test_rows.place for fold in folds])
    items = items[np.argsort(shown[items] if shows_stimuli(recording) else place[items],
                             kind="stable")]  # fmt: skip
    usable = np.all([fold.usable for fold in folds], axis=0)
    responses = {
        who: values[np.searchsorted(ids, shown[items])] for who, (ids, values) in tables.items()
    }
    truth = np.concatenate([fold.test[:, usable] for fold in folds])[items]
    estimate = noise_ceiling(
        {recording.subject: truth} | responses,
        shown[items],
        n_repeats=_tally(np.concatenate([_repeats(fold) for fold in folds])[items]),
        definition=name,
        target=recording.subject,
        predict=_predict,
        seed=protocol.seeds[0],
    )
    ceilings = np.full(len(usable), np.nan)
    ceilings[usable] = estimate
    ceiling = NoiseCeiling(ceilings, definition=name, n_repeats=estimate.n_repeats)
    return ceiling, _facts(name, protocol, ceiling, len(common), list(tables))


def _predict(X: Array, Y: Array, fresh: Array) -> Array:
    """Predict from others' responses by ridge, with penalties chosen within the training part."""
    with told_once(PenaltyWarning, silent=True):
        return np.asarray(CrossValidatedRidge(standardise=True).fit(X, Y).predict(fresh))


def _test_means(other: Recording, protocol: "EncodingProtocol") -> tuple[Array, Array]:
    """Return ids (ascending) and mean responses of another's test stimuli, in usable units."""
    folds = prepare_split(
        other,
        protocol.split,
        seed=protocol.seeds[0],
        zscore=protocol.zscore,
        unseen=protocol.unseen,
        average_repeats="test",
    )
    keys = np.concatenate([_ids(other, fold.test_rows.shown) for fold in folds])
    responses = np.concatenate([fold.test for fold in folds])
    low, high = responses.min(axis=0), responses.max(axis=0)
    order = np.argsort(keys)
    return keys[order], responses[order][:, np.isfinite(low) & np.isfinite(high) & (high > low)]


def _ids(recording: Recording, shown: Array) -> Array:
    """Return the ids of what rows show, by which they are known across subjects.

    Of continuous data these are moments: the run, and milliseconds since its beginning.
    """
    if shows_stimuli(recording):
        return shown if recording.stimuli is None else recording.stimuli.ids[shown]
    if recording.samples is None:
        return shown
    rows = recording.samples.iloc[shown]
    if "time" not in rows:
        return shown
    runs = rows["run"].astype(str) if "run" in rows else ["1"] * len(rows)
    moments = np.rint(1000 * rows["time"].to_numpy(dtype=np.float64)).astype(np.int64)
    return np.array([f"{run}@{at}" for run, at in zip(runs, moments, strict=True)])


def _repeats(fold: Prepared) -> Array:
    """Return how many trials each test item averages."""
    table = fold.test_trials
    return np.asarray(table["n_repeats"]) if "n_repeats" in table else np.ones(len(table), int)


def _tally(repeats: Array) -> dict[int, int]:
    """Return how many items average how many trials."""
    numbers, counts = np.unique(repeats, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _facts(
    name: str,
    protocol: "EncodingProtocol",
    ceiling: NoiseCeiling,
    n_stimuli: int,
    subjects: list[str],
) -> dict[str, Any]:
    return {
        "name": name,
        "zscore": protocol.zscore,
        "n_repeats": float(ceiling.n_repeats),
        "stimuli": n_stimuli,
        "subjects": subjects,
    }
