"""Models: their layers, and fetching them."""

import json
from typing import Annotated

import typer

from brainkit.cli.app import AsJson, app, say


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
