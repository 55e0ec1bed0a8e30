"""The store: names to files, records, hashes."""

from __future__ import annotations

import hashlib
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from voxicon.errors import CheckpointError
from voxicon.model.checkpoint import load_checkpoint
from voxicon.weights import store
from voxicon.weights.store import (
    MANIFEST,
    Installed,
    Record,
    engines_folder,
    installed,
    lookup,
    record,
    resolve,
    starter_path,
    store_folder,
    verify,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty store; the starter weights are absent; the working folder is elsewhere."""
    monkeypatch.setenv("VOXICON_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(store, "_starter", lambda: tmp_path / "package" / "starter.safetensors")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    weights = tmp_path / "home" / "weights"
    weights.mkdir(parents=True)
    return weights


def _file(path, content=b"weights"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _record(content=b"weights", **changes):
    values = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "source": "hf:owner/repo/a.safetensors@main",
        "size_bytes": len(content),
        "license": "mit",
        "date": "2026-01-31",
    }
    return Record(**{**values, **changes})


def test_the_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("VOXICON_HOME", "~/elsewhere")
    assert store_folder() == Path.home() / "elsewhere" / "weights"
    for value in ("", None):
        monkeypatch.setenv("VOXICON_HOME", "") if value == "" else monkeypatch.delenv("VOXICON_HOME")
        assert store_folder() == Path.home() / ".cache" / "voxicon" / "weights"
        assert engines_folder() == Path.home() / ".cache" / "voxicon" / "engines"


def test_the_starter_lies_in_the_package():
    import voxicon.weights

    assert store._starter() == Path(voxicon.weights.__file__).parent / "starter.safetensors"


def test_starter_there_and_absent(folder):
    with pytest.raises(CheckpointError, match="starter weights are missing from this installation; reinstall"):
        starter_path()
    with pytest.raises(CheckpointError, match="missing from this installation"):
        resolve("starter")
    path = _file(store._starter())
    assert starter_path() == path
    assert resolve("starter") == path


def test_starter_is_the_packaged_one_whatever_lies_about(folder):
    path = _file(store._starter())
    _file(Path("starter"))
    _file(folder / "starter.safetensors")
    assert resolve("starter") == path


def test_resolve_takes_paths_and_names(folder, tmp_path):
    here, there = _file(tmp_path / "here" / "a.safetensors"), _file(folder / "b.safetensors")
    assert resolve("a.safetensors").resolve() == here
    assert resolve(here) == here
    assert resolve("b") == there
    assert resolve("b.safetensors") == there
    _file(folder / "a.safetensors")
    assert resolve("a.safetensors").resolve() == here
    assert resolve("a") == folder / "a.safetensors"


def test_resolve_expands_the_home_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = _file(tmp_path / "x.safetensors")
    assert resolve("~/x.safetensors") == path


@pytest.mark.parametrize("name", ["model.pth", "other.pt"])
def test_torch_files_have_to_be_converted(folder, name):
    for _ in ("absent", "there"):
        with pytest.raises(CheckpointError, match=f"run 'voxicon weights convert .*{name}' first"):
            resolve(name)
        _file(folder / name)


def test_what_is_not_there_is_refused_with_what_is(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"no such weights; installed: nothing; put .* 'voxicon weights get'"):
        resolve("nosuch")
    _file(folder / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"installed: b\.safetensors; put"):
        resolve("nosuch")
    _file(tmp_path / "home" / "c.safetensors")
    with pytest.raises(CheckpointError, match="no such weights"):
        resolve("../c")
    with pytest.raises(CheckpointError, match="no such weights"):
        resolve(folder)


def test_installed_lists_the_starter_and_the_store(folder, tmp_path):
    assert installed() == []
    b, a = _file(folder / "b.pth", b"12345"), _file(folder / "a.safetensors")
    for other in (".a.safetensors.abc.part", ".hidden.safetensors", "notes.txt"):
        _file(folder / other)
    record(a, _record())
    assert installed() == [Installed("a.safetensors", a, 7, _record()), Installed("b.pth", b, 5, None)]
    starter = _file(store._starter(), b"s")
    assert installed()[0] == Installed("starter", starter, 1, None)
    record(starter, _record(b"s"))
    assert installed()[0].record == verify(resolve("starter")) == _record(b"s")
    assert len(installed()) == 3
    assert [weights.name for weights in installed(tmp_path / "nowhere")] == ["starter"]
    # Every listed name can be used, or says why not.
    assert resolve(installed()[1].name) == a


def test_records_are_kept_by_name_and_replaced(folder):
    a, b = _file(folder / "a.safetensors"), _file(folder / "b.safetensors")
    assert lookup(a) is None
    record(a, _record())
    record(b, _record(license="not stated"))
    assert lookup(a) == _record()
    assert lookup(b).license == "not stated"
    record(a, _record(date="2026-02-01"))
    assert lookup(a).date == "2026-02-01"
    assert list(json.loads((folder / MANIFEST).read_text())["weights"]) == ["a.safetensors", "b.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == ["a.safetensors", "b.safetensors", MANIFEST]


def test_verify_compares_the_bytes_with_the_record(folder):
    path = folder / "a.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        verify(path)
    _file(path)
    with pytest.raises(CheckpointError, match=r"no record in .*weights\.json, so there is nothing to compare with"):
        verify(path)
    record(path, _record())
    assert verify(path) == _record()
    path.write_bytes(b"weight5")
    expected, found = (hashlib.sha256(content).hexdigest() for content in (b"weights", b"weight5"))
    with pytest.raises(CheckpointError, match=f"is {found}, recorded is {expected} .* fetch it again") as caught:
        verify(path)
    assert caught.value.code == "E-HASH"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weights": 3}', '{"weights": {"a": {}}}', '{"weights": {"a": 1}}', "\xff"]
)
def test_a_damaged_manifest_is_named_and_left_alone(folder, text):
    manifest = folder / MANIFEST
    manifest.write_text(text, encoding="latin1")
    path = _file(folder / "a.safetensors")
    for call in (installed, lambda: lookup(path), lambda: verify(path), lambda: record(path, _record())):
        with pytest.raises(CheckpointError, match=r"weights\.json: damaged"):
            call()
    assert manifest.read_text(encoding="latin1") == text
    assert sorted(found.name for found in folder.iterdir()) == ["a.safetensors", MANIFEST]


def test_a_failed_write_keeps_the_old_manifest(folder, monkeypatch):
    path = _file(folder / "a.safetensors")
    record(path, _record())

    def fail(self, target):
        raise OSError("disk")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        record(path, _record(date="2027-01-01"))
    assert lookup(path) == _record()
    assert sorted(found.name for found in folder.iterdir()) == ["a.safetensors", MANIFEST]


def test_listing_loads_neither_torch_nor_the_hub():
    code = (
        "import sys, voxicon.weights.store, voxicon.weights.fetch; voxicon.weights.store.installed(); "
        "sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_card_beside_the_starter_says_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = Path(__file__).parents[2] / "scripts"
    monkeypatch.setattr(sys, "path", [str(scripts), *sys.path])
    card_text = runpy.run_path(str(scripts / "starter_card.py"))["card_text"]
    starter = starter_path()
    text = card_text(load_checkpoint(starter).metadata, starter.stat().st_size)
    assert starter.with_suffix(".md").read_text(encoding="utf8") == text
