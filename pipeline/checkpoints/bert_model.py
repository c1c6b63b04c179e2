"""The embedded BERT before training, initialized so that it learns to read in an hour on one core.

Extractive reading needs heads that find equal tokens and heads that look at neighbours. From a random start they take
long to appear; here the lower layers begin with them and training refines them.
"""

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForQuestionAnswering

HEAD = 64  # channels of a head
LOCAL_HEADS = ((1, 0, -3), (1, 1, 4), (2, 0, -7), (2, 1, 3), (3, 0, -4))  # (layer, head, offset in tokens)


def build_model(vocabulary: int) -> BertForQuestionAnswering:
    """Returns a small BERT whose lower heads start out matching equal tokens and looking at neighbours."""
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
        max_position_embeddings=512, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        initializer_range=256**-0.5,  # the usual 0.02 is meant for wider layers: here signals would fade
    )  # fmt: skip
    model = BertForQuestionAnswering(config)
    embeddings, layers = model.bert.embeddings, model.bert.encoder.layer
    with torch.no_grad():
        # One head's worth of channels belongs to positions, the others to words.
        embeddings.position_embeddings.weight.zero_()
        positions = torch.arange(float(config.max_position_embeddings))
        embeddings.position_embeddings.weight[:, :HEAD] = 0.09 * sinusoids(positions)
        embeddings.word_embeddings.weight[:, :HEAD] *= 0.2
        embeddings.token_type_embeddings.weight[:, :HEAD] = 0
        embeddings.token_type_embeddings.weight *= 0.3
        matching = layers[0].attention.self
        matching.query.weight[:, :HEAD] = 0
        matching.key.weight.copy_(matching.query.weight)
        for layer in layers:  # quiet branches: words and positions reach the upper layers
            layer.attention.output.dense.weight *= 0.4
            layer.output.dense.weight *= 0.3
        for number, head, offset in LOCAL_HEADS:
            look_at_offset(layers[number].attention.self, head, offset)
    return model


def look_at_offset(attention: nn.Module, head: int, offset: int) -> None:
    """Lets one head of a BertSelfAttention attend to the tokens around `offset` from its own.

    A shift by d turns the pair (sin wp, cos wp) by the angle wd: a rotated query equals the key d tokens on.
    """
    rows = slice(head * HEAD, (head + 1) * HEAD)
    turn = torch.zeros(HEAD, HEAD)
    for at, (sine, cosine) in enumerate(sinusoids(torch.tensor([float(offset)])).reshape(-1, 2).tolist()):
        pair = slice(2 * at, 2 * at + 2)
        turn[pair, pair] = torch.tensor([[cosine, sine], [-sine, cosine]])
    for name, weight in (("query", turn), ("key", torch.eye(HEAD))):
        projection = attention.get_submodule(name)
        assert isinstance(projection, nn.Linear)
        projection.weight[rows] = 0.0
        projection.weight[rows, :HEAD] = weight


def sinusoids(positions: Tensor) -> Tensor:
    """Returns sines and cosines of the positions, [P, HEAD], wavelengths of 6 to 600 tokens (arXiv:1706.03762, 3.5)."""
    frequencies = 2 * torch.pi / 6 * 100 ** (-torch.arange(HEAD // 2) / (HEAD // 2))
    angles = positions[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
