"""Running out of memory, in one sentence. Imports no torch."""

from __future__ import annotations

import re
import traceback
from dataclasses import is_dataclass
from typing import Any

from se3t.errors import UserError

_MESSAGES = re.compile(
    r"out of memory|can't allocate memory|not enough memory|Unable to allocate"  # torch, NumPy
    r"|[Ss]torage size calculation overflowed|integer multiplication overflow|Overflow when unpacking long"  # torch
    r"|Maximum allowed (?:size|dimension) exceeded|array is too big|too large to convert to C|too large for C"  # NumPy
)
_AMOUNT = re.compile(r"(?:tried to|Unable to|Tried to) allocate ([\d.]+) (\w+)")
_PLACES = (  # prefix of a module, a function in it or any, the activity, its group of settings, advice
    ("se3t.data.", None, "while the data were prepared or read", "data", "use fewer samples"),
    ("se3t.models", "build_model", "while the model was built", "model", "use a smaller model"),
    ("se3t.training.evaluation", None, "in an evaluation", "", "use a smaller trainer.eval_batch_size or model"),
    ("se3t.training.", None, "in training", "", "use a smaller trainer.batch_size or model"),
)
_LARGE = 1000  # a setting below is hardly the reason


def out_of_memory(error: BaseException) -> UserError | None:
    """One sentence for an error of NumPy, torch or Python that says that memory or sizes were exceeded, else None."""
    kinds = (MemoryError, RuntimeError, OverflowError, TypeError, ValueError)
    if isinstance(error, UserError) or not isinstance(error, kinds):
        return None
    if not isinstance(error, MemoryError) and not _MESSAGES.search(str(error)):
        return None
    where, advice = _place(error)
    return UserError(f"out of memory{where}{_amount(str(error))}; {advice} (SE3T_DEBUG=1 shows where)")


def _place(error: BaseException) -> tuple[str, str]:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for module, function, where, group, advice in _PLACES:
        for frame in frames:
            is_there = str(frame.f_globals.get("__name__", "")).startswith(module)
            if is_there and function in (None, frame.f_code.co_name):
                return f" {where}", advice + _largest_setting(group, frame.f_locals.get("config"))
    return "", "use smaller sizes"


def _largest_setting(group: str, config: Any) -> str:
    """The setting that is most likely the reason: the largest number of samples, layers or channels."""
    settings = vars(config) if group and is_dataclass(config) else {}
    sizes = {name: value for name, value in settings.items() if isinstance(value, int) and "seed" not in name}
    name = max(sizes, key=lambda name: sizes[name], default="")
    return f" than {group}.{name}={sizes[name]}" if name and sizes[name] >= _LARGE else ""


def _amount(message: str) -> str:
    match = _AMOUNT.search(message)
    if match is None:
        return ""
    number, unit = float(match[1]), match[2]
    amount = f"{number / 2**30:,.1f} GiB" if unit == "bytes" else f"{match[1]} {unit}"
    return f": {amount} were asked for at once"
