"""From figures and image arrays to pictures inside the page; nothing is fetched from elsewhere."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.features.pixels import as_uint8
from brainkit.reporting.markup import Html, tag, void

Array = NDArray[Any]

DPI = 110
LARGEST_SIDE = 96
FIGURE_COLOURS = 256
THUMBNAIL_COLOURS = 128


def figure_picture(figure: Any, alt: str, caption: object = None) -> Html:
    """Return a matplotlib Figure as a picture with a caption.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Encoded with 256 colours.
    alt : str
        What it shows, for those who do not see it.
    caption : object, optional
        Text below.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DPI)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture = void(
        "img", src=_png(drawn, FIGURE_COLOURS), alt=alt, width=drawn.width, height=drawn.height
    )
    below = tag("figcaption", caption) if caption is not None else ""
    return tag("figure", picture, below)


def thumbnail(image: Array, alt: str) -> Html:
    """Return one image, (height, width) or (height, width, 3), as a small picture.

    Larger images are reduced to 96 pixels, and colour ones to 128 colours, for display alone.
    """
    from PIL import Image

    drawn = Image.fromarray(as_uint8(np.asarray(image)[None])[0])
    drawn.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    return void("img", src=_png(drawn, THUMBNAIL_COLOURS), alt=alt, class_="stimulus")


def _png(image: Any, colours: int) -> str:
    """Return an image as a data address; colours are reduced to a palette.

    Of the ways to choose one, this keeps small spots of a rare colour: on the simulated world's
    scenes 128 colours are within 4 of 255 for all but a thousandth of the values.
    """
    from PIL import Image

    if image.mode == "RGB":
        image = image.quantize(
            colours, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
        )
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
