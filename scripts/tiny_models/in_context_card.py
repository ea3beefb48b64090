"""How good the in-context encoder is on subjects and worlds that it never saw, and its card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.atomic import plain, write_json, write_text
from brainkit.arrays.seeds import rng
from brainkit.encoding import VoxelwiseRidge
from brainkit.encoding.in_context import InContextEncoder
from brainkit.evaluation import bootstrap_ci, bootstrap_difference, pearson_r
from tiny_models.cards import _row
from tiny_models.in_context import (
    DEFAULT,
    SCENES,
    STAGES,
    TEST,
    WATCHED,
    Person,
    Variant,
    people,
)

SIZES = (30, 100, 200)
KINDS = ("category", "early", "mixed")
REPEATS, DRAWS = 3, 2
ALPHAS = tuple(float(alpha) for alpha in np.logspace(-2, 4, 13))
Score = dict[str, Any]
LIMITS = (
    "Trained on voxels of the simulated world alone, and on the embedding of the tiny CLIP: with "
    "another model's embeddings, or a real brain's responses, its weights mean nothing. It exists "
    "so that every part of brainkit runs, is tested and is shown without a download. For research, "
    "train one on subjects of your own: `InContextEncoder(None).pretrain(...).fit_subjects(...)`."
)
ABOUT = """# Tiny in-context encoder{title}

Reads a voxel's responses to a few images and writes its linear encoder: {layers} blocks of width
{width}, {heads} heads, {registers} registers, {weights:,} weights in half precision, the {form}
form with a dropout of {dropout:g} (`docs/published.md`); for the image embedding of
`open_clip:tiny` (256 numbers) and {low} to {high} support images.

```python
from brainkit.encoding.in_context import InContextEncoder

encoder = InContextEncoder.from_pretrained("{checkpoint}").fit(X_support, Y_support)
predicted = encoder.predict(X)
```
"""
OF_FORM = {
    "product": "",
    "published": " Its scores hardly change with the number of images: in so few steps this form "
    "learns what voxels of a kind have in common, and not yet to read their responses "
    "(`docs/published.md`).",
}
TITLES = {"product": "", "published": ", the published form"}
CHECKPOINTS = {"in-context": "tiny", "in-context-published": "tiny-published"}


def measured(person: Person, n_support: int, draw: int) -> tuple[NDArray[Any], ...]:
    """Return a support set of a subject, and other images with the noise-free responses."""
    subject = person.subject
    assert subject.noise is not None
    generator = rng(0, "support", person.name, n_support, draw)
    order = generator.permutation(len(subject.embeddings))
    shown, asked = order[:n_support], order[max(SIZES) :]
    responses = subject.responses[shown].astype(np.float32)
    noise = generator.standard_normal(responses.shape, dtype=np.float32)
    responses += noise * subject.noise / np.sqrt(REPEATS)
    return (
        subject.embeddings[shown],
        responses,
        subject.embeddings[asked],
        subject.responses[asked].astype(np.float32),
    )


def compare(
    persons: Sequence[Person], folder: Path, n_support: int, other: Path | None = None
) -> dict[str, tuple[NDArray[Any], ...]]:
    """Return each voxel's r by a network and by ridge or another network, and its subject.

    By kind of voxel; both read the same responses.
    """
    encoder = InContextEncoder.from_pretrained(folder)
    ridge = VoxelwiseRidge(ALPHAS)
    rival = ridge if other is None else InContextEncoder.from_pretrained(other)
    found: dict[str, list[tuple[NDArray[Any], ...]]] = {kind: [] for kind in KINDS}
    for number, person in enumerate(persons):
        by_draw = []
        for draw in range(DRAWS):
            X, Y, X_new, Y_new = measured(person, n_support, draw)
            models = (encoder.fit(X, Y, subject=person.name), rival.fit(X, Y))
            by_draw.append([np.asarray(pearson_r(Y_new, one.predict(X_new))) for one in models])
        # A voxel that ridge gives no weights at all predicts nothing: r = 0.
        ours, theirs = np.nan_to_num(np.array(by_draw)).mean(axis=0)
        for kind in KINDS:
            rows = person.kind == kind
            found[kind].append((ours[rows], theirs[rows], np.full(rows.sum(), number)))
    return {
        kind: tuple(np.concatenate(parts) for parts in zip(*groups, strict=True))
        for kind, groups in found.items()
    }


def unseen(
    work: Path, scenes: int = SCENES, *, brain: int = 1, shared_tuning: bool = True
) -> list[Person]:
    """Return two subjects of each test world."""
    given = {"brain": brain, "shared_tuning": shared_tuning}
    return [person for seed in TEST for person in people(work, seed, WATCHED, scenes, **given)]


def against(
    folder: Path, other: Path, work: Path, scenes: int = SCENES, *, brain: int = 1
) -> Score:
    """Measure two networks on the same subjects and responses: both, and their difference."""
    persons, found = unseen(work, scenes, brain=brain), {}
    for n_support in SIZES:
        for kind, (one, two, who) in compare(persons, folder, n_support, other).items():
            stem = f"{kind}_r_from_{n_support}_images"
            found[stem] = _interval(bootstrap_ci(one, groups=who))
            found[f"{stem}_by_the_other"] = _interval(bootstrap_ci(two, groups=who))
            found[f"{stem}_difference"] = _interval(bootstrap_difference(one, two, groups=who))
    return found


def score(
    models: Path,
    work: Path,
    scenes: int = SCENES,
    variant: Variant = DEFAULT,
    brain: int | None = None,
) -> Score:
    """Measure a network on two subjects of each test world, of any version of the brain."""
    folder, version = models / variant.name, variant.brain if brain is None else brain
    persons = unseen(work, scenes, brain=version)
    found: Score = {}
    for n_support in SIZES:
        for kind, (ours, ridge, who) in compare(persons, folder, n_support).items():
            stem = f"{kind}_r_from_{n_support}_images"
            found[stem] = _interval(bootstrap_ci(ours, groups=who))
            found[f"{stem}_by_ridge"] = _interval(bootstrap_ci(ridge, groups=who))
            found[f"{stem}_difference"] = _interval(bootstrap_difference(ours, ridge, groups=who))
    alone = unseen(work, scenes, brain=version, shared_tuning=False)
    middle = SIZES[len(SIZES) // 2]
    ours, ridge, who = compare(alone, folder, middle)["category"]
    found[f"category_difference_from_{middle}_images_without_shared_tuning"] = _interval(
        bootstrap_difference(ours, ridge, groups=who)
    )
    return found


def _interval(found: Any) -> Score:
    return {"value": found.value, "ci": [found.low, found.high], "n": found.n}


def write_card(models: Path, work: Path, scores: Score, variant: Variant = DEFAULT) -> None:
    """Write ``scores.json`` and ``README.md`` beside the network."""
    folder = models / variant.name
    reports = json.loads((work / variant.reports).read_text(encoding="utf-8"))
    write_json(folder / "scores.json", plain(scores))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    low, high = config["origin"]["context"]
    weights = sum(reports[-1]["trained"].values())
    named = {"title": TITLES[variant.form], "checkpoint": CHECKPOINTS.get(variant.name, "FOLDER")}
    about = ABOUT.format(**config["architecture"], **named, weights=weights, low=low, high=high)
    lines = [about, "## Training", ""]
    for stage, report in zip(STAGES, reports, strict=True):
        lines.append(
            f"- {stage.name}: {report['steps']:,} steps of {stage.n_draws * stage.n_voxels} "
            f"voxels, {report['seconds'] / 60:.0f} minutes on a core shared with other work"
        )
    worlds = sorted({name.split("/")[0] for name in config["origin"]["subjects"]})
    lines += [
        "",
        f"On {len(config['origin']['subjects'])} simulated subjects of `brainkit.world`, "
        f"brain version {variant.brain}, worlds {', '.join(worlds)}: noise-free responses, the "
        "noise of one to three trials added to the support anew at each step. World 111 was looked "
        f"at on the way. Fixed seeds; rerun with `{_command(variant)}`.",
        "",
        "## Scores",
        "",
        "Pearson r with the noise-free responses to 1,000 other images, mean over voxels, for two "
        f"subjects of each of the worlds {', '.join(map(str, TEST))}, which are in no training; "
        f"support responses are means of {REPEATS} trials. Ridge has the same images and "
        "embeddings. 95 % intervals by bootstrap over the six subjects. Rerun with "
        f"`{_command(variant)} --score`.",
        "",
        "| measure | value | interval | voxels |",
        "|---|---|---|---|",
    ]
    lines += [_row(measure, value) for measure, value in scores.items()]
    lines += [
        "",
        "## Limits",
        "",
        LIMITS + OF_FORM[variant.form],
        "",
        "Licence: that of brainkit.",
        "",
    ]
    write_text(folder / "README.md", "\n".join(lines))


def _command(variant: Variant) -> str:
    form = "" if variant.form == "product" else f" --form {variant.form}"
    brain = "" if variant.brain == 1 else f" --brain {variant.brain}"
    return f"python scripts/train_in_context.py{form}{brain}"
