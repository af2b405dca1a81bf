"""Documents that are packed in rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from misuses.pieces import CACHE, CROSS, MODEL, NET, PREFIX, STACK, STATE, XL, X, decoder, encoder, ids, wrapper
from misuses.row import Misuse
from x_transformers import AutoregressiveWrapper
from x_transformers.errors import DecodeError, InputError
from x_transformers.training.packing import ids_from_cu_seqlens, ids_from_lengths, pack

IDS = torch.tensor([[0, 0, 1, 1], [0, 1, 1, -1]])
TORN = torch.tensor([[0, 0, 1, 1], [4, 1, 1, 4]])
OLD = NET(ids(2, 4), return_intermediates=True)[1]


class Mixer(nn.Module):
    """In place of attention."""

    def forward(self, x: Any, **kwargs: Any) -> Any:
        return x


def replaced() -> Any:
    stack = decoder()
    stack.layers[0][1] = Mixer()
    return stack


MISUSES: dict[str, Misuse] = {
    'documents of another length': Misuse(InputError, lambda: NET(ids(2, 4), document_ids=IDS[:, :3]),
        'document_ids', 'has shape (2, 3)', '(2, 4)', 'negative for padding'),
    'documents by fractions': Misuse(InputError, lambda: STACK(X, document_ids=IDS.float()),
        'document_ids', 'has dtype torch.float32', 'whole numbers', 'negative for padding'),
    'documents as a list': Misuse(InputError, lambda: STACK(X, document_ids=IDS.tolist()),
        'document_ids', 'must be a tensor, got list', 'the document that each token belongs to'),
    'a document in two places': Misuse(InputError, lambda: STACK(X, document_ids=TORN),
        'document_ids', 'has 2 documents in 3 runs in row 1', 'an id comes back behind another document',
        'the tokens of a document stand together'),
    'documents elsewhere': Misuse(InputError, lambda: NET(ids(2, 4), document_ids=IDS.to('meta')),
        'document_ids', 'is on meta', 'x is on cpu', "document_ids.to('cpu')"),
    'documents and a state': Misuse(DecodeError, lambda: STACK(X, document_ids=IDS, state=STATE),
        'document_ids', 'cannot be combined with state, cache and return_state', 'no one end', 'Decode one sequence per row'),
    'documents and a state to come': Misuse(DecodeError, lambda: NET(ids(2, 4), document_ids=IDS, return_state=True),
        'document_ids', 'cannot be combined with state, cache and return_state', 'no one end', 'Decode one sequence per row'),
    'documents and a cache': Misuse(DecodeError, lambda: NET(ids(2, 4), document_ids=IDS, cache=OLD),
        'document_ids', 'cannot be combined with state, cache and return_state', 'no one end', 'Decode one sequence per row'),
    'documents and the cache of a stack': Misuse(DecodeError, lambda: STACK(X, document_ids=IDS, cache=CACHE),
        'document_ids', 'cannot be combined with state, cache and return_state', 'no one end', 'Decode one sequence per row'),
    'documents and left padding': Misuse(InputError, lambda: NET(ids(2, 4), document_ids=IDS, seq_start_pos=torch.tensor([0, 1])),
        'document_ids', 'cannot be combined with seq_start_pos', 'the start of a row', 'give padding a negative id'),
    'documents and memories': Misuse(InputError, lambda: STACK(X, document_ids=IDS, mems=[X]),
        'document_ids', 'cannot be combined with mems', 'the start of a row', 'one per row'),
    'documents and memories to come': Misuse(InputError, lambda: NET(ids(2, 4), document_ids=IDS, return_mems=True),
        'document_ids', 'cannot be combined with return_mems', 'the start of a row', 'one per row'),
    'documents and a prefix': Misuse(InputError, lambda: PREFIX(X, document_ids=IDS, prefix_attn_len=1),
        'document_ids', 'cannot be combined with prefix_attn_len', 'the start of a row', 'say by attn_mask'),
    'documents and embeddings ahead': Misuse(InputError, lambda: NET(ids(2, 4), document_ids=IDS, prepend_embeds=X),
        'document_ids', 'cannot be combined with prepend_embeds', 'the start of a row', 'by sum_embeds'),
    'documents and memory tokens': Misuse(InputError, lambda: wrapper(num_memory_tokens=2)(ids(2, 4), document_ids=IDS),
        'document_ids', 'cannot be combined with num_memory_tokens=2', 'all documents of a row', 'one document per row'),
    'documents and CLS tokens': Misuse(
        InputError, lambda: wrapper(attn_layers=encoder(), use_cls_token=True)(ids(2, 4), document_ids=IDS),
        'document_ids', 'cannot be combined with use_cls_token=True', 'all documents of a row', 'one document per row'),
    'documents and their mean': Misuse(InputError, lambda: wrapper(average_pool_embed=True)(ids(2, 4), document_ids=IDS),
        'document_ids', 'cannot be combined with average_pool_embed=True', 'all documents of a row', 'one document per row'),
    'documents and a module beside attention': Misuse(
        InputError, lambda: decoder(attn_hybrid_module=nn.GRU(16, 32, batch_first=True))(X, document_ids=IDS),
        'document_ids', 'cannot be combined with attn_hybrid_module', 'runs over the whole row', 'one document per row'),
    'documents and a module in place of attention': Misuse(InputError, lambda: replaced()(X, document_ids=IDS),
        'document_ids', 'layers[0] has a Mixer in place of attention', 'is told nothing of documents', 'give one per row'),
    'documents that look at nobody knows what': Misuse(InputError, lambda: CROSS(X, context=X, document_ids=IDS),
        'context_document_ids', 'is missing', 'looks at a context of its own', 'give (b, c)'),
    'documents of a context alone': Misuse(InputError, lambda: CROSS(X, context=X, context_document_ids=IDS),
        'context_document_ids', 'was given without document_ids', 'those that look at the context', 'give document_ids=(b, n)'),
    'documents of no context': Misuse(InputError, lambda: STACK(X, document_ids=IDS, context_document_ids=IDS),
        'context_document_ids', 'was given without a context', 'give context=(b, c, dim)'),
    'documents of another context': Misuse(InputError, lambda: CROSS(X, context=X, document_ids=IDS, context_document_ids=IDS[:, 1:]),
        'context_document_ids', 'has shape (2, 3)', '(2, 4)', 'negative for padding'),
    'a document longer than the table': Misuse(
        InputError, lambda: NET(ids(1, 12), document_ids=torch.tensor([[0] * 9 + [1] * 3])),
        'document', 'of 9 tokens is longer than max_seq_len=8', 'absolute positions', 'shorten it, raise max_seq_len, or use'),
    'documents of the inputs alone': Misuse(InputError, lambda: MODEL(ids(2, 5), document_ids=IDS),
        'document_ids', 'has shape (2, 4)', '(2, 5)', 'negative for padding'),
    'documents and the z-loss of scores': Misuse(
        InputError, lambda: AutoregressiveWrapper(NET, add_attn_z_loss=True)(ids(2, 4), document_ids=IDS),
        'document_ids', 'cannot be combined with add_attn_z_loss=True', 'a mean over all inputs', 'one document per row'),
    'documents in segments': Misuse(InputError, lambda: XL(ids(2, 4), document_ids=IDS),
        'document_ids', 'cannot be given to the loss', 'AutoregressiveWrapper alone', 'give one sequence per row'),
    'documents to continue': Misuse(InputError, lambda: MODEL.generate(ids(2, 4), 1, document_ids=IDS),
        'document_ids', 'cannot be given to generate', 'AutoregressiveWrapper alone', 'give one sequence per row'),
    'a sequence too long to pack': Misuse(InputError, lambda: pack([ids(3), ids(5)], 4),
        'sequences[1]', 'has 5 tokens, and length=4', 'cut it in pieces', 'make rows longer'),
    'a sequence without tokens': Misuse(InputError, lambda: pack([ids(3), []], 4), 'sequences[1]', 'has no tokens', 'leave it out'),
    'a sequence of words': Misuse(InputError, lambda: pack([['a', 'b']], 4),
        'sequences[0]', 'must be a tensor, got list', 'token ids'),
    'nothing to pack': Misuse(InputError, lambda: pack([], 4), 'sequences', '=[] is not possible', 'a list of sequences of token ids'),
    'rows of no length': Misuse(InputError, lambda: pack([ids(3)], 0), 'length', '=0 is not possible', 'how many tokens a row has'),
    'padding that is no token': Misuse(InputError, lambda: pack([ids(3)], 4, pad_value=0.5),  # type: ignore[arg-type]
        'pad_value', '=0.5 is not possible', 'the token that stands where there is none'),
    'ends that go back': Misuse(InputError, lambda: ids_from_cu_seqlens(torch.tensor([0, 3, 2]), 4),
        'cu_seqlens', '=tensor([0, 3, 2]) is not possible', 'numbers that grow from 0 to length=4'),
    'a row of no documents': Misuse(InputError, lambda: ids_from_lengths([[2], []], 4),
        'lengths', '=[[2], []] is not possible', 'for each row a list of the lengths of its documents'),
    'documents beyond the row': Misuse(InputError, lambda: ids_from_lengths([[2, 3]], 4),
        'lengths', 'has a row of 5 tokens, and length=4', 'make rows longer'),
}  # fmt: skip
