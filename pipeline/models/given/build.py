"""A classifier by name: one of ours, a function of a file, or a function of an installed package."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from pipeline.models import NETWORKS
from pipeline.models.given.pcl_release import MEAN, STD, PCLRelease
from pipeline.models.network import Network

RELEASES: dict[str, type[Network]] = {"pcl_release": PCLRelease}
NORMALISATION = {"pcl_release": (MEAN, STD)}  # of a release that expects normalised images
HOW = "path/to/file.py:function, package.module:function, or one of "


def build(choice: str, options: Mapping[str, Any], *, classes: int, channels: int) -> nn.Module:
    """choice: a name in NETWORKS or RELEASES, `path/to/file.py:function` or `package.module:function`; a class will do for a
    function, and a module that is there already is taken without options. `options`: keyword arguments. classes, channels: of the
    data, for networks of ours, unless `options` has them; their mean is 0 and their std 1 until weights bring others. Raises
    ValueError in one line.

    This runs the code that `choice` names."""
    if choice in RELEASES:
        return _module(_called(RELEASES[choice], choice, {"classes": classes, **options}), choice)
    if choice in NETWORKS:
        rest = {"mean": torch.zeros(channels), "std": torch.ones(channels), "classes": classes, **options}
        return _module(_called(NETWORKS[choice], choice, rest), choice)
    where, colon, name = choice.rpartition(":")
    if not colon or not where or not name:
        raise ValueError(f"model {choice!r}: give {HOW}{', '.join([*NETWORKS, *RELEASES])}")
    target = _found(_imported(where, choice), name, choice)
    if isinstance(target, nn.Module):
        if options:
            raise ValueError(f"model {choice}: it is a model already and takes no options, got {', '.join(options)}")
        return target
    return _module(_called(target, choice, options), choice)


def source_file(choice: str) -> Path | None:
    """The file that `choice` names, where it names one."""
    where = Path(choice.rpartition(":")[0])
    return where if where.suffix == ".py" else None


def module_here(choice: str) -> Path | None:
    """The file of `package.module:function` where the package is in the current folder, and not one that was installed."""
    top = choice.rpartition(":")[0].partition(".")[0]
    if not top or source_file(choice) is not None:
        return None
    with _importing_from(Path.cwd()):
        spec = importlib.util.find_spec(top)  # of a package's own module alone: nothing is imported
    places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
    here = [Path(place) for place in places if place and Path(place).is_relative_to(Path.cwd())]
    return next((place for place in here if not {"site-packages", "dist-packages"} & {*place.parts}), None)


def _module(model: Any, choice: str) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {choice}: it returned {type(model).__name__}, not a torch.nn.Module")
    return model


def _called(target: Any, choice: str, options: Mapping[str, Any]) -> Any:
    try:
        with _without_our_command_line():
            return target(**options)
    except (Exception, SystemExit) as error:  # the code is not ours, so it may raise anything
        try:
            takes = f"; it takes {inspect.signature(target)}"
        except (TypeError, ValueError):
            takes = ""
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items() if not isinstance(value, torch.Tensor))
        raise ValueError(
            f"model {choice}({shown}) failed: {type(error).__name__}: {_line(error)}{takes if len(takes) < 400 else ''}"
        ) from None


def _imported(where: str, choice: str) -> ModuleType:
    path = Path(where)
    try:
        if path.suffix != ".py":
            with _importing_from(Path.cwd()):  # a console command does not look there by itself
                return importlib.import_module(where)
        if not path.is_file():
            raise ValueError(f"model {choice}: there is no file {path}")
        spec = importlib.util.spec_from_file_location(f"given_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        with _importing_from(path.absolute().parent):  # files beside it, or beside the link
            spec.loader.exec_module(module)
        return module
    except ValueError:
        raise
    except SystemExit as error:
        raise ValueError(
            f"model {choice}: {where} ends the program when it is imported (exit {_line(error) or 0}): put the network into a file "
            "of its own"
        ) from None
    except Exception as error:
        raise ValueError(f"model {choice}: {where} cannot be imported ({type(error).__name__}: {_line(error)})") from None


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        with _without_our_command_line():
            yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _without_our_command_line() -> Iterator[None]:
    """Which a script would take for its own."""
    ours, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = ours


def _found(module: ModuleType, name: str, choice: str) -> Any:
    target: Any = module
    for part in name.split("."):
        if not hasattr(target, part):
            names = [own for own, value in vars(module).items() if callable(value) and not own.startswith("_")]
            raise ValueError(f"model {choice}: there is no {name}, choose from {', '.join(_some(names)) or 'nothing'}")
        target = getattr(target, part)
    return target


def _some(names: Sequence[str]) -> list[str]:
    return [*names[:12], *(["..."] if len(names) > 12 else [])]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
