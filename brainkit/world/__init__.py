"""The simulated world: painted scenes, brains that answer them, written in real data's layout."""

from brainkit.world.bold5000_layout import write_bold5000
from brainkit.world.brain import SimulatedBrain
from brainkit.world.nsd_layout import write_nsd
from brainkit.world.painting import SceneObject
from brainkit.world.population import Population
from brainkit.world.scenes import Content, Scene, SceneWorld

__all__ = [
    "Content",
    "Population",
    "Scene",
    "SceneObject",
    "SceneWorld",
    "SimulatedBrain",
    "write_bold5000",
    "write_nsd",
]
