"""Models in files: a folder of `config.json` and `model.safetensors`, read without trusting it. Imported when first used."""
