"""Datasets: what there is, and fetching it."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from brainkit.cli.app import AsJson, CardName, app, say
from brainkit.errors import BrainkitError


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
