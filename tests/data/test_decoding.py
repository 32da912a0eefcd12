"""decode and stack: what a viewer shows. Right values are worked by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline.data.decoding import decode, stack

RAMP = np.arange(0, 64000, 1000).reshape(8, 8)  # 0, 1000, .. 63000 of 65535


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def read(content: bytes, channels: int | None = None) -> np.ndarray:
    return decode(content, channels=channels, size=None)


# Where the tag says what the corner A of A B / C D / E F becomes, as exif.org's table of the eight orientations has it
TURNED = {
    1: ["AB", "CD", "EF"],
    2: ["BA", "DC", "FE"],
    3: ["FE", "DC", "BA"],
    4: ["EF", "CD", "AB"],
    5: ["ACE", "BDF"],
    6: ["ECA", "FDB"],
    7: ["FDB", "ECA"],
    8: ["BDF", "ACE"],
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", TURNED)
def test_orientation_is_followed(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    letters = np.array([[0, 50], [100, 150], [200, 250]], dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    lossless = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    got = read(encoded(letters, kind, exif=exif, **lossless), channels=1)[0][8::16, 8::16]
    wanted = np.array([["ABCDEF".index(letter) * 50 for letter in row] for row in TURNED[orientation]])
    np.testing.assert_allclose(got.astype(int), wanted, atol=1)


def test_a_damaged_exif_block_costs_no_image() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for block in (b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        np.testing.assert_array_equal(read(encoded(image, exif=block))[0], image)


@pytest.mark.parametrize(
    "content",
    [
        encoded(RAMP.astype(np.uint16)),
        encoded(RAMP.astype(np.uint16), "TIFF"),
        encoded(Image.frombytes("I;16B", (8, 8), RAMP.astype(">u2").tobytes()), "TIFF"),
        encoded(RAMP.astype(np.uint16), "JPEG2000", irreversible=False),
        encoded(RAMP.astype(np.int32), "TIFF"),
        encoded(RAMP.astype(np.int32), "PPM"),
        encoded((RAMP / 65535).astype(np.float32), "TIFF"),
        encoded((RAMP / 257).astype(np.float32), "TIFF"),  # 0 to 255
    ],
    ids=["png", "tiff", "big endian", "jpeg 2000", "32-bit integers", "pgm", "floats to 1", "floats to 255"],
)
def test_more_bits_are_scaled_not_clipped(content: bytes) -> None:
    for channels in (None, 1, 3):
        got = read(content, channels)
        assert got.shape == (channels or 1, 8, 8)
        # 65535 / 255 = 257 levels of 16 bits are one of 8
        np.testing.assert_array_equal(got[0], np.rint(RAMP / 257))
        assert round(got.mean() / 255, 2) == 0.48  # 31500 / 65535


def test_the_ramp_of_the_issue() -> None:
    """0 to 62,250 in steps of 250: mean 31,125 of 65,535."""
    ramp = np.arange(0, 62500, 250).astype(np.uint16).reshape(10, 25)
    assert round(float(read(encoded(ramp)).mean()) / 255, 3) == 0.475


def tiff_of_12_bits(values: list[int]) -> bytes:
    """One row, an even number of values. Baseline TIFF, little endian, by its specification."""
    packed = b"".join(((a << 12) | b).to_bytes(3, "big") for a, b in zip(values[::2], values[1::2], strict=True))
    tags = [(256, 3, len(values)), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1), (278, 3, 1)]
    tags.append((279, 4, len(packed)))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert len(head) == 122
    return head + packed


def test_12_bits_are_scaled_by_their_own_white() -> None:
    np.testing.assert_array_equal(read(tiff_of_12_bits([0, 1365, 2730, 4095]))[0, 0], [0, 85, 170, 255])


WHITE_IS_ZERO = {262: 0}  # TIFF 6.0: "0 is imaged as white"
INVERTED = {
    "16 bits": (np.array([[0, 13107, 65535]], np.uint16), [255, 204, 0]),  # 13107 = 51 * 257
    "floats to 1": (np.array([[0, 0.2, 1]], np.float32), [255, 204, 0]),
    "floats to 255": (np.array([[0, 51, 255]], np.float32), [255, 204, 0]),
}


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("kind", INVERTED)
def test_where_white_is_zero_it_comes_out_white(kind: str, compression: str) -> None:
    levels, wanted = INVERTED[kind]
    content = encoded(levels, "TIFF", tiffinfo=WHITE_IS_ZERO, compression=compression)
    for channels in (None, 1, 3):
        np.testing.assert_array_equal(read(content, channels)[0, 0], wanted)
    turned = encoded(levels, "TIFF", tiffinfo={**WHITE_IS_ZERO, 274: 3}, compression=compression)
    np.testing.assert_array_equal(read(turned, 1)[0, 0], wanted[::-1])


@pytest.mark.parametrize("mode", ["1", "L"])
def test_where_white_is_zero_pillow_turns_8_bits_and_1_itself(mode: str) -> None:
    levels = Image.fromarray(np.array([[0, 0, 255]], np.uint8)).convert(mode)
    content = encoded(levels, "TIFF", tiffinfo=WHITE_IS_ZERO)  # written inverted, read inverted
    assert Image.open(io.BytesIO(content)).tag_v2[262] == 0
    np.testing.assert_array_equal(read(content)[0, 0], [0, 0, 255])


@pytest.mark.parametrize(
    ("levels", "problem"),
    [
        (np.array([[0, 70000]], np.int32), "32-bit integers go from 0 to 70000, not 0 to 255 or 0 to 65535"),
        (np.array([[-5, 10]], np.int32), "32-bit integers go from -5 to 10"),
        (np.array([[0, 900]], np.float32), "floats go from 0 to 900, not 0 to 1 or 0 to 255"),
        (np.array([[0, np.nan]], np.float32), "floats go from nan to nan"),
    ],
)
def test_numbers_whose_white_is_not_known_are_refused(levels: np.ndarray, problem: str) -> None:
    with pytest.raises(ValueError, match=f"{problem}.*save it with 8 or 16 bits"):
        read(encoded(levels, "TIFF"))


def test_floats_that_smoothing_took_beyond_white() -> None:
    levels = np.array([[-0.004, 0.5, 1.000001]], np.float32)
    np.testing.assert_array_equal(read(encoded(levels, "TIFF"))[0, 0], [0, 128, 255])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    bits = np.eye(8, dtype=bool)
    np.testing.assert_array_equal(read(encoded(Image.fromarray(bits), kind))[0], bits * 255)


def png(colour_type: int, depth: int, row: bytes, **chunks: bytes) -> bytes:
    """One row, 2 pixels. By the specification of PNG."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 2, 1, depth, colour_type, 0, 0, 0)
    between = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + between + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    )


PALETTE = bytes([200, 0, 0, 0, 0, 200])
TRANSPARENT = {  # first pixel: a hidden colour; second: opaque
    "RGBA": (png(6, 8, bytes([9, 9, 9, 0, 0, 0, 200, 255])), [0, 0, 200]),
    "LA": (png(4, 8, bytes([9, 0, 200, 255])), [200]),
    "palette with alphas": (png(3, 8, bytes([0, 1]), PLTE=PALETTE, tRNS=bytes([0, 255])), [0, 0, 200]),
    "palette, one entry": (png(3, 8, bytes([0, 1]), PLTE=PALETTE, tRNS=bytes([0])), [0, 0, 200]),
    "grey level": (png(0, 8, bytes([9, 200]), tRNS=struct.pack(">H", 9)), [200]),
    "colour": (png(2, 8, bytes([9, 9, 9, 0, 0, 200]), tRNS=struct.pack(">HHH", 9, 9, 9)), [0, 0, 200]),
    "grey level of 16 bits": (png(0, 16, struct.pack(">HH", 999, 200 * 257), tRNS=struct.pack(">H", 999)), [200]),
    "grey level of 2 bits": (png(0, 2, bytes([0b01100000]), tRNS=struct.pack(">H", 1)), [170]),
    "grey level of 4 bits": (png(0, 4, bytes([0x1C]), tRNS=struct.pack(">H", 1)), [204]),
    "colour of 16 bits": (
        png(2, 16, struct.pack(">6H", 999, 999, 999, 0, 0, 200 * 257), tRNS=struct.pack(">3H", 999, 999, 999)),
        [0, 0, 200],
    ),
    "1 bit": (png(0, 1, bytes([0b00000000]), tRNS=struct.pack(">H", 0)), [255]),  # both hidden
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_hidden_colour_does_not_appear(name: str) -> None:
    content, opaque = TRANSPARENT[name]
    got = read(content)
    np.testing.assert_array_equal(got[:, 0, 0], 255)
    np.testing.assert_array_equal(got[:, 0, 1], opaque)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_mostly_transparent_is_mostly_white(kind: str) -> None:
    content = encoded(Image.new("RGBA", (8, 8), (0, 0, 100, 51)), kind, lossless=True)
    # 51 is a fifth of 255: 0.2 * 0 + 0.8 * 255 = 204, 0.2 * 100 + 204 = 224
    np.testing.assert_allclose(read(content)[:, 4, 4].astype(int), [204, 204, 224], atol=1)


def test_opaque_alpha_changes_no_pixel() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    opaque = np.dstack([colours, np.full((64, 64), 255, np.uint8)])
    np.testing.assert_array_equal(read(encoded(opaque)), colours.transpose(2, 0, 1))
    np.testing.assert_array_equal(read(encoded(opaque), 1), read(encoded(colours), 1))


def test_other_modes() -> None:
    colour = np.array([[[200, 30, 90]]], dtype=np.uint8)
    cmyk = encoded(Image.fromarray(np.array([[[55, 225, 165, 0]]], np.uint8), "CMYK"), "TIFF")  # 255 - each
    np.testing.assert_array_equal(read(cmyk)[:, 0, 0], [200, 30, 90])
    luma = round(0.299 * 200 + 0.587 * 30 + 0.114 * 90)
    assert read(cmyk, 1)[0, 0, 0] == luma
    jpeg = encoded(Image.new("CMYK", (8, 8), (55, 225, 165, 0)), "JPEG", quality=100)  # which stores CMYK inverted
    np.testing.assert_allclose(read(jpeg)[:, 4, 4].astype(int), [200, 30, 90], atol=3)
    ycbcr = encoded(Image.fromarray(colour).convert("YCbCr"), "TIFF")
    np.testing.assert_allclose(read(ycbcr)[:, 0, 0].astype(int), [200, 30, 90], atol=2)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    in_lab = ImageCms.profileToProfile(Image.fromarray(colour), srgb, lab, outputMode="LAB")
    np.testing.assert_allclose(read(encoded(in_lab, "TIFF"))[:, 0, 0].astype(int), [200, 30, 90], atol=4)
    assert read(encoded(in_lab, "TIFF"), 1).shape == (1, 1, 1)
    palette = encoded(Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE))
    np.testing.assert_array_equal(read(palette)[:, 0, 0], [200, 30, 90])


def test_the_first_frame_of_several() -> None:
    frames = [Image.new("L", (4, 4), level) for level in (40, 80)]
    for kind in ("GIF", "TIFF", "WEBP"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(read(content, 1).astype(int), 40, atol=1)


def test_pixels_of_plain_images_are_those_of_pillow() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for image in (Image.fromarray(colours), Image.fromarray(colours).convert("L"), Image.fromarray(colours).quantize(16)):
        content = encoded(image)
        for channels, mode in ((1, "L"), (3, "RGB")):
            pil = np.asarray(Image.open(io.BytesIO(content)).convert(mode))
            np.testing.assert_array_equal(read(content, channels), pil[None] if channels == 1 else pil.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"hello", "^cannot identify image file$"),
        (encoded(np.zeros((40, 40), np.uint8))[:-30], "truncated|broken|Truncated"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "Git LFS pointer, run `git lfs pull`"),
    ],
)
def test_what_cannot_be_decoded_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(content)


def test_stack_names_all_that_are_wrong() -> None:
    good = np.zeros((1, 2, 2), np.uint8)
    images = [("a", good), ("b", ValueError("torn")), ("c", good), ("d", ValueError("empty"))]
    with pytest.raises(ValueError, match=r"^2 of 4 images cannot be decoded, replace them or take them out: b: torn; d: empty$"):
        stack(images, 4)
    with pytest.raises(ValueError, match=r"^150 of 150 .*; and 50 more$"):
        stack([(str(i), ValueError("torn")) for i in range(150)], 150)


def test_stack_names_all_sizes_and_what_is_wrong_after_them() -> None:
    def image(height: int, width: int) -> np.ndarray:
        return np.zeros((1, height, width), np.uint8)

    images = [("a", image(2, 3)), ("b", image(4, 5)), ("c", ValueError("torn")), ("d", image(2, 3)), ("e", image(6, 7))]
    with pytest.raises(ValueError, match="torn") as caught:
        stack([*images, ("f", ValueError("empty"))], 6)
    assert str(caught.value) == (
        "2 of 6 images cannot be decoded, replace them or take them out: c: torn; f: empty; "
        "2 of 6 images have another size than a, 3x2; set `size` to resize all: b is 5x4; e is 7x6"
    )
    with pytest.raises(ValueError, match=r"^150 of 151 images .*: 0 is 1x1; .*; 99 is 1x1; and 50 more$") as caught:
        stack([("a", image(2, 3)), *((str(i), image(1, 1)) for i in range(150))], 151)
    assert "100 is" not in str(caught.value)


def test_stack_keeps_the_pixels_of_grey_and_colour() -> None:
    grey, colour = np.full((1, 1, 2), 7, np.uint8), np.arange(6, dtype=np.uint8).reshape(3, 1, 2)
    np.testing.assert_array_equal(stack([("a", grey), ("b", colour), ("c", grey)], 3), [[grey[0]] * 3, colour, [grey[0]] * 3])
