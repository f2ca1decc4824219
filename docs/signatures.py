"""Signatures and docments of exported code, read from its source: nothing is imported.

A docment is the comment behind a parameter, a field or a return annotation that says what it means.
"""

import ast
import io
import tokenize
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Param:
    "One row of a signature table."

    name: str  # as written, with its stars
    type: str = ""  # source of the annotation
    default: str = ""  # source of the default, empty when the argument is required
    meaning: str = ""  # the docment


@dataclass(frozen=True)
class Symbol:
    "An exported function, class, method or constant."

    name: str  # `f`, `C`, or `C.method` for a method
    kind: str  # "function", "class", "method", "property" or "constant"
    call: str = ""  # what a reader types, with names and defaults
    doc: str = ""  # the docstring
    params: tuple[Param, ...] = ()
    returns: Param | None = None
    methods: tuple["Symbol", ...] = ()
    bases: tuple[str, ...] = ()

    @property
    def members(self) -> tuple["Symbol", ...]:
        "The symbol itself and its public methods."
        return (self, *self.methods)


class _Source:
    "A piece of Python source with its comments by line."

    def __init__(self, text: str):
        self.lines = [line.encode() for line in text.split("\n")]  # offsets of the syntax tree count bytes
        self.tree = ast.parse(text)
        self.comments = {}  # line -> text of the comment on it
        self.alone = set()  # lines that hold nothing but a comment
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                self.comments[token.start[0]] = token.string.lstrip("#| ").strip()
                if not token.line[: token.start[1]].strip():
                    self.alone.add(token.start[0])

    def code(self, node: ast.AST | None) -> str:
        "Source of `node` on one line."
        if node is None:
            return ""
        lines = self.lines[node.lineno - 1 : node.end_lineno]
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return " ".join(b" ".join(lines).decode().split())

    def comment(self, line: int) -> str:
        "Comment at the end of `line`, with the comment lines that continue it below."
        if line in self.comments and line not in self.alone:
            parts, line = [self.comments[line]], line + 1
            while line in self.alone:
                parts.append(self.comments[line])
                line += 1
            return " ".join(parts)
        return ""


def _params(source: _Source, node: ast.FunctionDef, method: bool) -> tuple[tuple[Param, ...], Param | None]:
    "Rows of a function's table, and what it returns."
    args = node.args
    positional = args.posonlyargs + args.args
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    rows = list(zip(positional, defaults, [""] * len(positional)))
    if args.vararg:
        rows.append((args.vararg, None, "*"))
    rows += list(zip(args.kwonlyargs, args.kw_defaults, [""] * len(args.kwonlyargs)))
    if args.kwarg:
        rows.append((args.kwarg, None, "**"))
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    if method and not static:
        rows = rows[1:]
    ends = {arg.arg: (default or arg).end_lineno for arg, default, _ in rows}
    last = {line: name for name, line in ends.items()}
    if node.returns is not None:
        last.pop(node.returns.end_lineno, None)
    params = tuple(
        Param(
            stars + arg.arg,
            source.code(arg.annotation),
            source.code(default),
            source.comment(ends[arg.arg]) if last.get(ends[arg.arg]) == arg.arg else "",
        )
        for arg, default, stars in rows
    )
    returns = None
    if node.returns is not None and source.code(node.returns) != "None":
        returns = Param("returns", source.code(node.returns), "", source.comment(node.returns.end_lineno))
    return params, returns


def _call(name: str, params: tuple[Param, ...]) -> str:
    "What a reader types: names and defaults; of a long list, only what has no default."
    text = f"{name}({', '.join(p.name + (f'={p.default}' if p.default else '') for p in params)})"
    if len(text) <= 88:
        return text
    required = [p.name for p in params if not p.default and not p.name.startswith("*")]
    return f"{name}({', '.join([*required, '…'])})" if len(required) < len(params) else text


def _decorators(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    "Last part of the name of each decorator."
    found = set()
    for d in node.decorator_list:
        d = d.func if isinstance(d, ast.Call) else d
        found.add(d.attr if isinstance(d, ast.Attribute) else getattr(d, "id", ""))
    return found


def _function(source: _Source, node: ast.FunctionDef, owner: str = "") -> Symbol:
    "A function, or a method of `owner`."
    decorators = _decorators(node)
    if not owner and "patch" in decorators:
        first = (node.args.posonlyargs + node.args.args)[0]
        owner = source.code(first.annotation).strip("\"'")
    params, returns = _params(source, node, bool(owner))
    kind = "property" if decorators & {"property", "cached_property"} else "method" if owner else "function"
    name = f"{owner}.{node.name}" if owner else node.name
    shown = name.replace(".__call__", "")
    call = shown if kind == "property" else _call(shown, params)
    return Symbol(name, kind, call, ast.get_docstring(node) or "", params, returns)


def _class(source: _Source, node: ast.ClassDef) -> Symbol:
    "A class with its fields or the arguments of its constructor, and its public methods."
    bases = tuple(source.code(b) for b in node.bases)
    functions = [n for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    init = next((n for n in functions if n.name == "__init__"), None)
    if init is not None:
        params, _ = _params(source, init, True)
    else:
        params = tuple(_fields(source, node))
    named = [n for n in functions if not n.name.startswith("_") or n.name == "__call__"]
    methods = {n.name: _function(source, n, node.name) for n in named}
    is_call = init is not None or "dataclass" in _decorators(node) or bool(params)
    call = _call(node.name, params) if is_call else node.name
    return Symbol(node.name, "class", call, ast.get_docstring(node) or "", params, None, tuple(methods.values()), bases)


def _fields(source: _Source, node: ast.ClassDef):
    "Annotated public attributes of a class."
    for n in node.body:
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and not n.target.id.startswith("_"):
            if source.code(n.annotation).startswith("ClassVar"):
                continue
            default, meaning = _field_default(source, n.value)
            yield Param(n.target.id, source.code(n.annotation), default, source.comment(n.end_lineno) or meaning)


def _field_default(source: _Source, value: ast.expr | None) -> tuple[str, str]:
    "Default and description of a field, which may be written as `field(...)` or `Field(...)`."
    if not (isinstance(value, ast.Call) and getattr(value.func, "id", "") in ("field", "Field")):
        return source.code(value), ""
    given = {k.arg: k.value for k in value.keywords}
    described = given.get("description")
    meaning = described.value if isinstance(described, ast.Constant) else ""
    if "default_factory" in given:
        factory = given["default_factory"]
        return source.code(factory.body) if isinstance(factory, ast.Lambda) else source.code(factory) + "()", meaning
    default = given.get("default", value.args[0] if value.args else None)
    return "" if isinstance(default, ast.Constant) and default.value is ... else source.code(default), meaning


@cache
def symbols(text: str) -> tuple[Symbol, ...]:
    "Public symbols that a piece of source defines at its top level, in its order."
    source, found = _Source(text), []
    for node in source.tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(_function(source, node))
        elif isinstance(node, ast.ClassDef):
            found.append(_class(source, node))
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            meaning = source.comment(node.end_lineno)
            for target in targets:
                for leaf in ast.walk(target):
                    if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Store):
                        value = f"{leaf.id} = {source.code(node.value)}" if target is leaf else leaf.id
                        found.append(Symbol(leaf.id, "constant", value if len(value) <= 88 else leaf.id, meaning))
    return tuple(s for s in found if not any(p.startswith("_") and p != "__call__" for p in s.name.split(".")))
