"""Files that are no files, lie about their size or unpack without an end: every reader refuses each in one line."""

import gzip
import io
import os
import random
import socket
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from mllab import weights
from mllab.data import load
from mllab.data.files import File, locate
from mllab.data.readers import content, csv_parquet, idx, image_file, npz
from mllab.data.sets import newsgroups20
from support import idx_files
from support.mistakes import refused_in_one_line

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
LIMIT = 100_000  # bytes, for the bombs

# ── Readers and whole files ─────────────────────────────────────────────────────────────────────────────────────────

IMAGES, LABELS = RNG.integers(0, 256, (12, 5, 4), np.uint8), np.arange(12) % 3


def table_bytes():
    return ("x,y\n" + "".join(f"{i},{i % 3}\n" for i in range(40))).encode()


def saved(write):
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def image_bytes():
    return saved(lambda stream: Image.fromarray(IMAGES[0]).save(stream, "PNG"))


def folder_of(path):
    """A folder of two classes, one image of which is at the path."""
    root = path.parents[1]
    for name in ("cat", "dog"):
        (root / name).mkdir(exist_ok=True)
        for i in range(4):
            if not (root / name / f"{i}.png").exists():
                (root / name / f"{i}.png").write_bytes(image_bytes())
    return load(root)


READERS = {  # the name of a file, its content when it is whole, and what reads it
    "csv": ("data.csv", table_bytes(), lambda path: load(path, target="y")),
    "csv.gz": ("data.csv.gz", gzip.compress(table_bytes()), lambda path: load(path, target="y")),
    "parquet": (
        "data.parquet",
        saved(lambda stream: pd.DataFrame({"x": range(40), "y": np.arange(40) % 3}).to_parquet(stream)),
        lambda path: load(path, target="y"),
    ),
    "npz": ("data.npz", saved(lambda stream: np.savez(stream, images=IMAGES, labels=LABELS)), load),
    "idx": ("train-images-idx3-ubyte", idx_files.encode(IMAGES, 0x08, "B"), idx.read),
    "image": ("photo.png", image_bytes(), lambda path: image_file.read(path, (4, 4), 1)),
    "size": ("photo.png", image_bytes(), image_file.stored_size),
    "params": (
        "params.safetensors", weights.encode({"w": np.zeros((2, 3), np.float32)}, {}),
        lambda path: weights.load(path, {"w": np.zeros((2, 3), np.float32)}),
    ),
    "text": ("20news-bydate.tar.gz", gzip.compress(table_bytes()), newsgroups20.read),
    "folder": ("cat/9.png", image_bytes(), folder_of),
    "published": ("file", b"content", lambda path: locate("some", FILE, data_dir=path.parent, download=False)),
}  # fmt: skip
FILE = File("file", "http://127.0.0.1:1/none", 7, "0" * 64)


@contextmanager
def unprivileged():
    """Run the block without the rights of the superuser, for whom every file is readable."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def named_pipe(path, _):
    os.mkfifo(path)


def bound_socket(path, _):
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket is short
    server.bind(path.name)
    os.chdir(here)
    server.close()


def noise(path, whole):
    path.write_bytes(random.Random(0).randbytes(max(len(whole), 500)))


MISTAKES = {
    "a folder": lambda path, _: path.mkdir(),
    "a named pipe": named_pipe,
    "a device": lambda path, _: path.symlink_to("/dev/zero"),
    "a terminal": lambda path, _: path.symlink_to("/dev/null"),
    "a socket": bound_socket,
    "a link in a circle": lambda path, _: path.symlink_to(path),
    "a dangling link": lambda path, _: path.symlink_to("nowhere"),
    "an empty file": lambda path, _: path.write_bytes(b""),
    "random bytes": noise,
    "cut short": lambda path, whole: path.write_bytes(whole[: len(whole) * 2 // 3]),
    "the first bytes": lambda path, whole: path.write_bytes(whole[:11]),
    "zeros": lambda path, _: path.write_bytes(bytes(1000)),
}
FINE = {  # mistakes that a reader cannot tell from a whole file, or does not look for
    ("csv", "cut short"), ("csv", "the first bytes"), ("size", "cut short"), ("size", "the first bytes"),
    ("folder", "a folder"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_whole_file_is_refused(tmp_path, reader, mistake):
    name, whole, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    MISTAKES[mistake](path, whole)
    if (reader, mistake) in FINE:
        return
    with refused_in_one_line(".") as caught:
        read(path)
    assert name.rpartition("/")[2].split(".")[0] in str(caught.value)
    assert "standard output" not in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_without_permission_is_named(tmp_path, reader):
    name, whole, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(whole)
    if reader == "folder":
        read(path)  # writes the other images
    for folder in path.parents[: len(path.parents) - 1]:
        if folder.is_relative_to(Path(tmp_path).parents[2]):
            folder.chmod(0o755)
    path.chmod(0)
    with unprivileged(), refused_in_one_line("Permission denied") as caught:
        read(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".npz", "", "/"])
@pytest.mark.parametrize("name", ["a\0b", "x" * 10_000, "~nobody-here/data", "\ud800", "caf\udce9", "a\nb", ""])
def test_paths_that_no_file_has_are_refused(tmp_path, monkeypatch, name, ending):
    monkeypatch.chdir(tmp_path)
    with refused_in_one_line("."):
        load(f"{name}{ending}", **({"target": "y"} if "csv" in ending or "parquet" in ending else {}))


# ── Headers that lie ────────────────────────────────────────────────────────────────────────────────────────────────


def header(version, text):
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


def npz_of(images):
    """An archive with these bytes as the member `images`."""

    def write(stream):
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", images)
            archive.writestr("labels.npy", saved(lambda stream: np.save(stream, LABELS)))

    return saved(write)


NPY = "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n"
LIES = {
    "huge": header(b"\1\0", NPY % ("|u1", "100000, 100000, 100000")) + bytes(60),
    "overflow": header(b"\1\0", NPY % ("|u1", "4294967296, 4294967296, 2")) + bytes(60),
    "negative": header(b"\1\0", NPY % ("|u1", "-1, 5, 4")) + bytes(60),
    "no width": header(b"\1\0", NPY % ("|S0", "1000000000000, 1, 1")),
    "long text": header(b"\1\0", NPY % ("<U1000000000", "12,")) + bytes(60),
    "too short": header(b"\1\0", NPY % ("|u1", "12, 5, 4")) + bytes(239),
    "too long": header(b"\1\0", NPY % ("|u1", "12, 5, 4")) + bytes(241),
    "another version": header(b"\7\0", NPY % ("|u1", "12, 5, 4")) + bytes(240),
    "no literal": header(b"\1\0", "{'descr': print(1)}\n") + bytes(240),
    "no header": b"\x93NUMPY",
}


@pytest.mark.parametrize("lie", LIES)
def test_the_header_of_an_array_is_checked_before_it_is_allocated(tmp_path, monkeypatch, lie):
    path = tmp_path / "data.npz"
    path.write_bytes(npz_of(LIES[lie]))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *args, **options: pytest.fail("allocated"))
    with refused_in_one_line("data.npz"):
        load(path)


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**31, 2**31), (2**32 - 1,) * 255, (0, 2**32 - 1), (7,)])
def test_the_header_of_an_idx_file_is_checked_before_it_is_allocated(tmp_path, shape):
    path = tmp_path / "images"
    path.write_bytes(bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + bytes(6))
    with refused_in_one_line("images"):
        idx.read(path)


# ── Bombs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def png_of(side):
    """A PNG file of many equal rows, as few bytes."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    size = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def parquet_of(rows, **columns):
    return saved(
        lambda stream: pa.parquet.write_table(
            pa.table({name: pa.array([value] * rows) for name, value in columns.items()}), stream, compression="zstd"
        )
    )


ZEROS = gzip.compress(bytes(10 * LIMIT))
BOMBS = {  # the name of a file, its content, and what reads it with a limit
    "csv": ("data.csv.gz", gzip.compress(b"x,y\n" + b"1,2\n" * LIMIT), csv_parquet.read),
    "plain csv": ("data.csv", b"x,y\n" + b"1,2\n" * LIMIT, csv_parquet.read),
    "parquet": ("data.parquet", parquet_of(LIMIT, x=1.0, y=2), csv_parquet.read),
    "parquet of text": ("data.parquet", parquet_of(500, x="a" * 1000), csv_parquet.read),
    "idx": ("images.gz", ZEROS, idx.read),
    "gzip": ("news.tar.gz", ZEROS, content.read_unpacked),
    "gzip in parts": ("news.tar.gz", gzip.compress(bytes(LIMIT // 2)) * 5, content.read_unpacked),
    "npz": (
        "data.npz",
        saved(lambda stream: np.savez_compressed(stream, images=np.zeros((12, 500, 400), np.uint8), labels=LABELS)),
        lambda path, limit: npz.load(path, size=None, split_seed=0, limit=limit),
    ),
    "npz of no array": (
        "data.npz", npz_of(bytes(10 * LIMIT)), lambda path, limit: npz.load(path, size=None, split_seed=0, limit=limit)
    ),
    "params": (
        "params", weights.encode({"w": np.zeros(LIMIT, np.float32)}, {}),
        lambda path, limit: weights.load_model(path, limit=limit),
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_that_takes_too_much_memory_is_refused(tmp_path, bomb):
    name, packed, read = BOMBS[bomb]
    path = tmp_path / name
    path.write_bytes(packed)
    with refused_in_one_line("more than .* which is more than this machine's memory allows for one file") as caught:
        read(path, limit=LIMIT)
    assert str(path) in str(caught.value)


def test_unpacking_stops_at_the_limit(tmp_path):
    class Stream:
        count = 0

        def read(self, size, /):
            self.count += size
            return bytes(size)

    stream = Stream()
    with refused_in_one_line("unpacks to more than"):
        content.read_up_to(stream, tmp_path, 3 * content.CHUNK_BYTES, verb="unpacks to")
    assert stream.count == 4 * content.CHUNK_BYTES


def test_a_whole_file_below_the_limit_is_read(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"content"))
    assert content.read_unpacked(path, limit=40) == b"content"
    assert 0 < content.default_limit() < 2**40


def test_a_picture_of_too_many_pixels_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(20_000))
    assert path.stat().st_size < 200_000
    for read in (lambda: image_file.read(path, (28, 28), 1), lambda: image_file.stored_size(path)):
        with refused_in_one_line("bomb.png has more than .* pixels by its header"):
            read()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv.gz", "idx.gz", "parquet"])
def test_ten_megabytes_that_unpack_to_ten_gigabytes_are_refused(tmp_path, kind):
    path = tmp_path / f"bomb.{kind}"
    if kind == "parquet":
        table = pa.table({"x": pa.array(np.zeros(10**7)), "y": pa.array(np.zeros(10**7))})
        with pa.parquet.ParquetWriter(path, table.schema, compression="zstd") as writer:
            for _ in range(60):
                writer.write_table(table)
    else:
        start = b"x,y\n" if kind == "csv.gz" else bytes((0, 0, 8, 3)) + struct.pack(">3I", 10_000, 1000, 1000)
        path.write_bytes(gzip.compress(start) + 1000 * gzip.compress(bytes(10**7)))
    assert path.stat().st_size < 11e6
    program = textwrap.dedent(f"""
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
        from mllab.data.readers import csv_parquet, idx
        from mllab.data import load
        from mllab.errors import UserError
        try:
            {"idx.read(path)" if kind == "idx.gz" else "load(path, target='y')"}
        except UserError as error:
            print(error)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """).replace("(path", f"({str(path)!r}")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, peak = done.stdout.splitlines()
    assert "more than this machine's memory allows for one file" in message
    assert int(peak) < 4e6  # kilobytes
