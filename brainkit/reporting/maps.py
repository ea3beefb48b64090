"""Maps of units in the person's own space: nilearn's axial slices, cut to where the units are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.data.units import VolumeSpace
from brainkit.reporting.figures import OUTSIDE, literal, region_colours

Array = NDArray[Any]

SLICES = 10
PER_ROW = 5
MARGIN = 0.08
WIDTH = 10.0
SIDE_PANEL = 1.9  # inches beside the slices, for the colour bar or the names


def score_map(
    space: VolumeSpace, values: ArrayLike, *, label: str, oriented: bool = True
) -> tuple[Any, float]:
    """Draw values by unit on axial slices, over the person's anatomy where there is one.

    Parameters
    ----------
    space : VolumeSpace
        Where the units are.
    values : array (units,)
        NaN is not drawn.
    label : str
        What the colours are.
    oriented : bool, default=True
        Whether the affine is known, so that left and right can be told.

    Returns
    -------
    figure : matplotlib.figure.Figure
    limit : float
        Ends of the colour scale: the 99th percentile of the absolute values.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    array = np.asarray(values, dtype=np.float64)
    size = np.abs(array[np.isfinite(array)])
    limit = float(np.percentile(size, 99)) if size.size and size.max() > 0 else 1.0
    drawn = np.where(np.abs(array) < 1e-6, 1e-6, array)  # exact zeros would be left out
    figure = _slices(space, drawn, oriented, cmap="RdBu_r", vmin=-limit, vmax=limit)
    height = figure.get_figheight()
    axes = figure.add_axes((1 - SIDE_PANEL / WIDTH + 0.05, 0.35 / height, 0.016, 1 - 0.7 / height))
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), colormaps["RdBu_r"]), cax=axes)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure, limit


def region_map(
    space: VolumeSpace,
    region: ArrayLike,
    names: Sequence[str],
    *,
    oriented: bool = True,
) -> Any:
    """Draw which region each unit is in, on the slices of `score_map`.

    Parameters
    ----------
    space : VolumeSpace
        Where the units are.
    region : array of str or None (units,)
        Region of each unit; None is drawn in grey.
    names : sequence of str
        Regions in order.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    number = {None: 1} | {name: i for i, name in enumerate(names, start=2)}
    colours = region_colours(names)
    values = np.array([number[name] for name in np.asarray(region, dtype=object)], dtype=np.float64)
    figure = _slices(
        space, values, oriented, cmap=ListedColormap([OUTSIDE, *colours.values()]),
        vmin=0.5, vmax=len(names) + 1.5,
    )  # fmt: skip
    patches = [Patch(color=colours[name], label=literal(name)) for name in names]
    if (values == 1).any():
        patches.append(Patch(color=OUTSIDE, label="in no region"))
    # All of it has to fit beside the slices, however many regions there are.
    size = min(8.0, 72 * figure.get_figheight() / (1.5 * len(patches)))
    figure.legend(handles=patches, fontsize=size, frameon=False, loc="center left",
                  labelspacing=0.3, borderpad=0,
                  bbox_to_anchor=(1 - SIDE_PANEL / WIDTH + 0.02, 0.5))  # fmt: skip
    return figure


def _slices(space: VolumeSpace, values: Array, oriented: bool, **style: Any) -> Any:
    """Draw the slices; values of 0 are not drawn."""
    from matplotlib.figure import Figure
    from nilearn.plotting import plot_img

    box = _box(space)
    image = space.to_image(np.nan_to_num(values), fill=0.0).slicer[box]
    background = space.background_image()
    background = None if background is None else _opaque(background.slicer[box])
    cuts = _cuts(space)
    rows = [cuts[i : i + PER_ROW] for i in range(0, len(cuts), PER_ROW)]
    decimals = 0 if all(cut.is_integer() for cut in cuts) else 1
    width = 1 - SIDE_PANEL / WIDTH
    extent = [part.stop - part.start for part in box[:2]] * np.abs(_voxel_size(space)[:2])
    row_height = (WIDTH - SIDE_PANEL) / PER_ROW * float(np.clip(extent[1] / extent[0], 0.6, 1.6))
    figure = Figure(figsize=(WIDTH, row_height * len(rows)))
    for i, row in enumerate(rows):
        share = len(row) / PER_ROW
        axes = figure.add_axes((0, 1 - (i + 1) / len(rows), width * share, 1 / len(rows)))
        display = plot_img(
            image, cut_coords=row, display_mode="z", figure=figure, axes=axes, bg_img=background,
            colorbar=False, annotate=False, draw_cross=False, black_bg=False, threshold=1e-9,
            resampling_interpolation="nearest", **style,
        )  # fmt: skip
        display.annotate(size=8, left_right=oriented, positions=True, decimals=decimals)
    return figure


def _opaque(background: Any) -> Any:
    """Lift exact zeros of an anatomy, which would be drawn as holes; None if it is empty."""
    from nilearn.image import new_img_like

    data = background.get_fdata(dtype=np.float32)
    if not (data > 0).any():
        return None
    return new_img_like(background, np.where(data == 0, 1e-3 * data[data > 0].min(), data))


def _cuts(space: VolumeSpace) -> list[float]:
    """Return heights of slices with as many units between any two, at most `SLICES`."""
    z = space.coordinates()[:, 2]
    share = (np.arange(SLICES) + 0.5) / SLICES
    return [float(cut) for cut in np.unique(np.quantile(z, share, method="nearest").round(3))]


def _voxel_size(space: VolumeSpace) -> Array:
    return np.sqrt((np.asarray(space.affine)[:3, :3] ** 2).sum(axis=0))


def _box(space: VolumeSpace) -> tuple[slice, ...]:
    """Return the part of the grid that holds the units, with a margin."""
    ijk = np.unravel_index(space.voxels, space.shape)
    box = []
    for index, size in zip(ijk, space.shape, strict=True):
        margin = max(2, round(MARGIN * size))
        box.append(
            slice(max(0, int(index.min()) - margin), min(size, int(index.max()) + margin + 1))
        )
    return tuple(box)
