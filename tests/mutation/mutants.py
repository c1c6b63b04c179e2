"""Every mutant of a module: what its source becomes, and which statement is changed."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from difflib import ndiff
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code

from mutation import Scope, path
from mutation.hand import FAULTS
from mutation.operators import every

COMPOUND = ("if_stmt", "while_stmt", "for_stmt", "with_stmt", "try_stmt", "funcdef", "classdef", "decorated")


@dataclass(frozen=True)
class Mutant:
    """A module's source with one change.

    first, last: lines of the statement that is changed. before, after: the lines that differ, joined by " ⏎ ".
    """

    operator: str
    occurrence: int
    first: int
    last: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> str:
        return f"{self.operator} {self.occurrence}"

    def __str__(self) -> str:
        return f"{self.first}: {self.before}  ->  {self.after}"


def mutants(scope: Scope) -> list[Mutant]:
    """Returns the mutants of a module that differ in what they do, those put in by hand last."""
    source = path(scope.module).read_text(encoding="utf-8")
    tree, original = parso.parse(source), _meaning(source)
    meant = _lines(source, scope.functions)
    found, seen = [], {original}
    for name, operator in every().items():
        places = [start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node)]
        for occurrence, place in enumerate(places):
            changed = _changed(source, operator, occurrence) if place[0] in meant else None
            meaning = None if changed is None else _meaning(changed)
            if meaning is not None and meaning not in seen:
                seen.add(meaning)
                found.append(Mutant(name, occurrence, *_statement(tree, place), *_difference(source, changed), changed))
    return found + by_hand(scope.module, source)


def _lines(source: str, functions: tuple[str, ...]) -> frozenset[int]:
    """Returns the lines of some functions, all where none is named. Raises ValueError for one that is not there."""
    if not functions:
        return frozenset(range(1, source.count("\n") + 2))
    spans = {n.name: range(n.lineno, (n.end_lineno or n.lineno) + 1)
             for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)}  # fmt: skip
    if absent := [name for name in functions if name not in spans]:
        raise ValueError(f"there is no function {', '.join(absent)}")
    return frozenset(line for name in functions for line in spans[name])


def _changed(source: str, operator: Any, occurrence: int) -> str | None:
    try:
        return mutate_code(source, operator, occurrence)
    except AttributeError:  # `except package.Error`: cosmic-ray knows plain names alone
        return None


def by_hand(module: str, source: str) -> list[Mutant]:
    """Returns the faults of `hand` in this module. Raises ValueError for one whose source is not there."""
    found = []
    for number, (file, before, after) in enumerate(FAULTS):
        if file == module:
            if source.count(before) != 1:
                raise ValueError(f"{before!r} stands {source.count(before)} times in {file}")
            line = source[: source.index(before)].count("\n") + 1
            last = line + before.count("\n")
            shown = " ".join(before.split()), " ".join(after.split())
            found.append(Mutant("Hand", number, line, last, *shown, source.replace(before, after)))
    return found


def _statement(tree: Any, place: tuple[int, int]) -> tuple[int, int]:
    """Returns the first and last line of the statement around a position, of a compound one its head alone."""
    node = tree.get_leaf_for_position(place, include_prefixes=True)
    while node.type != "simple_stmt" and node.parent is not None and node.parent.type not in COMPOUND:
        node = node.parent
    return node.start_pos[0], node.end_pos[0] - (node.end_pos[1] == 0)


def _difference(before: str, after: str) -> tuple[str, str]:
    lines = list(ndiff(before.splitlines(), after.splitlines()))
    gone, come = ([line[2:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return " ⏎ ".join(gone), " ⏎ ".join(come)


def _meaning(source: str) -> str | None:
    """Returns what a source does as text, the same for sources that only read differently; None if it is none."""
    try:
        tree = ast.parse(source)
        compile(tree, "a mutant", "exec")
    except (SyntaxError, ValueError):
        return None
    return ast.dump(_Bare().visit(tree))


def _called(decorator: ast.expr) -> ast.expr:
    return decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])


class _Bare(ast.NodeTransformer):
    """Leaves out what is only for readers and type checkers, and what no input can tell."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        """By place or by name: whoever writes a call is told, and the call does the same."""
        pairs = zip(node.kwonlyargs, node.kw_defaults, strict=True)
        node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        node.defaults = [*node.defaults, *(default or ast.Constant(None) for _, default in pairs)]
        node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """A class that is `frozen` guards whoever writes the code; what runs does the same without."""
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "dataclass":
                call.keywords = [k for k in call.keywords if k.arg != "frozen"]
        node.decorator_list = [_called(decorator) for decorator in node.decorator_list]
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """zip's `strict` is an assertion, `encoding` the platform's here, and nobody reads stacked warnings."""
        is_zip = isinstance(node.func, ast.Name) and node.func.id == "zip"
        node.keywords = [k for k in node.keywords if k.arg != "encoding" and not (is_zip and k.arg == "strict")]
        return self.generic_visit(node)
