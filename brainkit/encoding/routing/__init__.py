"""Routing: encoders in which each region looks for itself where in the image to read."""

from brainkit.encoding.routing.encoder import RoutingEncoder, layer_weights
from brainkit.encoding.routing.network import RoutingDecoder
from brainkit.encoding.routing.regions import Regions, read_regions

__all__ = ["Regions", "RoutingDecoder", "RoutingEncoder", "layer_weights", "read_regions"]
