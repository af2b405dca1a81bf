"""Other people's models: state dicts of later releases of x-transformers, models of Hugging Face's `transformers`."""
