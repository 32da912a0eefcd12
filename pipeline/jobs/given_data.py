"""Images to judge a model on, by the name of a data set or source, from a .npz or from a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.data.array_files import Arrays, Part, read_arrays
from pipeline.data.checks import warn_of_doubles
from pipeline.data.image_folders import image_folder
from pipeline.data.image_set import ImageSet
from pipeline.data.sources import SOURCES
from pipeline.data.splits import stratified_order
from pipeline.params.schema import Params


def read_images(choice: str, options: Mapping[str, Any], params: Params) -> Arrays:
    """choice: a data set of params.yaml, a source (options as its function's), a .npz, or a folder with train/CLASS/* and
    test/CLASS/* (options size and channels). Test images come in stratified order, as in the pipeline, but for a .npz, which has
    its own. Raises ValueError in one line, warns of images that are in train and in test."""
    arrays = _read(choice, options, params)
    if arrays.train is not None:
        warn_of_doubles(choice, arrays.train, arrays.test)
    return arrays


def _read(choice: str, options: Mapping[str, Any], params: Params) -> Arrays:
    path = Path(choice)
    if choice in params.datasets:
        source = params.datasets[choice].source
        given = {**source.options, **(params.images.model_dump() if source.name == "public_set" else {}), **options}
        return _from_source(source.name, given)
    if choice in SOURCES:
        return _from_source(choice, options)
    if path.suffix == ".npz" and path.is_file():
        if options:
            raise ValueError(f"data {choice}: a .npz takes no options, got {', '.join(options)}")
        return read_arrays(path)
    if path.is_dir():
        return _arranged(*_called(image_folder, "image_folder", {"size": None, "channels": 3, **options, "folder": choice}))
    names = ", ".join([*params.datasets, *SOURCES])
    raise ValueError(f"data {choice!r}: there is no such .npz or folder, and it is none of {names}")


def _from_source(name: str, options: Mapping[str, Any]) -> Arrays:
    return _arranged(*_called(SOURCES[name], name, options))


def _called(source: Any, name: str, options: Mapping[str, Any]) -> Any:
    try:
        return source(**options)
    except TypeError as error:
        raise ValueError(f"data source {name}: {error}") from None


def _arranged(train: ImageSet, test: ImageSet, classes: list[str]) -> Arrays:
    order = stratified_order(test.labels, 0)
    return Arrays(Part(test.images[order], test.labels[order]), Part(train.images, train.labels), classes)
