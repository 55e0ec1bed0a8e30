"""Weights from the Hugging Face Hub: told before they are fetched, whole or not there, written down.

Only the files asked for are requested, and nothing about this machine is sent. An interrupted download leaves a
hidden ``.part`` file; the next call continues it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from voxicon.errors import DownloadError, UsageError
from voxicon.weights.store import Record, file_hash, lookup, record, store_folder

TIMEOUT_S = 10.0
"""Silence after which a connection counts as dead. Source: default of huggingface_hub for the same calls."""

NOT_STATED = "not stated"

_DEFAULT_ENDPOINT = "https://huggingface.co"
_ADDRESS = re.compile(
    r"hf:(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/(?P<file>[^@]+)(@(?P<revision>[A-Za-z0-9][\w./-]*))?",
    re.ASCII,
)
_SEGMENT = re.compile(r"[A-Za-z0-9_][\w.+ -]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file on the Hub: ``hf:OWNER/REPO/FILE[@REVISION]``."""

    repository: str
    file: str
    revision: str = "main"

    @classmethod
    def parse(cls, address: str) -> HubFile:
        """Read an address.

        Raises:
            UsageError: Not of that form, or FILE has a part such as ``..`` that could lead out of a folder.
        """
        match = _ADDRESS.fullmatch(address)
        if match is None or ".." in (match["revision"] or ""):
            raise UsageError(f"{address!r}: not an address of weights; expected hf:OWNER/REPO/FILE[@REVISION]")
        for segment in match["file"].split("/"):
            if _SEGMENT.fullmatch(segment) is None:
                raise UsageError(
                    f"{address!r}: {segment!r} cannot be part of a file name; expected letters, digits and ._+- "
                    "that do not begin with a dot; copy the file's name from its page on the Hub"
                )
        return cls(match["repository"], match["file"], match["revision"] or "main")

    @property
    def name(self) -> str:
        """File name without folders: what it is called here."""
        return self.file.rsplit("/", 1)[-1]

    def at(self, revision: str) -> str:
        """The address with a revision."""
        return f"hf:{self.repository}/{self.file}@{revision}"


@dataclass(frozen=True)
class _Offer:
    """What the Hub says about a file before it is fetched."""

    url: str
    commit: str
    tag: str
    size_bytes: int | None
    license: str
    sha256: str | None


def fetch(
    address: str,
    sha256: str | None = None,
    folder: Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch one file of weights and write down its hash, source and license.

    The server is that of ``HF_ENDPOINT``, else huggingface.co. Access to gated files is by ``HF_TOKEN``.

    Args:
        address: ``hf:OWNER/REPO/FILE[@REVISION]``; the revision is a branch, tag or commit, ``main`` if none.
        sha256: What the file must hash to. Files that the Hub stores by hash are checked without it, too.
        folder: Where to put the file, the store folder if None; made if absent.
        announce: Gets one line with size and license before the first byte of the file is asked for. What it
            raises ends the call with nothing fetched.

    Returns:
        Path of the whole file. A file that is already there with the right hash is not fetched again.

    Raises:
        UsageError: The address or the hash is malformed.
        DownloadError: huggingface_hub is not installed; offline; no such file; not allowed; connection lost (what
            came stays for the next call); another file of that name is there; no space. With code E-HASH: the
            bytes are not the expected ones; they are deleted.
        CheckpointError: The manifest of the folder is damaged; nothing is fetched.
    """
    wanted = HubFile.parse(address)
    if sha256 is not None and _SHA256.fullmatch(sha256 := sha256.lower()) is None:
        raise UsageError(f"sha256 {sha256!r}: expected 64 hexadecimal digits")
    folder = store_folder() if folder is None else folder
    target = folder / wanted.name
    endpoint = (os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")
    _refuse_offline(wanted, folder)
    with _hub(wanted, folder, endpoint):
        offer = _ask(wanted, endpoint)
        announce(_announcement(wanted, offer, endpoint, folder))
        expected = sha256 or offer.sha256
        if not _is_there(target, wanted, expected):
            part = folder / f".{wanted.name}.{offer.tag}.part"
            folder.mkdir(parents=True, exist_ok=True)
            _download(offer, part)
            _check(part, wanted, offer, sha256)
            part.replace(target)
        record(
            target,
            Record(
                sha256=file_hash(target),
                source=wanted.at(offer.commit),
                size_bytes=target.stat().st_size,
                license=offer.license,
                date=datetime.now(UTC).date().isoformat(),
            ),
        )
    return target


def _refuse_offline(wanted: HubFile, folder: Path) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise DownloadError(
            f"{wanted.at(wanted.revision)}: HF_HUB_OFFLINE is set, so nothing is fetched; unset it, or put "
            f"{wanted.name} in {folder}"
        )


@contextmanager
def _hub(wanted: HubFile, folder: Path, endpoint: str) -> Iterator[None]:
    """huggingface_hub without telemetry, its errors turned into ours.

    Raises:
        DownloadError: It is not installed, or anything between here and the file fails.
    """
    address, variable = wanted.at(wanted.revision), "HF_HUB_DISABLE_TELEMETRY"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        errors = import_module("huggingface_hub.errors")
    except ImportError as error:
        raise DownloadError(
            f"{address}: huggingface_hub is not installed; run pip install 'voxicon[hub]', or download "
            f"{endpoint}/{wanted.repository}/resolve/{wanted.revision}/{wanted.file} yourself and put it in {folder}"
        ) from error
    else:
        # The errors of its HTTP library (httpx or httpx2, by version) are the base of its own.
        transport: type[Exception] = errors.HfHubHTTPError.__mro__[1]
        try:
            yield
        except errors.HfHubHTTPError as error:
            raise DownloadError(f"{address}: {_refusal(error, wanted, endpoint)}") from error
        except errors.OfflineModeIsEnabled as error:
            raise DownloadError(f"{address}: huggingface_hub is in offline mode; unset HF_HUB_OFFLINE") from error
        except transport as error:
            raise DownloadError(
                f"{address}: no answer from {endpoint} ({type(error).__name__}); check the network, or put "
                f"{wanted.name} in {folder}; a file begun is continued by the same command"
            ) from error
        except OSError as error:
            raise DownloadError(f"{address}: cannot write to {folder} ({error}); choose another folder") from error
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _refusal(error: Exception, wanted: HubFile, endpoint: str) -> str:
    page = f"{endpoint}/{wanted.repository}"
    by_name = {
        "GatedRepoError": f"its owner asks for consent; accept the terms at {page} and set HF_TOKEN",
        "RevisionNotFoundError": f"no revision {wanted.revision!r}; {page} lists branches and tags",
    }
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    by_status = {
        401: f"no such repository, or it is private; check the name at {page}, or set HF_TOKEN",
        403: f"access is denied; ask for it at {page} and set HF_TOKEN",
        404: f"no such repository or file; check both names at {page}",
    }
    known = by_name.get(type(error).__name__) or by_status.get(status or 0)
    return known or f"{endpoint} answered with status {status}; try again later"


def _ask(wanted: HubFile, endpoint: str) -> _Offer:
    """Size, hash and license of a file, without its content."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(wanted.repository, wanted.file, revision=wanted.revision, endpoint=endpoint)
    head = get_hf_file_metadata(url, timeout=TIMEOUT_S, endpoint=endpoint)
    if head.commit_hash is None:
        raise DownloadError(f"{endpoint}: not a Hugging Face Hub (its answer names no commit); check HF_ENDPOINT")
    info = HfApi(endpoint=endpoint).model_info(wanted.repository, revision=head.commit_hash, timeout=TIMEOUT_S)
    card: dict[str, object] = vars(info.card_data) if info.card_data else {}
    etag = head.etag or ""
    return _Offer(
        # By commit, so that a push between two calls cannot mix two files.
        url=hf_hub_url(wanted.repository, wanted.file, revision=head.commit_hash, endpoint=endpoint),
        commit=head.commit_hash,
        tag=hashlib.sha256(f"{wanted.repository}/{wanted.file} {etag or head.commit_hash}".encode()).hexdigest()[:12],
        size_bytes=head.size,
        license=_one_line(str(card.get("license_name") or card.get("license") or NOT_STATED)),
        sha256=etag if _SHA256.fullmatch(etag) else None,
    )


def _one_line(text: str) -> str:
    """Words of a stranger, fit for a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)[:80]


def _announcement(wanted: HubFile, offer: _Offer, endpoint: str, folder: Path) -> str:
    size = "size not stated" if offer.size_bytes is None else f"{offer.size_bytes / 1e6:.1f} MB"
    return f"{wanted.at(wanted.revision)}: {size}, license: {offer.license}; from {endpoint} to {folder}"


def _is_there(target: Path, wanted: HubFile, expected: str | None) -> bool:
    """True when the file need not be fetched; a file of the same name from elsewhere is never replaced."""
    known = lookup(target)  # also without a target: a damaged manifest must show before the download
    if not target.exists():
        return False
    if expected is not None and target.is_file() and file_hash(target) == expected:
        return True
    if known is None or not known.source.startswith(wanted.at("")):
        raise DownloadError(
            f"{target}: a file of this name is there already, from {known.source if known else 'an unknown source'}; "
            "rename or remove it, or choose another folder"
        )
    return False


def _download(offer: _Offer, part: Path) -> None:
    """Append what is still missing of a file."""
    hub = import_module("huggingface_hub.utils")
    size, begun = offer.size_bytes, part.stat().st_size if part.exists() else 0
    if begun and begun == size:
        return
    free = shutil.disk_usage(part.parent).free
    if size is not None and size - begun > free:
        raise DownloadError(
            f"{part.parent}: {free / 1e6:.1f} MB free, {(size - begun) / 1e6:.1f} MB needed; free some space"
        )
    # Without identity a proxy may compress, and then a byte range means other bytes.
    headers = {**hub.build_hf_headers(library_name="voxicon"), "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    with hub.get_session().stream("GET", offer.url, headers=headers, timeout=TIMEOUT_S) as response:
        hub.hf_raise_for_status(response)
        # A server may ignore the range and answer 200 with the whole file.
        with part.open("ab" if response.status_code == 206 else "wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())


def _check(part: Path, wanted: HubFile, offer: _Offer, sha256: str | None) -> None:
    """Delete and refuse a file that is not the expected one."""
    size = part.stat().st_size
    if offer.size_bytes is not None and size != offer.size_bytes:
        part.unlink()
        raise DownloadError(
            f"{wanted.at(wanted.revision)}: {size} bytes came, {offer.size_bytes} were announced; fetch it again"
        )
    found = file_hash(part)
    for expected, by in ((sha256, "you expect"), (offer.sha256, "the Hub states")):
        if expected is not None and found != expected:
            part.unlink()
            raise DownloadError(
                f"{wanted.at(wanted.revision)}: SHA-256 is {found}, {by} {expected}; the file was deleted: "
                "do not use it, ask the publisher for the right hash",
                code="E-HASH",
            )
