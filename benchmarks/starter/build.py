"""Builds and validates the starter suite's data: `python -m benchmarks.starter.build` writes, `--check` only compares.

Generated files (arithmetic in three languages, formats, reasoning, structure, sums) are made here from a fixed seed;
the others are written by hand in the JSONL itself and only validated.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks.starter import arithmetic, formats, reasoning, structure
from benchmarks.starter.dataset import DATA, read_items
from benchmarks.starter.items import number, problems

SEED = 20261121


def generated() -> dict[str, list[dict[str, Any]]]:
    """Return the items of every generated data file by the file's name without suffix."""
    files = {
        "arithmetic": arithmetic.build("en", SEED),
        "arithmetic_de": arithmetic.build("de", SEED),
        "arithmetic_zh": arithmetic.build("zh", SEED),
        "formats": formats.build(SEED),
        "reasoning": reasoning.build(SEED),
        "structure": structure.build(SEED),
        "sums": formats.build_sums(SEED),
    }
    return {name: number(name, items) for name, items in files.items()}


def as_jsonl(items: list[dict[str, Any]]) -> str:
    """Return items as the text of a data file."""
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in items)


def main(arguments: list[str] | None = None) -> int:
    """Build or check; return the exit code: 0 all well, 1 something is wrong (said on stderr)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starter.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not what would be built")
    check = parser.parse_args(arguments).check
    wrong: list[str] = []
    for name, items in generated().items():
        path, text = DATA / f"{name}.jsonl", as_jsonl(items)
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(f"{path.name}: not what the builder makes; run python -m benchmarks.starter.build")
    counts: list[str] = []
    for path in sorted(DATA.glob("*.jsonl")):
        items = read_items(path.stem)
        wrong += [f"{path.name}: {problem}" for problem in problems(items)]
        counts.append(f"{path.stem} {len(items)}")
    sys.stdout.write(f"items: {', '.join(counts)}\n")
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
