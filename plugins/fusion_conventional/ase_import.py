"""The object that makes a calculator of ASE, from its name: the only place that imports what a setting names."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from ase.calculators import calculator as ase

from fusion.errors import InputError


def maker(name: str) -> Any:
    """The class of ASE's calculator `name`, or what a dotted path names: a class, a function, a class method or a
    calculator that is already made. Raises InputError."""
    if "." not in name:
        if name.lower() not in ase.names:
            close = difflib.get_close_matches(name.lower(), ase.names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"method.calculator: ASE has no calculator {name!r}.{hint}  emt, nwchem, orca are some; others "
                "are named by the path of their class or function, tblite.ase.TBLite"
            )
        return ase.get_calculator_class(name.lower())
    located = _located(name)
    if not (callable(located) or _calculates(located)):
        raise InputError(f"method.calculator={name} is no calculator of ASE, nor does it make one")
    return located


def made(name: str, source: Any, options: Mapping[str, Any]) -> Any:
    """The calculator that `source` makes with `options` as keywords, or is. Raises InputError."""
    if _calculates(source) and not isinstance(source, type):
        if options:
            raise InputError(f"method.options: {name} is a calculator that is already made and takes no keywords")
        return source
    try:
        built = source(**options)
    except Exception as error:  # a calculator may do anything
        raise InputError(f"method.options of {name}: {one_line(error)}") from error
    if not _calculates(built):
        raise InputError(f"method.calculator={name} is no calculator of ASE: it makes an object of {type(built)}")
    return built


def one_line(error: BaseException) -> str:
    """The words of an error in one line; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _located(path: str) -> Any:
    """The object at a dotted path: the longest part of it that is a module, then its attributes. Raises InputError."""
    words = path.split(".")
    for length in range(len(words) - 1, 0, -1):
        module = ".".join(words[:length])
        try:
            located: Any = importlib.import_module(module)
            for word in words[length:]:
                located = getattr(located, word)
        except ModuleNotFoundError as error:
            if length > 1 and f"{module}.".startswith(f"{error.name}."):
                continue  # the words after the module may be attributes
            raise InputError(
                f"method.calculator={path}: there is no Python package {str(error.name)!r}; is it installed?"
            ) from error
        except AttributeError as error:
            raise InputError(f"method.calculator={path}: {module} has no {'.'.join(words[length:])}") from error
        except Exception as error:  # importing a package may fail in any way
            raise InputError(f"method.calculator={path}: {module} cannot be imported ({one_line(error)})") from error
        return located
    raise InputError(f"method.calculator={path}: a path is PACKAGE.NAME, tblite.ase.TBLite")


def _calculates(value: Any) -> bool:
    return hasattr(value, "get_property") and hasattr(value, "implemented_properties")
