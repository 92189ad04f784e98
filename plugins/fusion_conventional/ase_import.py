"""Import and creation of ASE calculators by the names in settings; no other module imports by a name from a setting.

Needs only ASE: `ase_worker` uses this module in environments without fusion.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from ase.calculators import calculator as ase

TARGET = "_target_"
"""Key of a mapping that describes an object: the path of a class or function, beside its keywords."""
POSITIONAL = "*"
"""Key of the arguments without keywords: a list, or an object that is one argument or, as a tuple, several."""


class Unusable(ValueError):
    """Setting that names no calculator, or a calculator that cannot be created; the message is one line."""


class MissingPackage(Unusable):
    """Calculator of a Python package that is not installed."""


def maker(name: str) -> Any:
    """Return the class of ASE's calculator `name`, or the object at a dotted path: a class, a function, a class method
    or a calculator object. Raises Unusable."""
    if "." not in name:
        if name.lower() not in ase.names:
            close = difflib.get_close_matches(name.lower(), ase.names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise Unusable(
                f"method.calculator: ASE has no calculator {name!r}.{hint}  Examples are emt, nwchem and orca; others "
                "are named by the path of their class or function, tblite.ase.TBLite"
            )
        return ase.get_calculator_class(name.lower())
    located = _located(name, "method.calculator")
    if not (callable(located) or _calculates(located)):
        raise Unusable(f"method.calculator={name} is no calculator of ASE and does not create one")
    return located


def made(name: str, source: Any, options: Mapping[str, Any]) -> Any:
    """Create a calculator from `source` with `options` as keywords, or return `source` itself.

    Mappings with `_target_` in the options become objects first: models that the calculator is made with. Raises
    Unusable.
    """
    if _calculates(source) and not isinstance(source, type):
        if options:
            raise Unusable(f"method.options: {name} is a calculator object already and takes no keywords")
        return source
    try:
        built = _called(source, options)
    except Unusable:
        raise
    except Exception as error:  # a calculator may do anything
        raise Unusable(f"method.options of {name}: {one_line(error)}") from error
    if not _calculates(built):
        raise Unusable(f"method.calculator={name} is no calculator of ASE: it makes an object of {type(built)}")
    return built


def one_line(error: BaseException) -> str:
    """Message of an error in one line; its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def _called(source: Any, options: Mapping[str, Any]) -> Any:
    keywords = {key: _object(value) for key, value in options.items()}
    positional = keywords.pop(POSITIONAL, ())
    return source(*(positional if isinstance(positional, (list, tuple)) else (positional,)), **keywords)


def _object(value: Any) -> Any:
    """Create the objects that mappings with `_target_` describe, at any depth; return other values unchanged."""
    if isinstance(value, Mapping) and TARGET in value:
        options = {key: part for key, part in value.items() if key != TARGET}
        return _called(_located(str(value[TARGET]), f"method.options: {TARGET}"), options)
    if isinstance(value, Mapping):
        return {key: _object(part) for key, part in value.items()}
    return [_object(part) for part in value] if isinstance(value, list) else value


def _located(path: str, where: str) -> Any:
    """Object at a dotted path: the longest leading part that is a module, then attributes. Raises Unusable."""
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
            raise MissingPackage(f"{where}={path}: there is no Python package {str(error.name)!r}") from error
        except AttributeError as error:
            raise Unusable(f"{where}={path}: {module} has no {'.'.join(words[length:])}") from error
        except Exception as error:  # importing a package may fail in any way
            raise Unusable(f"{where}={path}: {module} cannot be imported ({one_line(error)})") from error
        return located
    raise Unusable(f"{where}={path}: a path is PACKAGE.NAME, tblite.ase.TBLite")


def _calculates(value: Any) -> bool:
    return hasattr(value, "get_property") and hasattr(value, "implemented_properties")
