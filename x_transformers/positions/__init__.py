"""Position schemes: rotary turns of queries and keys, biases by distance, and embeddings added to tokens."""
