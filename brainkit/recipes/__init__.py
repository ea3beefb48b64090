"""Recipes: the vocabulary of their settings, reading them, and what a manifest says of a run."""

from brainkit.recipes.reading import recipe_content, recipe_names
from brainkit.recipes.specs import FEATURES, MODELS, Recipe, build_features, build_model

__all__ = [
    "FEATURES",
    "MODELS",
    "Recipe",
    "build_features",
    "build_model",
    "recipe_content",
    "recipe_names",
]
