"""Voxicon: every voxel has a word. Text-driven segmentation of CT. Research software, not a medical device.

>>> import voxicon
>>> segmenter = voxicon.load("starter")
>>> result = segmenter.segment("ct.nii.gz", classes=["liver", "left kidney"])
>>> result.masks.volume_ml("liver")
>>> result.save("out/ct")
>>> voxicon.ask("ct.nii.gz", "Compare the kidneys.").save("asked/ct")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxicon.version import __version__

__all__ = [
    "Concept",
    "Geometry",
    "Inquiry",
    "MaskSet",
    "Result",
    "Segmenter",
    "Vocabulary",
    "Volume",
    "VoxiconError",
    "__version__",
    "ask",
    "load",
]

_HOMES = {
    "Concept": "voxicon.core.concepts",
    "Geometry": "voxicon.core.geometry",
    "Inquiry": "voxicon.inquiry",
    "MaskSet": "voxicon.core.masks",
    "Result": "voxicon.result",
    "Segmenter": "voxicon.segmenter",
    "Vocabulary": "voxicon.core.concepts",
    "Volume": "voxicon.core.volume",
    "VoxiconError": "voxicon.errors",
    "ask": "voxicon.inquiry",
    "load": "voxicon.segmenter",
}

if TYPE_CHECKING:
    from voxicon.core.concepts import Concept, Vocabulary
    from voxicon.core.geometry import Geometry
    from voxicon.core.masks import MaskSet
    from voxicon.core.volume import Volume
    from voxicon.errors import VoxiconError
    from voxicon.inquiry import Inquiry, ask
    from voxicon.result import Result
    from voxicon.segmenter import Segmenter, load


def __getattr__(name: str) -> Any:
    # torch takes a second to import: a name is fetched from its home when it is first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'voxicon' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
