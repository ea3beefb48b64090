"""Recipes: named settings of the parts, building them, running them into a run folder."""

from brainkit.recipes.reading import read_recipe, recipe_names
from brainkit.recipes.running import run_job
from brainkit.recipes.schema import Recipe

__all__ = ["Recipe", "read_recipe", "recipe_names", "run_job"]
