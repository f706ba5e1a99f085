"""What the models without equivariant layers share: fibers, and the settings of a schema."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import nn

from se3t.config import model_settings
from se3t.errors import UserError
from se3t.fiber import Fiber


class SettingsModel(nn.Module):
    """A model of given fibers with the settings of its ``schema``.

    Args:
        fiber_in: types and channels of the node features.
        fiber_out: types and channels of the prediction.
        settings: an instance of ``schema``; None: its defaults.
        options: single settings by name, in place of those of ``settings``.
        pooled: whether there is one output for each cloud, see :func:`se3t.models.build_model`.

    Raises:
        UserError: for a setting that is out of range, or ``pooling`` without ``pooled``, where it has no effect.
        TypeError: for an unknown setting.
    """

    schema: ClassVar[Any]
    settings: Any  # an instance of the schema

    def __init__(
        self, fiber_in: Fiber, fiber_out: Fiber, settings: Any, options: dict[str, Any], *, pooled: bool = True
    ) -> None:
        super().__init__()
        if "pooling" in options and not pooled:
            raise UserError(
                f"pooling={options['pooling']}: goes with pooled=True; without it {type(self).__name__} gives one "
                "output for each node"
            )
        if options:
            settings = replace(self.schema() if settings is None else settings, **options)
        self.settings = model_settings(self.schema, settings)
        self.fiber_in, self.fiber_out = fiber_in, fiber_out

    def extra_repr(self) -> str:
        """Fibers and settings."""
        settings = [f"{name}={value}" for name, value in vars(self.settings).items() if name != "name"]
        return ", ".join([f"{self.fiber_in!r} -> {self.fiber_out!r}", *settings])
