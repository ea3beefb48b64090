"""Recipes: named settings of the parts, building them, running them into a run folder."""

from brainkit.recipes.fitted import ImageDecoder, ImageEncoder, ImageReconstructor
from brainkit.recipes.reading import read_recipe, recipe_names
from brainkit.recipes.running import run_job
from brainkit.recipes.schema import Recipe

__all__ = [
    "ImageDecoder",
    "ImageEncoder",
    "ImageReconstructor",
    "Recipe",
    "read_recipe",
    "recipe_names",
    "run_job",
]
