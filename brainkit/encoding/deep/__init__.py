"""Deep: what all encoders that are trained by gradient descent have in common."""

from brainkit.encoding.deep.deep_encoder import DeepEncoder, Training
from brainkit.encoding.deep.rows import Scale, TokenRows

__all__ = ["DeepEncoder", "Scale", "TokenRows", "Training"]
