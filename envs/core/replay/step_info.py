"""The information of a step, whose last observations are put together when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

_LATE = "final_obs"


def information(final_obs: Tensor, done: Tensor, returned: Tensor, length: Tensor, success: Any) -> dict[str, Any]:
    """What a step tells beside its results; see :meth:`palaestra.envs.core.vector.TensorVectorEnv.step`."""
    info: dict[str, Any] = {_LATE: final_obs, "_final_obs": done, "_episode": done}
    info["episode"] = {"r": returned, "l": length}
    return info if success is None else {**info, "is_success": success}


class StepInfo(dict[str, Any]):
    """A dictionary with ``final_obs`` [N, …], made at the first look at it.

    Most steps end few episodes, and few readers ask how those ended; for large observations the copy would take as long
    as the step.
    """

    def __init__(self, content: dict[str, Any], final_obs: Callable[[], Tensor]) -> None:
        """``content`` holds anything as ``final_obs``, which keeps its place."""
        super().__init__(content)
        self._make: Callable[[], Tensor] | None = final_obs

    def _whole(self) -> StepInfo:
        if self._make is not None:
            self[_LATE] = self._make()
            self._make = None
        return self

    def __getitem__(self, key: str) -> Any:
        return super(StepInfo, self._whole() if key == _LATE else self).__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return super(StepInfo, self._whole() if key == _LATE else self).get(key, default)

    def pop(self, *arguments: Any) -> Any:
        return super(StepInfo, self._whole()).pop(*arguments)

    def popitem(self) -> tuple[str, Any]:
        return super(StepInfo, self._whole()).popitem()

    def setdefault(self, key: str, default: Any = None) -> Any:
        return super(StepInfo, self._whole()).setdefault(key, default)

    def items(self) -> Any:
        return super(StepInfo, self._whole()).items()

    def values(self) -> Any:
        return super(StepInfo, self._whole()).values()

    def __iter__(self) -> Iterator[str]:  # its own, so that dict(info) and {**info} ask for each key
        return super().__iter__()

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return dict(self.items()) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self.items())

    def __eq__(self, other: object) -> bool:
        return dict(self.items()) == other

    __hash__ = None

    def __repr__(self) -> str:
        return repr(dict(self.items()))

    def __reduce__(self) -> Any:
        return dict, (dict(self.items()),)
