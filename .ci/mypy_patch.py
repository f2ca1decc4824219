"""A mypy plugin for fastcore's `@patch`: `def f(self: Trainer, ...)` under `@patch` is an attribute of `Trainer`.

Classes here grow method by method, over notebook cells, and mypy does not run decorators: without the plugin every call
of such a method is an error. With it the method is known, and so are the attributes that it sets on `self`; a name that
nobody defined is still an error."""

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path

from mypy.nodes import MDEF, SymbolTableNode, Var
from mypy.plugin import ClassDefContext, Plugin
from mypy.types import AnyType, TypeOfAny


@cache
def patches(source: str) -> dict[str, set[str]]:
    "By class: the functions that `@patch` puts on it, and what they set on their first argument."
    found: dict[str, set[str]] = {}
    for f in ast.parse(source).body:
        if not isinstance(f, ast.FunctionDef) or not any("patch" in ast.unparse(d) for d in f.decorator_list):
            continue
        owner = f.args.args[0]
        names = {f.name}
        for node in ast.walk(f):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if ast.unparse(node.value) == owner.arg:
                    names.add(node.attr)
        if owner.annotation:
            found.setdefault(ast.unparse(owner.annotation), set()).update(names)
    return found


def add_patched(ctx: ClassDefContext) -> None:
    "Adds to a class, as `Any`, what the patches in its module define."
    info = ctx.cls.info
    path = Path(ctx.api.modules[info.module_name].path)
    for name in sorted(patches(path.read_text(encoding="utf-8")).get(ctx.cls.name, set()) - set(info.names)):
        variable = Var(name, AnyType(TypeOfAny.special_form))
        variable.info = info
        variable._fullname = f"{info.fullname}.{name}"
        info.names[name] = SymbolTableNode(MDEF, variable)


class PatchPlugin(Plugin):
    def get_customize_class_mro_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        return add_patched if fullname.startswith("preflexor_lab.") else None


def plugin(version: str) -> type[Plugin]:
    return PatchPlugin
