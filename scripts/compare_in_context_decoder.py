"""Decode a new person's image embeddings from few trials: without fitting, alone, or with others.

    python scripts/compare_in_context_decoder.py --out FOLDER [--seeds 161 162 163] [--trials 200]
    python scripts/compare_in_context_decoder.py --out FOLDER --brain 2

For each seed a simulated NSD of four people is written into FOLDER and kept. `subj04` is new: a
number of its labelled trials, the same for every model, is all that is known of it. Compared are
the in-context decoder, which fits nothing to them, with weights by either encoder; ridge regression
on these trials alone; and ridge regression on them and on all trials of the three others, after a
closed-form aligner. Test images are those that the split 'nsd-515' tests. Scores are top-1 among
300 of them, by the cosine of standardised embeddings, in both directions. Nothing is
z-scored by session; trials of one image are averaged. Worlds of these seeds are in no training of
any network. Every model of every world is a file of FOLDER, and what is there is not done again.
Everything here is simulated.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from people_comparison.cells import estimate, written
from people_comparison.people import OTHERS, TESTED, in_memory
from people_comparison.table import pooled

from brainkit import Recording, load
from brainkit.arrays.atomic import write_json, write_npy, write_text
from brainkit.arrays.seeds import rng
from brainkit.data.preparing import prepare_split
from brainkit.data.simulation import MANIFEST, names_of
from brainkit.data.stimuli import Stimuli
from brainkit.decoding import InContextDecoder
from brainkit.evaluation.identification import (
    RETRIEVAL_DIRECTIONS,
    first_among,
    retrieval_contest,
)
from brainkit.features import ModelLayer, Precomputed
from brainkit.jobs import read_recipe
from brainkit.jobs.contract import Case
from brainkit.jobs.pooled_models import pool_people
from brainkit.jobs.reconstruct import ReconstructRecipe
from brainkit.linear.ridge_estimator import fit_rows
from brainkit.reconstruction import EmbeddingDecoder
from brainkit.world import SceneWorld, write_nsd

SEEDS = (161, 162, 163)
EMBEDDING_MODEL = "open_clip:tiny"
STIMULI_AT_ONCE = 1000
RIDGE = "brainkit.encoding:VoxelwiseRidge"
ALPHAS = tuple(float(alpha) for alpha in np.geomspace(100, 1e6, 9))
OWN = "ridge, own trials alone"
SHUFFLED = "in-context decoder, images exchanged"
# Aligners with the settings that were chosen for 200 trials in the comparison of people.
ALIGNED: dict[str, tuple[str, dict[str, Any]]] = {
    "ridge to reference": ("ridge-to-reference", {"reference": TESTED}),
    "Procrustes": ("procrustes", {}),
    "Procrustes, by stream": ("procrustes", {"parcels": "stream"}),
    "shared response": ("shared-response", {"n_components": 80}),
    "by features": ("by-features", {}),
}
WITHOUT_FITTING: dict[str, Callable[[], Any]] = {
    "in-context decoder, in-context weights": lambda: InContextDecoder(device="cpu"),
    "in-context decoder, ridge weights": lambda: InContextDecoder(encoder=RIDGE, device="cpu"),
    SHUFFLED: lambda: InContextDecoder(encoder=RIDGE, device="cpu"),
}
MODELS = (*WITHOUT_FITTING, OWN, *ALIGNED)


class World:
    """Four people of one simulated NSD, and the embeddings of all that they saw."""

    def __init__(self, root: Path, seed: int, brain: int, size: tuple[int, int, int]) -> None:
        images, shared, session = size
        folder = root / f"nsd-{brain}-{seed}-{images}-{shared}-{session}"
        manifest = folder / MANIFEST
        if not manifest.is_file() or not json.loads(manifest.read_text())["complete"]:
            write_nsd(
                folder,
                SceneWorld(seed),
                (1, 2, 3, 4),
                images_per_subject=images,
                shared=shared,
                trials_per_session=session,
                brain_version=brain,
            )
        read = {name: load("nsd", folder, name) for name in (*OTHERS, TESTED)}
        stimuli = Stimuli(read[TESTED].stimuli.read())
        self.people: dict[str, Recording] = {
            name: in_memory(one, stimuli) for name, one in read.items()
        }
        path = folder / "embeddings.npy"
        if not path.exists():
            layer = ModelLayer(EMBEDDING_MODEL, pool=None)
            starts = range(0, len(stimuli), STIMULI_AT_ONCE)
            rows = [np.arange(at, min(at + STIMULI_AT_ONCE, len(stimuli))) for at in starts]
            parts = [np.asarray(layer.transform(stimuli.read(part))) for part in rows]
            write_npy(path, np.concatenate(parts).reshape(len(stimuli), -1).astype(np.float32))
        self.embeddings = np.load(path, allow_pickle=False)

    def items(self, model: str, trials: int) -> tuple[Any, ...]:
        """Return training responses and embeddings, groups, and the same of the test part."""
        changes = ["protocol.split=nsd-515", "protocol.zscore=recording", "generator=null"]
        changes += ["captioner=null", "judges={}", "protocol.n_train=null"]
        changes.append(f"subjects.trials={trials}")
        if model in ALIGNED:
            changes += [f"subjects.train={','.join(OTHERS)}", f"alignment.kind={ALIGNED[model][0]}"]
        recipe = ReconstructRecipe.model_validate(read_recipe("braincodec", changes).model_dump())
        features = Precomputed(self.embeddings)
        others = {}
        if recipe.alignment is not None:
            recipe.alignment.settings.update(ALIGNED[model][1])
            others = {name: self.people[name] for name in OTHERS}
        case = Case(self.people[TESTED], others=others)
        pool, protocol, _ = pool_people(case, recipe, recipe.protocol.build(), features)
        (fold,) = prepare_split(
            pool, protocol.split, zscore=None, average_repeats=protocol.average_repeats
        )
        usable = fold.usable
        return (
            fold.train[:, usable],
            self.embeddings[fold.train_stimuli],
            fold.train_rows.groups,
            fold.test[:, usable],
            self.embeddings[fold.test_stimuli],
        )


def run(world: World, model: str, trials: int, gallery: int) -> dict[str, Any]:
    """Fit a model, and return its scores as JSON values."""
    begun = time.process_time()
    X, Z, groups, X_test, Z_test = world.items(model, trials)
    if model in WITHOUT_FITTING:
        decoder = WITHOUT_FITTING[model]()
        decoder.refuse_people(names_of(world.people[TESTED]))
        if model == SHUFFLED:
            Z = Z[rng(0, "images exchanged").permutation(len(Z))]
    else:
        decoder = EmbeddingDecoder(ALPHAS, cv=3, spread="whole")
    fit_rows(decoder, X, Z, groups=groups)
    predicted, true = decoder.predict_standardised(X_test), decoder.standardise(Z_test)
    scores = {
        direction: written(
            retrieval_contest(predicted, true, direction, score=first_among(gallery)).estimate
        )
        for direction in RETRIEVAL_DIRECTIONS
    }
    return {
        "model": model,
        "gallery": gallery,
        "scores": scores,
        "trained_items": len(X),
        "units": X.shape[1],
        "test_images": len(X_test),
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def place(out: Path, brain: int, seed: int, model: str, trials: int) -> Path:
    """Return the file of one model of one world."""
    name = model.replace(", ", "-").replace(" ", "-")
    return out / "cells" / f"brain{brain}-{seed}" / f"{name}-{trials}.json"


def table(out: Path, brain: int, seeds: Sequence[int], trials: int) -> list[str]:
    """Return the lines of a table of means over worlds, with paired differences from ridge alone.

    Intervals are over test images within these worlds, which stand for themselves.
    """
    held: dict[str, list[dict[str, Any]]] = {}
    for model in MODELS:
        paths = [place(out, brain, seed, model, trials) for seed in seeds]
        if all(path.exists() for path in paths):
            held[model] = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    first = next(iter(held.values()))
    lines = [
        f"Version {brain} of the simulated brain, worlds {', '.join(map(str, seeds))}, {trials} "
        f"labelled trials of a new person, {', '.join(str(one['test_images']) for one in first)} "
        f"test images, galleries of {first[0]['gallery']} (chance {1 / first[0]['gallery']:.4f}).",
        "",
        "| model | direction | top-1 | by world | less ridge on own trials alone |",
        "| --- | --- | --- | --- | --- |",
    ]
    for direction in RETRIEVAL_DIRECTIONS:
        for model, cells in held.items():
            each = [estimate(one["scores"][direction]) for one in cells]
            mean = pooled(each).interval()
            told = ""
            if model != OWN and OWN in held:
                own = [estimate(one["scores"][direction]) for one in held[OWN]]
                pairs = zip(each, own, strict=True)
                gain = pooled([one - other for one, other in pairs]).interval()
                told = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            by_world = ", ".join(f"{one.value:.3f}" for one in each)
            value = f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
            way = direction.replace("_", " ")
            lines.append(f"| {model} | {way} | {value} | {by_world} | {told} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--brain", type=int, default=1, help="version of the simulated brain")
    parser.add_argument("--trials", type=int, default=200, help="of the new person")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--images", type=int, default=1500, help="of each person")
    parser.add_argument("--shared", type=int, default=900, help="of these, seen by all")
    parser.add_argument("--session", type=int, default=375, help="trials of a session")
    parser.add_argument("--gallery", type=int, default=300, help="images to choose from")
    parser.add_argument("--table", type=Path, help="where the table goes; FOLDER if not given")
    chosen = parser.parse_args(arguments)
    for seed in chosen.seeds:
        paths = {
            model: place(chosen.out, chosen.brain, seed, model, chosen.trials)
            for model in chosen.models
        }
        missing = [model for model, path in paths.items() if not path.exists()]
        if not missing:
            continue
        size = (chosen.images, chosen.shared, chosen.session)
        world = World(chosen.out, seed, chosen.brain, size)
        for model in missing:
            found = {
                "seed": seed,
                "brain": chosen.brain,
                **run(world, model, chosen.trials, chosen.gallery),
            }
            write_json(paths[model], found)
            scores = {way: round(one["value"], 3) for way, one in found["scores"].items()}
            print(f"{seed} {model}: {scores}, {found['cpu_seconds']:.0f} s", flush=True)
    lines = table(chosen.out, chosen.brain, chosen.seeds, chosen.trials)
    target = chosen.table or chosen.out / f"table-brain{chosen.brain}.md"
    write_text(target, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
