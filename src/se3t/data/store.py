"""Prepared data on disk: an HDF5 file of flat arrays with their settings, units, provenance and checksums.

A store is written under a temporary name and renamed, so that it is complete or absent. Its checksum covers arrays,
settings and units, but nothing that differs between two preparations of the same data (time, machine, versions). The
user block before the HDF5 part holds a SHA-256 of all bytes after it, which is verified before HDF5 reads them: one
flipped bit can send the HDF5 library into an endless loop. Imports no torch; h5py is imported only here, when needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from se3t import __version__
from se3t.data.raw import first_line
from se3t.errors import UserError
from se3t.files import write_atomically

if TYPE_CHECKING:
    import h5py

STORE_VERSION = 1
_LOG = logging.getLogger(__name__)
_ATTRIBUTES = ("settings", "units", "provenance")
_HEADER_BYTES = 512  # the smallest user block that HDF5 allows
_HEADER = "se3t store, format {version}, sha256 of the bytes from {begin}: {digest}\n"
_HEADER_PATTERN = re.compile(rb"se3t store, format (\d+), sha256 of the bytes from 512: ([0-9a-f]{64})\n\0*")


@dataclass(frozen=True)
class Store:
    """Content of a store.

    Attributes:
        kind: name of the data set.
        arrays: flat arrays by name ("train/positions").
        settings: everything that determines the arrays, as plain values.
        units: unit of every array, by name.
        provenance: where the data come from: program, versions, time, statistics. Not covered by the checksum.
    """

    kind: str
    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Any]
    units: Mapping[str, str]
    provenance: Mapping[str, Any]

    @cached_property
    def checksum(self) -> str:
        """SHA-256, as 64 hexadecimal digits, of kind, settings, units and every array's name, type, shape and bytes."""
        digest = hashlib.sha256(_canonical([self.kind, STORE_VERSION, dict(self.settings), dict(self.units)]))
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(_canonical([name, array.dtype.str, list(array.shape)]))
            digest.update(array.tobytes())
        return digest.hexdigest()


def made_by() -> dict[str, Any]:
    """The common part of every provenance: program, versions, machine and time."""
    return {
        "program": f"se3t {__version__}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def make_folder(folder: Path) -> None:
    """Make the folder of a store.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"data.root: cannot make the folder {folder} ({error.strerror}); expected a folder that can be written"
        ) from error


def create_store(
    path: Path, make: Callable[[], Store], lines: Callable[[Mapping[str, Any]], Iterable[str]] | None = None
) -> Store:
    """Make a store and write it; the log says what it is made of.

    Args:
        path: the file. Its folder is made first, so that one that cannot be made costs no work.
        make: the work; program, versions, machine, time and duration are added to the provenance.
        lines: what to log of the provenance; by default its notes.

    Raises:
        UserError: the folder cannot be made, or the file not be written.
    """
    make_folder(path.parent)
    begin = time.perf_counter()
    store = make()
    facts = {**made_by(), "seconds": round(time.perf_counter() - begin, 3)}
    store = replace(store, provenance={**facts, **store.provenance})
    write_store(path, store)
    notes = store.provenance.get("notes", ()) if lines is None else lines(store.provenance)
    for line in (*notes, f"store: {path}"):
        _LOG.info("%s", line)
    return store


def write_store(path: Path, store: Store) -> str:
    """Write a store atomically: another process sees the old file, or none, or the complete new one.

    Args:
        path: the file; missing folders above it are made.
        store: what to write.

    Returns:
        The checksum.

    Raises:
        UserError: an array holds NaN or infinite numbers, or the folder cannot be written.
    """
    _check_finite(store.arrays, path, "nothing was written; look for the cause in the settings or the raw data")
    image = _sealed(store)
    try:
        write_atomically(path, lambda file: file.write(image.getbuffer()))
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error  # of a WriteError
        reason = os.strerror(cause.errno) if cause.errno else first_line(cause)
        raise UserError(
            f"{path}: cannot write the prepared data ({reason}); set data.root to another folder"
        ) from error
    return store.checksum


def read_store(
    path: Path, kind: str, *, fix: str, arrays: Collection[str] = (), settings: Mapping[str, Any] | None = None
) -> Store:
    """Read a store and verify it.

    Args:
        path: the file.
        kind: the kind expected.
        fix: the command that rebuilds the store; part of every error.
        arrays: names of required arrays.
        settings: required settings.

    Returns:
        The whole content, in memory.

    Raises:
        UserError: the file is missing, damaged, of another kind, version or layout, made with other settings, or holds
            NaN.
    """
    again = f"make it again with `{fix}`"
    with _checked(path, kind, fix):
        store, recorded = _read(path, kind, again)
    _check_finite(store.arrays, path, again)
    if store.checksum != recorded:
        raise UserError(
            f"{path}: content has checksum {store.checksum}, expected {recorded} as recorded in it; {again}"
        )
    for name, value in (settings or {}).items():
        if (made := store.settings.get(name)) != value:
            raise UserError(f"{path}: was made with {name} = {made}, expected {value}; {again}")
    if missing := sorted(set(arrays) - set(store.arrays)):
        raise UserError(f"{path}: has no array {missing[0]!r}, expected another layout; {again}")
    return store


def read_checksum(path: Path, *, fix: str) -> str:
    """The checksum of a store's content as recorded in it; the bytes of the file are verified, its arrays not read.

    Args:
        path: the file.
        fix: as in :func:`read_store`.

    Raises:
        UserError: the file is missing, damaged or of another version.
    """
    import h5py

    with _checked(path, "", fix), h5py.File(path, "r") as file:
        return str(file.attrs["sha256"])


@contextmanager
def _checked(path: Path, kind: str, fix: str) -> Iterator[None]:
    """Check the seal of a store, and report a failed read in one sentence."""
    if not path.is_file():
        what = f"prepared {kind} data" if kind else "prepared data"
        raise UserError(f"{path}: not found; expected {what}; make them with `{fix}`")
    again = f"make it again with `{fix}`"
    try:
        _check_seal(path, again)
        yield
    except (OSError, KeyError) as error:
        if _is_locked(error):
            raise _locked(str(path)) from error
        raise UserError(f"{path}: cannot be read ({first_line(error)}); {again}") from error


def read_hdf5(
    source: Path | BytesIO, name: str, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an HDF5 file that another program wrote.

    Args:
        source: the file, or its bytes.
        name: its name in errors.
        required: datasets to read.
        optional: further datasets, left out of the result where missing.

    Returns:
        Arrays by name.

    Raises:
        UserError: the file is damaged or no HDF5, or has no such dataset.
    """
    import h5py

    try:
        with h5py.File(source, "r") as file:
            keys = sorted(file)
            for key in keys:
                _refuse_links(file, key, name)
            wanted = [key for key in (*required, *optional) if isinstance(file.get(key), h5py.Dataset)]
            arrays = {key: np.asarray(file[key][()]) for key in wanted}
    except UserError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, OverflowError, MemoryError) as error:
        if _is_locked(error):
            raise _locked(name) from error
        raise UserError(
            f"{name}: cannot be read as HDF5 ({first_line(error)}); it is damaged, cut short or a file of another "
            "kind; get it again"
        ) from error
    for key in required:
        if key not in arrays:
            raise UserError(
                f"{name}: has no dataset {key!r}, expected {' and '.join(required)}, found {', '.join(keys) or 'none'}"
            )
    return arrays


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _sealed(store: Store) -> BytesIO:
    """The bytes of the file, made in memory: on a full disk HDF5 fails for every open object and finally crashes."""
    import h5py

    image = BytesIO()
    with h5py.File(image, "w", userblock_size=_HEADER_BYTES) as file:
        file.attrs["kind"] = store.kind
        file.attrs["sha256"] = store.checksum
        for name in _ATTRIBUTES:
            file.attrs[name] = json.dumps(dict(getattr(store, name)), sort_keys=True)
        for name, array in store.arrays.items():
            dataset = file.create_dataset(name, data=array)
            if name in store.units:
                dataset.attrs["unit"] = store.units[name]
    digest = hashlib.sha256(image.getbuffer()[_HEADER_BYTES:]).hexdigest()
    header = _HEADER.format(version=STORE_VERSION, begin=_HEADER_BYTES, digest=digest)
    image.seek(0)
    image.write(header.encode().ljust(_HEADER_BYTES, b"\0"))
    return image


def _check_seal(path: Path, again: str) -> None:
    with path.open("rb") as file:
        header = _HEADER_PATTERN.fullmatch(file.read(_HEADER_BYTES))
        if header is None:
            raise UserError(f"{path}: damaged, or not a store of this program (unknown first bytes); {again}")
        version, expected = int(header[1]), header[2].decode()
        if version != STORE_VERSION:
            raise UserError(f"{path}: store format version {version}, expected version {STORE_VERSION}; {again}")
        file.seek(_HEADER_BYTES)
        if (digest := hashlib.file_digest(file, "sha256").hexdigest()) != expected:
            raise UserError(
                f"{path}: damaged: cut short or altered since it was made (checksum {digest[:12]}…, expected "
                f"{expected[:12]}…); {again}"
            )


def _read(path: Path, kind: str, again: str) -> tuple[Store, str]:
    import h5py

    with h5py.File(path, "r") as file:
        if file.attrs["kind"] != kind:
            raise UserError(f"{path}: holds {file.attrs['kind']} data, expected {kind} data; {again}")
        settings, units, provenance = (json.loads(file.attrs[name]) for name in _ATTRIBUTES)
        store = Store(kind=kind, arrays=_arrays(file), settings=settings, units=units, provenance=provenance)
        return store, str(file.attrs["sha256"])


def _arrays(file: h5py.File) -> dict[str, np.ndarray]:
    import h5py

    arrays: dict[str, np.ndarray] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            _refuse_links(file, name, file.filename)
            arrays[name] = item[()]

    file.visititems(collect)
    return arrays


def _refuse_links(file: h5py.File, key: str, name: str) -> None:
    """Refuse an entry stored elsewhere: a file must not make this program read other files."""
    import h5py

    link = file.get(key, getlink=True)
    item = file.get(key) if isinstance(link, h5py.HardLink) else None
    if isinstance(link, h5py.ExternalLink):
        what = f"a link to {link.filename}"
    elif isinstance(link, h5py.SoftLink):
        what = f"a link to {link.path}"
    elif isinstance(item, h5py.Dataset) and (item.is_virtual or item.external is not None):
        what = "stored in other files"
    else:
        return
    raise UserError(f"{name}: {key!r} is {what}, expected its numbers in the file itself; get the published file")


def _is_locked(error: Exception) -> bool:
    return isinstance(error, BlockingIOError) or "lock file" in str(error)


def _locked(name: str) -> UserError:
    return UserError(
        f"{name}: locked by another process that has it open; close it or wait, or set HDF5_USE_FILE_LOCKING=FALSE "
        "where the file system has no locks"
    )


def _check_finite(arrays: Mapping[str, np.ndarray], path: Path, remedy: str) -> None:
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating):
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                word = "NaN" if np.isnan(array[tuple(bad[0])]) else "an infinite number"
                raise UserError(
                    f"{path}: array {name!r} holds {word} in row {bad[0][0] if array.ndim else 0} ({len(bad)} such "
                    f"entries), expected finite numbers; {remedy}"
                )
