"""Everything that one must know to use an exported network, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voxicon.core.concepts import Vocabulary
from voxicon.infer.predictor import InferenceConfig
from voxicon.infer.windows import SIGMA_SCALE
from voxicon.prep.pipeline import BODY_HU, BODY_MARGIN_MM, PreparationConfig
from voxicon.result import DISCLAIMER
from voxicon.version import __version__

SCHEMA = "voxicon-export-1"

INPUT, OUTPUT = "image", "logits"
"""What the input and the output are called where a format has names for them."""

_CROPS = {
    "body": f"box of the largest connected thing above {BODY_HU:g} HU, widened by {BODY_MARGIN_MM:g} mm",
    "foreground": "box of everything above the lower end of the HU window",
    "none": "nothing is cut away",
}


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an exported network is and how it wants to be used.

    Attributes:
        weights: Name, hash of the file, title and license.
        classes: Canonical names, in the order of the output's channels.
        preparation: How a scan is made ready.
        inference: Window, overlap, thresholds.
        vocabulary: Knows every one of `classes`.
    """

    weights: Mapping[str, Any]
    classes: tuple[str, ...]
    preparation: PreparationConfig
    inference: InferenceConfig
    vocabulary: Vocabulary

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probability above which a voxel is of each class."""
        return tuple(self.inference.threshold_of(name) for name in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        window = list(self.inference.window)
        return {
            "schema": SCHEMA,
            "voxicon": __version__,
            "notice": DISCLAIMER,
            "weights": dict(self.weights),
            "input": {
                "name": INPUT,
                "shape": ["B", 1, *window],
                "dtype": "float32",
                "range": [0, 1],
                "meaning": "one window of a prepared scan; indices grow toward the patient's right, front and head",
            },
            "output": {
                "name": OUTPUT,
                "shape": ["B", len(self.classes), *window],
                "dtype": "float32",
                "meaning": "a logit for each class: its probability is 1 / (1 + exp(-logit)); classes may overlap",
            },
            "classes": [self._class(channel) for channel in range(len(self.classes))],
            "preparation": {
                "orientation": "RAS",
                "spacing_mm": list(self.preparation.spacing_mm),
                "resampling": "linear, averaged over coarser voxels" if self.preparation.antialias else "linear",
                "window_hu": list(self.preparation.window_hu),
                "crop": _CROPS[self.preparation.crop],
            },
            "windows": {
                "size": window,
                "overlap": self.inference.overlap,
                "blending": f"logits, weighted by a Gaussian of standard deviation {SIGMA_SCALE:g} times the window",
                "padding": self.inference.padding,
            },
        }

    def _class(self, channel: int) -> dict[str, Any]:
        concept = self.vocabulary[self.classes[channel]]
        return {
            "channel": channel,
            "name": concept.name,
            "display_name": concept.display_name,
            "id": concept.id,
            "snomed": list(concept.snomed),
            "threshold": self.thresholds[channel],
            "smoothing_mm": self.inference.smoothing_mm.get(concept.name, 0.0),
        }
