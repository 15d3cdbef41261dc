"""Archives are unpacked completely or not at all, and nothing of them lands outside of their folder."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path

import datasets
import pytest
from stand_ins import write_tar, write_zip

from hfmgc.data import archives
from hfmgc.data.archives import MARKER, unpack, verify_checksum
from hfmgc.errors import DataError, SaveError


FILES = {"genres/blues/a.wav": b"a" * 3000, "genres/演歌/naïve - ü.wav": b"b" * 2000, "genres/rock/c.wav": b"c" * 10}


def write(kind: str, path: Path, files: dict[str, bytes]) -> Path:
    return (write_tar if kind == "tar.gz" else write_zip)(path / f"music.{kind}", files)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != MARKER
    }


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of datasets."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


def assert_nothing_left(cache: Path) -> None:
    assert {path.suffix for path in cache.iterdir()} <= {".lock"}


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_becomes_a_folder_once(tmp_path, kind, monkeypatch):
    archive = write(kind, tmp_path, FILES)
    folder = unpack(archive)
    assert contents(folder) == FILES
    before = (folder / "genres/blues/a.wav").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(archives, "_extract", None)
        assert unpack(archive) == folder
    assert (folder / "genres/blues/a.wav").stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.parametrize("name", ["/hfmgc_evil", "../evil", "genres/../../evil", "..\\evil", "C:\\evil"])
def test_nothing_lands_outside_of_the_folder(tmp_path, kind, name, cache):
    archive = write(kind, tmp_path, {**FILES, name: b"evil"})
    try:
        folder = unpack(archive)
    except DataError as error:
        assert f"music.{kind}" in str(error) and name in str(error)
        assert_nothing_left(cache)
        folder = cache
    else:
        assert FILES.items() < contents(folder).items()
    assert all(path.is_relative_to(folder) for path in tmp_path.rglob("*evil*"))
    assert not Path("/hfmgc_evil").exists()


def test_a_tar_that_leads_outside_is_refused_as_a_whole(tmp_path):
    with pytest.raises(DataError, match=r"music\.tar\.gz: '\.\./evil'"):
        unpack(write("tar.gz", tmp_path, {**FILES, "../evil": b"evil"}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_skipped(tmp_path, kind):
    member = tarfile.TarInfo("genres/way_out")
    member.type, member.linkname = kind, "../../.."
    through = tarfile.TarInfo("genres/way_out/evil")
    archive = write_tar(tmp_path / "music.tar.gz", FILES, [member, through])
    folder = unpack(archive)
    assert contents(folder) == {**FILES, "genres/way_out/evil": b""}
    assert (folder / "genres" / "way_out").resolve() == folder / "genres" / "way_out"


def test_links_in_a_zip_are_skipped(tmp_path):
    archive = write_zip(tmp_path / "music.zip", FILES)
    with zipfile.ZipFile(archive, "a") as file:
        member = zipfile.ZipInfo("genres/way_out")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, "/etc")
    assert contents(unpack(archive)) == FILES


def test_a_sparse_member_cannot_exceed_the_bound(tmp_path):
    """16 TB of hole in a tar of a few hundred bytes."""
    member = tarfile.TarInfo("genres/huge.wav")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = tarfile.itn(1 << 44, 12, tarfile.GNU_FORMAT)  # the real size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        plain = tarfile.TarInfo("genres/a.wav")
        plain.size = 1
        tar.addfile(plain, io.BytesIO(b"a"))
    (tmp_path / "music.tar.gz").write_bytes(gzip.compress(bytes(header) + buffer.getvalue()))
    assert contents(unpack(tmp_path / "music.tar.gz")) == {"genres/a.wav": b"a"}


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_truncated_archive_leaves_nothing(tmp_path, kind, share, cache):
    files = {f"genres/{i}.wav": hashlib.sha256(bytes([i])).digest() * 64 for i in range(8)}
    archive = write(kind, tmp_path, files)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"music\..*: truncated or damaged"):
        unpack(archive)
    assert_nothing_left(cache)


def test_a_tar_cut_between_two_members_is_no_whole_one(tmp_path, cache):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a.wav", "b.wav"):
            member = tarfile.TarInfo(name)
            member.size = 512
            tar.addfile(member, io.BytesIO(b"x" * 512))
    squeeze = zlib.compressobj(wbits=31)
    # Everything of the first member comes out; gzip's end is what is missing.
    (tmp_path / "music.tar.gz").write_bytes(
        squeeze.compress(buffer.getvalue()[:1024]) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    )
    with pytest.raises(DataError, match="truncated or damaged"):
        unpack(tmp_path / "music.tar.gz")
    assert_nothing_left(cache)


def test_a_damaged_member_of_a_zip_is_found(tmp_path):
    archive = tmp_path / "music.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a.wav", b"abcdefgh" * 100)
    content = bytearray(archive.read_bytes())
    content[200] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="truncated or damaged"):
        unpack(archive)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_interrupted_unpacking_is_not_trusted_and_resumes(tmp_path, kind, cache):
    archive = write(kind, tmp_path, FILES)
    asked = []

    def interrupted(member):
        asked.append(member)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, wanted=interrupted)
    (partial,) = (path for path in cache.iterdir() if path.suffix != ".lock")
    assert partial.suffix == ".partial"
    first, second = (partial / member for member in asked)
    os.utime(first, ns=(1, 1))
    second.parent.mkdir(parents=True, exist_ok=True)
    second.write_bytes(b"half")
    folder = unpack(archive)
    assert contents(folder) == FILES
    assert (folder / asked[0]).stat().st_mtime_ns == 1, "what was whole is not written again"


def test_a_folder_that_lost_a_file_is_unpacked_anew(tmp_path):
    archive = write_zip(tmp_path / "music.zip", FILES)
    folder = unpack(archive)
    (folder / "genres/rock/c.wav").unlink()
    (folder / "genres/blues/a.wav").write_bytes(b"short")
    assert contents(unpack(archive)) == FILES
    (folder / MARKER).write_text("{broken")
    assert contents(unpack(archive)) == FILES


def test_a_replaced_archive_gets_a_folder_of_its_own(tmp_path):
    archive = write_zip(tmp_path / "music.zip", FILES)
    first = unpack(archive)
    assert unpack(archive) == first
    write_zip(archive, {"other.wav": b"other"})
    assert contents(unpack(archive)) == {"other.wav": b"other"}


def test_a_full_disk_is_named_and_what_is_there_is_kept(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "music.zip", FILES)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(SaveError, match="disk is full"):
        unpack(archive)
    monkeypatch.undo()
    assert contents(unpack(archive)) == FILES


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_is_compared_and_both_are_named(tmp_path, algorithm, cache):
    archive = write_zip(tmp_path / "music.zip", FILES)
    found = hashlib.new(algorithm, archive.read_bytes()).hexdigest()
    verify_checksum(archive, f"{algorithm}:{found}")
    verify_checksum(archive, f"{algorithm}:{found.upper()}")
    wrong = "0" * len(found)
    with pytest.raises(DataError, match=rf"music\.zip has {algorithm} {found}, not the expected {wrong}"):
        unpack(archive, checksum=f"{algorithm}:{wrong}")
    assert_nothing_left(cache)
    for unknown in ("md5:" + "0" * 32, found):
        with pytest.raises(DataError, match=rf"checksum '{unknown}' of music\.zip"):
            verify_checksum(archive, unknown)


def test_what_is_no_archive_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.zip: no such archive"):
        unpack(tmp_path / "gone.zip")
    (tmp_path / "music.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match=r"music\.rar cannot be unpacked: its name must end in \.tar\.gz"):
        unpack(tmp_path / "music.rar")


def test_a_checksum_is_verified_for_an_archive_that_was_unpacked_without_it(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "music.zip", FILES)
    unpack(archive)
    with pytest.raises(DataError, match=r"music\.zip has sha256"):
        unpack(archive, checksum="sha256:" + "0" * 64)
    right = "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()
    folder = unpack(archive, checksum=right)
    monkeypatch.setattr(archives, "verify_checksum", None)  # is not read again
    assert unpack(archive, checksum=right) == folder


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, kind, monkeypatch, cache):
    monkeypatch.setattr(archives, "MAX_BYTES", 100_000)
    bomb = write(kind, tmp_path, {"genres/blues/a.wav": b"a" * 10, "genres/blues/b.wav": bytes(10_000_000)})
    assert bomb.stat().st_size < 50_000
    with pytest.raises(DataError, match=rf"music\.{kind}: unpacks to more than"):
        unpack(bomb)
    assert_nothing_left(cache)
    # Members of a zip that are not wanted are not even opened; a tar must be read to its end.
    if kind == "zip":
        folder = unpack(bomb, wanted=lambda member: member.name == "a.wav")
        assert contents(folder) == {"genres/blues/a.wav": b"a" * 10}


def test_headers_of_a_tar_that_are_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 100_000)
    with tarfile.open(tmp_path / "music.tar.gz", "w:gz") as file:
        member = tarfile.TarInfo("genres/blues/a.wav")
        member.pax_headers = {"comment": "a" * 10_000_000}
        file.addfile(member)
    with pytest.raises(DataError, match=r"music\.tar\.gz: unpacks to more than"):
        unpack(tmp_path / "music.tar.gz")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_only_wanted_members_are_unpacked_and_each_selection_has_its_folder(tmp_path, kind):
    archive = write(kind, tmp_path, FILES)
    blues = unpack(archive, wanted=lambda member: "blues" in member.parts, selection="blues")
    assert contents(blues) == {"genres/blues/a.wav": FILES["genres/blues/a.wav"]}
    assert contents(unpack(archive)) == FILES
    before = (blues / "genres/blues/a.wav").stat().st_mtime_ns
    assert unpack(archive, wanted=lambda member: "blues" in member.parts, selection="blues") == blues
    assert (blues / "genres/blues/a.wav").stat().st_mtime_ns == before
