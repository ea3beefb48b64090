"""Parts by name: what is registered, by which package, and what of it cannot be used."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from brainkit.arrays.registry import Registry, package_of, registered_parts
from brainkit.cli.app import AsJson, app, say
from brainkit.errors import InputError, listed, unknown_name


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
