"""The simulated world: painted scenes, brains that answer them, written in real data's layout."""

from brainkit.data.world.bold5000_layout import write_bold5000
from brainkit.data.world.brain import SimulatedBrain
from brainkit.data.world.nsd_layout import write_nsd
from brainkit.data.world.objects import SceneObject
from brainkit.data.world.population import Population
from brainkit.data.world.scenes import Content, Scene, SceneWorld

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
