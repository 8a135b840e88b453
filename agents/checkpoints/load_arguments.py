"""The arguments of SB3's ``load`` as constructor arguments, and the name under which files hold an agent."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.utils import get_system_info


def load_arguments(model_class: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Those of ``custom_objects`` too, which stand for what the file holds.

    Names that no constructor has are ignored, as SB3 ignores those that a file lacks. Environments are always reset.
    """
    sb3s = ("custom_objects", "force_reset", "print_system_info")
    arguments = {name: value for name, value in given.items() if name not in sb3s}
    if given.get("print_system_info"):
        get_system_info()  # of this machine: a file's text is not printed
    custom = given.get("custom_objects") or {}
    if not isinstance(custom, dict):
        raise TypeError(f"custom_objects must be a dictionary, got {custom!r}")
    named = {"policy" if name == "policy_class" else name: value for name, value in custom.items()}
    known = ("policy", *model_class._json_arguments)
    return {name: value for name, value in named.items() if name in known} | arguments


def saved_as(model_class: Any) -> str:
    """The name of the class that reads such an agent's files: its own, unless it says another."""
    return str(getattr(model_class, "saved_as", model_class.__name__))
