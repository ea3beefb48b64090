"""What there is: datasets, models and their layers, registered parts; and fetching them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from brainkit.arrays.registry import Registry, package_of, registered_parts
from brainkit.cli.app import AsJson, CardName, app, say
from brainkit.errors import BrainkitError, InputError, listed, unknown_name

# -- models: their layers, and fetching them -------------------------------------------------------


@app.command()
def features(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="SOURCE:NAME or SOURCE:NAME/WEIGHTS, such as open_clip:tiny or "
            "timm:resnet18/random.",
        ),
    ],
    list_layers: Annotated[
        bool, typer.Option("--list", help="List the model's layers, in order.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the model's files if they are not here.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a model: what it takes, its default layer and, with --list, all of its layers.

    Example: brainkit features open_clip:tiny --list
    """
    from brainkit.features.backbones.backbone import open_backbone
    from brainkit.features.spec import parse_spec

    spec = parse_spec(model)
    backbone = open_backbone(spec, download=True if download else None)
    backbone.check_layers(spec.layers)
    layers = backbone.layers()
    about = {
        "model": backbone.spec,
        "takes": backbone.modality,
        "default_layer": backbone.default_layer(),
        "n_layers": len(layers),
    }
    if as_json:
        listed = {"layers": layers} if list_layers else {}
        say(json.dumps({**about, **listed}, indent=2))
    elif list_layers:
        say("\n".join(layers))
        typer.echo(f"Default: {backbone.default_layer()}", err=True)
    else:
        say(
            f"{backbone.spec} takes {backbone.modality}s and has {len(layers)} layers, by default "
            f"{backbone.default_layer()}. See them with --list."
        )


# -- datasets: what there is, and fetching it ------------------------------------------------------


@app.command()
def download(
    card: CardName,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder to download into. Default: $BRAINKIT_DATA/<card>, or data/<card>.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a dataset's public files: licence shown, checksum verified, resumable.

    Example: brainkit download digits69 --root data/digits69
    """
    from brainkit.data.cards import read_card
    from brainkit.data.download import download as fetch_all

    chosen = read_card(card)
    if chosen.files:
        about = f"{chosen.title}\nLicence: {_licence(chosen)}\nCite: {chosen.citation}"
        typer.echo(about, err=True)
    folder = root or Path(os.environ.get("BRAINKIT_DATA") or "data") / chosen.name
    paths = [str(path) for path in fetch_all(chosen, folder)]
    say(json.dumps(paths, indent=2) if as_json else "\n".join(paths))
    for job in sorted(chosen.recipes)[:1]:
        typer.echo(f"Next: brainkit {job} {card} --root {folder}", err=True)


def _licence(card: Any) -> str:
    parts = [card.licence.name, card.licence.url, card.licence.note]
    return ". ".join(str(part).rstrip(".") for part in parts if part)


@app.command()
def datasets(
    card: Annotated[
        str | None, typer.Argument(metavar="[CARD]", help="Show one card whole.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the datasets that brainkit reads, or show one's card.

    Example: brainkit datasets nsd
    """
    from brainkit.data.cards import card_names, read_card

    cards = []
    for name in [card] if card else card_names():
        try:
            cards.append(read_card(name))
        except BrainkitError as error:  # of another package, say: it hides no other card
            if card is not None:
                raise
            typer.echo(f"brainkit: {error}", err=True)
    if as_json:
        say(json.dumps([item.model_dump(mode="json") for item in cards], indent=2))
    elif card is None:
        for item in cards:
            fetch = "brainkit download" if item.files else "by agreement"
            say(f"{item.name:12} {item.title}. {item.modality}. Access: {fetch}.")
    else:
        item = cards[0]
        say(
            f"{item.title}\n\nModality: {item.modality}\nLicence:  {_licence(item)}\n"
            f"Access:   {item.access}\nCite:     {item.citation}\n"
            f"Recipes:  {', '.join(f'{job}: {name}' for job, name in item.recipes.items())}"
        )


# -- parts by name: what is registered, by which package, and what of it cannot be used ------------


@app.command()
def parts(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="List one kind alone, such as model or job."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the parts that recipes and cards may name, with the packages that they come from.

    Example: brainkit parts model
    """
    known = registries()
    if kind is not None and kind not in known:
        raise unknown_name("kind of part", kind, list(known))
    chosen = [known[kind]] if kind else list(known.values())
    rows = [row for registry in chosen for row in _rows(registry)]
    rows += [] if kind else _strays(known)
    if as_json:
        say(json.dumps(rows, indent=2))
        return
    for row in rows:
        problem = f"  Cannot be used: {row['problem']}" if row["problem"] else ""
        say(f"{row['kind']:8} {row['name']:38} {', '.join(row['packages'])}{problem}")


def registries() -> dict[str, Registry]:
    """Return the registry of each kind of part."""
    from brainkit.alignment import ALIGNERS
    from brainkit.data.cards import CARDS, READERS
    from brainkit.evaluation.metrics import METRICS
    from brainkit.jobs import JOBS
    from brainkit.recipes.reading import RECIPES
    from brainkit.recipes.specs import FEATURES, MODELS

    every = (READERS, FEATURES, MODELS, ALIGNERS, JOBS, METRICS, CARDS, RECIPES)
    return {registry.kind: registry for registry in every}


def _rows(registry: Registry) -> Iterator[dict[str, Any]]:
    """Give each part of a kind; those of other packages are imported to see whether they can be."""
    added = registry.added()
    for name in registry:
        problem = _problem(registry, name) if name in added else None
        yield _row(registry.kind, name, registry.owners(name), problem)


def _problem(registry: Registry, name: str) -> str | None:
    """Say why a part of another package cannot be used; None where it can."""
    if registry.kind == "job" and name in commands():
        return f"brainkit has a command {name!r}; rename the job in its entry point."
    try:
        registry[name]
    except InputError as error:
        return str(error)
    return None


def commands() -> set[str]:
    """Return the names of the commands that are not those of jobs."""
    every = app.registered_commands
    return {one.name or str(getattr(one.callback, "__name__", "")) for one in every}


def _strays(known: dict[str, Registry]) -> list[dict[str, Any]]:
    """Return the entry points of the group whose names are no kind and name of a part."""
    problem = f"entry points are named KIND.NAME, where KIND is one of {listed(known)}."
    return [
        _row(kind, name, [package_of(entry)], problem)
        for kind, name, entry in registered_parts()
        if kind not in known or not name
    ]


def _row(kind: str, name: str, packages: list[str], problem: str | None) -> dict[str, Any]:
    return {"kind": kind, "name": name, "packages": packages, "problem": problem}
