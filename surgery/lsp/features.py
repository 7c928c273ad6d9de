"""The requests that the server answers, each by the file that knows.

In: a server. Out: the same with its handlers. One line of work each: whatever is more belongs
into the feature's own file.
"""

from __future__ import annotations

from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams

from surgery.lsp import (
    actions,
    completion,
    formatting,
    hover,
    inlay,
    links,
    navigate,
    rename,
    signature,
    symbols,
    tokens,
)
from surgery.lsp.documents import Document
from surgery.lsp.server import Session


def make() -> Session:
    """A server with everything that it can do."""
    session = Session()
    _documents(session)
    _reading(session)
    _navigating(session)
    _writing(session)
    return session


def _documents(session: Session) -> None:
    @session.wire.feature(types.INITIALIZE)
    def _(params: types.InitializeParams) -> None:
        session.begin(params)
        # Never both: a client that asks would show every finding twice.
        if session.pulls:
            _diagnostics(session)

    @session.wire.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def _(params: types.DidOpenTextDocumentParams) -> None:
        opened = params.text_document
        encoding = session.specs.encoding
        session.put(Document(opened.uri, opened.version, opened.text, encoding))

    @session.wire.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def _(params: types.DidChangeTextDocumentParams) -> None:
        document = session.specs.documents.get(params.text_document.uri)
        # A client that changes what it never opened is broken; there is no text to change.
        if document is not None:
            session.put(document.changed(params.text_document.version, params.content_changes))

    @session.wire.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def _(params: types.DidCloseTextDocumentParams) -> None:
        session.drop(params.text_document.uri)

    @session.wire.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def _(_params: types.DidSaveTextDocumentParams) -> None:
        session.look_again()

    @session.wire.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def _(_params: types.DidChangeWatchedFilesParams) -> None:
        session.look_again()


def _reading(session: Session) -> None:
    @session.wire.feature(types.TEXT_DOCUMENT_HOVER)
    def _(params: types.HoverParams) -> types.Hover | None:
        return hover.hover(session.specs, params.text_document.uri, params.position)

    @session.wire.feature(types.TEXT_DOCUMENT_INLAY_HINT)
    def _(params: types.InlayHintParams) -> list[types.InlayHint]:
        return inlay.inlay_hints(session.specs, params.text_document.uri, params.range)

    @session.wire.feature(
        types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL,
        types.SemanticTokensRegistrationOptions(legend=tokens.LEGEND, full=True),
    )
    def _(params: types.SemanticTokensParams) -> types.SemanticTokens | None:
        return tokens.semantic_tokens(session.specs, params.text_document.uri)

    @session.wire.feature(
        types.TEXT_DOCUMENT_SIGNATURE_HELP,
        types.SignatureHelpOptions(trigger_characters=["(", ","]),
    )
    def _(params: types.SignatureHelpParams) -> types.SignatureHelp | None:
        uri = params.text_document.uri
        return signature.signature_help(session.specs, uri, params.position)


def _navigating(session: Session) -> None:
    @session.wire.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def _(params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
        return symbols.document_symbols(session.specs, params.text_document.uri)

    @session.wire.feature(types.TEXT_DOCUMENT_FOLDING_RANGE)
    def _(params: types.FoldingRangeParams) -> list[types.FoldingRange]:
        return symbols.folding_ranges(session.specs, params.text_document.uri)

    @session.wire.feature(types.TEXT_DOCUMENT_DEFINITION)
    def _(params: types.DefinitionParams) -> types.Location | None:
        return navigate.definition(session.specs, params.text_document.uri, params.position)

    @session.wire.feature(types.TEXT_DOCUMENT_REFERENCES)
    def _(params: types.ReferenceParams) -> list[types.Location]:
        uri, wanted = params.text_document.uri, params.context.include_declaration
        return navigate.references(session.specs, uri, params.position, declaration=wanted)

    @session.wire.feature(types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
    def _(params: types.DocumentHighlightParams) -> list[types.DocumentHighlight]:
        return navigate.highlights(session.specs, params.text_document.uri, params.position)

    @session.wire.feature(types.TEXT_DOCUMENT_DOCUMENT_LINK)
    def _(params: types.DocumentLinkParams) -> list[types.DocumentLink]:
        return links.document_links(session.specs, params.text_document.uri)


def _writing(session: Session) -> None:
    @session.wire.feature(
        types.TEXT_DOCUMENT_COMPLETION,
        types.CompletionOptions(trigger_characters=[".", '"', "(", "/"], resolve_provider=True),
    )
    def _(params: types.CompletionParams) -> types.CompletionList | None:
        uri = params.text_document.uri
        return completion.complete(session.specs, uri, params.position, session.snippets)

    @session.wire.feature(types.COMPLETION_ITEM_RESOLVE)
    def _(item: types.CompletionItem) -> types.CompletionItem:
        return completion.resolved(session.specs, item)

    @session.wire.feature(
        types.TEXT_DOCUMENT_CODE_ACTION, types.CodeActionOptions(code_action_kinds=actions.KINDS)
    )
    def _(params: types.CodeActionParams) -> list[types.CodeAction]:
        uri, only = params.text_document.uri, params.context.only
        return actions.code_actions(session.specs, uri, params.range, only)

    @session.wire.feature(types.TEXT_DOCUMENT_FORMATTING)
    def _(params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
        return formatting.document(session.specs, params.text_document.uri)

    @session.wire.feature(types.TEXT_DOCUMENT_RANGE_FORMATTING)
    def _(params: types.DocumentRangeFormattingParams) -> list[types.TextEdit] | None:
        return formatting.lines(session.specs, params.text_document.uri, params.range)

    @session.wire.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
    def _(params: types.PrepareRenameParams) -> types.PrepareRenamePlaceholder | None:
        return rename.prepare(session.specs, params.text_document.uri, params.position)

    @session.wire.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
    def _(params: types.RenameParams) -> types.WorkspaceEdit | None:
        uri = params.text_document.uri
        try:
            return rename.rename(session.specs, uri, params.position, params.new_name)
        except rename.Refused as why:
            # The protocol's way to tell the user why not.
            raise JsonRpcInvalidParams(str(why)) from why


def _diagnostics(session: Session) -> None:
    @session.wire.feature(
        types.TEXT_DOCUMENT_DIAGNOSTIC,
        types.DiagnosticOptions(
            inter_file_dependencies=True, workspace_diagnostics=False, identifier="surgery"
        ),
    )
    def _(params: types.DocumentDiagnosticParams) -> types.RelatedFullDocumentDiagnosticReport:
        return session.pulled(params.text_document.uri)
