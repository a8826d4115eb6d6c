"""Generate the code of templates with counters in it; `limits.LimitedSandbox` has the methods that the code calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, operators


class CountingGenerator(CodeGenerator):
    """Generate code that counts steps and measures the results of `~` and of list, dict and tuple displays.

    Nothing but literal text is computed at compile time.
    """

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        self.writeline("environment.tick()")  # the body of each loop, macro, branch and block
        super().blockvisit(nodes, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.join_texts((")
        for item in node.nodes:
            self.visit(item, frame)
            self.write(", ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        self.write("(")
        self._visit_weighed(node.expr, frame)
        for operand in node.ops:
            self.write(f" {operators[operand.op]} ")
            self._visit_weighed(operand.expr, frame)
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        is_slice = isinstance(node.arg, nodes.Slice)
        self.write("environment.weighed(" if is_slice else "")
        super().visit_Getitem(node, frame)
        self.write(")" if is_slice else "")

    def _visit_weighed(self, node: nodes.Expr, frame: Frame) -> None:
        is_constant = isinstance(node, nodes.Const)
        self.write("" if is_constant else "environment.weighed(")
        self.visit(node, frame)
        self.write("" if is_constant else ")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._visit_measured(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._visit_measured(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        self._visit_measured(super().visit_Tuple, node, frame)

    def visit_Name(self, node: nodes.Name, frame: Frame) -> None:
        visit = super().visit_Name
        self._visit_measured(visit, node, frame) if node.name in ("varargs", "kwargs") else visit(node, frame)

    def _visit_measured(self, visit: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame) -> None:
        """Wrap an expression in `measured(…)`, unless it holds only constants or is an assignment target."""
        named = isinstance(node, nodes.Name) or node.find(nodes.Name) is not None
        measured = named and getattr(node, "ctx", "load") == "load"
        self.write("environment.measured(" if measured else "")
        visit(node, frame)
        self.write(")" if measured else "")

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)
