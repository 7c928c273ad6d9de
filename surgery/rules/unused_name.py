"""W0201 unused-name: a definition that nothing needs.

Needed is what statements without a name mention, and what those definitions mention in turn. In a
file that only defines names, for others to import, all of them are needed but its imports. Where a
name is used that nothing defines, or text could not be read, what could be meant is not unused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

from surgery import catalog
from surgery.checking.blocks import BLOCKS
from surgery.checking.modules import Named, definitions
from surgery.checking.tables import BUILT_IN
from surgery.diagnostics import Diagnostic, Fix, Help, Label, Safety
from surgery.grammar import ast, scan
from surgery.rules.places import loose_words, removals
from surgery.rules.rule import Rule, Subject

_NOUNS: dict[type[ast.Node], str] = {
    ast.Import: "import",
    ast.Input: "input",
    ast.Let: "`let`",
    ast.Fn: "function",
    ast.Machine: "machine",
    ast.Scenario: "scenario",
    ast.Dataset: "dataset",
    ast.Score: "score",
}
_EXPORTED = ast.Import | ast.Let | ast.Fn | ast.Machine | ast.Scenario | ast.Dataset | ast.Score
_WORDS = BUILT_IN | {word for rules in BLOCKS.values() for rule in rules for word in rule.words}
_Uses: TypeAlias = Mapping[int, set[str]]
"""The names that each statement uses, by where it begins."""
_ELSE = frozenset(scan.STATEMENTS) - {"surg"}


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every definition that is not needed, once per name."""
    tree = subject.tree
    items: dict[str, Named] = {}
    for item in definitions(tree):
        items.setdefault(item.name.text, item)
    uses = {item.span.start: _mentioned(item, nodes) for item, nodes in tree.walked}
    live = _needed(tree, items, uses)
    dead = {name: item for name, item in items.items() if name not in live}
    if dead:
        words = frozenset(loose_words(tree))
        dead = {name: item for name, item in dead.items() if name not in words}
    if dead and _misspelt(tree, items, uses):
        return
    users: dict[str, list[str]] = {name: [] for name in dead}
    for other, item in dead.items():
        for name in uses[item.span.start] & dead.keys():
            users[name].append(other)
    places = {name: place for place, name in enumerate(dead)}
    for name, item in dead.items():
        above = sorted(_above(name, users), key=lambda other: places[other])
        yield _unused(item, [dead[other] for other in above], tree)


def _misspelt(tree: ast.Spec, items: dict[str, Named], uses: _Uses) -> bool:
    """Whether a name is used that nothing defines: it may be any of the unused ones."""
    steps = {
        step.name.text
        for item in tree.items
        if isinstance(item, ast.Recover)
        for step in item.steps
        if step.name
    }
    return not set[str]().union(*uses.values()) <= {*items, *steps, *_WORDS}


def _needed(tree: ast.Spec, items: dict[str, Named], uses: _Uses) -> set[str]:
    exports = exporting(tree)
    waiting: list[ast.Item] = [
        item
        for item in tree.items
        if isinstance(item, ast.Model)
        or not isinstance(item, Named)
        or (exports and not isinstance(item, ast.Import))
    ]
    live = {item.name.text for item in waiting if isinstance(item, Named)}
    while waiting:
        for name in uses[waiting.pop().span.start]:
            if name in items and name not in live:
                live.add(name)
                waiting.append(items[name])
    return live


def exporting(tree: ast.Spec) -> bool:
    """Whether a file has nothing but definitions: then it is there to be imported."""
    if not tree.items or not all(isinstance(item, _EXPORTED) for item in tree.items):
        return False
    # A statement that could not be read may be of another kind.
    return _ELSE.isdisjoint(loose_words(tree))


def _mentioned(item: ast.Item, nodes: Iterable[ast.Node]) -> set[str]:
    """The names that a statement uses; parameters hide what has their name."""
    found = {node.text for node in nodes if type(node) is ast.Name}
    if isinstance(item, ast.Fn):
        found -= {param.name.text for param in item.params}
    if isinstance(item, ast.Scenario):
        found.add(item.machine.text)
    return found


def _unused(item: Named, users: list[Named], tree: ast.Spec) -> Diagnostic:
    noun, name = _NOUNS[type(item)], item.name.text
    labels = [Label(item.name.span, "never used", primary=True)]
    labels += [Label(each.name.span, "needs it, and is unused itself") for each in users]
    fix = Fix(removals((item, *users), tree), Safety.SAFE)
    title = f"remove the {noun}" if not users else f"remove the {noun} and what needs it"
    message = f"the {noun} `{name}` is never used"
    return Diagnostic(catalog.W0201, message, tuple(labels), helps=(Help(title, fix),))


def _above(name: str, users: Mapping[str, Collection[str]]) -> set[str]:
    """The unused definitions that would not stand without this one."""
    found, waiting = {name}, [name]
    while waiting:
        new = [other for other in users[waiting.pop()] if other not in found]
        found.update(new)
        waiting += new
    return found - {name}


RULE = Rule(catalog.W0201, check)
