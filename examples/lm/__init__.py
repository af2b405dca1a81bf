"""What the language model examples share: the text, the model made from flags, and checkpoints."""


class Problem(Exception):
    """Something the user can put right: the message names the argument, its value, what is expected and the way out."""
