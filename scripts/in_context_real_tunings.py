"""In-context encoding on the tunings of real people: two teach a network, the third is read.

    python scripts/in_context_real_tunings.py FOLDER --out docs/in_context_real.md

FOLDER holds ``weights.npz``: published ridge weights of three people's voxels on 512 features of a
network (BOLD5000; Bennett and Baldassano's img2fmri). The weights are real, stimuli and noise are
drawn. The protocol was fixed before anything ran on the weights:

People
    Each is read in turn, the other two teach; nothing but the scores comes from the one who is
    read. Voxels are drawn from each region, the same number from all.
Stimuli
    Vectors of unit length in the leading 64 principal directions of the two people's weights, whose
    variance along the k-th direction falls as 1/k: as that of responses of visual cortex and of
    networks to natural images does (Stringer et al. 2019, Nature 571:361). Ridge shrinks weights to
    directions in which features vary, so that the weights' own directions stand in for those of the
    features, which are not known here; plain ridge profits from them as the network does.
Responses
    ``y = sqrt(c) s + sqrt(1 - c) e``: s is the voxel's weights times the stimulus, at unit
    variance, e standard normal, c the noise ceiling (share of the variance that a perfect model
    explains), .1 or .3: about one trial, and the mean of three or four, at 3 T.
Network
    Trained as published in stages: first on synthetic voxels, weights of no direction, the same
    for all that follows; then on voxels of the two people: random mixtures of one to four weights
    of one region of one person, plus a share of no direction (`TuningVoxels`). The share is the one
    at which each of the two people's weights are likeliest given the other's second moment.
Rivals, on the same responses
    Ridge with a penalty for each voxel; ridge with one for all voxels of the person; ridge whose
    prior is the two people's second moment with the same share, which says how much of a lead is no
    more than that; and the network after its first stage, which knows nobody. Penalties by
    five-fold cross-validation.
Counter-test
    The two people's weights turned by random rotations of the space of the stimuli, another for
    each person, and all done again on the same stimuli and responses.
Score
    The correlation of a voxel's prediction with its noise-free responses over all stimuli, from
    estimated and true weights. Means over draws of stimuli and noise and over
    seeds of the network; intervals by bootstrap over clusters of voxels of alike tuning within
    region and person, and over draws.

The state of each training is kept in ``--work``: started again, this goes on where it was.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.atomic import plain, write_json, write_text
from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.encoding import VoxelwiseRidge
from brainkit.encoding.in_context import (
    Architecture,
    InContextEncoder,
    InContextNetwork,
    Origin,
    Stage,
    SyntheticVoxels,
    TuningVoxels,
    save_network,
    train_stage,
)
from brainkit.errors import InputError
from brainkit.evaluation import bootstrap_difference
from brainkit.training import Schedule
from brainkit.training.set_networks import unit_norm

Float = NDArray[np.floating[Any]]
Regions = Mapping[str, Float]  # (voxel, feature), each of unit length
Tunings = Mapping[str, Regions]  # of each person
Condition = Literal["as published", "rotated"]
CONDITIONS: tuple[Condition, ...] = ("as published", "rotated")
RIDGE, SHARED, PRIOR = "ridge", "ridge, one penalty", "ridge, prior of the two"
ALONE = "network, synthetic voxels alone"
RIVALS = (RIDGE, SHARED, PRIOR, ALONE)
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 5, 16))  # for features of unit variance
SHARES = tuple(float(share) for share in np.linspace(0.02, 0.98, 25))
MANY = 50_000  # stimuli by which the covariance of a distribution is known


@dataclass(frozen=True)
class Plan:
    """What is run.

    Parameters
    ----------
    dimensions : int
        Of the stimuli.
    supports : tuple of int
        Numbers of responses.
    ceilings : tuple of float
    draws, seeds : int
        Draws of stimuli and noise, and trainings of a network.
    voxels : int
        Of each region of the person who is read, at most.
    clusters : int
        Of the voxels of a region.
    steps : (int, int)
        Of the two stages.
    pool : int
        Stimuli to train with.
    form : {"product", "published"}
    width, layers, heads, hidden : int
        Of the network.
    """

    dimensions: int = 64
    supports: tuple[int, ...] = (30, 100, 300)
    ceilings: tuple[float, ...] = (0.1, 0.3)
    draws: int = 4
    seeds: int = 2
    voxels: int = 60
    clusters: int = 8
    steps: tuple[int, int] = (3000, 600)
    pool: int = 4000
    form: Literal["product", "published"] = "product"
    width: int = 128
    layers: int = 2
    heads: int = 4
    hidden: int = 128


def read_tunings(folder: Path) -> dict[str, dict[str, Float]]:
    """Return the weights of each person and region, (voxel, feature), at unit length."""
    found: dict[str, dict[str, Float]] = {}
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        for name in sorted(arrays.files):
            person, region, part = name.split(".")
            if part == "coef":
                found.setdefault(person, {})[region] = unit_norm(arrays[name])
    if len(found) < 3:
        raise InputError(f"{folder} has weights of {len(found)} people; three or more are needed.")
    return found


@dataclass(frozen=True)
class Bench:
    """Where one person is read: a space of stimuli, and what teachers and person are in it.

    Attributes
    ----------
    others : mapping
        Weights of those who teach, in the space, by person and region.
    true : array (voxel, dimension)
        Weights of the person who is read, unit length, of the voxels that are drawn.
    clusters : array of str (voxel,)
    spread : array (dimension,)
        Standard deviation of the stimuli before they are brought to unit length.
    kept : float
        Share of the person's squared weights that lies in the space, mean over voxels.
    """

    others: Tunings
    true: Float
    clusters: NDArray[np.str_]
    spread: Float
    kept: float

    def draw(self, generator: np.random.Generator, n: int) -> NDArray[np.float32]:
        """Draw stimuli of unit length, (n, dimension)."""
        drawn = generator.standard_normal((n, len(self.spread)), dtype=np.float32)
        return unit_norm(drawn * self.spread.astype(np.float32))

    def covariance(self) -> NDArray[np.float64]:
        """Return the covariance of the stimuli, whose mean is 0, (dimension, dimension)."""
        many = self.draw(rng(0, "covariance"), MANY)
        return np.diag(np.mean(many.astype(np.float64) ** 2, axis=0))  # signs are independent


def bench(person: str, tunings: Tunings, condition: Condition, plan: Plan) -> Bench:
    """Make the space in which a person is read; see the head of the script."""
    teachers = {name: regions for name, regions in tunings.items() if name != person}
    moment = np.mean([second_moment(regions) for regions in teachers.values()], axis=0)
    axes = np.linalg.eigh(moment)[1][:, ::-1][:, : plan.dimensions]

    def inside(weights: Float) -> Float:
        return unit_norm(weights @ axes)

    others: Tunings = {
        name: {region: inside(weights) for region, weights in regions.items()}
        for name, regions in teachers.items()
    }
    chosen, labels = clusters(tunings[person], plan)
    return Bench(
        others=turned(others, seed=0) if condition == "rotated" else others,
        true=inside(chosen),
        clusters=labels,
        spread=spread_of(plan),
        kept=float(np.square(chosen @ axes).sum(axis=1).mean()),
    )


def spread_of(plan: Plan) -> Float:
    """Return the standard deviation of stimuli along each direction: variance falls as 1/k."""
    return np.arange(1, plan.dimensions + 1) ** -0.5


def turned(tunings: Tunings, seed: int) -> dict[str, dict[str, Float]]:
    """Turn each person's weights by a random rotation, all of a person's alike."""
    found = {}
    for person, regions in tunings.items():
        width = next(iter(regions.values())).shape[1]
        axes, signs = np.linalg.qr(rng(seed, "rotation", person).standard_normal((width, width)))
        rotation = axes * np.sign(np.diag(signs))  # uniform over rotations and reflections
        found[person] = {
            region: (weights @ rotation).astype(np.float32) for region, weights in regions.items()
        }
    return found


def second_moment(regions: Regions) -> NDArray[np.float64]:
    """Return the second moment of a person's weights, (feature, feature), of trace 1."""
    weights = np.concatenate(list(regions.values())).astype(np.float64)
    return weights.T @ weights / len(weights)


def prior(tunings: Tunings, share: float) -> NDArray[np.float64]:
    """Return the second moment of several people's weights, a share of it in no direction."""
    moment = np.mean([second_moment(regions) for regions in tunings.values()], axis=0)
    return (1 - share) * moment + share * np.eye(len(moment)) / len(moment)


def isotropic_share(tunings: Tunings) -> float:
    """Choose the share at which each person's weights are likeliest, given the others' moment."""
    likelihood = np.zeros(len(SHARES))
    for person, regions in tunings.items():
        others = {name: known for name, known in tunings.items() if name != person}
        values, axes = np.linalg.eigh(prior(others, 0.0))
        energy = np.diag(axes.T @ second_moment(regions) @ axes)
        for number, share in enumerate(SHARES):
            spread = (1 - share) * np.maximum(values, 0) + share / len(values)
            likelihood[number] -= (np.log(spread) + energy / spread).sum() / 2
    return SHARES[int(np.argmax(likelihood))]


def teach(place: Bench, share: float, seed: int, plan: Plan, work: Path) -> tuple[Path, Path]:
    """Train a network, and return the folders of it before it knew people, and after."""
    import torch

    stimuli = place.draw(rng(seed, "training stimuli"), plan.pool)
    groups = {f"{p} {r}": w for p, regions in place.others.items() for r, w in regions.items()}
    noise = (0.05, 0.5)  # bounds of the ceiling
    sources = (
        SyntheticVoxels(stimuli, noise),
        TuningVoxels(stimuli, noise, tunings=groups, isotropic=share),
    )
    architecture = Architecture(
        len(place.spread), width=plan.width, layers=plan.layers, heads=plan.heads,
        hidden=plan.hidden, form=plan.form, dropout=0.5 if plan.form == "published" else 0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = InContextNetwork(architecture)
    network.set_space(torch.from_numpy(stimuli))
    context = (min(20, *plan.supports), max(plan.supports))
    first = Schedule(
        plan.steps[0], learning_rate=1e-3, final=0.1, warmup=min(100, plan.steps[0] // 10),
        weight_decay=0.02, average=0.99, seed=seed, checkpoint_every=200,
    )  # fmt: skip
    second = replace(first, steps=plan.steps[1], learning_rate=3e-4, warmup=plan.steps[1] // 10)
    folders = []
    for source, schedule, name in zip(
        sources, (first, second), ("synthetic", "-".join(sorted(place.others))), strict=True
    ):
        stage = Stage(name, schedule, context, n_voxels=32, n_draws=1)
        states = work.parent if source is sources[0] else work  # the first stage is of all
        report = train_stage(network, source, stage, folder=states / "states")
        known = tuple(place.others) if source is sources[1] else ()
        origin = Origin(None, context, known, {name: {"steps": report.steps}})
        folder = states / "networks" / f"{name}-{plan.form}-{seed}"
        folders.append(save_network(network, origin, folder))
    return folders[0], folders[1]


def measured(
    place: Bench, covariance: Float, n: int, ceiling: float, generator: np.random.Generator
) -> tuple[Float, Float]:
    """Draw stimuli (n, dimension) and the person's noisy responses (n, voxel) to them."""
    stimuli = place.draw(generator, n)
    deviation = np.sqrt(np.einsum("vf,fg,vg->v", place.true, covariance, place.true))
    signal = stimuli @ place.true.T / deviation
    noise = generator.standard_normal(signal.shape, dtype=np.float32)
    return stimuli, (np.sqrt(ceiling) * signal + np.sqrt(1 - ceiling) * noise).astype(np.float32)


def by_ridge(stimuli: Float, responses: Float, moment: Float | None, *, shared: bool) -> Float:
    """Estimate weights by ridge, in the space in which a prior second moment is isotropic."""
    width = stimuli.shape[1]
    root = np.eye(width)
    if moment is not None:
        values, axes = np.linalg.eigh(moment * width)
        root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    X = np.sqrt(width) * stimuli.astype(np.float64) @ root
    model = VoxelwiseRidge(ALPHAS, alpha_per_target=not shared).fit(X, responses)
    return np.asarray(model.coef_) @ root


def correlations(estimated: Float, true: Float, covariance: Float) -> Float:
    """Return r of predicted and noise-free responses of each voxel; 0 where nothing was found."""
    seen = estimated @ covariance
    length = np.sqrt(np.einsum("vf,vf->v", seen, estimated))
    own = np.sqrt(np.einsum("vf,fg,vg->v", true, covariance, true))
    product = np.einsum("vf,vf->v", seen, true)
    return np.where(length > 0, product / np.where(length > 0, length * own, 1), 0.0)


def clusters(regions: Mapping[str, Float], plan: Plan) -> tuple[Float, NDArray[np.str_]]:
    """Choose voxels of each region, and tell those of alike tuning together."""
    from sklearn.cluster import KMeans

    chosen, labels = [], []
    for region, weights in regions.items():
        rows = rng(0, "voxels", region).permutation(len(weights))[: plan.voxels]
        own = weights[np.sort(rows)]
        n = min(plan.clusters, len(own))
        which = KMeans(n, n_init=3, random_state=0).fit_predict(own)
        chosen.append(own)
        labels += [f"{region} {number}" for number in which]
    return np.concatenate(chosen), np.array(labels)


def read_person(
    person: str, tunings: Tunings, condition: Condition, plan: Plan, work: Path
) -> dict[str, Any]:
    """Read one person by a network of the others and by the rivals, from all numbers of responses.

    Returns
    -------
    dict
        ``r``: for each rival and for the network, an array (ceiling, support, seed, draw, voxel),
        of one seed where no network is in it; ``clusters``, of the voxels; ``share``; ``kept``.
    """
    place = bench(person, tunings, condition, plan)
    share = isotropic_share(place.others)
    moment, covariance = prior(place.others, share), place.covariance()
    folder = work / condition.replace(" ", "-")
    trained = [teach(place, share, seed, plan, folder) for seed in range(plan.seeds)]
    readers = {
        name: [InContextEncoder(str(folders[number])) for folders in trained]
        for number, name in enumerate((ALONE, "network"))
    }
    cells = [
        (c, n, draw)
        for c in range(len(plan.ceilings))
        for n in range(len(plan.supports))
        for draw in range(plan.draws)
    ]
    shape = (len(plan.ceilings), len(plan.supports))
    found = {
        name: np.empty((*shape, len(readers.get(name, [0])), plan.draws, len(place.true)))
        for name in (*RIVALS, "network")
    }
    for c, n, draw in track(cells, f"{person}, {condition}"):
        generator = rng(draw, "responses", person, c, plan.supports[n])
        X, Y = measured(place, covariance, plan.supports[n], plan.ceilings[c], generator)
        estimates = {
            RIDGE: [by_ridge(X, Y, None, shared=False)],
            SHARED: [by_ridge(X, Y, None, shared=True)],
            PRIOR: [by_ridge(X, Y, moment, shared=False)],
        } | {
            name: [reader.fit(X, Y, subject=person).coef_ for reader in own]
            for name, own in readers.items()
        }
        for name, seeds in estimates.items():
            for seed, weights in enumerate(seeds):
                found[name][c, n, seed, draw] = correlations(weights, place.true, covariance)
    return {"r": found, "clusters": place.clusters, "share": share, "kept": place.kept}


def compared(
    people: Mapping[str, dict[str, Any]], rival: str, cell: tuple[int, int]
) -> dict[str, Any]:
    """Compare the network with a rival: the difference, its intervals, and each person's."""
    ours, theirs, groups, by_person, by_draw = [], [], [], {}, []
    for person, found in people.items():
        one, other = (found["r"][name][cell] for name in ("network", rival))
        ours.append(one.mean(axis=(0, 1)))
        theirs.append(other.mean(axis=(0, 1)))
        groups.append([f"{person} {name}" for name in found["clusters"]])
        by_person[person] = float((ours[-1] - theirs[-1]).mean())
        by_draw.append(one.mean(axis=(0, 2)) - other.mean(axis=(0, 2)))
    over_voxels = bootstrap_difference(
        np.concatenate(ours), np.concatenate(theirs), groups=np.concatenate(groups)
    )
    return {
        "value": float(np.mean(list(by_person.values()))),
        "ci": [over_voxels.low, over_voxels.high],
        "ci_over_draws": over_draws(np.mean(by_draw, axis=0)),
        "by_person": by_person,
    }


def over_draws(values: Float) -> list[float]:
    """Return the 95 % t interval of a mean over draws; without bounds for a single one."""
    from scipy.stats import t

    if len(values) < 2:
        return [float("-inf"), float("inf")]
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean() - half), float(values.mean() + half)]


def run(tunings: Tunings, plan: Plan, work: Path) -> dict[str, Any]:
    """Read every person in turn, with the others' tunings as they are and turned.

    Returns
    -------
    dict
        ``plan``; ``spaces``: the share of no direction and what the space keeps of the person, by
        condition and person; ``rows``: for each condition, ceiling and number of responses the mean
        scores and the network's difference from each rival.
    """
    spaces, rows = [], []
    for condition in CONDITIONS:
        people = {person: read_person(person, tunings, condition, plan, work) for person in tunings}
        for person, found in people.items():
            said = {key: found[key] for key in ("share", "kept")}
            spaces.append({"condition": condition, "person": person} | said)
        for c, ceiling in enumerate(plan.ceilings):
            for n, support in enumerate(plan.supports):
                scores = {
                    name: float(np.mean([f["r"][name][c, n].mean() for f in people.values()]))
                    for name in (*RIVALS, "network")
                }
                gaps = {rival: compared(people, rival, (c, n)) for rival in RIVALS}
                cell = {"condition": condition, "ceiling": ceiling, "support": support}
                rows.append(cell | {"r": scores, "difference": gaps})
    return {"plan": vars(plan), "spaces": spaces, "rows": rows}


def page(found: Mapping[str, Any], command: str) -> str:
    """Return the results as a page of Markdown, in plain words."""
    plan = found["plan"]
    lines = [
        "# In-context encoding on real people's tunings",
        "",
        "The tunings are real: published ridge weights of three people's voxels in five regions "
        "(BOLD5000; img2fmri, Bennett and Baldassano 2023). Stimuli and noise are drawn, as the "
        "features' own distribution is not known here. So this shows whether what two people's "
        "voxels have in common helps to read a third's, not how well a brain is predicted; and "
        "part of what the weights have in common may be the features' covariance, to whose large "
        "directions ridge shrinks weights. The weights are not part of brainkit.",
        "",
        "A network learned from synthetic voxels and then from two of the people, and wrote the "
        "third's weights from noisy responses; each person was the third in turn. Scores are "
        "correlations of predicted with noise-free responses: means over three people, "
        f"{plan['voxels']} voxels of each region, {plan['draws']} draws of stimuli and noise, and "
        f"{plan['seeds']} training{'s' * (plan['seeds'] > 1)} ({plan['form']} form, "
        f"{plan['layers']} blocks of width "
        f"{plan['width']}, {plan['steps'][0]} and {plan['steps'][1]} steps). *Ceiling* is the "
        "share of a response's variance that is signal. The rivals read the same responses: ridge "
        "with a penalty for each voxel, ridge with one for all, ridge whose prior is the second "
        "moment of the two people's weights, and the network before it knew people.",
        "",
        f"Made by `{command}`; the protocol stands at the head of the script, and was fixed before "
        "anything ran on the weights.",
    ]
    for condition in CONDITIONS:
        rows = [row for row in found["rows"] if row["condition"] == condition]
        lines += ["", f"## {_HEADINGS[condition]}", "", _SAID[condition], "", *_scores(rows)]
        lines += ["", "The network less each rival, 95 % intervals over clusters of voxels and "]
        lines[-1] += "over draws, and for each person:"
        lines += ["", *_differences(rows)]
    lines += ["", "## Spaces", ""]
    lines += ["The share of no direction in the network's training, and how much of the squared "]
    lines[-1] += "weights of the person who is read lies in the space of the stimuli:"
    lines += ["", _row("tunings", "person", "share", "in the space"), _row(*["---"] * 4)]
    for one in found["spaces"]:
        kept = f"{one['share']:.2f}", f"{one['kept']:.2f}"
        lines.append(_row(one["condition"], one["person"], *kept))
    return "\n".join(lines) + "\n"


def _scores(rows: list[dict[str, Any]]) -> list[str]:
    lines = [_row("ceiling", "responses", *RIVALS, "network"), _row(*["---"] * 7)]
    for row in rows:
        scores = [f"{row['r'][name]:.3f}" for name in (*RIVALS, "network")]
        lines.append(_row(row["ceiling"], row["support"], *scores))
    return lines


def _differences(rows: list[dict[str, Any]]) -> list[str]:
    heading = ("ceiling", "responses", "less", "difference", "clusters", "draws", "by person")
    lines = [_row(*heading), _row(*["---"] * 7)]
    for row in rows:
        for rival, gap in row["difference"].items():
            own = ", ".join(f"{who} {value:+.3f}" for who, value in gap["by_person"].items())
            intervals = [_interval(gap[key]) for key in ("ci", "ci_over_draws")]
            cells = (row["ceiling"], row["support"], rival, f"{gap['value']:+.3f}")
            lines.append(_row(*cells, *intervals, own))
    return lines


_HEADINGS = {
    "as published": "Tunings as published",
    "rotated": "Counter-test: the two people's tunings turned",
}
_SAID = {
    "as published": "What the two people's voxels are tuned to stands in for responses that are "
    "not there.",
    "rotated": "A random rotation for each of the two people takes away what their weights have in "
    "common with the third's, and nothing else. A lead that were not knowledge of tunings would "
    "stay.",
}


def _row(*cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _interval(ends: list[float]) -> str:
    return f"{ends[0]:+.3f} to {ends[1]:+.3f}"


def main() -> None:
    """Run what is missing, and write numbers and page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="page of Markdown; numbers beside it as JSON")
    parser.add_argument("--work", type=Path, default=Path("runs/real-tunings"))
    parser.add_argument("--form", choices=("product", "published"), default="product")
    parser.add_argument("--seeds", type=int, default=Plan.seeds, help="trainings of each network")
    parser.add_argument(
        "--steps", type=int, nargs=2, default=Plan.steps, help="steps of the two stages"
    )
    parser.add_argument("--threads", type=int, help="of torch; all cores where not given")
    chosen = parser.parse_args()
    if chosen.threads:
        import torch

        torch.set_num_threads(chosen.threads)
    steps = chosen.steps[0], chosen.steps[1]
    plan = replace(Plan(), form=chosen.form, seeds=chosen.seeds, steps=steps)
    found = run(read_tunings(chosen.folder), plan, chosen.work)
    write_json(chosen.work / f"{chosen.form}.json", plain(found))
    form = "" if chosen.form == "product" else f" --form {chosen.form}"
    form += "" if plan.seeds == Plan.seeds else f" --seeds {plan.seeds}"
    form += "" if plan.steps == Plan.steps else f" --steps {steps[0]} {steps[1]}"
    text = page(found, f"python scripts/in_context_real_tunings.py FOLDER{form}")
    print(text)
    if chosen.out is not None:
        write_text(chosen.out, text)


if __name__ == "__main__":
    main()
