"""Configs as they stand on the Hub, older names and fields without use among them: none of them is refused."""

from __future__ import annotations

from typing import Any

LLAMA_3: dict[str, Any] = dict(
    architectures=['LlamaForCausalLM'], attention_bias=False, attention_dropout=0.0, bos_token_id=128000, eos_token_id=128001,
    head_dim=64, hidden_act='silu', hidden_size=2048, initializer_range=0.02, intermediate_size=8192, max_position_embeddings=131072,
    mlp_bias=False, model_type='llama', num_attention_heads=32, num_hidden_layers=16, num_key_value_heads=8, pretraining_tp=1,
    rms_norm_eps=1e-05, rope_theta=500000.0, tie_word_embeddings=True, torch_dtype='bfloat16', transformers_version='4.45.0.dev0',
    rope_scaling=dict(
        factor=32.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=8192, rope_type='llama3'
    ),
    use_cache=True, vocab_size=128256,
)  # fmt: skip

CONFIGS: dict[str, dict[str, Any]] = {
    'openai-community/gpt2': dict(
        activation_function='gelu_new', architectures=['GPT2LMHeadModel'], attn_pdrop=0.1, bos_token_id=50256, embd_pdrop=0.1,
        eos_token_id=50256, initializer_range=0.02, layer_norm_epsilon=1e-05, model_type='gpt2', n_ctx=1024, n_embd=768, n_head=12,
        n_layer=12, n_positions=1024, resid_pdrop=0.1, summary_activation=None, summary_first_dropout=0.1,
        summary_proj_to_labels=True, summary_type='cls_index', summary_use_proj=True,
        task_specific_params={'text-generation': {'do_sample': True, 'max_length': 50}}, vocab_size=50257,
    ),
    'EleutherAI/pythia-70m': dict(
        architectures=['GPTNeoXForCausalLM'], bos_token_id=0, eos_token_id=0, hidden_act='gelu', hidden_size=512,
        initializer_range=0.02, intermediate_size=2048, layer_norm_eps=1e-05, max_position_embeddings=2048, model_type='gpt_neox',
        num_attention_heads=8, num_hidden_layers=6, rotary_emb_base=10000, rotary_pct=0.25, tie_word_embeddings=False,
        torch_dtype='float16', transformers_version='4.24.0', use_cache=True, use_parallel_residual=True, vocab_size=50304,
    ),
    'meta-llama/Llama-3.2-1B': LLAMA_3,
    'mistralai/Mistral-7B-v0.1': dict(
        architectures=['MistralForCausalLM'], bos_token_id=1, eos_token_id=2, hidden_act='silu', hidden_size=4096,
        initializer_range=0.02, intermediate_size=14336, max_position_embeddings=32768, model_type='mistral', num_attention_heads=32,
        num_hidden_layers=32, num_key_value_heads=8, rms_norm_eps=1e-05, rope_theta=10000.0, sliding_window=4096,
        tie_word_embeddings=False, torch_dtype='bfloat16', transformers_version='4.34.0.dev0', use_cache=True, vocab_size=32000,
    ),
    'Qwen/Qwen2.5-0.5B': dict(
        architectures=['Qwen2ForCausalLM'], attention_dropout=0.0, bos_token_id=151643, eos_token_id=151643, hidden_act='silu',
        hidden_size=896, initializer_range=0.02, intermediate_size=4864, max_position_embeddings=32768, max_window_layers=24,
        model_type='qwen2', num_attention_heads=14, num_hidden_layers=24, num_key_value_heads=2, rms_norm_eps=1e-06,
        rope_theta=1000000.0, sliding_window=32768, tie_word_embeddings=True, torch_dtype='bfloat16', use_cache=True,
        use_mrope=False, use_sliding_window=False, vocab_size=151936,
    ),
    'Qwen/Qwen3-0.6B': dict(
        architectures=['Qwen3ForCausalLM'], attention_bias=False, attention_dropout=0.0, bos_token_id=151643, eos_token_id=151645,
        head_dim=128, hidden_act='silu', hidden_size=1024, initializer_range=0.02, intermediate_size=3072,
        max_position_embeddings=40960, max_window_layers=28, model_type='qwen3', num_attention_heads=16, num_hidden_layers=28,
        num_key_value_heads=8, rms_norm_eps=1e-06, rope_scaling=None, rope_theta=1000000, sliding_window=None,
        tie_word_embeddings=True, torch_dtype='bfloat16', use_cache=True, use_sliding_window=False, vocab_size=151936,
    ),
    'google/gemma-2b': dict(
        architectures=['GemmaForCausalLM'], attention_bias=False, attention_dropout=0.0, bos_token_id=2, eos_token_id=1, head_dim=256,
        hidden_act='gelu', hidden_activation=None, hidden_size=2048, initializer_range=0.02, intermediate_size=16384,
        max_position_embeddings=8192, model_type='gemma', num_attention_heads=8, num_hidden_layers=18, num_key_value_heads=1,
        pad_token_id=0, rms_norm_eps=1e-06, rope_scaling=None, rope_theta=10000.0, torch_dtype='bfloat16', use_cache=True,
        vocab_size=256000,
    ),
    'google/gemma-2-2b': dict(
        architectures=['Gemma2ForCausalLM'], attention_bias=False, attention_dropout=0.0, attn_logit_softcapping=50.0, bos_token_id=2,
        cache_implementation='hybrid', eos_token_id=1, final_logit_softcapping=30.0, head_dim=256, hidden_act='gelu_pytorch_tanh',
        hidden_activation='gelu_pytorch_tanh', hidden_size=2304, initializer_range=0.02, intermediate_size=9216,
        max_position_embeddings=8192, model_type='gemma2', num_attention_heads=8, num_hidden_layers=26, num_key_value_heads=4,
        pad_token_id=0, query_pre_attn_scalar=256, rms_norm_eps=1e-06, rope_theta=10000.0, sliding_window=4096,
        torch_dtype='float32', use_cache=True, vocab_size=256000,
    ),
    'google/gemma-3-1b-pt': dict(
        architectures=['Gemma3ForCausalLM'], attention_bias=False, attention_dropout=0.0, attn_logit_softcapping=None, bos_token_id=2,
        cache_implementation='hybrid', eos_token_id=1, final_logit_softcapping=None, head_dim=256,
        hidden_activation='gelu_pytorch_tanh', hidden_size=1152, initializer_range=0.02, intermediate_size=6912,
        max_position_embeddings=32768, model_type='gemma3_text', num_attention_heads=4, num_hidden_layers=26, num_key_value_heads=1,
        pad_token_id=0, query_pre_attn_scalar=256, rms_norm_eps=1e-06, rope_local_base_freq=10000, rope_scaling=None,
        rope_theta=1000000, sliding_window=512, sliding_window_pattern=6, torch_dtype='bfloat16', use_cache=True, vocab_size=262144,
    ),
    'microsoft/Phi-3-mini-4k-instruct': dict(
        architectures=['Phi3ForCausalLM'], attention_dropout=0.0, bos_token_id=1, embd_pdrop=0.0, eos_token_id=32000,
        hidden_act='silu', hidden_size=3072, initializer_range=0.02, intermediate_size=8192, max_position_embeddings=4096,
        model_type='phi3', num_attention_heads=32, num_hidden_layers=32, num_key_value_heads=32,
        original_max_position_embeddings=4096, pad_token_id=32000, resid_pdrop=0.0, rms_norm_eps=1e-05, rope_scaling=None,
        rope_theta=10000.0, sliding_window=2047, tie_word_embeddings=False, torch_dtype='bfloat16', use_cache=True,
        attention_bias=False, vocab_size=32064,
    ),
    'google-bert/bert-base-uncased': dict(
        architectures=['BertForMaskedLM'], attention_probs_dropout_prob=0.1, gradient_checkpointing=False, hidden_act='gelu',
        hidden_dropout_prob=0.1, hidden_size=768, initializer_range=0.02, intermediate_size=3072, layer_norm_eps=1e-12,
        max_position_embeddings=512, model_type='bert', num_attention_heads=12, num_hidden_layers=12, pad_token_id=0,
        position_embedding_type='absolute', transformers_version='4.6.0.dev0', type_vocab_size=2, use_cache=True, vocab_size=30522,
    ),
    'answerdotai/ModernBERT-base': dict(
        architectures=['ModernBertForMaskedLM'], attention_bias=False, attention_dropout=0.0, bos_token_id=50281,
        classifier_activation='gelu', classifier_bias=False, classifier_dropout=0.0, classifier_pooling='mean', cls_token_id=50281,
        decoder_bias=True, deterministic_flash_attn=False, embedding_dropout=0.0, eos_token_id=50282, global_attn_every_n_layers=3,
        global_rope_theta=160000.0, gradient_checkpointing=False, hidden_activation='gelu', hidden_size=768,
        initializer_cutoff_factor=2.0, initializer_range=0.02, intermediate_size=1152, layer_norm_eps=1e-05, local_attention=128,
        local_rope_theta=10000.0, max_position_embeddings=8192, mlp_bias=False, mlp_dropout=0.0, model_type='modernbert',
        norm_bias=False, norm_eps=1e-05, num_attention_heads=12, num_hidden_layers=22, pad_token_id=50283,
        position_embedding_type='absolute', sep_token_id=50282, tie_word_embeddings=True, torch_dtype='float32', vocab_size=50368,
    ),
    'google-t5/t5-small': dict(
        architectures=['T5ForConditionalGeneration'], d_ff=2048, d_kv=64, d_model=512, decoder_start_token_id=0, dropout_rate=0.1,
        eos_token_id=1, initializer_factor=1.0, is_encoder_decoder=True, layer_norm_epsilon=1e-06, model_type='t5', n_positions=512,
        num_heads=8, num_layers=6, output_past=True, pad_token_id=0, relative_attention_num_buckets=32, use_cache=True,
        task_specific_params={'summarization': {'early_stopping': True, 'num_beams': 4}}, vocab_size=32128,
    ),
    'google/flan-t5-small': dict(
        architectures=['T5ForConditionalGeneration'], d_ff=1024, d_kv=64, d_model=512, decoder_start_token_id=0, dropout_rate=0.1,
        eos_token_id=1, feed_forward_proj='gated-gelu', initializer_factor=1.0, is_encoder_decoder=True, layer_norm_epsilon=1e-06,
        model_type='t5', n_positions=512, num_decoder_layers=8, num_heads=6, num_layers=8, output_past=True, pad_token_id=0,
        relative_attention_max_distance=128, relative_attention_num_buckets=32, tie_word_embeddings=False, use_cache=True,
        vocab_size=32128,
    ),
    'google/vit-base-patch16-224': dict(
        architectures=['ViTForImageClassification'], attention_probs_dropout_prob=0.0, encoder_stride=16, hidden_act='gelu',
        hidden_dropout_prob=0.0, hidden_size=768, id2label={'0': 'tench', '1': 'goldfish'}, image_size=224, initializer_range=0.02,
        intermediate_size=3072, label2id={'tench': 0, 'goldfish': 1}, layer_norm_eps=1e-12, model_type='vit',
        num_attention_heads=12, num_channels=3, num_hidden_layers=12, patch_size=16, qkv_bias=True,
        transformers_version='4.13.0.dev0',
    ),
}  # fmt: skip
