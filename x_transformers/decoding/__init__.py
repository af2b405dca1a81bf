"""Generation: from logits to tokens, step by step over a state."""
