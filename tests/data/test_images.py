import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl_core.data import depth, images
from medtl_core.data.faults import Faults
from medtl_core.data.images import content_key, decode
from medtl_core.errors import DataError
from medtl_core.formats.image_check import check_images
from medtl_core.values import Examples, Task

GREY = np.array([[0, 10], [200, 255]], dtype=np.uint8)


def saved(folder: Path, name: str, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize(("suffix", "lost"), [("png", 0), ("bmp", 0), ("tiff", 0), ("jpg", 3), ("webp", 3)])
def test_grey_becomes_three_equal_channels(tmp_path: Path, suffix: str, lost: int) -> None:
    grey = np.repeat([[60], [99]], 16, axis=0).repeat(32, axis=1).astype(np.uint8)
    pixels = decode(saved(tmp_path, f"a.{suffix}", grey))
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.shape == (32, 32, 3)
    np.testing.assert_allclose(pixels, grey[:, :, None].repeat(3, axis=2), atol=lost)


def test_sixteen_bit_grey_is_stretched_over_its_own_range(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", np.array([[1000, 2000], [3000, 5000]], dtype=np.uint16))
    assert decode(path)[:, :, 0].tolist() == [[0, 64], [128, 255]]
    assert not decode(saved(tmp_path, "b.png", np.full((2, 2), 700, dtype=np.uint16))).any()


def test_alpha_is_dropped_not_blended_and_palette_and_orientation_are_followed(tmp_path: Path) -> None:
    pixel = np.full((1, 1, 4), (10, 20, 30, 0), dtype=np.uint8)
    assert decode(saved(tmp_path, "a.png", pixel)).tolist() == decode(pixel).tolist() == [[[10, 20, 30]]]
    Image.fromarray(GREY).convert("P").save(tmp_path / "p.png")
    assert (decode(tmp_path / "p.png")[:, :, 0] == GREY).all()
    picture, exif = Image.fromarray(GREY), Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    picture.save(tmp_path / "turned.png", exif=exif)
    assert (decode(tmp_path / "turned.png")[:, :, 0] == GREY[::-1, ::-1]).all()


@pytest.mark.parametrize(
    "array",
    [np.zeros(4, np.uint8), np.zeros((2, 2, 5), np.uint8), np.zeros((0, 2), np.uint8), [["a"]], [[np.nan, 1.0]]],
)
def test_arrays_of_other_forms_are_refused(array: object) -> None:
    with pytest.raises(DataError):
        decode(np.array(array))


def test_files_that_are_no_usable_image_are_refused_by_name(tmp_path: Path) -> None:
    whole = saved(tmp_path, "whole.png", np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    saved(tmp_path, "a.gif", GREY)
    saved(tmp_path, "stack.tiff", GREY, save_all=True, append_images=[Image.fromarray(GREY)])
    for name in ("missing.png", "cut.png", "empty.png", "text.png", "folder.png", "a.gif", "stack.tiff"):
        with pytest.raises(DataError, match=name):
            decode(tmp_path / name)


def test_huge_pictures_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, "a.png", GREY)
    content = bytearray(path.read_bytes())
    for side in (40_000, 12_000, 8_100):  # Pillow refuses, Pillow warns, only we refuse
        content[16:24] = side.to_bytes(4, "big") * 2
        content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
        path.write_bytes(content)
        with pytest.raises(DataError, match="pixels"):
            decode(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 3)
    with pytest.raises(DataError, match="2 x 2 pixels are more than 3"):
        decode(saved(tmp_path, "b.png", GREY))


def test_more_bits_a_pixel_are_fewer_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert images.MAX_WIDE_BYTES == 64_000_000
    monkeypatch.setattr(images, "MAX_WIDE_BYTES", 32)
    for kind, side in ((np.float32, 2), (np.int32, 2), (np.uint16, 4)):
        decode(saved(tmp_path, "a.tiff", np.zeros((side, 4), kind), compression="tiff_deflate"))
        with pytest.raises(DataError, match="8 bits"):
            decode(saved(tmp_path, "a.tiff", np.zeros((side + 1, 4), kind), compression="tiff_deflate"))
    decode(saved(tmp_path, "a.png", np.zeros((5, 8), np.uint8)))


def test_a_large_picture_is_the_same_in_bands_and_takes_no_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (23, 9, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    paths = []
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"):
        grey = Image.fromarray(pixels).convert("L")
        picture = grey.convert(mode) if mode in ("I", "I;16", "F") else Image.fromarray(pixels).convert(mode)
        picture.save(tmp_path / f"{len(paths)}.tiff", exif=exif)
        paths.append(tmp_path / f"{len(paths)}.tiff")
    whole = [decode(path) for path in paths]
    assert whole[0].shape == (9, 23, 3)
    monkeypatch.setattr(depth, "BAND", 50)
    assert all(np.array_equal(decode(path), image) for path, image in zip(paths, whole, strict=True))
    path = saved(tmp_path, "large.tiff", np.eye(500, dtype=np.float32))
    monkeypatch.setattr(depth, "BAND", 5000)
    tracemalloc.start()
    decode(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 500 * 500  # bytes: four of the file, one stretched, three channels


def test_check_images_names_all_faults_at_once_and_keeps_the_others(tmp_path: Path) -> None:
    good = saved(tmp_path, "good.png", GREY)
    (tmp_path / "bad.png").write_text("x")
    paths = np.array([str(path) for path in (tmp_path / "bad.png", good, tmp_path / "gone.png")])
    given = Examples({"label": np.arange(3), "path": paths}, Task("t", ("x", "y", "z")))
    faults = Faults()
    check_images(given, range(3), faults)
    assert faults.rows.tolist() == [0, 2] and faults.usable(3).tolist() == [1]
    assert [fault.places for fault in faults.causes] == [("case 1",), ("case 3",)]
    table = Examples({"label": np.zeros(1, dtype=np.int64), "table": np.zeros((1, 2))}, Task("t", ("x",)))
    check_images(table, range(1), none := Faults())
    assert none.causes == ()


def test_content_key_depends_on_bytes_and_shape_only(tmp_path: Path) -> None:
    one, two = saved(tmp_path, "a.png", GREY), saved(tmp_path, "b.png", GREY)
    assert content_key(one) == content_key(str(two)) != content_key(GREY)
    assert content_key(GREY) == content_key(np.asfortranarray(GREY)) != content_key(GREY.reshape(4))
    with pytest.raises(DataError, match=r"c.png"):
        content_key(tmp_path / "c.png")
