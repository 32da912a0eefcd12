"""One encoded image -> pixels, the same for every source: what a viewer shows, as 8-bit grey or colour."""

import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data import lfs

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Channels = Literal[1, 3]
BACKGROUND = "white"  # what shows through where an image is transparent
GREY = ("1", "L", "LA", "I", "F")  # PIL's modes without colour; those of 16 bits begin with I;16
NAMED = 100  # of the images that cannot be decoded, or have another size; more would not fit into a message


def decode(encoded: bytes, *, channels: Channels | None, size: int | None) -> NDArray[np.uint8]:
    """-> (channels, H, W) uint8; with channels null 1 for a grey image and 3 for another, with `size` resized to size x size
    (bilinear). Raises ValueError with the reason.

    EXIF orientation is followed. Transparent parts show a white background. 16 bits are scaled, 1 bit is black and white. Floats
    are 0 to 1, or 0 to 255 where one is above 1; 32-bit integers 0 to 255, or 0 to 65535 where one is above 255. Of several
    frames or pages it is the first.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as file:
            _scale_transparent(file)
            file.load()
            image = _eight_bits(_upright(file), file)
            grey = image.mode in GREY if channels is None else channels == 1
            if image.mode == "LAB":
                image = image.convert("RGB")  # PIL has no way from LAB to grey
            image = _over_background(image).convert("L" if grey else "RGB")
            if size is not None:
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, dtype=np.uint8)
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise ValueError(_reason(encoded, error)) from error
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def stack(images: Iterable[tuple[str, NDArray[np.uint8] | ValueError]], total: int) -> NDArray[np.uint8]:
    """images: where each stands, its pixels (C, H, W) or what is wrong with it -> (total, C, H, W); grey ones among colour ones get
    three equal channels. Raises ValueError that names all that are wrong, and all that have not the size of the first."""
    stacked, first, wrong, other = np.empty((0, 1, 0, 0), dtype=np.uint8), "", list[str](), list[str]()
    for i, (where, image) in enumerate(images):
        if isinstance(image, ValueError):
            wrong.append(f"{where}: {image}")
            continue
        if not first:
            stacked, first = np.empty((total, *image.shape), dtype=np.uint8), where
        if image.shape[1:] != stacked.shape[2:]:
            other.append(f"{where} is {image.shape[2]}x{image.shape[1]}")
            continue
        if len(image) > stacked.shape[1]:
            stacked = stacked.repeat(len(image), axis=1)
        stacked[i] = image
    problems = {
        "cannot be decoded, replace them or take them out": wrong,
        f"have another size than {first}, {stacked.shape[3]}x{stacked.shape[2]}; set `size` to resize all": other,
    }
    if said := [f"{len(found)} of {total} images {problem}: {_listed(found)}" for problem, found in problems.items() if found]:
        raise ValueError("; ".join(said))
    return stacked


def _listed(found: Sequence[str]) -> str:
    return "; ".join(found[:NAMED]) + (f"; and {len(found) - NAMED} more" if len(found) > NAMED else "")


def _scale_transparent(file: "Picture") -> None:
    """Pillow scales the pixels of such PNGs to 8 bits, but leaves the transparent level in the bits of the file."""
    from PIL.PngImagePlugin import PngImageFile

    level = file.info.get("transparency")
    if level is None or not isinstance(file, PngImageFile):
        return
    match file.tile[0].args:
        case "L;2" if level < 4:
            file.info["transparency"] = level * 85
        case "L;4" if level < 16:
            file.info["transparency"] = level * 17
        case "RGB;16B":
            file.info["transparency"] = tuple(value >> 8 for value in level)


def _upright(image: "Picture") -> "Picture":
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever its damaged EXIF block makes Pillow raise: viewers show such an image as it lies
        return image


def _eight_bits(image: "Picture", file: "Picture") -> "Picture":
    """Modes of more bits scaled to L or LA; Pillow's own conversion clips them and leaves white at 0. file: where the image is
    from."""
    from PIL import Image

    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image)
    white = _white(file, levels)
    scaled = np.rint((white - levels if _white_is_zero(file) else levels) * (255 / white)).clip(0, 255)
    grey = Image.fromarray(scaled.astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return grey


def _white_is_zero(file: "Picture") -> bool:
    """TIFF alone says so. Pillow inverts such levels of 8 bits or fewer itself, those of 16 and floats it leaves as they are."""
    from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

    return isinstance(file, TiffImageFile) and file.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0


def _white(file: "Picture", levels: NDArray[Any]) -> int:
    """The level of white. Raises ValueError where the file does not tell."""
    from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

    if file.mode.startswith("I;16"):  # TIFF has 12 bits too, in the mode of 16
        return 2 ** int(file.tag_v2[BITSPERSAMPLE][0]) - 1 if isinstance(file, TiffImageFile) else 65535
    if file.format == "PPM":
        return 65535  # Pillow has scaled it to this
    low, high = float(levels.min()), float(levels.max())
    beyond = 0.01 if file.mode == "F" else 0  # as smoothing leaves it: a little below black and above white
    for white in (1, 255) if file.mode == "F" else (255, 65535):
        if -beyond * white <= low and high <= (1 + beyond) * white:
            return white
    kind, ranges = ("floats", "0 to 1 or 0 to 255") if file.mode == "F" else ("32-bit integers", "0 to 255 or 0 to 65535")
    raise ValueError(f"its {kind} go from {low:.6g} to {high:.6g}, not {ranges}: save it with 8 or 16 bits")


def _over_background(image: "Picture") -> "Picture":
    from PIL import Image

    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image.convert("RGBA"))


def _reason(encoded: bytes, error: Exception) -> str:
    if encoded.startswith(lfs.HEAD):
        return f"it is a Git LFS pointer, {lfs.ADVICE}"
    if not encoded:
        return "it is empty"
    return re.sub(r" <_io\..*?>", "", " ".join(str(error).split())) or type(error).__name__  # the name of our buffer says nothing
