"""From a recipe that reconstructs to what it is made of, and what the manifest says of that."""

from typing import Any

from brainkit.errors import InputError
from brainkit.features import ModelLayer
from brainkit.recipes.building import build_model
from brainkit.recipes.manifest import what_ran
from brainkit.recipes.schema import CaptionerSpec, GeneratorSpec, ReconstructRecipe
from brainkit.reconstruction import EmbeddingDecoder, ReconstructionParts


def build_parts(recipe: ReconstructRecipe) -> ReconstructionParts:
    """Load all that a recipe names, so that a wrong name is told before anything is fitted.

    Parameters
    ----------
    recipe : ReconstructRecipe

    Returns
    -------
    ReconstructionParts
        For any number of recordings.

    Raises
    ------
    UnknownNameError, MissingFileError, DownloadError
        If a model is not there; the message says what was looked for, and where.
    InputError
        If the recipe's model decodes no embeddings, or its captioner needs images and it names no
        generator that would make some.
    """
    decoder = build_model(recipe.model)
    if not isinstance(decoder, EmbeddingDecoder):
        raise InputError(
            f"The model of {recipe.name} is {recipe.model.kind!r}; embeddings are decoded by "
            "'embedding-decoder'."
        )
    latents = recipe.generator.latents if recipe.generator is not None else None
    latent_model = None if latents is None else build_model(latents)
    embed = _layer(recipe.embedding, recipe.store)
    judges = {name: _layer(spec) for name, spec in recipe.judges.items()}
    captioner = None if recipe.captioner is None else load_captioner(recipe.captioner)
    if recipe.generator is None and _reads_images(captioner):
        raise InputError(
            f"The captioner of {recipe.name} reads images, and the recipe names no generator to "
            "make them. Name one, or a captioner that reads embeddings, such as 'tiny'."
        )
    return ReconstructionParts(
        generator=None if recipe.generator is None else load_generator(recipe.generator),
        judges=judges,
        embed=embed,
        captioner=captioner,
        embedding_model=decoder,
        latent_model=latent_model,
    )


def _layer(spec: str, store: str | None = None) -> ModelLayer:
    """Return a layer of a model, loaded, so that its name is known to be right."""
    layer = ModelLayer(spec, store=store)
    layer.identity()
    return layer


def _reads_images(captioner: Any) -> bool:
    return captioner is not None and getattr(captioner, "embedding_width", None) is None


def load_generator(spec: GeneratorSpec) -> Any:
    """Load the generator that a recipe names."""
    from brainkit.generators import Generator

    return Generator.from_pretrained(**generator_options(spec))


def generator_options(spec: GeneratorSpec) -> dict[str, Any]:
    """Return what `Generator.from_pretrained` is given."""
    options = spec.model_dump(mode="json", exclude={"name", "latents"})
    return {"id_or_path": spec.name, **options}


def load_captioner(spec: CaptionerSpec) -> Any:
    """Load the captioner that a recipe names."""
    from brainkit.generators import Captioner

    return Captioner.from_pretrained(**captioner_options(spec))


def captioner_options(spec: CaptionerSpec) -> dict[str, Any]:
    """Return what `Captioner.from_pretrained` is given."""
    return {"id_or_path": spec.name, "device": spec.device}


def parts_ran(parts: ReconstructionParts, described: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the frozen models of a run say of how they ran, for the manifest.

    Parameters
    ----------
    parts : ReconstructionParts
    described : dict
        What `describe_parts` says of them.
    """
    told = what_ran(parts.embed, parts.judges)
    for role in ("generator", "captioner"):
        if role in described:
            kept = {key: described[role][key] for key in ("device", "dtype", "batch_size")}
            told.append({"part": role, **kept})
    return told


def describe_parts(parts: ReconstructionParts) -> dict[str, Any]:
    """Return the models of a run with the hashes of their weights, for the manifest.

    Parameters
    ----------
    parts : ReconstructionParts
        As `build_parts` returns them.

    Returns
    -------
    dict
        ``embedding``, ``judges`` by name and, where there are any, ``generator`` and
        ``captioner``.
    """
    described: dict[str, Any] = {"embedding": parts.embed.identity()}
    if parts.generator is not None:
        from brainkit.generators.generator import describe_generator

        described["generator"] = describe_generator(parts.generator)
    if parts.captioner is not None:
        from brainkit.generators.captioner import BATCH_SIZE

        described["captioner"] = {**parts.captioner.identity(), "batch_size": BATCH_SIZE}
    described["judges"] = {name: judge.identity() for name, judge in parts.judges.items()}
    return described
