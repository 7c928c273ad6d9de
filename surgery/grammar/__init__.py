"""Text -> AST: the `.surg` grammar, its parser, and messages for what does not parse."""
