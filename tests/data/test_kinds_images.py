"""Images as cameras, scanners and archives write them: every bit, the right way round, whole, or refused by name."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtl_core.data.images import decode
from medtl_core.errors import DataError

RAMP = (np.arange(32)[:, None] * 117 + np.arange(32) * 3).astype(np.uint16)  # 12-bit values
LEVELS = np.rint((RAMP.astype(float) - RAMP.min()) * 255 / np.ptp(RAMP)).astype(np.uint8)


def same(seen: np.ndarray, levels: np.ndarray) -> None:
    """Up to rounding."""
    np.testing.assert_allclose(seen.astype(int), np.repeat(levels[:, :, None].astype(int), 3, axis=2), atol=1)


def png(pixels: np.ndarray, colour: int, *, lines: int | None = None, interlaced: bool = False) -> bytes:
    """A PNG file written by hand: big-endian samples, no filter, as many of its lines as asked for."""
    height, width = pixels.shape[:2]
    rows = [b"\0" + pixels[row].astype(pixels.dtype.newbyteorder(">")).tobytes() for row in range(height)]
    if interlaced:
        starts = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        passes = [pixels[top::down, left::right] for left, top, right, down in starts]
        rows = [b"\0" + row.tobytes() for part in passes for row in part]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, colour, 0, 0, int(interlaced))
    body = zlib.compress(b"".join(rows[:lines]))
    half = len(body) // 2  # data may be in several chunks
    data = chunk(b"IDAT", body[:half]) + chunk(b"IDAT", body[half:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_is_read_in_full(tmp_path: Path, colour: int, channels: int) -> None:
    planes = [RAMP] * channels if colour in (0, 2) else [*[RAMP] * (channels - 1), np.full_like(RAMP, 40_000)]
    (tmp_path / "a.png").write_bytes(png(np.stack(planes, axis=2), colour))
    same(decode(tmp_path / "a.png"), LEVELS)


def test_colours_of_16_bits_keep_their_order_and_their_orientation(tmp_path: Path) -> None:
    colours = np.stack([RAMP, RAMP // 2, RAMP // 4], axis=2)
    (tmp_path / "a.png").write_bytes(png(colours, 2))
    seen = decode(tmp_path / "a.png").astype(int)
    np.testing.assert_allclose(seen[:, :, 1], seen[:, :, 0] / 2, atol=1)
    np.testing.assert_allclose(seen[:, :, 2], seen[:, :, 0] / 4, atol=1)


def tiff(path: Path, pixels: np.ndarray, photometric: int, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    content = bytearray(path.read_bytes())
    at = struct.unpack_from("<I", content, 4)[0]
    for entry in range(struct.unpack_from("<H", content, at)[0]):
        place = at + 2 + 12 * entry
        if struct.unpack_from("<H", content, place)[0] == 262:
            struct.pack_into("<H", content, place + 8, photometric)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_white_is_the_largest_value_however_a_tiff_says_it(tmp_path: Path, kind: Any, compression: str | None) -> None:
    pixels = (LEVELS if kind == np.uint8 else RAMP).astype(kind)
    plain = decode(tiff(tmp_path / "a.tif", pixels, 1, compression=compression))
    same(plain, LEVELS)
    assert (decode(tiff(tmp_path / "b.tif", pixels, 0, compression=compression)) == 255 - plain).all()


def tiff_of_colours(path: Path, pixels: np.ndarray, order: str) -> Path:
    """An uncompressed TIFF of 16 bits a colour in either byte order, which Pillow cannot write."""
    height, width, count = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    facts = [(256, width), (257, height), (259, 1), (262, 2), (277, count), (278, height)]
    entries = [(tag, 3, 1, struct.pack(order + "HH", value, 0)) for tag, value in facts]
    first = 8 + 2 + 12 * (len(facts) + 3) + 4
    bits = struct.pack(order + f"{count}H", *[16] * count)
    entries += [(258, 3, count, struct.pack(order + "I", first)), (273, 4, 1, struct.pack(order + "I", first + 16))]
    entries += [(279, 4, 1, struct.pack(order + "I", len(data)))]
    body = b"".join(struct.pack(order + "HHI", tag, kind, many) + value for tag, kind, many, value in sorted(entries))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    path.write_bytes(head + struct.pack(order + "H", len(entries)) + body + bytes(4) + bits.ljust(16, b"\0") + data)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bits_a_colour_is_read_in_full(tmp_path: Path, order: str) -> None:
    colours = np.stack([RAMP, RAMP, RAMP], axis=2)
    same(decode(tiff_of_colours(tmp_path / "a.tif", colours, order)), LEVELS)


def scan(change: Callable[[np.ndarray], None], kind: Any = np.int32) -> np.ndarray:
    body = np.random.default_rng(0).normal(300, 200, (64, 64)).clip(-1000, 1000)
    body = body.astype(kind)
    change(body)
    return body


def padded(value: int) -> Callable[[np.ndarray], None]:
    def change(body: np.ndarray) -> None:
        body[:12] = value

    return change


def hot(value: int) -> Callable[[np.ndarray], None]:
    def change(body: np.ndarray) -> None:
        body[60, ::7] = value

    return change


@pytest.mark.parametrize(
    "change", [padded(-32768), padded(32767), padded(-2000 * 3), hot(30_000), hot(-30_000), lambda body: None]
)
def test_padding_and_outliers_do_not_take_the_grey_levels_of_a_scan(change: Callable[[np.ndarray], None]) -> None:
    whole, seen = decode(scan(lambda body: None))[12:60, :, 0], decode(scan(change))[12:60, :, 0]
    assert len(np.unique(seen)) >= 64
    assert np.abs(seen.astype(int) - whole.astype(int)).max() <= 40
    assert len(np.unique(decode(scan(change), robust=False))) <= len(np.unique(decode(scan(change))))


def test_a_usual_scan_keeps_its_smallest_and_largest_value() -> None:
    body = scan(lambda body: None)
    assert (decode(body) == decode(body, robust=False)).all()


@pytest.mark.parametrize("lines", [0, 1, 16, 31])
@pytest.mark.parametrize("colour", [0, 2])
def test_a_png_that_ends_too_early_is_refused(tmp_path: Path, lines: int, colour: int) -> None:
    pixels = np.stack([LEVELS] * (1 if colour == 0 else 3), axis=2)
    (tmp_path / "a.png").write_bytes(png(pixels, colour, lines=lines))
    with pytest.raises(DataError, match=r"a\.png: (the file ends before its last line|damaged)"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("lines", [None, 20, 40])
def test_a_png_saved_in_passes_has_all_of_them(tmp_path: Path, lines: int | None) -> None:
    (tmp_path / "a.png").write_bytes(png(LEVELS, 0, lines=lines, interlaced=True))
    if lines is None:
        assert (decode(tmp_path / "a.png")[:, :, 0] == LEVELS).all()
    else:
        with pytest.raises(DataError, match=r"a\.png"):
            decode(tmp_path / "a.png")


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_ends_too_early_and_is_closed_properly_is_refused(tmp_path: Path, share: float, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    decode(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(whole[: int(len(whole) * share)] + b"\xff\xd9")
    with pytest.raises(DataError, match=r"a\.jpg: the file ends before its last line"):
        decode(tmp_path / "a.jpg")


def test_a_jpeg_may_be_grey_all_over(tmp_path: Path) -> None:
    Image.new("L", (16, 16), 128).save(tmp_path / "a.jpg")
    assert (decode(tmp_path / "a.jpg") == 128).all()


@pytest.mark.parametrize("rows", [0, 1, 8])
def test_a_png_may_end_black(tmp_path: Path, rows: int) -> None:
    pixels = LEVELS.copy()
    pixels[32 - rows :] = 0
    (tmp_path / "a.png").write_bytes(png(pixels, 0))
    assert (decode(tmp_path / "a.png")[:, :, 0] == pixels).all()


#: How an orientation of EXIF or TIFF turns what is stored.
TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: np.swapaxes(stored, 0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.swapaxes(stored[::-1, ::-1], 0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("layout", ["grey 8", "white is zero", "grey 16", "colour 8", "colour 16", "float"])
def test_a_tiff_is_turned_as_it_says(tmp_path: Path, layout: str, compression: str | None, orientation: int) -> None:
    writer, levels, values = pytest.importorskip("tifffile"), LEVELS[:20], RAMP[:20] - RAMP.min()
    stored, photometric = {
        "grey 8": (levels, "minisblack"),
        "white is zero": (255 - levels, "miniswhite"),
        "grey 16": (values, "minisblack"),
        "colour 8": (np.stack([levels] * 3, axis=2), "rgb"),
        "colour 16": (np.stack([values] * 3, axis=2), "rgb"),
        "float": (values.astype(np.float32), "minisblack"),
    }[layout]
    tags = [(274, "H", 1, orientation, True)]
    writer.imwrite(tmp_path / "a.tif", stored, photometric=photometric, compression=compression, extratags=tags)
    whole = np.rint(values * (255.0 / values.max())) if layout.endswith(("16", "float")) else levels
    same(decode(tmp_path / "a.tif"), TURNED[orientation](whole))


@pytest.mark.parametrize("kind", ["i2", "i4", "u4", "f4"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits"])
def test_numbers_of_a_tiff_are_read_in_both_byte_orders_or_refused(
    tmp_path: Path, kind: str, order: str, compression: str | None
) -> None:
    writer, low = pytest.importorskip("tifffile"), 0.0 if kind == "u4" else -900.0
    stored = ((RAMP - RAMP.min()) * (1_000_000.0 if kind == "u4" else 1.0) + low).astype(kind)  # above 2^31
    writer.imwrite(tmp_path / "a.tif", stored, byteorder=order, compression=compression, photometric="minisblack")
    if (kind, order) == ("u4", ">"):
        with pytest.raises(DataError, match=r"a\.tif: .* rare layout; save it as PNG"):
            decode(tmp_path / "a.tif")
    else:
        same(decode(tmp_path / "a.tif"), np.rint((RAMP - RAMP.min()) * (255.0 / np.ptp(RAMP))))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"planarconfig": "separate"}, "planes of their own"),
        ({"planarconfig": "separate", "compression": "lzw"}, "planes of their own"),
        ({"extrasamples": ["assocalpha"]}, "cannot be read in full"),
        ({"kind": np.int8, "photometric": "minisblack"}, "8 bits with a sign"),
        ({"sparse": True}, "without data"),
    ],
)
def test_a_tiff_that_would_be_read_wrongly_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    writer, path = pytest.importorskip("tifffile"), tmp_path / "a.tif"
    stored = np.stack([RAMP] * (4 if "extrasamples" in options else 3), axis=2)
    if "planarconfig" in options:
        stored = np.moveaxis(stored, 2, 0).copy()
    kind, sparse = options.pop("kind", None), options.pop("sparse", False)
    writer.imwrite(path, (LEVELS // 2).astype(kind) if kind else stored, **{"photometric": "rgb", **options})
    if sparse:
        with writer.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags["StripByteCounts"].overwrite(0)
    with pytest.raises(DataError, match=rf"a\.tif: .*{words}.*save (it )?as PNG"):
        decode(path)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_png_of_any_depth_is_whole_or_refused(tmp_path: Path, colour: int, channels: int, kind: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, channels)).astype(kind)
    (tmp_path / "a.png").write_bytes(png(noise, colour, lines=20))
    with pytest.raises(DataError, match="ends before its last line"):
        decode(tmp_path / "a.png")
    content = bytearray(png(noise, colour))
    content[len(content) // 3] ^= 1  # of data that were hardly compressed
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        decode(tmp_path / "a.png")
