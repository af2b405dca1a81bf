"""The families, by the `model_type` of their configs, in the order in which they are asked whether they can express a model."""

from x_transformers.interop.huggingface.families.bert import BERT
from x_transformers.interop.huggingface.families.gemma import GEMMA, GEMMA2, GEMMA3
from x_transformers.interop.huggingface.families.gpt2 import GPT2
from x_transformers.interop.huggingface.families.gpt_neox import GPT_NEOX
from x_transformers.interop.huggingface.families.gptj import GPTJ
from x_transformers.interop.huggingface.families.llama import LLAMA
from x_transformers.interop.huggingface.families.mistral import MISTRAL
from x_transformers.interop.huggingface.families.modernbert import MODERNBERT
from x_transformers.interop.huggingface.families.phi import PHI
from x_transformers.interop.huggingface.families.phi3 import PHI3
from x_transformers.interop.huggingface.families.qwen import QWEN2, QWEN3
from x_transformers.interop.huggingface.families.t5 import T5
from x_transformers.interop.huggingface.families.vit import VIT
from x_transformers.interop.huggingface.family import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, PHI, PHI3, GPT_NEOX, GPTJ, BERT, MODERNBERT, T5, VIT)
}
