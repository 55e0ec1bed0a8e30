"""Names that other people's code relies on; changing one is a decision, not an accident."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import voxicon
from voxicon import errors
from voxicon.model import load_network
from voxicon.result import Result
from voxicon.segmenter import Segmenter, load


def test_public_names() -> None:
    assert set(voxicon.__all__) == {
        "Concept", "Geometry", "Inquiry", "MaskSet", "Result", "Segmenter", "Vocabulary", "Volume", "VoxiconError",
        "__version__", "ask", "load",
    }  # fmt: skip
    for name in voxicon.__all__:
        assert getattr(voxicon, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        voxicon.nonsense  # noqa: B018


def test_signatures() -> None:
    assert list(inspect.signature(load).parameters) == [
        "weights",
        "device",
        "engine",
        "overlap",
        "max_memory_gb",
        "precision",
        "locate",
    ]
    assert inspect.signature(load).parameters["weights"].default == "starter"
    segment = inspect.signature(Segmenter.segment).parameters
    assert list(segment)[:3] == ["self", "scan", "classes"]
    assert segment["classes"].default is None
    assert list(inspect.signature(Result.save).parameters)[:2] == ["self", "folder"]
    assert list(inspect.signature(load_network).parameters) == ["path"]
    assert {"masks", "volume"} <= set(Result.__dataclass_fields__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, voxicon; assert not {'torch', 'numpy', 'nibabel'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_exception_tree() -> None:
    found = {
        name: (kind.__mro__[1].__name__, kind.exit_code)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.VoxiconError)
    }
    assert found == {
        "VoxiconError": ("Exception", 1),
        "InputError": ("VoxiconError", 1),
        "UnreadableFile": ("InputError", 1),
        "BadGeometry": ("InputError", 1),
        "NotCt": ("InputError", 1),
        "OutputError": ("VoxiconError", 1),
        "DownloadError": ("VoxiconError", 1),
        "UsageError": ("VoxiconError", 2),
        "UnknownClass": ("UsageError", 2),
        "ConfigError": ("UsageError", 2),
        "CardError": ("UsageError", 2),
        "CheckpointError": ("VoxiconError", 2),
    }


def test_messages_are_one_line() -> None:
    error = errors.InputError("first\n  second", code="E-X")
    assert str(error) == "first second"
    assert error.code == "E-X"
    assert errors.InputError("x").code == "E-INPUT"
