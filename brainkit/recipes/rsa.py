"""Run representational similarity analysis: a model's layers against people's regions."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainkit.arrays.atomic import check_output, output_folder, plain, write_json, write_npy
from brainkit.arrays.files import is_file
from brainkit.data.cards import dataset_root, load_dissimilarities, read_card
from brainkit.data.dissimilarities import Dissimilarities
from brainkit.encoding import RSAProtocol, RSAResult, assess_rsa, layer_rdm
from brainkit.errors import InputError, MissingFileError, listed
from brainkit.features.backbones.backbone import Backbone, open_backbone
from brainkit.features.extraction import extract
from brainkit.features.spec import Spec, parse_spec
from brainkit.recipes.manifest import describe_run
from brainkit.recipes.running import checked_options, earlier_run, recipe_for
from brainkit.recipes.schema import RSARecipe
from brainkit.reporting.similarity import write_rsa_report


def run_rsa(
    card_name: str,
    *,
    out: str | Path,
    root: str | Path | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    recipe_name: str | None = None,
    changes: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    store: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Compare a model's layers with the dissimilarities of a dataset, into a run folder.

    Parameters
    ----------
    card_name : str
        Card of a dataset of dissimilarities.
    out : path
        Run folder; appears whole or not at all.
    root : path, optional
        The dataset's folder; ``$BRAINKIT_DATA/<card>`` where not given.
    model : str, optional
        Another model than the recipe's, with its layers in order:
        ``"open_clip:tiny@blocks.0,blocks.2"``.
    weights : path, optional
        A safetensors file with the weights of the recipe's model, or of `model`.
    recipe_name : str, optional
        Recipe, or a file, or an earlier run's ``manifest.json``; the card's default where not
        given.
    changes : sequence of str
        Settings of the recipe to change, ``"protocol.comparison=rho-a"``.
    options : mapping, optional
        Options of the reader.
    store : path, optional
        Where features are kept, see `brainkit.features.extract`.
    overwrite : bool, default=False
        Replace an earlier run.

    Returns
    -------
    dict
        What ``metrics.json`` holds.
    """
    started = time.monotonic()
    card = read_card(card_name)
    recipe = recipe_for(card, "rsa", recipe_name, changes)
    if not isinstance(recipe, RSARecipe):
        raise InputError(f"The recipe {recipe.name} is for {recipe.job}; this is rsa.")
    recipe = with_model(recipe, model, weights)
    earlier = earlier_run(card, recipe_name, root=root, options=options or {})
    options = checked_options({**earlier.get("options", {}), **(options or {})})
    folder = dataset_root(card, root if root is not None else earlier.get("root"))
    check_output(out, overwrite=overwrite)
    data = load_dissimilarities(card, folder, **options)
    backbone = open_backbone(recipe.model)
    layers = _layers(recipe, backbone)
    with output_folder(out, overwrite=overwrite) as run:
        rdms = extract_rdms(data, recipe, backbone, layers, store)
        result = assess_rsa(data, rdms, RSAProtocol(**recipe.protocol.model_dump()))
        manifest = describe_run(
            job="rsa",
            card=card,
            root=folder.resolve(),
            recipe=recipe.model_copy(update={"layers": layers}).model_dump(mode="json"),
            options=options,
            subjects={name: {} for name in data.subjects},
            ran=[{"part": type(backbone).__name__, **told} for told in backbone.ran],
        )
        manifest["model"] = backbone.identity()
        manifest["presets"] = sorted({entry["preset"] for entry in result.metrics.values()})
        manifest["seconds"] = round(time.monotonic() - started, 1)
        title = f"RSA {card.name}: {manifest['model'].get('model', recipe.model)}"
        _write_run(run, result, manifest, title=title, summary=recipe.about)
    return result.metrics


def _write_run(
    run: Path, result: RSAResult, manifest: dict[str, Any], *, title: str, summary: str
) -> None:
    """Write the tables, the layers' RDMs, the report, the metrics and the manifest."""
    result.layers.to_parquet(run / "layers.parquet")
    result.people.to_parquet(run / "people.parquet")
    result.best.to_parquet(run / "best.parquet")
    write_npy(run / "model_rdms.npy", np.stack(list(result.model_rdms.values())))
    report = run / "report.html"
    write_rsa_report(report, result, title=title, manifest=plain(manifest), summary=summary)
    write_json(run / "metrics.json", result.metrics)
    write_json(run / "manifest.json", manifest)


def with_model(recipe: RSARecipe, model: str | None, weights: str | Path | None) -> RSARecipe:
    """Return the recipe with another model, or with the file of its weights named.

    Raises
    ------
    InputError
        If the model is no specification, or has weights already.
    MissingFileError
        If there is no such file.
    """
    changed: dict[str, Any] = {}
    spec = parse_spec(model or recipe.model)
    if model is not None or spec.layers:
        changed["layers"] = {name: name for name in spec.layers}
    if model is not None:
        changed["about"] = f"Compare layers of {spec.model} with people's dissimilarities."
    if weights is not None:
        if spec.weights is not None:
            raise InputError(
                f"The model {spec.model} names its weights already; give --weights with a model "
                "that names none."
            )
        if not is_file(weights):
            raise MissingFileError(f"There is no file of weights {weights}.")
        spec = Spec(spec.source, spec.name, str(Path(weights).resolve()), spec.layers)
    changed["model"] = spec.model
    return recipe.model_copy(update=changed)


def _layers(recipe: RSARecipe, backbone: Backbone) -> dict[str, str]:
    """Return the layers by the names that the report gives them."""
    if not recipe.layers:
        known = backbone.layers()
        raise InputError(
            f"Name the layers of {recipe.model} that are to be compared, in order, as in "
            f"{recipe.model}@{','.join(known[:2])}; it has {listed(known, 40)}."
        )
    backbone.check_layers(list(recipe.layers.values()))
    return recipe.layers


def extract_rdms(
    data: Dissimilarities,
    recipe: RSARecipe,
    backbone: Backbone,
    layers: Mapping[str, str],
    store: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """Return the RDM of every layer, by its name in the report; one pass over the stimuli."""
    features = extract(
        backbone,
        data.stimuli,
        layers=list(dict.fromkeys(layers.values())),
        tokens=recipe.tokens,
        pool=recipe.pool,
        batch_size=recipe.batch_size,
        store=store,
    )
    return {
        name: layer_rdm(features[layer], recipe.protocol.dissimilarity)
        for name, layer in layers.items()
    }
