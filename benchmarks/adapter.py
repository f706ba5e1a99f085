"""Peers that are not part of this project: a Python file with ``build(workload) -> (step, description)``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from se3t.bench.contenders import Contender
from se3t.bench.timing import Call, Timed
from se3t.bench.workloads import Workload
from se3t.errors import UserError


@dataclass(frozen=True)
class Adapter:
    """A file that builds a contender.

    Attributes:
        path: the file.
        options: keyword arguments of its ``build``, as text.
    """

    path: Path
    options: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> Adapter:
        """Read ``FILE`` or ``FILE:name=value,name=value``.

        Raises:
            UserError: when the file is missing, or an option is not ``name=value``.
        """
        name, _, rest = text.partition(".py:")
        path = Path(f"{name}.py" if rest else text)
        if not path.is_file():
            raise UserError(f"adapter {path}: no such file; expected a Python file with build(workload)")
        options = {}
        for word in rest.split(",") if rest else ():
            key, equals, value = word.partition("=")
            if not (key.isidentifier() and equals):
                raise UserError(f"adapter {text}: expected options as FILE:name=value,name=value, got {word!r}")
            options[key] = value
        return cls(path, options)

    @property
    def text(self) -> str:
        """What :meth:`parse` reads."""
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.path}:{options}" if options else str(self.path)

    @property
    def name(self) -> str:
        """Name of the contender: that of the file, and the values of its options."""
        return "-".join([self.path.stem, *self.options.values()])

    def make(self, workload: Workload) -> Contender:
        """The contender.

        Raises:
            NotImplementedError: when the file says that it does not offer this workload.
            UserError: when the file fails.
        """
        work, description = self.build(workload)
        return Contender(
            name=self.name,
            work=work,
            maker=f"{__name__}:rebuild",
            arguments={"spec": workload.spec, "adapter": self.text},
            description=f"{self.name}: {description}; its outputs are not compared.",
        )

    def build(self, workload: Workload) -> tuple[Call, str]:
        """The training step on a workload, and what it is, in words.

        Raises:
            NotImplementedError: from the file, where it does not offer this workload.
            UserError: when the file cannot be loaded, has no ``build``, or fails.
        """
        with _settings_kept():
            build = self._function()
            try:
                built = build(workload, **self.options)
            except NotImplementedError:
                raise
            except (Exception, SystemExit) as error:
                raise self._failure(f"build fails for workload {workload.name!r}", error) from error
        if not (isinstance(built, tuple) and len(built) == 2 and callable(built[0])):
            raise UserError(f"adapter {self.path}: build must return (step, description), got {_kind(built)}")
        step, description = built
        return Call(lambda: self._run(step)), str(description)

    def _function(self) -> Callable[..., object]:
        name = f"se3t_adapter_{self.path.stem}"
        spec = importlib.util.spec_from_file_location(name, self.path)
        if spec is None or spec.loader is None:
            raise UserError(f"adapter {self.path}: not a Python file; expected one with build(workload)")
        module = importlib.util.module_from_spec(spec)
        folder = str(self.path.resolve().parent)
        sys.modules[name] = module
        sys.path.insert(0, folder)  # its helpers are in the same folder
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise self._failure("cannot be loaded", error) from error
        finally:
            sys.path.remove(folder)
        build = vars(module).get("build")
        if not callable(build):
            raise UserError(f"adapter {self.path}: has no function build; expected build(workload)")
        function: Callable[..., object] = build
        return function

    def _run(self, step: Callable[[], object]) -> None:
        try:
            step()
        except (Exception, SystemExit) as error:
            raise self._failure("its step fails", error) from error

    def _failure(self, what: str, error: BaseException) -> UserError:
        first = (str(error).strip().splitlines() or [""])[0]
        return UserError(f"adapter {self.path}: {what}: {type(error).__name__}: {first}")


def rebuild(spec: dict[str, Any], adapter: str) -> Timed:
    """The step from plain values: for a process of its own."""
    return Adapter.parse(adapter).make(Workload.of(**spec)).work


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Undoes what a file does to torch as a whole: all contenders are measured under the same settings."""
    grad, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


def _kind(built: object) -> str:
    if isinstance(built, tuple):
        return f"({', '.join(type(part).__name__ for part in built)})"
    return type(built).__name__
