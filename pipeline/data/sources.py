"""Where images come from. A new source is one file with one function and one entry here."""

from pipeline.data.digits import sklearn_digits
from pipeline.data.image_folders import image_folder
from pipeline.data.image_set import Source
from pipeline.data.parquet_files import parquet
from pipeline.data.public_sets import public_set
from pipeline.data.torchvision_sets import torchvision

SOURCES: dict[str, Source] = {
    "sklearn_digits": sklearn_digits,
    "torchvision": torchvision,
    "parquet": parquet,
    "public_set": public_set,
    "image_folder": image_folder,
}
