"""What a file of parameters says of the module that they are of, as JSON has it.

A module is ``{"kind": "LSTM", "options": {...}}``, with the arguments that make it; one that is made of others has them
instead, ``{"kind": "Sequential", "modules": {name: ...}}``. Of a class of the user's own, ``"own"``, the kind is that
which it is derived from. Of a layer that was frozen with weights of fewer bits ``"weights"`` names their format.
``"tied"`` has lists of names of parameters that are one.
"""

from __future__ import annotations

from typing import Any

Description = dict[str, Any]

DEPTH = 50  # of modules in modules, and of lists in options


def sound(value: Any, depth: int = DEPTH) -> Description | None:
    """Return a description, with tuples for lists in options; None if it is none, for a file may say anything."""
    if not isinstance(value, dict) or not depth or not isinstance(value.get("kind"), str):
        return None
    options, modules = value.get("options"), value.get("modules")
    found: Description = {"kind": value["kind"]}
    if isinstance(options, dict):
        found["options"] = {name: _plain(option, DEPTH) for name, option in options.items()}
    elif isinstance(modules, dict):
        found["modules"] = {name: sound(module, depth - 1) for name, module in modules.items()}
        if None in found["modules"].values():
            return None
    else:
        return None
    if isinstance(value.get("weights"), str):
        found["weights"] = value["weights"]
    if isinstance(value.get("own"), str):
        found["own"] = value["own"]
    tied = value.get("tied")
    if isinstance(tied, list):
        found["tied"] = [group for group in tied if isinstance(group, list) and all(isinstance(n, str) for n in group)]
    return found


def _plain(value: Any, depth: int) -> Any:
    """Return an option with tuples for JSON's lists."""
    if isinstance(value, list):
        return tuple(_plain(each, depth - 1) for each in value) if depth else None
    return value


def parts(description: Description, prefix: str = "") -> dict[str, Description]:
    """Return the modules that are not made of others, by what comes before the names of their parameters."""
    if "modules" not in description:
        return {prefix: description}
    found: dict[str, Description] = {}
    for name, module in description["modules"].items():
        found |= parts(module, f"{prefix}{name}.")
    return found


def formats_in(description: Description) -> dict[str, str]:
    """Return in which formats layers keep their weights, by what comes before the names of their parameters."""
    return {
        prefix: part["weights"]
        for prefix, part in parts(description).items()
        if part.get("weights", "float32") != "float32"
    }


def own_in(description: Description) -> str | None:
    """Return the name of a class of the user's own in it, if there is one."""
    inner = description.get("modules", {}).values()
    return description.get("own") or next(filter(None, map(own_in, inner)), None)
