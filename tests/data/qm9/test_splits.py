from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from se3t.data.qm9.splits import NO_SPLIT, NUM_MOLECULES, PACKAGED_LIST, SPLIT_SIZES, official_splits, read_ids
from se3t.errors import UserError


def test_the_packaged_list_names_the_3054_molecules() -> None:
    ids = read_ids(PACKAGED_LIST)
    assert len(ids) == 3054
    assert (ids[0], ids[-1]) == (58, 133866)


def test_every_molecule_is_in_one_split_or_uncharacterized() -> None:
    splits = official_splits()
    counts = {name: int((splits == code).sum()) for code, name in enumerate(SPLIT_SIZES)}
    assert counts == SPLIT_SIZES
    without = np.flatnonzero(splits == NO_SPLIT)
    assert without[0] == 0  # numbers begin with 1
    assert tuple(without[1:].tolist()) == read_ids(PACKAGED_LIST)


def test_splits_are_a_permutation_of_the_kept_numbers_in_ascending_order() -> None:
    left_out = set(read_ids(PACKAGED_LIST))
    kept = [number for number in range(1, NUM_MOLECULES + 1) if number not in left_out]
    places = np.random.RandomState(0).permutation(len(kept))
    splits = official_splits()
    for begin, end, code in ((0, 100_000, 0), (100_000, 117_748, 1), (117_748, 130_831, 2)):
        assert {int(splits[kept[place]]) for place in places[begin:end].tolist()} == {code}


def test_the_splits_are_the_same_on_every_machine() -> None:
    # Changes only when the definition of the splits changes; all results would then change too.
    digest = hashlib.sha256(official_splits().tobytes()).hexdigest()
    assert digest == "f0730a412ebf11ef6d0ac11348a30aebf451e22dfad79828bcccfab1c973e1cf"


def test_nobody_can_change_the_splits() -> None:
    with pytest.raises(ValueError, match="read-only"):
        official_splits()[1] = 2


def test_a_list_is_read_by_the_numbers_that_begin_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("Title with 3 words\n====\n#   Index\n      58   NC(=N)C#N  N#CC 6.03\n  21  O 1\n7 8\n")
    assert read_ids(path) == (7, 8, 21, 58)


@pytest.mark.parametrize(
    ("text", "words"),
    [("no numbers here\n", "no line begins with"), ("133886\n", "names molecule 133886"), ("0\n", "names molecule 0")],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"list\.txt.*{words}"):
        read_ids(path)


def test_a_list_that_is_missing_or_binary_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.txt", "binary.txt"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read"):
            read_ids(tmp_path / name)


def test_the_packaged_list_is_the_published_one(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "qm9_subset"
    if not folder.is_dir():
        pytest.skip("the shared QM9 subset is absent")
    published = folder / "uncharacterized.txt"
    expected = "3aa5115d540b356de94791d4a74c3bf1ed91c469ecf52a4f5d7cc0506fe02e24"
    assert hashlib.sha256(published.read_bytes()).hexdigest() == expected
    assert read_ids(published) == read_ids(PACKAGED_LIST)
