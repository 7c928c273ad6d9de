"""The grammar and the abstract syntax: what parses, as what, and from where."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import cast, get_args

import pytest
from spec_texts import OSS, SMOL, SPECS

from surgery.diagnostics import Sink
from surgery.grammar import ast, scan
from surgery.grammar.generate import grammar_text, tables_of, written
from surgery.grammar.parse import parse
from surgery.grammar.tables import tables_path
from surgery.source import Source, Span


def read(text: str) -> tuple[ast.Spec, Sink]:
    sink = Sink()
    return parse(Source("t.surg", text), sink), sink


def good(text: str) -> ast.Spec:
    spec, sink = read(text)
    assert sink.found == []
    return spec


def value(text: str) -> ast.Expr:
    item = good(f"surg 1\nlet it = {text}\n").items[0]
    assert isinstance(item, ast.Let)
    return item.value


def shape(node: object) -> object:
    """A node without its spans and docs: equal for texts that mean the same."""
    if isinstance(node, ast.Node):
        parts: list[object] = [getattr(node, name) for name in type(node).__match_args__]
        return (type(node).__name__, *(shape(part) for part in parts))
    if isinstance(node, tuple):
        return tuple(shape(part) for part in cast("tuple[object, ...]", node))
    return None if isinstance(node, Span) else node


def test_the_tables_are_those_of_the_grammar_which_has_no_conflict() -> None:
    # Making them is strict: any shift/reduce conflict and any two terminals that overlap raise.
    # After a change of surg.lark: python -m surgery.grammar.generate
    assert written(tables_of(grammar_text())) == tables_path().read_bytes()


def test_scanner_and_grammar_agree_on_numbers() -> None:
    written = re.search(r"^QUANTITY\.3: /(.*)/$", grammar_text(), re.MULTILINE)
    assert written is not None
    assert written[1] == scan.QUANTITY


def test_scanner_and_grammar_agree_on_statements() -> None:
    words = re.findall(r'^(?:edition|\w+): +"([a-z]+)"', grammar_text(), re.MULTILINE)
    assert set(scan.STATEMENTS) <= set(words)


@pytest.mark.parametrize(("text", "count"), [(SMOL, 18), (OSS, 30)])
def test_complete_specs_parse(text: str, count: int) -> None:
    assert len(good(text).items) == count


@pytest.mark.parametrize("text", SPECS)
def test_the_text_of_every_span_is_what_the_node_says(text: str) -> None:
    nodes = list(ast.walk(good(text)))
    assert len(nodes) > 200
    for node in nodes:
        written = node.span.text
        assert written == written.strip() or isinstance(node, ast.Spec)
        match node:
            case ast.Ident():
                assert written.removeprefix("@") == node.text
            case ast.Name():
                assert written == node.text
            case ast.Str():
                assert written == f'"{node.value}"'
            case ast.Quantity():
                assert written.replace(" ", "") == node.number + node.magnitude + node.unit
                assert node.unit_span.text == node.unit
            case ast.Keep():
                assert written == "keep"
            case ast.Binary():
                assert node.op_span.text == node.op
            case ast.Comparison():
                assert node.op_span.text == node.op
                assert written.startswith(node.op)
            case _:
                assert written


@pytest.mark.parametrize("text", SPECS)
def test_every_statement_reads_back_from_its_span(text: str) -> None:
    for item in good(text).items:
        again = good(f"surg 1\n\n{item.span.text}").items
        assert len(again) == 1
        assert shape(again[0]) == shape(item)


@pytest.mark.parametrize("text", SPECS)
def test_every_expression_reads_back_from_its_span(text: str) -> None:
    kinds = cast("tuple[type[ast.Node], ...]", get_args(ast.Expr))
    found = [node for node in ast.walk(good(text)) if isinstance(node, kinds)]
    assert len(found) > 80
    for node in found:
        assert shape(value(node.span.text)) == shape(node)


def test_spans_lie_inside_their_parents() -> None:
    for parent in ast.walk(good(OSS)):
        for child in ast.children(parent):
            if isinstance(parent, ast.Spec) and isinstance(child, ast.Comment):
                continue
            assert parent.span.start <= child.span.start
            assert child.span.end <= parent.span.end


def test_heads_are_the_part_to_mark() -> None:
    heads = [item.head.text for item in good(SMOL).items]
    assert heads == [
        'import "std/nvidia.surg"',
        "model parent",
        "input share",
        "expect @heads",
        "machine gpu",
        "scenario chat",
        "dataset text",
        "score damage",
        "let ends",
        "choose attention",
        "choose ffn",
        "require @size",
        "require @speed",
        "require @calm",
        "minimize",
        "recover",
        "emit checkpoint",
        "emit runtime",
    ]


def test_description_and_docs() -> None:
    spec = good(SMOL)
    assert spec.description == (
        "SmolLM2-135M on a diet. Small enough to solve, cut and serve in one test run,\n"
        "and to read in one sitting: start here."
    )
    docs = {item.head.text: item.doc for item in spec.items if item.doc}
    assert docs == {
        "input share": "Fraction of the parent's parameters to keep. Try --set share=70%."
    }


def test_a_doc_comment_on_the_first_statement_is_no_description() -> None:
    spec = good("surg 1\n\n## Half.\n# surg: allow(unused-name)\nlet half = 50%\n")
    assert spec.description == ""
    assert spec.items[0].doc == "Half."


def test_a_description_may_stand_above_the_edition() -> None:
    spec = good("## All of it.\nsurg 1\nlet half = 50%\n")
    assert spec.description == "All of it."
    assert spec.items[0].doc == ""


def test_a_doc_comment_is_about_the_first_statement_of_a_line() -> None:
    spec = good("surg 1\n\n## Half.\nlet half = 50%  let quarter = 25%\n")
    assert [each.doc for each in spec.items] == ["Half.", ""]
    assert good("## All of it.\nsurg 1 let half = 50%\n").description == "All of it."


def test_a_spec_without_statements_has_a_description() -> None:
    assert good("surg 1\n\n## Nothing yet.\n").description == "Nothing yet."
    assert good("surg 1\n\n## Nothing yet.").description == "Nothing yet."


def test_comments_are_kept_in_order() -> None:
    spec = good('surg 1 # one\n## two\nlet a = "# no" # three\n')
    assert [(c.text, c.doc, c.trailing) for c in spec.comments] == [
        ("one", False, True),
        ("two", True, False),
        ("three", False, True),
    ]


@pytest.mark.parametrize(
    ("text", "number", "magnitude", "unit", "exact"),
    [
        ("64K tok", "64", "K", "tok", Fraction(64)),
        ("88.5B params", "88.5", "B", "params", Fraction(177, 2)),
        ("46.5GiB", "46.5", "", "GiB", Fraction(93, 2)),
        ("12.5 ms", "12.5", "", "ms", Fraction(25, 2)),
        ("92%", "92", "", "%", Fraction(92)),
        ("1.60x", "1.60", "", "x", Fraction(8, 5)),
        ("1_000_000", "1_000_000", "", "", Fraction(1000000)),
        ("1.5e3 tok/s", "1.5e3", "", "tok/s", Fraction(1500)),
        ("2e-3", "2e-3", "", "", Fraction(1, 500)),
        ("8 layers", "8", "", "layers", Fraction(8)),
    ],
)
def test_quantities(text: str, number: str, magnitude: str, unit: str, exact: Fraction) -> None:
    found = value(text)
    assert isinstance(found, ast.Quantity)
    assert (found.number, found.magnitude, found.unit, found.value) == (
        number,
        magnitude,
        unit,
        exact,
    )


def source_of(node: ast.Expr) -> str:
    """The expression with every operator in parentheses: precedence made visible."""
    match node:
        case ast.Binary():
            text = f"{source_of(node.left)} {node.op} {source_of(node.right)}"
        case ast.And():
            text = f"{source_of(node.left)} and {source_of(node.right)}"
        case ast.Or():
            text = f"{source_of(node.left)} or {source_of(node.right)}"
        case ast.Not():
            text = f"not {source_of(node.operand)}"
        case ast.Neg():
            text = f"-{source_of(node.operand)}"
        case ast.Compare():
            rest = "".join(f" {link.op} {source_of(link.value)}" for link in node.rest)
            text = source_of(node.first) + rest
        case ast.Is():
            text = f"{source_of(node.value)} is {'not ' * node.negated}{node.word.text}"
        case ast.If():
            parts = (node.condition, node.then, node.otherwise)
            condition, then, otherwise = (source_of(part) for part in parts)
            text = f"if {condition} then {then} else {otherwise}"
        case _:
            return node.span.text
    return f"({text})"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("(a + b) * c", "((a + b) * c)"),
        ("a / b / c", "((a / b) / c)"),
        ("7 % 2 == 1", "((7 % 2) == 1)"),
        ("-a * b", "((-a) * b)"),
        ("1 <= a < 3", "(1 <= a < 3)"),
        ("a or b and not c", "(a or (b and (not c)))"),
        ("not a is full", "(not (a is full))"),
        ("a is not full or b", "((a is not full) or b)"),
        (
            "if a then b else if c then d else e + 1",
            "(if a then b else (if c then d else (e + 1)))",
        ),
        ("min(3, 4) + count", "(min(3, 4) + count)"),
        ("minimum - sum", "(minimum - sum)"),
    ],
)
def test_precedence(text: str, meaning: str) -> None:
    assert source_of(value(text)) == meaning


def test_parentheses_belong_to_the_outer_span_only() -> None:
    product = value("(a + b) * c")
    assert isinstance(product, ast.Binary)
    assert product.span.text == "(a + b) * c"
    assert product.left.span.text == "a + b"


def test_calls_keep_the_order_of_their_arguments() -> None:
    call = value("f(a, name: b, c)")
    assert isinstance(call, ast.Call)
    assert [arg.span.text for arg in call.args] == ["a", "name: b", "c"]
    assert [each.span.text for each in call.positional] == ["a", "c"]
    assert [(name.text, each.span.text) for name, each in call.named] == [("name", "b")]


def test_folds_range_over_selectors() -> None:
    fold = value("sum(layers[0..3, 7] except layers where index % 2 == 0: experts)")
    assert isinstance(fold, ast.Fold)
    assert fold.kind == "sum"
    assert [pick.span.text for pick in fold.selector.include.picks] == ["0..3", "7"]
    assert len(fold.selector.excludes) == 1
    assert fold.selector.excludes[0].where is not None
    assert fold.body is not None
    assert fold.body.span.text == "experts"


def test_alternatives_do_not_run_into_each_other() -> None:
    item = good(
        "surg 1\nchoose a in layers { noop\nwindow 8K tok | (b) by r init i when c keep }"
    ).items[0]
    assert isinstance(item, ast.Choose)
    noop, window, keep = item.alternatives
    assert isinstance(noop, ast.Edit)
    assert noop.args == ()
    assert isinstance(window, ast.Edit)
    assert [arg.span.text for arg in window.args] == ["8K tok", "b"]
    assert window.by is not None
    assert window.init is not None
    assert window.when is not None
    assert isinstance(keep, ast.Keep)


def test_line_breaks_do_not_matter() -> None:
    spread = "surg 1\nscenario s\non m\n{ a\n= 1 b = 2, c = 3 }  let x\n=\n 5\n  let y = 6"
    assert shape(good(spread).items) == shape(
        good("surg 1\nscenario s on m { a = 1, b = 2, c = 3, }\nlet x = 5\nlet y = 6").items
    )


def test_windows_line_ends_and_byte_order_marks_are_read() -> None:
    spec = good("\ufeff" + SMOL.replace("\n", "\r\n"))
    assert shape(spec.items) == shape(good(SMOL).items)
    assert spec.items[-1].span.first.line == good(SMOL).items[-1].span.first.line


def test_words_of_the_language_can_be_members_and_fields() -> None:
    spec = good("surg 1\napply a { layers = parent.layers, model = 1 }")
    item = spec.items[0]
    assert isinstance(item, ast.Apply)
    assert [each.name.text for each in item.fields] == ["layers", "model"]
