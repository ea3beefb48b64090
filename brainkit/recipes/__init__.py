"""Recipes: named settings of the parts, building them, running them into a run folder."""

from brainkit.recipes.running import run_job
from brainkit.recipes.schema import Recipe, read_recipe, recipe_names

__all__ = ["Recipe", "read_recipe", "recipe_names", "run_job"]
