"""Pictures of every depth as 8-bit RGB: right values, or a reason."""

import numpy as np
import pytest
from PIL import Image

from vtc.media import as_rgb, eight_bit, read_picture, upright

RAMP = np.linspace(0, 1, 256, dtype=np.float32)
GREYS = np.arange(256)


def picture(values):
    return Image.fromarray(np.tile(values, (4, 1)))


def greys(image):
    assert image.mode == "RGB"
    pixels = np.asarray(image)[2].astype(int)
    assert (pixels == pixels[:, :1]).all()
    return pixels[:, 0]


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_16_bit_files(tmp_path, ending):
    picture((RAMP * 65535).astype(np.uint16)).save(tmp_path / f"a.{ending}")
    assert np.abs(greys(read_picture(tmp_path / f"a.{ending}")) - GREYS).max() <= 1


@pytest.mark.parametrize(
    "values",
    [RAMP, 255 * RAMP, 65535 * RAMP, (255 * RAMP).round().astype(np.int32), (65535 * RAMP).astype(np.int32)],
    ids=["float 1", "float 255", "float 65535", "int 255", "int 65535"],
)
def test_the_range_of_32_bit_values_is_the_smallest_that_holds_them(tmp_path, values):
    assert np.abs(greys(as_rgb(picture(values))) - GREYS).max() <= 1
    picture(values).save(tmp_path / "a.tiff")
    assert np.abs(greys(read_picture(tmp_path / "a.tiff")) - GREYS).max() <= 1


def test_a_dark_16_bit_picture_stays_dark():
    assert greys(as_rgb(picture(np.full(8, 300, dtype=np.uint16)))).tolist() == [1] * 8
    assert greys(as_rgb(picture(np.zeros(8, dtype=np.float32)))).tolist() == [0] * 8


def test_tiff_of_12_bits_and_with_white_as_zero(tmp_path):
    path = tmp_path / "a.tiff"
    values = (RAMP * 65535).astype(np.uint16)
    picture(values).save(path, tiffinfo={262: 0})
    assert Image.open(path).tag_v2[262] == 0
    assert np.abs(greys(read_picture(path)) - GREYS[::-1]).max() <= 1
    twelve = picture((RAMP * 4095).astype(np.uint16))
    twelve.tag_v2 = {258: (12,)}  # Pillow reads files of 12 bits and writes none
    assert np.abs(greys(as_rgb(twelve)) - GREYS).max() <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, float("nan")], "NaN or infinite"),
        ([0.0, float("inf")], "NaN or infinite"),
        ([0.5, -0.1], "negative"),
        ([0.0, 1.7], "none of the ranges"),
        ([0.0, 900.0], "none of the ranges"),
        ([0.0, 1e6], "none of the ranges"),
    ],
)
def test_values_without_a_known_range_are_refused(tmp_path, values, message):
    image = picture(np.array(values, dtype=np.float32))
    with pytest.raises(ValueError, match=message):
        as_rgb(image)
    image.save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=f"'a.tiff' cannot be read as a picture.*{message}"):
        read_picture(tmp_path / "a.tiff")


def test_what_is_transparent_shows_white():
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    for mode, red in (("RGBA", (200, 0, 0)), ("LA", (60, 60, 60)), ("PA", None), ("La", (60, 60, 60))):
        made = image.convert("LA").convert("La") if mode == "La" else image.convert(mode)
        found = as_rgb(made)
        assert found.getpixel((1, 0)) == (255, 255, 255), mode
        assert red is None or found.getpixel((0, 0)) == red, mode
    half = as_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert abs(half.getpixel((0, 0))[0] - 127) <= 1


def test_palettes_and_colours_named_transparent(tmp_path):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    assert np.asarray(read_picture(tmp_path / "a.png"))[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    rgb = Image.new("RGB", (2, 1), (1, 2, 3))
    rgb.putpixel((1, 0), (9, 9, 9))
    rgb.save(tmp_path / "b.png", transparency=(9, 9, 9))
    assert np.asarray(read_picture(tmp_path / "b.png"))[0].tolist() == [[1, 2, 3], [255, 255, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_other_modes_are_converted_as_pillow_does(mode):
    image = Image.new("RGB", (3, 2), (255, 255, 255)).convert(mode)
    assert as_rgb(image).getpixel((1, 1)) == image.convert("RGB").getpixel((1, 1))


def test_8_bit_pictures_are_not_copied():
    image = Image.new("RGB", (2, 2))
    assert as_rgb(image) is image and eight_bit(image) is image


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_deep_pictures_are_turned_too(tmp_path, ending):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{ending}"
    picture((RAMP * 65535).astype(np.uint16)).save(path, exif=exif)
    with path.open("rb") as file:  # of TIFFs given by path Pillow mixes up the rows
        opened = upright(Image.open(file))
    for found in (read_picture(path), opened):
        assert found.size == (4, 256)
        assert np.abs(np.asarray(found)[:, 1, 0] - GREYS).max() <= 1
