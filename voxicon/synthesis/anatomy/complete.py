"""A label map made whole: every voxel of the body belongs to something.

With the CT, what labels leave out is told by its HU. Without it, `voxicon.synthesis.anatomy.invent` draws a body
around the organs that are there. Given labels are never changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxicon.core.components import components, largest
from voxicon.core.geometry import Geometry
from voxicon.core.orientation import to_ras_order
from voxicon.errors import BadGeometry, ConfigError
from voxicon.synthesis.anatomy.invent import invent
from voxicon.synthesis.label_map import OUTSIDE, TISSUES, LabelMap

BODY_HU = -300.0
"""Denser than this is body or table: halfway between air and fat, above what lies in clothes and foam."""

GAS_HU, FAT_HU, MUSCLE_HU, BONE_HU, METAL_HU = -500.0, -30.0, 130.0, 350.0, 2000.0
"""Borders: gas below the first, fat below the second, muscle and organs below the third, above it vessels with contrast
or bone; from the fourth on nothing but bone, from the fifth on metal. Source: usual ranges; bone and arterial contrast
overlap from 130 to 350 HU, there the place decides."""

SKIN_MM = 2.0

_BONES = ("vertebra", "rib", "sacrum", "hip", "femur", "humerus", "scapula", "clavicula", "sternum", "skull", "costal")
_VESSELS = ("aorta", "vein", "artery", "vena", "heart", "atrial", "trunk", "lung")
_WALL = (*_BONES, "gluteus", "autochthon", "iliopsoas")
_CODE = {name: value for value, name in TISSUES.items()}

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


def complete(
    label_map: LabelMap, hu: NDArray[np.float32] | None = None, rng: np.random.Generator | None = None
) -> LabelMap:
    """A label map that says of every voxel what it is; given labels stay as they are.

    Args:
        label_map: Some structures, RAS-aligned.
        hu: (X, Y, Z) the CT the labels belong to.
        rng: For what is invented without a CT; a fixed one when left out.

    Returns:
        The same grid. With the CT, the rest of the body is `TISSUES` by HU, and what lies dense under the back is
        table. Without it, structures are invented around the organs, under their own values. A map without any
        label and without CT stays empty.

    Raises:
        BadGeometry: `hu` has another shape, or the label map is not in RAS order.
        ConfigError: A value of the label map is that of a tissue under another name.
    """
    _check(label_map, hu)
    if hu is None:
        return invent(label_map, rng or np.random.default_rng(0)) if label_map.values.any() else label_map
    values = np.where(label_map.values != OUTSIDE, label_map.values, _tissues(label_map, np.asarray(hu, np.float32)))
    return LabelMap(values.astype(np.int16), {**label_map.names, **TISSUES}, label_map.geometry)


def _check(label_map: LabelMap, hu: NDArray[np.float32] | None) -> None:
    if hu is not None and hu.shape != label_map.values.shape:
        raise BadGeometry(
            f"CT of shape {hu.shape} for a label map of shape {label_map.values.shape}; pass both on one grid"
        )
    if not label_map.geometry.is_aligned or label_map.geometry.orientation != "RAS":
        raise BadGeometry(
            f"label map runs along {label_map.geometry.orientation}, aligned: {label_map.geometry.is_aligned}; "
            "expected a grid along RAS; bring it there with resampled"
        )
    for value, name in label_map.names.items():
        if TISSUES.get(value, name) != name:
            raise ConfigError(f"label {value} is {name!r}, but stands for {TISSUES[value]!r}; give it another value")


def _tissues(label_map: LabelMap, hu: Floats) -> NDArray[np.int16]:
    """A tissue for every voxel of the body, labels or not; table and `OUTSIDE` beyond it."""
    spacing = np.array(label_map.geometry.spacing_mm)
    voxel_mm = float(np.cbrt(spacing.prod()))
    labeled = label_map.values != OUTSIDE
    body = _body(hu, labeled, voxel_mm)
    smooth = ndimage.gaussian_filter(hu, 0.6 * 1.5 / np.maximum(spacing, 1.5))
    bands = np.array([GAS_HU, FAT_HU, MUSCLE_HU])
    kinds = np.array([_CODE["gas"], _CODE["fat"], _CODE["muscle"], _CODE["vessel"]], dtype=np.int16)
    tissue: NDArray[np.int16] = kinds[np.digitize(smooth, bands)]
    tissue[_seam(tissue)] = _CODE["fat"]
    inner = _inner(label_map, body, spacing) & (tissue == _CODE["muscle"])
    tissue[inner] = _CODE["soft_tissue"]
    dense = (tissue == _CODE["vessel"]) & body & ~labeled
    tissue[dense & _bony(label_map, dense, hu, spacing)] = _CODE["bone"]
    tissue[(hu > METAL_HU) & body] = _CODE["metal"]
    tissue[_shell(body, max(SKIN_MM, voxel_mm), spacing) & (tissue != _CODE["bone"])] = _CODE["skin"]
    tissue[~body] = OUTSIDE
    tissue[_table(hu, body, label_map, spacing)] = _CODE["table"]
    return tissue


def _body(hu: Floats, labeled: Mask, voxel_mm: float) -> Mask:
    """The patient: the largest thing denser than air, with what it encloses and with all that is labeled."""
    dense = (hu > BODY_HU) | labeled
    # Off with the table: it hangs on by a bridge thinner than 9 mm.
    turns = max(1, round(4.5 / voxel_mm))
    core = ndimage.binary_erosion(dense, iterations=turns, border_value=1)
    core = largest(core) | (core & labeled)
    body = ndimage.binary_dilation(core, iterations=turns + 1, mask=dense) | labeled
    for z in range(body.shape[2]):
        body[:, :, z] = ndimage.binary_fill_holes(body[:, :, z])
    return np.asarray(body, dtype=bool)


def _seam(tissue: NDArray[np.int16]) -> Mask:
    """Voxels of gas so alone that they are a blur between fat and air, not a bubble."""
    gas = tissue == _CODE["gas"]
    alone = ndimage.uniform_filter(gas.astype(np.float32), 3) < 3 / 27
    return np.asarray(gas & alone)


def _inner(label_map: LabelMap, body: Mask, spacing: NDArray[np.float64]) -> Mask:
    """Between the organs: soft tissue there is mesentery, nodes and small vessels, not muscle."""
    walls = {n for n in label_map.names.values() if n.startswith(_WALL)} | set(TISSUES.values())
    organs = label_map.mask(set(label_map.names.values()) - walls)
    steps = [max(1, round(24.0 / s)) for s in spacing]
    # Closing on every third voxel of a smoothed mask: a ball of 24 mm at full resolution costs seconds.
    spread = ndimage.maximum_filter(organs, size=[2 * (s // 2) + 1 for s in steps])
    return np.asarray(ndimage.minimum_filter(spread, size=[2 * (s // 2) + 1 for s in steps]) & body)


def _bony(label_map: LabelMap, dense: Mask, hu: Floats, spacing: NDArray[np.float64]) -> Mask:
    """Which of the bright voxels are bone: pieces bright enough, or near known bone and away from vessels."""
    names = label_map.names.values()
    bones = label_map.mask({n for n in names if n.startswith(_BONES)})
    vessels = label_map.mask({n for n in names if any(word in n for word in _VESSELS)})
    parts = components(dense)
    index = np.arange(len(parts.sizes))
    brightest = np.asarray(ndimage.maximum(hu, parts.labels, index)) if len(index) > 1 else np.zeros(1)
    volume_ml = parts.sizes * spacing.prod() / 1000
    certain = (brightest > BONE_HU) & (volume_ml > 0.5)
    near = np.zeros(len(index), dtype=bool)
    if bones.any():
        close = ndimage.distance_transform_edt(~bones, sampling=spacing) < 8.0
        if vessels.any():
            close &= ndimage.distance_transform_edt(~vessels, sampling=spacing) > 6.0
        hits = np.bincount(parts.labels[close], minlength=len(index))
        near = hits > 0.3 * np.maximum(parts.sizes, 1)
    return parts.pick(np.flatnonzero((certain | near) & (parts.sizes > 0)))


def _shell(body: Mask, depth_mm: float, spacing: NDArray[np.float64]) -> Mask:
    """The outermost layer toward air; none where the scan ends."""
    if body.all():
        return np.zeros_like(body)
    depth = ndimage.distance_transform_edt(body, sampling=spacing)
    return np.asarray(body & (depth <= depth_mm + 1e-3))


def _table(hu: Floats, body: Mask, label_map: LabelMap, spacing: NDArray[np.float64]) -> Mask:
    """Dense things outside the body, large, and behind its middle."""
    near = ndimage.binary_dilation(body)
    things = (hu > -700.0) & ~near
    places = np.flatnonzero(body.any(axis=(0, 2)))
    if not len(places):
        return np.zeros_like(body)
    things[:, int(places.mean()) :] = False
    parts = components(things)
    found = parts.pick(np.flatnonzero(parts.sizes * spacing.prod() / 1000 > 5.0))
    return np.asarray(found & (label_map.values == OUTSIDE))


def resampled(label_map: LabelMap, spacing_mm: float) -> LabelMap:
    """The label map on a RAS-aligned grid of cubes; unchanged where it is on one of this spacing already.

    Each structure is averaged over the footprint of the new voxel and cut where it keeps its volume, so that a thin
    one gets thicker rather than lost. Where several pass, the one that passes by more wins.

    Args:
        label_map: Any orientation; oblique grids are sampled through their affine.
        spacing_mm: Edge of the new voxels.

    Raises:
        ConfigError: The spacing is not above 0.
    """
    if not spacing_mm > 0:
        raise ConfigError(f"spacing of {spacing_mm} mm for a label map; expected a number above 0, such as 3")
    source = label_map.geometry
    if source.orientation == "RAS" and source.is_aligned and np.allclose(source.spacing_mm, spacing_mm, rtol=1e-4):
        return label_map
    target = _cubes(source, spacing_mm)
    turned, ras = to_ras_order(label_map.values, source)
    best = np.ones(target.shape, dtype=np.float32)
    values = np.zeros(target.shape, dtype=np.int16)
    boxes = ndimage.find_objects(turned.astype(np.int32))
    for value in np.unique(turned[turned != OUTSIDE]):
        box = boxes[value - 1]
        share, where = _share(turned[box] == value, box, ras, target)
        wanted = np.count_nonzero(turned[box] == value) * ras.voxel_ml / target.voxel_ml
        score = share / _cut(share, wanted)
        wins = score >= best[where]
        best[where][wins] = score[wins]
        values[where][wins] = value
    return LabelMap(values, label_map.names, target)


def _cubes(source: Geometry, spacing_mm: float) -> Geometry:
    """The RAS grid of cubes over the source's extent, centered on it."""
    index = np.array(np.meshgrid(*([-0.5, n - 0.5] for n in source.shape), indexing="ij")).reshape(3, -1).T
    corners = source.to_world(index)
    low, high = corners.min(axis=0), corners.max(axis=0)
    x, y, z = (max(1, round(float(n))) for n in (high - low) / spacing_mm)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (low + high) / 2 - (np.array([x, y, z]) - 1) / 2 * spacing_mm
    return Geometry((x, y, z), affine)


def _share(mask: Mask, box: tuple[slice, ...], source: Geometry, target: Geometry) -> tuple[Floats, tuple[slice, ...]]:
    """How much of each target voxel a structure fills, within the part of the target that its box reaches."""
    start = np.array([part.start for part in box])
    between = np.linalg.solve(source.affine, target.affine)
    reach = np.array(np.meshgrid(*([p.start - 1.5, p.stop + 0.5] for p in box), indexing="ij")).reshape(3, -1)
    seen = np.linalg.solve(between[:3, :3], reach - between[:3, 3:])
    limits = np.array(target.shape)
    low = np.clip(np.floor(seen.min(axis=1)).astype(int), 0, limits - 1)
    high = np.clip(np.ceil(seen.max(axis=1)).astype(int) + 1, low + 1, limits)
    where = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    # A Gaussian over the footprint of the target; at least half a voxel wide, so that thick slices leave no steps.
    footprint = np.abs(between[:3, :3]).max(axis=1)
    sigma = np.sqrt(np.maximum(footprint**2 - 1, 0.5) / 6)
    padded = np.pad(mask, 2).astype(np.float32)
    blurred = ndimage.gaussian_filter(padded, sigma, mode="nearest", truncate=3.0)
    offset = between[:3, 3] + between[:3, :3] @ low - start + 2
    matrix: Any = between[:3, :3]
    if source.is_aligned:
        matrix = np.diag(matrix)
    share = ndimage.affine_transform(blurred, matrix, offset, output_shape=tuple(high - low), order=1, mode="constant")
    return share.astype(np.float32), where


def _cut(share: Floats, wanted_voxels: float) -> float:
    """Where to cut shares so that as many voxels pass as the structure fills, between a fifth and a half."""
    count = round(wanted_voxels)
    if count < 1 or count >= share.size:
        return 0.5
    at = float(np.partition(share.ravel(), share.size - count)[share.size - count])
    return min(max(at, 0.2), 0.5)
