"""Fetching weights, from a hub on the loopback interface."""

from __future__ import annotations

import hashlib
import os
import sys
import time

import numpy as np
import pytest

from tests.weights.loopback_hub import COMMIT, LoopbackHub, serve
from voxicon.errors import CheckpointError, DownloadError, UsageError
from voxicon.weights import fetch as fetch_module
from voxicon.weights.fetch import HubFile, fetch
from voxicon.weights.store import MANIFEST, Record, lookup, record, verify

pytest.importorskip("huggingface_hub", reason="extra [hub] is not installed")

CONTENT = np.random.default_rng(0).bytes(300_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
ADDRESS = "hf:owner/repo/sub/model.safetensors"


@pytest.fixture
def hub(monkeypatch):
    for variable in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(variable, raising=False)
    with serve(LoopbackHub(CONTENT)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def _files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_fetches_the_file_and_writes_down_what_it_is(hub, tmp_path):
    folder = tmp_path / "new" / "weights"
    path = fetch(ADDRESS, folder=folder)
    assert path == folder / "model.safetensors"
    assert path.read_bytes() == CONTENT
    assert _files(folder) == ["model.safetensors", MANIFEST]
    entry = verify(path)
    assert entry.sha256 == HASH
    assert entry.source == f"{ADDRESS}@{COMMIT}"
    assert entry.size_bytes == 300_000
    assert entry.license == "apache-2.0"
    assert entry.date == time.strftime("%Y-%m-%d", time.gmtime())


def test_default_folder_is_the_store(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("VOXICON_HOME", str(tmp_path))
    assert fetch(f"{ADDRESS}@v1") == tmp_path / "weights" / "model.safetensors"
    assert hub.requests[0][1].startswith("/owner/repo/resolve/v1/")
    # Bytes are asked for by commit, so that a push in between cannot mix files.
    assert hub.requests[-1][1].startswith(f"/owner/repo/resolve/{COMMIT}/")


def test_announces_size_and_license_before_the_first_byte(hub, tmp_path):
    lines = []

    def announce(line):
        lines.append((line, list(hub.methods), _files(tmp_path)))

    fetch(ADDRESS, folder=tmp_path, announce=announce)
    [(line, asked_before, files_before)] = lines
    assert line == f"{ADDRESS}@main: 0.3 MB, license: apache-2.0; from {hub.url} to {tmp_path}"
    assert asked_before == ["HEAD", "api"]
    assert files_before == []
    assert hub.methods == ["HEAD", "api", "GET"]


def test_an_announcement_that_is_refused_fetches_nothing(hub, tmp_path):
    def refuse(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(ADDRESS, folder=tmp_path, announce=refuse)
    assert hub.methods == ["HEAD", "api"]
    assert _files(tmp_path) == []


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "not stated"),
        ({"tags": []}, "not stated"),
        ({"license": "other", "license_name": "hospital terms"}, "hospital terms"),
        ({"license": "evil\x1b[2Jname\nline"}, "evil [2Jname line"),
    ],
)
def test_license_in_the_words_of_the_source(hub, tmp_path, card, said):
    hub.card = card
    lines = []
    path = fetch(ADDRESS, folder=tmp_path, announce=lines.append)
    assert f"license: {said};" in lines[0]
    assert lookup(path).license == said


def test_continues_after_the_connection_was_dropped(hub, tmp_path):
    hub.drop_after = 100_000
    with pytest.raises(DownloadError, match=r"no answer from .* continued by the same command"):
        fetch(ADDRESS, folder=tmp_path)
    [part] = _files(tmp_path)
    assert part.startswith(".model.safetensors.")
    assert (tmp_path / part).stat().st_size == 100_000
    hub.drop_after = None
    path = fetch(ADDRESS, folder=tmp_path)
    assert hub.requests[-1][2] == "bytes=100000-"
    assert path.read_bytes() == CONTENT
    assert _files(tmp_path) == ["model.safetensors", MANIFEST]


def test_starts_over_where_the_server_ignores_ranges(hub, tmp_path):
    hub.drop_after = 100_000
    with pytest.raises(DownloadError):
        fetch(ADDRESS, folder=tmp_path)
    hub.drop_after, hub.ignores_ranges = None, True
    assert fetch(ADDRESS, folder=tmp_path).read_bytes() == CONTENT


def test_a_part_of_another_version_is_not_continued(hub, tmp_path):
    hub.drop_after = 100_000
    with pytest.raises(DownloadError):
        fetch(ADDRESS, folder=tmp_path)
    hub.drop_after, hub.content = None, CONTENT[::-1]
    assert fetch(ADDRESS, folder=tmp_path).read_bytes() == CONTENT[::-1]
    assert hub.requests[-1][2] is None


def test_a_whole_part_is_not_fetched_again(hub, tmp_path):
    """The process ended between the last byte and the renaming."""
    hub.drop_after = 1
    with pytest.raises(DownloadError):
        fetch(ADDRESS, folder=tmp_path)
    (tmp_path / _files(tmp_path)[0]).write_bytes(CONTENT)
    n_before = hub.methods.count("GET")
    assert fetch(ADDRESS, folder=tmp_path).read_bytes() == CONTENT
    assert hub.methods.count("GET") == n_before


def test_a_wrong_hash_leaves_nothing_at_the_final_name(hub, tmp_path):
    with pytest.raises(DownloadError, match=f"SHA-256 is {HASH}, you expect {'0' * 64}") as caught:
        fetch(ADDRESS, sha256="0" * 64, folder=tmp_path)
    assert caught.value.code == "E-HASH"
    assert _files(tmp_path) == []


def test_the_right_hash_is_accepted_in_capitals(hub, tmp_path):
    hub.stored_by_hash = False
    assert fetch(ADDRESS, sha256=HASH.upper(), folder=tmp_path).is_file()


def test_bytes_that_the_hub_does_not_vouch_for_are_deleted(hub, tmp_path):
    hub.serves = CONTENT[::-1]
    with pytest.raises(DownloadError, match=f"the Hub states {HASH}") as caught:
        fetch(ADDRESS, folder=tmp_path)
    assert caught.value.code == "E-HASH"
    assert _files(tmp_path) == []


def test_another_size_than_announced_is_refused(hub, tmp_path):
    hub.serves, hub.stored_by_hash = CONTENT + b"x", False
    with pytest.raises(DownloadError, match="300001 bytes came, 300000 were announced"):
        fetch(ADDRESS, folder=tmp_path)
    assert _files(tmp_path) == []


def test_a_file_that_is_there_is_not_fetched_again(hub, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    path = fetch(ADDRESS, folder=tmp_path)
    assert "GET" not in hub.methods
    assert verify(path).sha256 == HASH


def test_a_newer_version_replaces_the_older_one(hub, tmp_path):
    path = fetch(ADDRESS, folder=tmp_path)
    hub.content = CONTENT[::-1]
    assert fetch(ADDRESS, folder=tmp_path) == path
    assert path.read_bytes() == CONTENT[::-1]
    assert verify(path).sha256 == hashlib.sha256(CONTENT[::-1]).hexdigest()


@pytest.mark.parametrize("source", [None, "hf:other/repo/sub/model.safetensors@main"])
def test_a_file_from_elsewhere_is_never_replaced(hub, tmp_path, source):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"mine")
    if source:
        record(path, Record(sha256="0" * 64, source=source, size_bytes=4, license="mit", date="2026-01-01"))
    with pytest.raises(DownloadError, match=f"is there already, from {source or 'an unknown source'}"):
        fetch(ADDRESS, folder=tmp_path)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ((404, "EntryNotFound"), "no such repository or file"),
        ((404, "RevisionNotFound"), "no revision 'main'"),
        ((401, "RepoNotFound"), "no such repository, or it is private"),
        ((403, "GatedRepo"), "accept the terms at .*/owner/repo and set HF_TOKEN"),
        ((403, ""), "access is denied"),
        ((500, ""), "answered with status 500"),
    ],
)
def test_refusals_are_one_line_that_says_what_to_do(hub, tmp_path, error, said):
    hub.error = error
    with pytest.raises(DownloadError, match=said) as caught:
        fetch(ADDRESS, folder=tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{ADDRESS}@main: ")
    assert _files(tmp_path) == []


def test_a_refusal_of_the_bytes_alone(hub, tmp_path):
    hub.error, hub.error_on = (403, "GatedRepo"), "GET"
    with pytest.raises(DownloadError, match="accept the terms"):
        fetch(ADDRESS, folder=tmp_path)
    assert _files(tmp_path) == []


def test_the_endpoint_may_end_in_a_slash(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    lines = []
    fetch(ADDRESS, folder=tmp_path, announce=lines.append)
    assert f"from {hub.url} to" in lines[0]


def test_a_server_that_is_no_hub(hub, tmp_path):
    hub.commit = None
    with pytest.raises(DownloadError, match=r"not a Hugging Face Hub .* check HF_ENDPOINT"):
        fetch(ADDRESS, folder=tmp_path)


def test_no_network(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"no answer from http://127.0.0.1:9 \(ConnectError\)"):
        fetch(ADDRESS, folder=tmp_path)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("method", ["HEAD", "api", "GET"])
def test_a_silent_server_is_given_up(hub, tmp_path, monkeypatch, method):
    monkeypatch.setattr(fetch_module, "TIMEOUT_S", 0.2)
    hub.silent_on = method
    began = time.monotonic()
    with pytest.raises(DownloadError, match="Timeout"):
        fetch(ADDRESS, folder=tmp_path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_offline_asks_nobody(hub, tmp_path, monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(DownloadError, match=f"HF_HUB_OFFLINE is set.* put model.safetensors in {tmp_path}"):
        fetch(ADDRESS, folder=tmp_path)
    assert hub.requests == []


def test_offline_since_import(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="huggingface_hub is in offline mode"):
        fetch(ADDRESS, folder=tmp_path)
    assert hub.requests == []


def test_without_huggingface_hub(hub, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    link = f"{hub.url}/owner/repo/resolve/main/sub/model.safetensors"
    with pytest.raises(DownloadError) as caught:
        fetch(ADDRESS, folder=tmp_path)
    assert "pip install 'voxicon[hub]'" in str(caught.value)
    assert f"download {link} yourself and put it in {tmp_path}" in str(caught.value)


def test_telemetry_is_off_during_the_call_only(hub, tmp_path, monkeypatch):
    seen = []
    fetch(ADDRESS, folder=tmp_path / "a", announce=lambda line: seen.append(os.environ["HF_HUB_DISABLE_TELEMETRY"]))
    assert "HF_HUB_DISABLE_TELEMETRY" not in os.environ
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    fetch(ADDRESS, folder=tmp_path / "b", announce=lambda line: seen.append(os.environ["HF_HUB_DISABLE_TELEMETRY"]))
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "0"
    assert seen == ["1", "1"]


def test_a_folder_that_cannot_be_made(hub, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot write to"):
        fetch(ADDRESS, folder=tmp_path / "file" / "weights")


def test_a_damaged_manifest_is_found_before_the_download(hub, tmp_path):
    (tmp_path / MANIFEST).write_text("not json")
    with pytest.raises(CheckpointError, match=r"weights\.json: damaged"):
        fetch(ADDRESS, folder=tmp_path)
    assert "GET" not in hub.methods


def test_no_space(hub, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 299_999})
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DownloadError, match=r"0\.3 MB free, 0\.3 MB needed"):
        fetch(ADDRESS, folder=tmp_path)
    assert "GET" not in hub.methods


@pytest.mark.parametrize(
    "address",
    [
        "",
        "owner/repo/file",
        "hf:owner/repo",
        "hf:owner/repo/",
        "hf:owner/file@",
        "hf:owner/repo/../file",
        "hf:owner/repo/sub/../../file",
        "hf:owner/repo/./file",
        "hf:owner/repo//etc/passwd",
        "hf:owner/repo/sub/..",
        "hf:owner/repo/.hidden",
        "hf:owner/repo/..\\file",
        "hf:owner/repo/a\x00b",
        "hf:owner/repo/a\nb",
        "hf:../repo/file",
        "hf:owner/../file/x",
        "hf:owner/repo/file@../../x",
        "hf:owner/repo/file@a/../../x",
        "hf:owner/repo/file@a@b",
        "hf:owner/repo/file?x=1",
        "hf:owner/repo/%2e%2e/file",
    ],
)
def test_addresses_that_could_lead_elsewhere_are_refused(hub, tmp_path, address):
    with pytest.raises(UsageError):
        fetch(address, folder=tmp_path)
    assert hub.requests == []
    assert _files(tmp_path) == []


def test_addresses():
    parsed = HubFile.parse("hf:Owner-1/re.po_2/a b/c+d-e.safetensors@refs/pr/1")
    assert (parsed.repository, parsed.file) == ("Owner-1/re.po_2", "a b/c+d-e.safetensors")
    assert (parsed.revision, parsed.name) == ("refs/pr/1", "c+d-e.safetensors")


def test_a_malformed_hash_is_refused_before_anything_is_asked(hub, tmp_path):
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        fetch(ADDRESS, sha256="abc", folder=tmp_path)
    assert hub.requests == []
