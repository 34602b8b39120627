"""Works formulas out with sympy: solve, simplify, differentiate, integrate.

Nothing of a buyer's text is ever evaluated. It is read with Python's parser, every node of the tree is
checked against a short list, and sympy objects are built from what is on it. That, and the work itself,
happen in a child process (this same file, run) with limits on time, memory and what it may answer.
"""

from __future__ import annotations

import ast
import asyncio
import re
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol, assert_never, cast

import sympy
from pydantic import BaseModel, Field, ValidationError

from lightwork import Agent, TaskFailed, TaskRefused, sats

LONGEST_INPUT = 1_000
MOST_NODES = 400
MOST_DEPTH = 60
MOST_SYMBOLS = 10
MOST_DIGITS = 50
LARGEST_EXPONENT = 100
LARGEST_POWER_BITS = 4_000
"""A power of numbers is worked out at once, so its size is checked before."""
MOST_SOLUTIONS = 100
LONGEST_OUTPUT = 20_000
"""Characters of one formula in an answer."""

ANSWER_BYTES = 3 * 65_536
CPU_SECONDS = 5
WALL_SECONDS = 40
"""Loading sympy on a busy machine takes seconds of it; the limit that ends endless work is the CPU's."""
MEMORY_BYTES = 512 * 2**20
CHILDREN = 2
"""How many work at the same time; further jobs wait for their turn."""

Formula = Annotated[
    str,
    Field(
        pattern=rf"^[A-Za-z0-9_+\-*/^()., \t]{{1,{LONGEST_INPUT}}}$",
        description="as in 2*x**2 - sin(pi*x)/3; ^ is ** too; constants are E, I and pi",
    ),
]
Equation = Annotated[
    str,
    Field(
        pattern=rf"^[A-Za-z0-9_+\-*/^()., \t=]{{1,{LONGEST_INPUT}}}$",
        description="as in x**2 = 4; without = it is taken as = 0",
    ),
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,19}$", description="a letter or a short name")]
Order = Annotated[int, Field(ge=1, le=8)]

agent = Agent("maths", description="Works formulas out, exactly.")


class Worked(BaseModel):
    """A formula in the notation of the input, the same in LaTeX, and its number if it is one."""

    formula: Annotated[str, Field(max_length=LONGEST_OUTPUT)]
    latex: Annotated[str, Field(max_length=LONGEST_OUTPUT)]
    approximately: Annotated[str, Field(max_length=200)] | None = Field(
        description="12 digits; null if it has unknowns"
    )


class Solutions(BaseModel):
    """What the unknown can be. Of an equation with periodic solutions, those of one period."""

    always: bool = Field(description="true if the equation holds for every value of the unknown")
    solutions: list[Worked] = Field(max_length=MOST_SOLUTIONS)


@agent.task(price=sats(10), work_seconds=120, tags=("maths", "solve"))
async def solve(equation: Equation, unknown: Name = "x") -> Solutions:
    """Solve an equation for one unknown: exact solutions, complex ones too, with their decimals."""
    answer = await work_out(_Question(operation=_Operation.SOLVE, text=equation, variable=unknown))
    return Solutions(always=answer.always, solutions=answer.worked)


@agent.task(price=sats(5), work_seconds=120, tags=("maths", "simplify"))
async def simplify(formula: Formula) -> Worked:
    """Write a formula as simply as can be found; one of numbers alone is worked out exactly."""
    return _only(await work_out(_Question(operation=_Operation.SIMPLIFY, text=formula)))


@agent.task(price=sats(5), work_seconds=120, tags=("maths", "calculus"))
async def differentiate(formula: Formula, variable: Name = "x", order: Order = 1) -> Worked:
    """Differentiate a formula, up to eight times."""
    question = _Question(operation=_Operation.DIFFERENTIATE, text=formula, variable=variable, order=order)
    return _only(await work_out(question))


@agent.task(price=sats(10), work_seconds=120, tags=("maths", "calculus"))
async def integrate(formula: Formula, variable: Name = "x") -> Worked:
    """Find an antiderivative, without the constant; a refund if none is found in closed form."""
    return _only(await work_out(_Question(operation=_Operation.INTEGRATE, text=formula, variable=variable)))


# --- the runner's side: one child process for each question ---


class _Operation(StrEnum):
    SOLVE = "solve"
    SIMPLIFY = "simplify"
    DIFFERENTIATE = "differentiate"
    INTEGRATE = "integrate"


class _Question(BaseModel):
    operation: _Operation
    text: str
    variable: str = "x"
    order: int = 1
    cpu_seconds: int = CPU_SECONDS
    memory_bytes: int = MEMORY_BYTES


class _Answer(BaseModel):
    refused: str | None = None
    failed: str | None = None
    always: bool = False
    worked: list[Worked] = []


_turns = asyncio.Semaphore(CHILDREN)
_THIS_FILE = str(Path(__file__).resolve())


async def work_out(question: _Question, *, wall_seconds: float = WALL_SECONDS) -> _Answer:
    """Have a child process answer.

    Raises:
        TaskRefused: the child will not take the input.
        TaskFailed: it found nothing, or had to be stopped.
    """
    async with _turns:
        try:
            async with asyncio.timeout(wall_seconds):
                output = await _ask_child(question.model_dump_json().encode())
        except TimeoutError:
            raise TaskFailed("it takes too long to work out") from None
    try:
        answer = _Answer.model_validate_json(output, strict=True)
    except ValidationError:
        raise TaskFailed("it takes too much time or memory to work out") from None
    if answer.refused is not None:
        raise TaskRefused(answer.refused)
    if answer.failed is not None:
        raise TaskFailed(answer.failed)
    return answer


async def _ask_child(question: bytes) -> bytes:
    """Run this file as a program. It sees no environment, and is gone when this returns, however it does."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-B", _THIS_FILE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        cwd="/",
    )
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("pipes were asked for, and none came")
    output = bytearray()
    try:
        with suppress(BrokenPipeError, ConnectionResetError):
            child.stdin.write(question)
            await child.stdin.drain()
        child.stdin.close()
        while block := await child.stdout.read(65_536):
            output += block
            if len(output) > ANSWER_BYTES:
                raise TaskFailed("the answer is too long")
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        while await child.stdout.read(65_536):
            pass
        await child.wait()
    return bytes(output)


def _only(answer: _Answer) -> Worked:
    (worked,) = answer.worked
    return worked


# --- the child's side ---


class _Value(Protocol):
    """The little of sympy's expressions that is used; sympy has no types of its own for it."""

    free_symbols: set[object]
    is_zero: bool | None

    def __add__(self, other: _Value, /) -> _Value: ...
    def __sub__(self, other: _Value, /) -> _Value: ...
    def __mul__(self, other: _Value, /) -> _Value: ...
    def __truediv__(self, other: _Value, /) -> _Value: ...
    def __pow__(self, other: _Value, /) -> _Value: ...
    def __neg__(self) -> _Value: ...
    def has(self, *patterns: object) -> bool: ...
    def evalf(self, digits: int, /) -> _Value: ...


def _known(name: str) -> Callable[..., _Value]:
    return cast("Callable[..., _Value]", getattr(sympy, name))


_FUNCTIONS = {
    name: _known(name)
    for name in (
        *("sqrt", "exp", "log", "Abs", "sign"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    )
} | {"ln": _known("log"), "abs": _known("Abs")}
_CONSTANTS = {name: cast("_Value", getattr(sympy, name)) for name in ("E", "I", "pi")}
_RESERVED = frozenset({"oo", "zoo", "nan", "inf", "Infinity", "NaN"})
_OPERATORS: dict[type[ast.operator], Callable[[_Value, _Value], _Value]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
}
_UNDEFINED = tuple(cast("_Value", getattr(sympy, name)) for name in ("nan", "zoo", "oo"))


def read_formula(text: str) -> _Value:
    """Build a sympy object from a formula, of nothing but what is on the lists above.

    Raises:
        TaskRefused: something else is in it, or it is too large.
    """
    if len(text) > LONGEST_INPUT or not text.isascii() or not text.strip():
        raise TaskRefused(f"a formula has 1 to {LONGEST_INPUT} plain characters")
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError):
        raise TaskRefused("that is no formula; write 2*x for 2x, and close every bracket") from None
    except (MemoryError, RecursionError):
        raise TaskRefused("the formula is nested too deeply") from None
    return _Reader().read(tree.body)


@dataclass
class _Reader:
    nodes: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        self._symbols: set[str] = set()

    def read(self, node: ast.expr) -> _Value:
        self.nodes += 1
        self.depth += 1
        if self.nodes > MOST_NODES or self.depth > MOST_DEPTH:
            raise TaskRefused(f"the formula has more than {MOST_NODES} parts, or is nested too deeply")
        value = self._read(node)
        self.depth -= 1
        if value.has(*_UNDEFINED):
            raise TaskRefused("a part of the formula is not defined: it divides by zero")
        return value

    def _read(self, node: ast.expr) -> _Value:
        match node:
            case ast.Constant(value=bool()):
                raise TaskRefused("a formula has numbers, names and functions only")
            case ast.Constant(value=int() | float() as number):
                return _number(number)
            case ast.Name(id=name):
                return self._name(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.read(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.read(operand)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return _power(self.read(left), self.read(right))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](self.read(left), self.read(right))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
                return _FUNCTIONS[name](self.read(argument))
            case ast.Call():
                raise TaskRefused(f"the functions are {', '.join(_FUNCTIONS)}, each of one argument")
            case _:
                raise TaskRefused("a formula has numbers, names, + - * / ** and functions only")

    def _name(self, name: str) -> _Value:
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        self._symbols.add(name)
        if len(self._symbols) > MOST_SYMBOLS:
            raise TaskRefused(f"a formula has at most {MOST_SYMBOLS} unknowns")
        return read_name(name)


def read_name(name: str) -> _Value:
    """Make a symbol.

    Raises:
        TaskRefused: the name is a function's, a constant's or too long.
    """
    if name in _FUNCTIONS or name in _CONSTANTS or name in _RESERVED:
        raise TaskRefused(f"{name} is no name for an unknown")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,19}", name):
        raise TaskRefused("an unknown is a letter, or a name of at most 20 letters, digits and _")
    return cast("_Value", sympy.Symbol(name))


def _number(number: float) -> _Value:
    """Take 0.1 for the tenth that was written, not for the nearest binary fraction."""
    exact = Decimal(repr(number))
    _, digits, exponent = exact.as_tuple()
    if not isinstance(exponent, int) or len(digits) + abs(exponent) > MOST_DIGITS:
        raise TaskRefused(f"a number has at most {MOST_DIGITS} digits")
    return _known("Rational")(*exact.as_integer_ratio())


def _power(base: _Value, exponent: _Value) -> _Value:
    if isinstance(exponent, sympy.Rational):
        p, q = (abs(int(part)) for part in (exponent.p, exponent.q))
        if p > LARGEST_EXPONENT * q or q > LARGEST_EXPONENT:
            raise TaskRefused(f"an exponent is at most {LARGEST_EXPONENT}, and so is its denominator")
        if isinstance(base, sympy.Rational):
            bits = max(int(part).bit_length() for part in (base.p, base.q))
            if bits * p > LARGEST_POWER_BITS * q:
                raise TaskRefused("a power of numbers is too large")
    return base**exponent


def answer_question(question: _Question) -> _Answer:
    """Do the work, whatever it may take: only in a process that has limits.

    Raises:
        TaskRefused, TaskFailed: as the buyer shall read it.
    """
    variable = read_name(question.variable)
    match question.operation:
        case _Operation.SOLVE:
            return _solve(question.text, variable)
        case _Operation.SIMPLIFY:
            found = _known("simplify")(read_formula(question.text))
        case _Operation.DIFFERENTIATE:
            found = _known("diff")(read_formula(question.text), variable, question.order)
        case _Operation.INTEGRATE:
            found = _known("integrate")(read_formula(question.text), variable)
            if found.has(sympy.Integral):
                raise TaskFailed("no antiderivative in closed form was found")
        case _:
            assert_never(question.operation)
    return _Answer(worked=[_show(found)])


def _solve(text: str, unknown: _Value) -> _Answer:
    sides = text.split("=")
    if len(sides) > 2:
        raise TaskRefused("an equation has one = at most")
    difference = read_formula(sides[0])
    if len(sides) == 2:
        difference = difference - read_formula(sides[1])
    if _known("simplify")(difference).is_zero:
        return _Answer(always=True)
    if not difference.free_symbols:
        return _Answer()
    if unknown not in difference.free_symbols:
        raise TaskRefused("the unknown is not in the equation")
    try:
        found = cast("Sequence[_Value]", _known("solve")(difference, unknown))
    except NotImplementedError:
        raise TaskFailed("no way to solve this equation is known here") from None
    if not found:
        # Sympy also returns nothing where it lost the solutions on the way.
        raise TaskFailed("no solution was found; that does not prove that there is none")
    if len(found) > MOST_SOLUTIONS:
        raise TaskFailed(f"it has more than {MOST_SOLUTIONS} solutions")
    return _Answer(worked=[_show(solution) for solution in found])


def _show(value: _Value) -> Worked:
    if value.has(*_UNDEFINED):
        raise TaskFailed("the result is not defined")
    formula, latex = str(value), cast("Callable[[_Value], str]", _known("latex"))(value)
    if len(formula) > LONGEST_OUTPUT or len(latex) > LONGEST_OUTPUT:
        raise TaskFailed("the answer is too long")
    approximately = None if value.free_symbols else str(value.evalf(12))[:200]
    return Worked(formula=formula, latex=latex, approximately=approximately)


def limit_this_process(*, cpu_seconds: int, memory_bytes: int) -> None:
    """Give this process limits that it cannot raise: further CPU time, memory, no files, no core dump."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime) + cpu_seconds
    limits = (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    )
    for limit, value in limits:
        resource.setrlimit(limit, (value, value))


def _answer_once() -> None:
    question = _Question.model_validate_json(sys.stdin.buffer.read(65_536))
    limit_this_process(cpu_seconds=question.cpu_seconds, memory_bytes=question.memory_bytes)
    try:
        answer = answer_question(question)
    except TaskRefused as error:
        answer = _Answer(refused=error.message)
    except TaskFailed as error:
        answer = _Answer(failed=error.message)
    except (MemoryError, RecursionError):
        answer = _Answer(failed="it takes too much memory to work out")
    except Exception:  # noqa: BLE001 - the process's edge; what sympy says of itself is not for the buyer
        answer = _Answer(failed="sympy cannot work this out")
    sys.stdout.write(answer.model_dump_json())


if __name__ == "__main__":
    _answer_once()
