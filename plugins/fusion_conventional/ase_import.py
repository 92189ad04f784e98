"""Import the class or function that creates an ASE calculator; no other module imports by a name from a setting."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from ase.calculators import calculator as ase

from fusion.errors import InputError


def maker(name: str) -> Any:
    """Return the class of ASE's calculator `name`, or the object at a dotted path: a class, a function, a class method
    or a calculator object. Raises InputError."""
    if "." not in name:
        if name.lower() not in ase.names:
            close = difflib.get_close_matches(name.lower(), ase.names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"method.calculator: ASE has no calculator {name!r}.{hint}  Examples are emt, nwchem and orca; others "
                "are named by the path of their class or function, tblite.ase.TBLite"
            )
        return ase.get_calculator_class(name.lower())
    located = _located(name)
    if not (callable(located) or _calculates(located)):
        raise InputError(f"method.calculator={name} is no calculator of ASE and does not create one")
    return located


def made(name: str, source: Any, options: Mapping[str, Any]) -> Any:
    """Create a calculator from `source` with `options` as keywords, or return `source` itself. Raises InputError."""
    if _calculates(source) and not isinstance(source, type):
        if options:
            raise InputError(f"method.options: {name} is a calculator object already and takes no keywords")
        return source
    try:
        built = source(**options)
    except Exception as error:  # a calculator may do anything
        raise InputError(f"method.options of {name}: {one_line(error)}") from error
    if not _calculates(built):
        raise InputError(f"method.calculator={name} is no calculator of ASE: it makes an object of {type(built)}")
    return built


def one_line(error: BaseException) -> str:
    """Message of an error in one line; its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def _located(path: str) -> Any:
    """Object at a dotted path: the longest leading part that is a module, then attributes. Raises InputError."""
    words = path.split(".")
    for length in range(len(words) - 1, 0, -1):
        module = ".".join(words[:length])
        try:
            located: Any = importlib.import_module(module)
            for word in words[length:]:
                located = getattr(located, word)
        except ModuleNotFoundError as error:
            if length > 1 and f"{module}.".startswith(f"{error.name}."):
                continue  # the remaining words may be attributes
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
