"""Completion inside `choose SITE in LAYERS { ... }`.

In: the place, and the parent where it is known. Out: the edits that are legal at the site, their
clauses, and values that the edit takes on this very model. Legality is asked of `edits/`, never
decided here.
"""

from __future__ import annotations

from surgery import edits, ir
from surgery.checking.tables import CONSTANTS, EDITS, EditRule
from surgery.edits.attention import legal_kv_heads
from surgery.edits.ffn import alignment
from surgery.grammar.scan import Lexeme
from surgery.ir import Attention, Block, Experts, Ffn, Linear, Site
from surgery.lsp import completion_names as names
from surgery.lsp.analysis import Analysis
from surgery.lsp.context import Spot
from surgery.lsp.items import KIND, Items
from surgery.units import format_tokens

_EIGHTHS = (7, 6, 5, 4, 3, 2, 1)
_WINDOWS = tuple(2**n for n in range(17, 5, -1))


def offer(analysis: Analysis, at: Spot, items: Items, model: ir.Model | None) -> bool:
    """Alternatives, or what comes next in one; whether this is a place for either."""
    site = at.before[1].text if len(at.before) > 1 else ""
    rules = {rule.name: rule for rule in EDITS.get(site, ())}
    if at.bracket != "{":
        return False
    if at.begins:
        _edits(at, items, model, site, tuple(rules.values()))
        return True
    alternative = _current(at, rules)
    words = [each.text for each in alternative]
    rule = rules.get(words[0]) if words else None
    if rule is None:
        return False
    if "when" in words:
        return False
    if at.last == "by":
        names.of_type(analysis, items, "scales" if rule.asks == "scales" else "ranking")
    elif at.last == "init":
        for name in rule.inits:
            doc = CONSTANTS[name][1] if name in CONSTANTS else ""
            items.add(name, KIND.EnumMember, doc)
    elif at.last in (rule.name, "|") and rule.value:
        _values(items, model, site, rule)
    else:
        _clauses(items, rule, words)
    return True


def _current(at: Spot, rules: dict[str, EditRule]) -> tuple[Lexeme, ...]:
    """The alternative that is being written: from the last edit name on."""
    flat = at.flat
    starts = [n for n, each in enumerate(flat) if each.text in rules or each.text == "keep"]
    return flat[starts[-1] :] if starts else ()


def _edits(
    at: Spot, items: Items, model: ir.Model | None, site: str, rules: tuple[EditRule, ...]
) -> None:
    if not any(each.text == "keep" for each in at.block):
        items.add("keep", KIND.Keyword, "the parent's own block", rank=0)
    for rule in rules:
        values = legal(model, site, rule.name)
        value = " | ".join(values[:2]) or ("8K tok" if rule.value == "tok" else "n")
        insert = rule.name + (f" ${{1:{value}}}" if rule.value else "")
        insert += f" by ${{2:{rule.example}}}" if rule.rankings else ""
        doc = rule.doc if rule.ready else f"{rule.doc} (no back end yet)"
        items.add(rule.name, KIND.Method, rule.signature, doc, insert, rank=2 if rule.ready else 8)


def _values(items: Items, model: ir.Model | None, site: str, rule: EditRule) -> None:
    for n, value in enumerate(legal(model, site, rule.name)):
        items.add(value, KIND.Value, f"legal for {rule.name}", rank=min(n, 9))


def _clauses(items: Items, rule: EditRule, words: list[str]) -> None:
    if rule.rankings and "by" not in words:
        decides = "how they are scaled" if rule.asks == "scales" else "what decides which stay"
        items.add("by", KIND.Keyword, decides, insert=f"by ${{1:{rule.example}}}")
    if rule.inits and "init" not in words:
        items.add("init", KIND.Keyword, "how it is initialised", insert=f"init {rule.inits[0]}")
    items.add("when", KIND.Keyword, "only in layers for which this holds")


# ---- values ----------------------------------------------------------------------------------


def legal(model: ir.Model | None, site: str, name: str) -> tuple[str, ...]:
    """Values that change something and that some layer can take, as they are written."""
    if model is not None and name == "active":
        most = max((n.mlp.active for n in model.layers if isinstance(n.mlp, Experts)), default=1)
        return tuple(map(str, range(most - 1, 0, -1)))
    edit = edits.find(Site(site), name) if site in tuple(Site) else None
    if model is None or edit is None or not edit.valued:
        return ()
    blocks = tuple(dict.fromkeys(b for n in model.layers if (b := _block(n, edit.site))))
    wanted = sorted({v for block in blocks for v in _candidates(block, name)}, reverse=True)
    fine = [v for v in wanted if any(edit.refuse(model, block, v) is None for block in blocks)]
    if name in ("window", "sink_window"):
        return tuple(f"{format_tokens(v)} tok" for v in fine)
    return tuple(map(str, fine))


def _block(layer: ir.Layer, site: Site) -> Block | None:
    return layer.block(site) if site in layer.sites else None


def _candidates(block: Block, name: str) -> tuple[int, ...]:
    """Round values below what the block has; `Edit.refuse` has the last word."""
    match block:
        case Experts(width=width) | Ffn(width=width) if name == "width":
            step = alignment(width)
            return tuple(v for k in _EIGHTHS if (v := width * k // 8 // step * step) > 0)
        case Experts(count=count, active=active):
            return tuple(v for k in _EIGHTHS if (v := count * k // 8) >= active)
        case Ffn() | Linear():
            return ()
        case Attention():
            return legal_kv_heads(block) if name == "kv_heads" else _WINDOWS
