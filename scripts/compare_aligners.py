"""Compare aligners on two beds of real data, and write the tables of docs/alignment.md.

    python scripts/compare_aligners.py --data $SHARED/data --out docs/alignment.md

Story
    Thirty-six people hear one story (``pieman``: 300 time points, 100 network factors each, which
    correspond between people as they stand). Each person's factors are turned by a seeded random
    rotation. Aligners are fitted on one half of the story; on the other, ten time points of one
    person are looked for in the mean of all others, among all segments that do not overlap the
    right one. The score is the share that is found. The null shifts people in a circle.
Real tunings
    Responses of the voxels of three people (``bold5000_encoders``: 1,685, 2,270 and 3,104 voxels,
    published weights W on 512 features) to 1,000 shared stimuli. Weights are real, stimuli and
    noise are drawn: stimuli f Gaussian, of equal variance along all features (*flat*), or with a
    variance that falls as 1/k along the k-th principal direction of all people's weights (*1/k*,
    Stringer et al. 2019, Nature 571:361). Noise is independent; a voxel's ncsnr is log-normal (0.4)
    about .490, .510 and .431, NSD's medians of subjects 1 to 3, and three trials are averaged.
    Aligners are fitted on 800 stimuli; on the other 200 the mean of two people in the shared space
    is carried to the third's voxels. The score is the mean over voxels of r with the third's
    responses, and its share of the mean ceiling, the root of the noise ceiling. Each person is the
    third in turn; mean and standard deviation are over draws of stimuli and noise.
    Nulls: *shuffled*, the third's stimuli in another order while fitting; *rotated*, W times a
    random rotation of the features for each person: nothing is shared but the stimuli.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.stats import ortho_group
from sklearn.base import clone

from brainkit import Recording
from brainkit.alignment import (
    PCA,
    Aligner,
    ByFeatures,
    Identity,
    Procrustes,
    RidgeToReference,
    SharedResponse,
)
from brainkit.arrays.atomic import write_text
from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.evaluation import pearson_r

Float = NDArray[np.floating[Any]]

# -- the story --------------------------------------------------------------------------------

TR, WIDTH = 1.5, 10
FIRST, SECOND = np.arange(150), np.arange(150, 300)
SHIFTS = (30, 60, 90, 120)
STORY: Mapping[str, Aligner] = {
    "Identity": Identity(),
    "PCA, 20": PCA(20),
    "RidgeToReference": RidgeToReference(),
    "Procrustes": Procrustes(),
    "SharedResponse, 10": SharedResponse(10),
    "SharedResponse, 20": SharedResponse(20),
    "SharedResponse, 50": SharedResponse(50),
}


def story_people(folder: Path, *, scrambled: bool) -> list[Recording]:
    """Return recordings of the people of ``pieman``, as they stand or each turned at random."""
    cells = loadmat(folder / "weights.mat")["weights"].ravel()
    samples = pd.DataFrame({"run": 1, "time": TR * np.arange(300)})
    people = []
    for number, cell in enumerate(cells, start=1):
        values = cell.astype(np.float64)
        if scrambled:
            values = values @ ortho_group.rvs(values.shape[1], random_state=number - 1)
        people.append(
            Recording.from_arrays(
                values.astype(np.float32), subject=f"p{number:02d}", samples=samples, sfreq=1 / TR
            )
        )
    return people


def segments(values: Float) -> Float:
    """Return every ten consecutive time points as one pattern of unit length and mean 0."""
    windows = np.lib.stride_tricks.sliding_window_view(values, WIDTH, axis=0)
    flat = windows.reshape(len(windows), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))


def found_segments(one: Float, others: Float) -> float:
    """Return the share of segments that are most like their own time, overlapping ones apart."""
    likeness = segments(one) @ segments(others).T
    place = np.arange(len(likeness))
    apart = np.abs(place[:, None] - place)
    likeness[(apart > 0) & (apart < WIDTH)] = -np.inf
    return float((likeness.argmax(axis=1) == place).mean())


def matching(values: Sequence[Float], shift: int = 0) -> float:
    """Return the mean over people of `found_segments` in the mean of the others."""
    total = np.sum(values, axis=0)
    return float(
        np.mean([found_segments(np.roll(one, shift, axis=0), total - one) for one in values])
    )


def recovered(aligner: Aligner, people: Sequence[Recording]) -> tuple[Float, float]:
    """Fit on either half of the story; return the matching on each other half, and the null's.

    Returns
    -------
    scores : array (2,)
        Of the first half, fitted on the second, and the reverse.
    shifted : float
        The largest of people shifted in a circle.
    """
    scores, shifted = [], []
    for train, test in ((SECOND, FIRST), (FIRST, SECOND)):
        fitted = clone(aligner).fit(
            [one.select(trials=train) for one in people],
            forbidden=[one.select(trials=test) for one in people],
        )
        shared = [fitted.align(one).responses.read(test) for one in people]
        scores.append(matching(shared))
        shifted += [matching(shared, shift) for shift in SHIFTS]
    return np.array(scores), max(shifted)


def story_table(folder: Path) -> list[str]:
    """Return a row an aligner: matching of factors as they stand and scrambled, and the null."""
    plain, turned = (story_people(folder, scrambled=state) for state in (False, True))
    lines = [
        "| aligner | as they stand | scrambled | shifted, at most |",
        "|---|---|---|---|",
    ]
    for name, aligner in track(list(STORY.items()), "story"):
        before, _ = recovered(aligner, plain)
        after, shifted = recovered(aligner, turned)
        lines.append(
            f"| {name} | {before[0]:.3f} {before[1]:.3f} | {after[0]:.3f} {after[1]:.3f} "
            f"| {shifted:.3f} |"
        )
    return lines


# -- real tunings -----------------------------------------------------------------------------

N_TRAIN, N_TEST, N_TRIALS = 800, 200, 3
NCSNR, SPREAD = (0.490, 0.510, 0.431), 0.4
SPECTRA: tuple[Literal["flat", "1/k"], ...] = ("flat", "1/k")
CONDITIONS = ("true", "shuffled", "rotated")
FEATURES = "ByFeatures, no stimulus shared"
CARRIERS: Mapping[str, Aligner] = {
    "RidgeToReference": RidgeToReference(),
    "Procrustes": Procrustes(),
    "SharedResponse, 20": SharedResponse(20),
    "SharedResponse, 50": SharedResponse(50),
    "SharedResponse, 100": SharedResponse(100),
    "PCA, 50": PCA(50),
    FEATURES: ByFeatures(),
}


def read_weights(folder: Path) -> dict[str, Float]:
    """Return each person's weights, all regions under one another, (voxel, feature)."""
    found: dict[str, list[Float]] = {}
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        for name in sorted(arrays.files):
            person, _, part = name.split(".")
            if part == "coef":
                found.setdefault(person, []).append(arrays[name].astype(np.float64))
    return {person: np.concatenate(parts) for person, parts in found.items()}


@dataclass(frozen=True)
class Draw:
    """One draw of stimuli and noise.

    Attributes
    ----------
    train : list of Recording
        Responses to the shared stimuli, and of `apart` to stimuli of each person's own.
    features : dict of str to array
        The stimuli of each person in `apart`.
    apart : list of Recording
    test : dict of str to array
        Responses to the held-out stimuli.
    ceilings : dict of str to float
        Mean over voxels of the largest r that noise allows.
    """

    train: list[Recording]
    apart: list[Recording]
    features: dict[str, Float]
    test: dict[str, Float]
    ceilings: dict[str, float]


def draw(
    weights: Mapping[str, Float], spectrum: str, seed: int, condition: str = "true", third: str = ""
) -> Draw:
    """Draw stimuli and noise; see the head of this file."""
    generator = rng(seed, "aligners", spectrum)
    shared, test = (stimuli_of(weights, spectrum, n, generator) for n in (N_TRAIN, N_TEST))
    train, apart, own, held, ceilings = [], [], {}, {}, {}
    for number, (person, W) in enumerate(weights.items()):
        turn = np.eye(W.shape[1])
        if condition == "rotated":
            turn = ortho_group.rvs(W.shape[1], random_state=1000 * seed + number)
        own[person] = stimuli_of(weights, spectrum, N_TRAIN, generator)
        ncsnr = NCSNR[number] * np.exp(SPREAD * generator.standard_normal(len(W)))
        size = (shared @ turn @ W.T).std(axis=0)
        parts = []
        for stimuli in (shared, own[person], test):
            signal = stimuli @ turn @ W.T / size
            noise = generator.standard_normal(signal.shape) / (ncsnr * N_TRIALS**0.5)
            parts.append((signal + noise).astype(np.float32))
        names = np.arange(N_TRAIN)
        if condition == "shuffled" and person == third:
            names = generator.permutation(N_TRAIN)
        train.append(_recording(person, parts[0], names))
        apart.append(_recording(person, parts[1], np.arange(N_TRAIN)))
        held[person] = parts[2]
        ceilings[person] = float(np.sqrt(ncsnr**2 / (ncsnr**2 + 1 / N_TRIALS)).mean())
    return Draw(train, apart, own, held, ceilings)


def stimuli_of(
    weights: Mapping[str, Float], spectrum: str, n_stimuli: int, generator: np.random.Generator
) -> Float:
    """Draw stimuli (n_stimuli, feature)."""
    n_features = next(iter(weights.values())).shape[1]
    drawn = generator.standard_normal((n_stimuli, n_features))
    if spectrum == "flat":
        return drawn
    pooled = sum((W / np.linalg.norm(W)).T @ (W / np.linalg.norm(W)) for W in weights.values())
    directions = np.linalg.eigh(pooled)[1][:, ::-1]  # the leading one first
    return np.asarray(drawn * np.arange(1, n_features + 1) ** -0.5 @ directions.T)


def _recording(person: str, values: Float, shown: NDArray[np.int64]) -> Recording:
    trials = pd.DataFrame({"stimulus": shown})
    return Recording.from_arrays(values, subject=person, trials=trials)


def carried(aligner: Aligner, drawn: Draw, third: str) -> float:
    """Fit, carry two people's held-out responses to the third, and return the mean r of voxels."""
    settings = aligner.get_params()
    given = drawn.train
    if "features" in settings:
        aligner, given = clone(aligner).set_params(features=drawn.features), drawn.apart
    elif "reference" in settings:
        aligner = clone(aligner).set_params(reference=third)
    fitted = clone(aligner).fit(given)
    others = [person for person in drawn.test if person != third]
    shared = np.mean([fitted.transform(drawn.test[name], name) for name in others], axis=0)
    in_its_units = "reference" in settings
    predicted = shared if in_its_units else fitted.inverse_transform(shared, third)
    return float(np.nanmean(np.asarray(pearson_r(drawn.test[third], predicted))))


def tunings_table(folder: Path, n_draws: int) -> list[str]:
    """Return a row a spectrum and aligner: r that is carried, its share of the ceiling, nulls."""
    weights = read_weights(folder)
    lines = [
        "| stimuli | aligner | r | of the ceiling | shuffled | rotated |",
        "|---|---|---|---|---|---|",
    ]
    for spectrum in SPECTRA:
        found = _scores(weights, spectrum, n_draws)
        for name in CARRIERS:
            r = {condition: found[name, condition] for condition in CONDITIONS}
            share = np.mean(r["true"] / found["ceiling", ""])
            lines.append(
                f"| {spectrum} | {name} | {_told(r['true'])} | {share:.2f} | "
                f"{_told(r['shuffled'])} | {_told(r['rotated'])} |"
            )
    return lines


def _scores(
    weights: Mapping[str, Float], spectrum: str, n_draws: int
) -> dict[tuple[str, str], Float]:
    """Return r by aligner and condition, and the ceiling, (draw, third person)."""
    people = list(weights)
    found = {
        (name, condition): np.full((n_draws, len(people)), np.nan)
        for name in CARRIERS
        for condition in CONDITIONS
    }
    found["ceiling", ""] = np.full((n_draws, len(people)), np.nan)
    for seed in track(range(n_draws), f"tunings, {spectrum}"):
        for column, third in enumerate(people):
            for condition in CONDITIONS:
                drawn = draw(weights, spectrum, seed, condition, third)
                found["ceiling", ""][seed, column] = drawn.ceilings[third]
                for name, aligner in CARRIERS.items():
                    if condition == "shuffled" and name == FEATURES:
                        own = drawn.features[third]
                        order = rng(seed, "order").permutation(len(own))
                        drawn.features[third] = own[order]
                    found[name, condition][seed, column] = carried(aligner, drawn, third)
    return found


def _told(values: Float) -> str:
    by_draw = values.mean(axis=1)
    spread = f" ± {by_draw.std(ddof=1):.3f}" if len(by_draw) > 1 else ""
    return f"{by_draw.mean():.3f}{spread}"


# -- the page ---------------------------------------------------------------------------------

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def with_tables(text: str, story: Sequence[str], tunings: Sequence[str], command: str) -> str:
    """Return the page with new tables between its marks."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    lines = [
        BEGIN, f"Made by `{command}`; the protocols stand at the head of the script.", "",
        "### The story", "", *story, "", "### Real tunings (simulated responses)", "", *tunings,
        END,
    ]  # fmt: skip
    return before + "\n".join(lines) + after


def main() -> None:
    """Make both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real recordings")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a page whose marked tables are made anew")
    chosen = parser.parse_args()
    story = story_table(chosen.data / "pieman")
    print("\n".join(story), flush=True)
    tunings = tunings_table(chosen.data / "bold5000_encoders", chosen.draws)
    print("\n".join(tunings))
    if chosen.out is not None:
        command = f"python scripts/compare_aligners.py --data $SHARED/data --draws {chosen.draws}"
        text = chosen.out.read_text(encoding="utf-8")
        write_text(chosen.out, with_tables(text, story, tunings, command))


if __name__ == "__main__":
    main()
