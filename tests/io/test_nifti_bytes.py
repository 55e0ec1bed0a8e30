import gzip
import hashlib
import tracemalloc
import zlib

import numpy as np
import pytest

from tests.io.nifti_faults import nifti_bytes, phantom, refused, save, with_field
from voxicon.errors import UnreadableFile
from voxicon.io import nifti_bytes as nifti_bytes_module
from voxicon.io.nifti import read_labels, read_volume
from voxicon.io.nifti_bytes import SLACK_BYTES

WHOLE = len(nifti_bytes())


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.999])
def test_truncated_packed_file(tmp_path, share):
    path = save(tmp_path, nifti_bytes(), "scan.nii.gz")
    packed = path.read_bytes()
    path.write_bytes(packed[: int(len(packed) * share)])
    message = refused(path, "E-TRUNC", UnreadableFile)
    assert "copy the file again" in message
    refused(path, "E-TRUNC", UnreadableFile, read=read_labels)


@pytest.mark.parametrize("missing", [1, 4, 8, 9])
def test_packed_file_without_its_last_bytes(tmp_path, missing):
    path = save(tmp_path, nifti_bytes(), "scan.nii.gz")
    path.write_bytes(path.read_bytes()[:-missing])
    assert f"{WHOLE:,}" in refused(path, "E-TRUNC", UnreadableFile)


def test_packed_file_cut_inside_the_gzip_header(tmp_path):
    path = save(tmp_path, nifti_bytes(), "scan.nii.gz")
    path.write_bytes(path.read_bytes()[:5])
    refused(path, "E-TRUNC", UnreadableFile)


@pytest.mark.parametrize("length", [4, 200, 347, 352, 1000, WHOLE - 1])
def test_truncated_plain_file(tmp_path, length):
    message = refused(save(tmp_path, nifti_bytes()[:length]), "E-TRUNC", UnreadableFile)
    assert f"got {length:,} bytes" in message


def test_truncated_before_it_was_packed(tmp_path):
    message = refused(save(tmp_path, nifti_bytes()[:-100], "scan.nii.gz"), "E-TRUNC", UnreadableFile)
    assert f"got {WHOLE - 100:,}" in message
    assert f"expected {WHOLE:,}" in message


@pytest.mark.parametrize("where", [-8, -5, -1])
def test_wrong_checksum_or_length_at_the_end(tmp_path, where):
    path = save(tmp_path, nifti_bytes(), "scan.nii.gz")
    packed = bytearray(path.read_bytes())
    packed[where] ^= 0x40
    path.write_bytes(packed)
    refused(path, "E-CRC", UnreadableFile)


def test_checksum_is_compared_although_all_voxels_are_there(tmp_path):
    # Stored, not compressed: a flipped voxel leaves the stream valid, and only the checksum can tell.
    engine = zlib.compressobj(0, wbits=31)
    packed = bytearray(engine.compress(nifti_bytes()) + engine.flush())
    packed[-200] ^= 0x01
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(packed)
    refused(path, "E-CRC", UnreadableFile)


def test_damage_in_the_middle(tmp_path):
    path = save(tmp_path, nifti_bytes(), "scan.nii.gz")
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2 : len(packed) // 2 + 40] = bytes(40)
    path.write_bytes(packed)
    refused(path, "E-CRC", UnreadableFile)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"<html><body>404</body></html>", "starts with '<html><b'"),
        (b"NRRD0004\ntype: short\n" * 50, "starts with 'NRRD"),
        (bytes(128) + b"DICM" + bytes(500), "a DICOM file"),
        (with_field(nifti_bytes(), 344, b"ni1\0"), "two-file"),
        (with_field(nifti_bytes(), 344, b"\0\0\0\0"), "Analyze"),
    ],
)
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_other_formats(tmp_path, content, found, name):
    assert found in refused(save(tmp_path, content, name), "E-FORMAT", UnreadableFile)


def test_missing_file_and_folder(tmp_path):
    refused(tmp_path / "none.nii.gz", "E-OPEN", UnreadableFile)
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", "E-OPEN", UnreadableFile)


def test_content_decides_over_the_name(tmp_path):
    plain = tmp_path / "plain.nii.gz"
    plain.write_bytes(nifti_bytes())
    packed = tmp_path / "packed.nii"
    packed.write_bytes(gzip.compress(nifti_bytes()))
    for path, words in ((plain, "is not gzip-packed"), (packed, "is gzip-packed although")):
        volume = read_volume(path)
        assert (volume.hu == phantom()).all()
        (warning,) = volume.source.warnings
        assert words in warning
        assert path.name in warning


def test_gzip_in_several_members_and_zero_padding(tmp_path):
    raw = nifti_bytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(raw[:1000]) + gzip.compress(raw[1000:]) + bytes(300))
    volume = read_volume(path)
    assert (volume.hu == phantom()).all()
    assert volume.source.warnings == ()


def test_hash_is_that_of_the_file_on_disk(tmp_path):
    for name in ("scan.nii", "scan.nii.gz"):
        path = save(tmp_path, nifti_bytes(), name)
        assert read_volume(path).source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_header_that_asks_for_terabytes(tmp_path, name):
    raw = nifti_bytes(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    tracemalloc.start()
    refused(save(tmp_path, raw, name), "E-SIZE", UnreadableFile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6


def test_gzip_bomb_is_not_unpacked(tmp_path):
    engine = zlib.compressobj(9, wbits=31)
    parts = [engine.compress(nifti_bytes())] + [engine.compress(bytes(1 << 20)) for _ in range(200)]
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(b"".join(parts) + engine.flush())
    assert path.stat().st_size < 300_000
    tracemalloc.start()
    message = refused(path, "E-SIZE", UnreadableFile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{WHOLE:,}" in message
    assert peak < 8e6


def test_plain_file_with_more_than_the_header_says(tmp_path):
    refused(save(tmp_path, nifti_bytes(after=bytes(SLACK_BYTES + 1))), "E-SIZE", UnreadableFile)
    volume = read_volume(save(tmp_path, nifti_bytes(after=bytes(SLACK_BYTES))))
    assert "1,048,576 bytes after the last voxel" in volume.source.warnings[0]


def test_a_piece_is_never_larger_than_its_bound(monkeypatch):
    monkeypatch.setattr(nifti_bytes_module, "_PIECE_BYTES", 1000)
    raw = np.random.default_rng(0).integers(0, 4, 50_000, dtype=np.uint8).tobytes()
    pieces = list(nifti_bytes_module._inflate(iter([gzip.compress(raw)])))
    assert b"".join(pieces) == raw
    assert max(map(len, pieces)) <= 1000
