"""The long explanations of the catalogue, one Markdown file per code beside this module.

In: what a person typed for a code (`E0301`, `e0301`, `mixed-dimensions`), or a `Code`. Out: the
code, and its explanation: the text of its file with an ending that the catalogue decides (whether
there is a fix, how to allow a lint). Not here: how that looks in a terminal (`layout.py`). A code
without a file is a bug, and a test says so.
"""

from __future__ import annotations

from importlib.resources import files

from surgery import catalog
from surgery.diagnostics import Code, Safety, Severity
from surgery.grammar.near import nearest


def find(text: str) -> Code | None:
    """The code that a number or a kebab name stands for, in any case; `None` if there is none."""
    return catalog.BY_ID.get(text.upper()) or catalog.BY_NAME.get(text.lower().replace("_", "-"))


def similar(text: str) -> tuple[Code, ...]:
    """Codes whose number or name resembles a text that stands for none, at most five."""
    names = nearest(text.lower().replace("_", "-"), catalog.BY_NAME)
    ids = nearest(text.upper(), catalog.BY_ID)
    found = [catalog.BY_NAME[name] for name in names] + [catalog.BY_ID[id] for id in ids]
    if not found:
        words = set(text.lower().replace("_", "-").split("-"))
        found = [code for name, code in catalog.BY_NAME.items() if words & set(name.split("-"))]
    return tuple(sorted(set(found), key=lambda code: code.id)[:5])


def body(code: Code) -> str:
    """The Markdown of the file of a code, as written. Raises `FileNotFoundError` without one."""
    return files(__name__).joinpath(f"{code.id}.md").read_text(encoding="utf-8")


def explanation(code: Code) -> str:
    """The whole explanation of a code as Markdown, ending in a newline."""
    parts = (body(code).rstrip("\n"), "## Fix", _fix(code))
    return "\n\n".join((*parts, *_allowing(code))) + "\n"


def _fix(code: Code) -> str:
    match code.fix:
        case Safety.SAFE:
            return (
                "Every finding carries a safe fix. `surgery lint --fix SPEC` applies it, and an "
                "editor offers it as a quick fix."
            )
        case Safety.UNSAFE:
            return (
                "Every finding carries a fix that is probably what was meant but may change what "
                "the spec says. `surgery lint --fix --unsafe-fixes SPEC` applies it, and an editor "
                "offers it as a quick fix; read the change before you keep it."
            )
        case Safety.DISPLAY:
            return (
                "Every finding shows at least one way out as a change of the text. None is applied "
                "by `surgery lint --fix`, because only you can know which is meant; an editor "
                "offers them as quick fixes."
            )
        case None:
            return (
                "No fix is promised for this code. Where a finding shows a change of the text, "
                "`surgery lint --fix SPEC` applies it if it is safe."
            )


def _allowing(code: Code) -> tuple[str, ...]:
    """How to live with a lint; an error cannot be allowed."""
    if code.severity is not Severity.WARNING:
        return ()
    return (
        "## Allow",
        "Where the spec is right as it stands, say so at the end of the line, or on the line "
        "above:",
        f"```surg\n# surg: allow({code.name})\n```",
        "For a whole project, set its level (`allow`, `warn` or `deny`) in `pyproject.toml`:",
        f'```toml\n[tool.surgery.lint]\n{code.name} = "allow"\n```',
    )
