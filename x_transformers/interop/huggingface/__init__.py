"""Models of Hugging Face's `transformers` as models of this library, and back.

A family is a page of two tables, one of config fields and one of tensors, each read in both directions.
Needs the extra: pip install 'x-transformers[transformers]'.
"""

from x_transformers.interop.huggingface.converting import from_huggingface, to_huggingface

__all__ = ['from_huggingface', 'to_huggingface']
