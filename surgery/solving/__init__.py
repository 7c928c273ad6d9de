"""The parts of constrain, solve and explain: exact linear forms and the arrays made of them."""
