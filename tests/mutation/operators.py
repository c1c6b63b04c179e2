"""The changes that make a mutant: those of cosmic-ray that are no repetition, and what it has not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

# Of the eleven other operators that cosmic-ray puts in an operator's place one is enough: what sees none sees no other.
BINARY = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "Pow_Mul", "RShift_LShift",
          "LShift_RShift", "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitAnd")  # fmt: skip
COMPARISONS = ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt", "Eq_NotEq", "NotEq_Eq",
               "Is_IsNot", "IsNot_Is")  # fmt: skip
UNARY = ("Delete_USub", "Delete_Not", "Delete_Invert")
OTHERS = ("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
          "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer",
          "RemoveDecorator", "ZeroIterationForLoop")  # fmt: skip
NAMES = (
    *(f"ReplaceBinaryOperator_{name}" for name in BINARY),
    *(f"ReplaceComparisonOperator_{name}" for name in COMPARISONS),
    *(f"ReplaceUnaryOperator_{name}" for name in UNARY),
    *OTHERS,
)

PAIRS = (("min", "max"), ("any", "all"), ("floor", "ceil"), ("argmin", "argmax"), ("minimum", "maximum"),
         ("zeros", "ones"), ("isnan", "isinf"), ("lstrip", "rstrip"), ("startswith", "endswith"))  # fmt: skip
OPPOSITE = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}

Position = tuple[tuple[int, int], tuple[int, int]]
EXAMPLES: dict[str, tuple[str, str]] = {
    "SwapName": ("y = np.min(x)", "y = np.max(x)"),
    "Unwrap": ("y = abs(x) + 1", "y = (x) + 1"),
    "DropKeyword": ("f(a, b=1, c=2)", "f(a, c=2)"),
    "SwapIn": ("a in b", "a not in b"),
    "DropStatement": ("if a:\n    f(b)\n", "if a:\n    pass\n"),
    "TenTimes": ("x = 0.2", "x = 2.0"),
}


class _Ours(Operator):  # type: ignore[misc]
    """One kind of change; `points` finds the places within a node, `change` changes one of them."""

    def points(self, node: Any) -> list[Any]:
        raise NotImplementedError

    def change(self, node: Any, point: Any) -> Any:
        raise NotImplementedError

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        for point in self.points(node):
            yield (point.start_pos, point.end_pos)

    def mutate(self, node: Any, index: int) -> Any:
        return self.change(node, self.points(node)[index])

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class SwapName(_Ours):
    """A function in the place of its opposite."""

    def points(self, node: Any) -> list[Any]:
        is_called = node.type == "name" and node.value in OPPOSITE and node.get_next_leaf().value == "("
        return [node] if is_called else []

    def change(self, node: Any, point: Any) -> Any:
        node.value = OPPOSITE[node.value]
        return node


class Unwrap(_Ours):
    """An argument in the place of a function of it."""

    FUNCTIONS = frozenset({"abs", "sorted", "reversed", "round", "rint", "sqrt", "log", "exp", "bool", "log2"})

    def points(self, node: Any) -> list[Any]:
        if node.type != "atom_expr":
            return []
        return [child for at, child in enumerate(node.children) if at and self._is_call_of_one(node, at)]

    def _is_call_of_one(self, node: Any, at: int) -> bool:
        child, name = node.children[at], node.children[at - 1].get_last_leaf()
        is_call = child.type == "trailer" and child.children[0].value == "(" and len(child.children) == 3
        return is_call and name.value in self.FUNCTIONS and child.children[1].type not in ("argument",)

    def change(self, node: Any, point: Any) -> Any:
        at = node.children.index(point)
        argument = point.children[1]
        inner = argument.children[0] if argument.type == "arglist" else argument
        rest = "".join(child.get_code() for child in node.children[at + 1 :])
        return parso.parse(f"{node.get_first_leaf().prefix}({inner.get_code()}){rest}")


class DropKeyword(_Ours):
    """A call without one of its keyword arguments."""

    def points(self, node: Any) -> list[Any]:
        within = node.type == "arglist" or (node.type == "trailer" and len(node.children) == 3)
        found = [child for child in node.children if child.type == "argument"] if within else []
        return [child for child in found if child.children[1].type == "operator" and child.children[1].value == "="]

    def change(self, node: Any, point: Any) -> Any:
        at = node.children.index(point)
        first = 0 if node.type == "arglist" else 1
        if at > first:
            del node.children[at - 1 : at + 1]  # with the comma in front
        else:
            has_comma = len(node.children) > at + 1 and node.type == "arglist"
            del node.children[at : at + 1 + has_comma]
        return node


class SwapIn(_Ours):
    """`in` in the place of `not in`, and the other way round."""

    def points(self, node: Any) -> list[Any]:
        found = node.children[1::2] if node.type == "comparison" else []
        return [child for child in found if child.get_code().split() in (["in"], ["not", "in"])]

    def change(self, node: Any, point: Any) -> Any:
        other = " in" if point.get_code().split() == ["not", "in"] else " not in"
        node.children[node.children.index(point)] = parso.parse(other)
        return node


class DropStatement(_Ours):
    """Nothing in the place of a call, a raise, a += or a del."""

    def points(self, node: Any) -> list[Any]:
        if node.type != "simple_stmt":
            return []
        statement = node.children[0]
        is_call = statement.type == "atom_expr" and statement.children[-1].children[0].value == "("
        is_added = statement.type == "expr_stmt" and statement.children[1].get_code().strip() not in ("=", ":")
        return [statement] if is_call or statement.type in ("raise_stmt", "del_stmt") or (
            is_added and statement.children[1].type == "operator"
        ) else []  # fmt: skip

    def change(self, node: Any, point: Any) -> Any:
        node.children[0] = parso.parse(f"{point.get_first_leaf().prefix}pass")
        return node


class TenTimes(_Ours):
    """A number with a point or an exponent, ten times as large."""

    def points(self, node: Any) -> list[Any]:
        return [node] if node.type == "number" and isinstance(_value(node), float) else []

    def change(self, node: Any, point: Any) -> Any:
        node.value = repr(10 * _value(node))
        return node


def _value(number: Any) -> float | int | complex:
    return float(number.value) if set(number.value) & set(".eE") and "x" not in number.value.lower() else 0


OURS = (SwapName, Unwrap, DropKeyword, SwapIn, DropStatement, TenTimes)


def every() -> dict[str, Operator]:
    """Returns an operator of each kind, by name. Raises ValueError where one of ours does not do what EXAMPLES say."""
    theirs, ours = OperatorProvider(), {kind.__name__: kind() for kind in OURS}
    for name, (before, after) in EXAMPLES.items():
        if (found := mutate_code(before, ours[name], 0)) != after:
            raise ValueError(f"{name} makes {found!r} of {before!r}, not {after!r}")
    return {name: theirs[name]() for name in NAMES} | ours
