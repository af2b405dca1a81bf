"""Models: a layer stack with what turns inputs into embeddings and embeddings into outputs."""
