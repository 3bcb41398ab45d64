"""The line of a table or key is found however it is written."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from shardprof.study.bench.toml_lines import line_at, lines_of

NAMES = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=3)


def written(path: list[str], *, bare: bool) -> str:
    can_be_bare = [bare and part.replace("_", "").replace("-", "").isalnum() for part in path]
    return " . ".join(part if plain else json.dumps(part) for part, plain in zip(path, can_be_bare, strict=True))


@given(st.lists(st.tuples(PATHS, PATHS, st.booleans(), st.integers(0, 2)), max_size=6))
def test_every_key_has_the_line_on_which_its_table_tells_it(told: list[tuple[list[str], list[str], bool, int]]) -> None:
    lines: list[str] = []
    expected: dict[str, int] = {}
    for number, (table, key, bare, gap) in enumerate(told):
        unique = [*table, f"table{number}"]
        lines += ["# a comment = 3"] * gap + [f"[{written(unique, bare=bare)}]  # of keys"]
        lines += [f"  {written(key, bare=bare)} = [1, 2]"]
        expected[f".{'.'.join([*unique, *key])}"] = len(lines)
    found = lines_of("\n".join(lines))
    for place, line in expected.items():
        assert line_at(place, found) == line
        assert line_at(f"{place}[3]", found) == line
        assert line_at(f"{place}.inside", found) == line


def test_tables_of_a_list_are_counted() -> None:
    found = lines_of('[[exclude]]\nranks = 2\n\n[[exclude]]\n"ranks" = 4\n')
    assert [line_at(f".exclude[{number}].ranks", found) for number in (0, 1)] == [2, 5]
    assert line_at(".exclude[1].nodes", found) == 4
    assert line_at(".exclude[7]", found) == line_at(".study", found) == 1
