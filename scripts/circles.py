#!/usr/bin/env python3
"""Finds circles among the files of a crate: groups of files that import each other.

    scripts/circles.py [--edges] [SOURCE_FOLDER ...]        default: pipeline/src

An import is a path that begins with `crate::`, `self::`, `super::` or the name of a child module, in a `use` or in the code. A name that
a file only hands on (`pub use`) counts as an import of the file that defines it. Test code, comments and strings are ignored. A file
may use what its own parent modules define: that is no import, since a folder of modules is written as one thing. Prints each
circle with the imports that tie it and exits with 1 when there is one; --edges prints all imports.
"""

import re
import sys
from pathlib import Path

NOISE = re.compile(r"""//[^\n]*|/\*.*?\*/|\bb?r(\#*)".*?"\1|b?"(?:\\.|[^"\\])*"|'(?:\\.[^']*|[^'\\])'""", re.S)
TEST = re.compile(r"#\[cfg\((?:test|all\(test\b[^]]*)\)\]\s*(?:#\[[^]]*\]\s*)*")
MODULE = re.compile(r"(?:#\[path\s*=[^]]*\]\s*)?\bmod\s+(?:r#)?(\w+)\s*;")
USE = re.compile(r"^\s*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", re.M)
PATH = re.compile(r"(?<![\w:])((?:crate|self|super|[a-z_]\w*)(?:\s*::\s*\w+)+)")


def closing(text, start):
    """Returns the position after the bracket that closes the first `{` from `start` on, or after the `;` that comes before it."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] == "{":
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if depth == 0:
                return place + 1
        elif text[place] == ";" and depth == 0:
            return place + 1
    return len(text)


def code_of(path):
    """Returns the text of a file without comments, strings and test code, and the modules that only tests have."""
    text = NOISE.sub(lambda found: " " if found[0].startswith("/") else '""', path.read_text(encoding="utf-8"))
    tests = set()
    while found := TEST.search(text):
        end = closing(text, found.end())
        tests.update(MODULE.findall(text[found.end() : end]))
        text = text[: found.start()] + text[end:]
    return text, tests


def leaves(tree, prefix=()):
    """Yields (path, name) for each leaf of a use tree: `a::{b as c, d::*}` gives (a b, c) and (a d, *)."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    parts = tuple(part.strip().removeprefix("r#") for part in head.split("::") if part.strip())
    if not brace:
        last, _, name = parts[-1].partition(" as ") if parts else ("", "", "")
        whole = prefix + parts[:-1] + ((last.strip(),) if last.strip() not in ("self", "*") else ())
        yield whole, "*" if last.strip() == "*" else name.strip() or (whole[-1] if whole else "")
        return
    depth, begin, inside = 0, 0, rest[: rest.rindex("}")]
    for place, char in enumerate(inside + ","):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            if inside[begin:place].strip():
                yield from leaves(inside[begin:place], prefix + parts)
            begin = place + 1


class Crate:
    """Modules of a crate by path (a tuple of names), each with its file, its paths and the names that it hands on."""

    def __init__(self, folder):
        self.files, self.paths, self.exports = {}, {}, {}
        root = next((folder / name for name in ("lib.rs", "main.rs") if (folder / name).is_file()), None)
        if root is None:
            sys.exit(f"error: no `lib.rs` or `main.rs` in `{folder}`; name the source folder of a crate")
        self.read((), root, folder)

    def read(self, module, path, folder):
        text, tests = code_of(path)
        self.files[module] = path
        children = [name for name in MODULE.findall(text) if name not in tests]
        uses = [(bool(found[1]), leaf) for found in USE.finditer(text) for leaf in leaves(found[2])]
        self.paths[module] = [leaf for _, (leaf, _) in uses] + [
            tuple(part.strip() for part in found.split("::")) for found in PATH.findall(USE.sub(" ", text))
        ]
        self.exports[module] = [(name, leaf) for public, (leaf, name) in uses if public]
        for name in children:
            for child in (folder / f"{name}.rs", folder / name / "mod.rs"):
                if child.is_file():
                    self.read((*module, name), child, folder / name)

    def absolute(self, module, path):
        """Returns a path from the root of the crate, or None when it leads out of the crate."""
        if path[:1] == ("crate",):
            return path[1:]
        if path[:1] == ("self",):
            return module + path[1:]
        if path[:1] == ("super",):
            return self.absolute(module[:-1], ("self", *path[1:]) if path[1:2] != ("super",) else path[1:])
        return module + path if (*module, *path[:1]) in self.files else None

    def target(self, path, seen=()):
        """Returns the module that defines what an absolute path names, following names that are handed on."""
        size = max(size for size in range(len(path) + 1) if path[:size] in self.files)
        module, rest = path[:size], path[size:]
        for name, leaf in self.exports[module] if rest else []:
            source = self.absolute(module, leaf)
            if source is not None and name == rest[0] and (module, name) not in seen:
                return self.target(source + rest[1:], (*seen, (module, name)))
        return module

    def imports(self):
        """Returns the modules that each module imports, without its parents and itself."""
        edges = {}
        for module, paths in self.paths.items():
            found = (self.absolute(module, path) for path in paths)
            targets = {self.target(path) for path in found if path is not None}
            edges[module] = {target for target in targets if module[: len(target)] != target}
        return edges


def circles(edges):
    """Returns the groups of modules that reach each other, by Tarjan's algorithm."""
    index, low, stack, groups = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return groups


def main():
    options = [word for word in sys.argv[1:] if word.startswith("--")]
    if any(word != "--edges" for word in options):
        sys.exit(__doc__)
    sys.setrecursionlimit(10_000)
    bad = 0
    for name in [word for word in sys.argv[1:] if not word.startswith("--")] or ["pipeline/src"]:
        crate = Crate(Path(name))
        edges = crate.imports()
        if "--edges" in options:
            for module, targets in sorted(edges.items()):
                for target in sorted(targets):
                    print(f"{crate.files[module]} -> {crate.files[target]}")
        found = circles(edges)
        for number, group in enumerate(found, 1):
            print(f"{name}: circle {number} of {len(found)}: {len(group)} files")
            for module in group:
                for target in sorted(edges[module] & set(group)):
                    print(f"  {crate.files[module]} -> {crate.files[target]}")
        if not found:
            print(f"{name}: {len(edges)} files, no circle")
        bad += len(found)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
