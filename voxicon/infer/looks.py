"""One or two looks at a scan: the first network's, and into organs that it found, those of a second network.

Who asks for classes need not know which network finds them. Without a class of the second none of it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxicon.core.clock import Clock
from voxicon.core.components import Box
from voxicon.core.geometry import Geometry
from voxicon.core.masks import MaskSet
from voxicon.infer.inside import SecondLook
from voxicon.infer.known import Levels, as_prediction
from voxicon.infer.memory import waiting_bytes
from voxicon.infer.predictor import Prediction, Predictor, Progress
from voxicon.infer.windows import Size
from voxicon.model.head import HIDDEN


@dataclass(frozen=True)
class Shares:
    """Which network is asked for what.

    Attributes:
        first: Classes of the first network: those asked for, and hosts.
        hosts: Those of `first` that the second network looks into.
        second: Classes of the second network.
    """

    first: tuple[str, ...]
    hosts: tuple[str, ...]
    second: tuple[str, ...]


class Looks:
    """Finds classes by the network that knows them.

    Args:
        first: Reads whole scans.
        second: Looks into what the first found; None where there is nothing of the kind.
    """

    def __init__(self, first: Predictor, second: SecondLook | None = None) -> None:
        self.first, self.second = first, second

    def shares(self, classes: Sequence[str]) -> Shares:
        """Who is asked for what to find some classes; what both know is the second network's."""
        by_second = () if self.second is None else self.second.classes
        second = tuple(name for name in classes if name in by_second)
        hosts = () if self.second is None else self.second.hosts_of(second)
        first = tuple(dict.fromkeys([*(name for name in classes if name not in by_second), *hosts]))
        return Shares(first, hosts, second)

    def predict(
        self,
        image: NDArray[np.float32],
        geometry: Geometry,
        classes: tuple[str, ...],
        progress: Progress = lambda done, total: None,
        probabilities_of: tuple[str, ...] = (),
        within: tuple[Box, ...] | None = None,
        clock: Clock | None = None,
        known: Levels | None = None,
    ) -> Prediction:
        """As `Predictor.predict`, by both networks.

        Args:
            image: As there.
            geometry: As there.
            classes: As there.
            progress: As there. Once the organs are found, the windows of the second look join those in all.
            probabilities_of: As there.
            within: As there, for the first network; it must hold the hosts.
            clock: Gets the lap ``network``, and ``second look`` if there is one.
            known: Organs that need not be found, with their levels (`voxicon.infer.known`).
        """
        clock, shares, told, known = clock or Clock(), self.shares(classes), [0], known or {}
        to_find = tuple(name for name in shares.first if name not in known)

        def count(done: int, total: int) -> None:
            told[0] = total
            progress(done, total)

        maps = dict.fromkeys([*(n for n in probabilities_of if n not in shares.second), *shares.hosts])
        found = self.first.predict(image, geometry, to_find, count, tuple(n for n in maps if n not in known), within)
        if known:
            found = _gathered(found, as_prediction(known, geometry), shares.first, tuple(maps))
        clock.lap("network")
        if self.second is None or not shares.second:
            return found
        hosts = {name: found.probabilities[name] for name in shares.hosts}
        cleaned = {name: self.second.without_strays(name, of) for name, of in hosts.items() if name not in known}
        inside = self.second.look(
            image,
            geometry,
            {**hosts, **cleaned},
            shares.second,
            tuple(name for name in probabilities_of if name in shares.second),
            lambda done, total: progress(told[0] + done, told[0] + total),
        )
        clock.lap("second look")
        return _gathered(found, inside, classes, probabilities_of)

    def memory_bytes(self, shape: Size, classes: Sequence[str], n_maps: int) -> int:
        """What windows on their way through either network take, on a model grid of some shape, and all around them.

        The levels of hosts are there from the first look to the end of the second.
        """
        shares, network, window = self.shares(classes), self.first.network, self.first.window_for(shape)
        heads = len(set(network.heads_of(network.rows_of(shares.first))))
        most = network.window_bytes(window) + waiting_bytes(shape, window, self.first.config.overlap, HIDDEN * heads)
        if self.second is not None and shares.second:
            most = max(most, self.second.memory_bytes(shape, len(shares.second), n_maps))
        return most + len(shares.hosts) * shape[0] * shape[1] * shape[2]


def _gathered(
    first: Prediction, second: Prediction, classes: Sequence[str], probabilities_of: Sequence[str]
) -> Prediction:
    """Two predictions on one grid as one: each class, and each probability map, of the second if that has it."""
    parts = {name: (second if name in second.masks else first).masks for name in classes}
    levels = {**first.probabilities, **second.probabilities}
    return replace(
        first,
        masks=MaskSet.gathered(parts, first.masks.geometry),
        probabilities={name: levels[name] for name in probabilities_of},
        warnings=(*first.warnings, *second.warnings),
    )
