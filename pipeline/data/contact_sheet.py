"""A picture of a data set, to see at a glance that images and labels belong together."""

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks import warn
from pipeline.data.image_set import ImageSet

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

COLUMNS, ROWS = 10, 20
SMALLEST, LARGEST = 48, 96  # side of an image on the sheet, pixels
GAP, TEXT, NAME_WIDTH = 4, 14, 200


def contact_sheet(part: ImageSet, classes: list[str]) -> bytes:
    """A PNG: a row for each of the first 20 classes with its name and first 10 images. Small images are enlarged by a whole factor
    without smoothing, large ones made smaller. A name in letters that no font here has is replaced by the class's number, and a
    warning says so. The same images give the same bytes."""
    from PIL import Image, ImageDraw

    font, shown = _drawable(classes[:ROWS])
    names = [f"{name} ({(part.labels == label).sum()})" for label, name in enumerate(shown)]
    left = 2 * GAP + int(min(NAME_WIDTH, max(font.getlength(name) for name in names)))
    width, height = _tile(part.images[0]).size
    height = max(height, TEXT + GAP)  # room for the name
    title = f"{len(part.labels)} images, {len(classes)} classes" + (f", the first {ROWS}" if len(classes) > ROWS else "")
    top = TEXT + 3 * GAP
    size = (max(left + COLUMNS * (width + GAP), int(font.getlength(title)) + 2 * GAP), top + len(names) * (height + GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, fill="black", font=font)
    for label, name in enumerate(names):
        y = top + label * (height + GAP)
        draw.text((GAP, y + height // 2), name, fill="black", font=font, anchor="lm")
        draw.rectangle((left, y, size[0], y + height), fill="white")  # cuts a long name off
        for column, index in enumerate(np.flatnonzero(part.labels == label)[:COLUMNS]):
            sheet.paste(_tile(part.images[index]), (left + column * (width + GAP), y))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _drawable(names: list[str]) -> "tuple[Font, list[str]]":
    """-> the first font that has all letters, and the names; else the last and numbers for the names that it cannot draw."""
    from PIL import ImageFont

    font: Font = ImageFont.load_default(size=TEXT)  # Latin letters alone
    if all(_draws(font, name) for name in names):
        return font, names
    import matplotlib

    font = ImageFont.truetype(matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf", TEXT)
    shown = [name if _draws(font, name) else f"class {label}" for label, name in enumerate(names)]
    if undrawn := [name for name in names if name not in shown]:
        warn(f"the picture of the data set shows numbers for {', '.join(undrawn)}: its font does not have these letters")
    return font, shown


def _draws(font: "Font", text: str) -> bool:
    """Whether no letter comes out as the box that stands for a missing one."""
    box = bytes(font.getmask("\uffff"))
    return all(bytes(font.getmask(letter)) != box for letter in set(text))


def _tile(image: NDArray[np.uint8]) -> "Picture":
    """image: (C, H, W) -> a picture whose longer side is about 48 to 96 pixels."""
    from PIL import Image

    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    longer = max(picture.size)
    if longer > LARGEST:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
        return picture
    factor = -(-SMALLEST // longer)  # rounded up
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
