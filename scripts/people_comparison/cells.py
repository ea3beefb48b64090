"""One cell of the comparison: a job, an aligner (or none), a number of trials, and the pairing."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from brainkit.evaluation import pixel_correlation
from brainkit.evaluation.identification import identification_contest, retrieval_contest
from brainkit.evaluation.intervals import Estimate, mean_score
from brainkit.evaluation.score_intervals import correlation_influences
from brainkit.jobs import read_recipe, run_recipe
from brainkit.jobs.decode import DecodeRecipe
from brainkit.jobs.encode import EncodeRecipe
from people_comparison.people import OTHERS, TESTED, People, SceneComponents

# Kind and settings, chosen on the world of seed 7 for 200 trials. That world is not in the table.
ALIGNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Procrustes": ("procrustes", {}),
    "Procrustes, by region": ("procrustes", {"parcels": "region"}),
    "Procrustes, by stream": ("procrustes", {"parcels": "stream"}),
    "shared response": ("shared-response", {"n_components": 80}),
    "Procrustes, ridge": ("procrustes", {"maps": "ridge"}),
    "Procrustes, ridge by region": ("procrustes", {"parcels": "region", "maps": "ridge"}),
    "Procrustes, ridge by stream": ("procrustes", {"parcels": "stream", "maps": "ridge"}),
    "shared response, ridge": ("shared-response", {"n_components": 40, "maps": "ridge"}),
    "ridge to reference": ("ridge-to-reference", {"reference": TESTED}),
    "by features": ("by-features", {}),
    "coordinates": ("coordinates", {}),
    "PCA": ("pca", {"n_components": 20}),
}
# A shared response needs more common stimuli than dimensions, and 50 trials show fewer than 50.
FEW_TRIALS = {
    ("shared response", 50): {"n_components": 30},
    ("shared response, ridge", 50): {"n_components": 30},
}
# It has no way back to a person's units, so that no encoder goes through it.
ONE_WAY = ("coordinates",)
RIGHT, SHUFFLED = "right", "shuffled"
OWN = "own"
SCORES = {
    "decode": (
        "identification_image_given_reconstruction",
        "identification_reconstruction_given_image",
        "identification_components",
        "pixel_correlation",
    ),
    "encode": ("encoding_r",),
}
RECIPES = {
    "decode": (
        DecodeRecipe,
        "decode-pixel-components-shared",
        ("model.alphas=null", "protocol.seeds=[0]"),
    ),
    "encode": (
        EncodeRecipe,
        "encode-energy-voxelwise",
        (
            "model.alphas=null", "protocol.ceiling=none", "protocol.permutations=0",
            "protocol.shuffles=1", "protocol.seeds=[0]",
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What is fitted: `trials` of None are all that may train."""

    job: str
    aligner: str
    trials: int | None
    pairing: str = RIGHT

    @property
    def name(self) -> str:
        """Return the name of its file."""
        aligner = self.aligner.replace(", ", "-").replace(" ", "-")
        return f"{self.job}-{aligner}-{self.trials or 'all'}-{self.pairing}"


def cells(sizes: Sequence[int | None], aligners: Sequence[str], control: int) -> list[Cell]:
    """Return the cells of one world, those of the `control` size first.

    Every job and aligner stands at every size, beside the tested person's own model. At the control
    size each aligner stands with the pairing of stimuli shuffled, too.
    """
    ordered = sorted(sizes, key=lambda n: (n != control, n is None))
    wanted = [Cell(job, OWN, n) for n in ordered for job in SCORES]
    for name in aligners:
        for n in ordered:
            jobs = [job for job in SCORES if job == "decode" or name not in ONE_WAY]
            for pairing in (RIGHT, SHUFFLED) if n == control else (RIGHT,):
                wanted += [Cell(job, name, n, pairing) for job in jobs]
    return wanted


def with_space(job: str, changes: tuple[str, ...], space: Any) -> Any:
    """Return a job's recipe with changes, whose features are a space that stands ready."""
    schema, name, usual = RECIPES[job]

    class Ready(schema):  # type: ignore[misc, valid-type]
        def build(self, known: Any = None) -> tuple[Any, Any]:
            """Return the ready space and the recipe's model."""
            return space, super().build(known)[1]

    # Few trials cannot be z-scored session by session: all are one group.
    common = ("protocol.split=nsd-515", "protocol.zscore=recording")
    return Ready.model_validate(read_recipe(name, (*usual, *common, *changes)).model_dump())


def recipe_of(cell: Cell, people: People) -> Any:
    """Return the recipe of a cell."""
    trials = people.n_trials() if cell.trials is None else cell.trials
    changes = [f"subjects.trials={trials}"]
    if cell.aligner != OWN:
        changes += [
            f"subjects.train={','.join(OTHERS)}",
            f"alignment.kind={ALIGNERS[cell.aligner][0]}",
        ]
    space = people.spaces[cell.job]
    recipe = with_space(cell.job, tuple(changes), space)
    if recipe.alignment is not None:
        kind, settings = ALIGNERS[cell.aligner]
        ready = {"features": space} if kind == "by-features" else {}
        few = FEW_TRIALS.get((cell.aligner, trials), {})
        recipe.alignment.settings.update(settings | ready | few)
    return recipe


def run_cell(cell: Cell, people: People) -> dict[str, Any]:
    """Fit and score a cell, and return its scores as JSON values; see `estimate`."""
    begun = time.process_time()
    others = {} if cell.aligner == OWN else people.others(cell.pairing)
    result = run_recipe(people.recordings[TESTED], recipe_of(cell, people), others=others)
    scores = {"decode": decoding_scores, "encode": encoding_scores}[cell.job](
        result, people.spaces[cell.job]
    )
    return {
        **asdict(cell),
        "facts": {k: result.facts[k] for k in ("access", "trained_on", "own_trials", "aligner")},
        "cpu_seconds": round(time.process_time() - begun, 1),
        "scores": {name: written(one) for name, one in scores.items()},
    }


def decoding_scores(result: Any, space: SceneComponents) -> dict[str, Estimate]:
    """Score the reconstructions of the test images; every image is a unit of its own.

    A reconstruction that is shrunk to the mean picture is like whichever pictures the mean is like,
    so that images are told less well by it than its own part would tell. The last score is of that
    part alone: components, which are 0 for the mean picture, by their cosine.
    """
    shown, made = result.source.images["shown"], result.source.images["reconstruction"]
    scores = {
        f"identification_{direction}": identification_contest(made, shown, direction).estimate
        for direction in ("image_given_reconstruction", "reconstruction_given_image")
    }
    correlation = np.nan_to_num(np.asarray(pixel_correlation(shown, made)), nan=0.0)
    scores["pixel_correlation"] = mean_score(correlation).estimate
    decoded, true = (space.components_of(images) for images in (made, shown))
    found = retrieval_contest(decoded, true, "image_from_brain", similarity="cosine")
    return {**scores, "identification_components": found.estimate}


def encoding_scores(result: Any, space: Any) -> dict[str, Estimate]:
    """Score the mean over voxels of r over the test images; a constant prediction counts as 0."""
    judged = result.source
    true, predicted = judged.truth, judged.predictions  # (items, units)
    weights = np.full((true.shape[1], 1), 1 / true.shape[1])
    r = np.nan_to_num(judged.units["r"].to_numpy(dtype=float), nan=0.0)
    influences = correlation_influences(true, predicted, weights)
    return {"encoding_r": influences.estimate(0, float(r.mean()))}


def written(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as JSON values."""
    return {
        "value": float(estimate.value),
        "influence": [round(float(one), 9) for one in estimate.influence],
        "n": estimate.n,
        "freedom": estimate.freedom,
    }


def estimate(held: Mapping[str, Any]) -> Estimate:
    """Return an estimate that `written` wrote."""
    return Estimate(held["value"], np.array(held["influence"]), held["n"], held["freedom"])
