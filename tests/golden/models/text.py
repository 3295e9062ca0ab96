"""Golden outputs of text encoders and tokenizers, from transformers with random weights and small vocabularies.

Versions: torch 2.15.0, transformers 5.24.0, tokenizers 0.23.3, safetensors 0.8.0. Seed: 1 for every network.
Weights are rounded to f16, in which they are stored; the references compute with the rounded weights in
f32. Norms and biases are random too, so that no parameter is at a value that hides it.
Run from this folder: python text.py
With a folder that holds all-MiniLM-L6-v2 (config.json, model.safetensors, tokenizer.json) as argument it writes
minilm.safetensors instead: sentence embeddings with trained weights.
"""

import json
import pathlib
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)

SENTENCES = [
    "No acute cardiopulmonary process.",
    "Small left pleural effusion with adjacent atelectasis.",
    "The cardiac silhouette is mildly enlarged; there is no pneumothorax.",
    "Right lower lobe opacity, concerning for pneumonia.",
    "Endotracheal tube terminates 4.5 cm above the carina.",
    "Stable appearance of the chest with calcified granuloma in the right upper lobe.",
    "Status post median sternotomy and CABG.",
    "Diffuse bilateral interstitial markings consistent with pulmonary edema.",
    "There's no evidence of a displaced rib fracture, but subtle fractures can't be excluded.",
    "PA and lateral views of the chest were obtained.",
]
# What a report should not hold and does.
ODD = [
    "",
    "   \t\n ",
    "FINDINGS:\n\n1) Kerley-B lines -- see above...   ___ year-old M w/ SOB & CP (x3d)?",
    "Größe 12×8 mm, café-au-lait, naïve; 左肺 clear \u2022 \u00b5g \U0001fac1 e\u0301\u0327",
    "[MASK] <|endoftext|> [SEP] left",
    "hyperinflation" * 12,
]


def randomise(model):
    """Weights that keep activations of order 1, rounded to f16."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            centre = 1.0 if name.endswith("weight") else 0.0
            draw = centre + 0.2 * draw
        elif "embedding" not in name:
            draw = draw / parameter[0].numel() ** 0.5
        parameter.data = draw.half().float()
    return model.eval()


def save(name, model, arrays):
    """The file and config that the library itself writes, with inputs and outputs."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        folder = pathlib.Path(folder)
        state = {key: tensor.half() for key, tensor in load_file(folder / "model.safetensors").items()}
        config = (folder / "config.json").read_text()
    for key, value in arrays.items():
        assert value.isfinite().all(), key
        state["golden/" + key] = value.detach().clone().contiguous()
    save_file(state, HERE / f"{name}.safetensors", metadata={"config": config})
    print(name, (HERE / f"{name}.safetensors").stat().st_size, "bytes")


def gradients(model, output, names):
    """Of the mean square of the output, which makes no other array necessary."""
    output.square().mean().backward()
    parameters = dict(model.named_parameters())
    return {"gradient/" + name: parameters[name].grad for name in names}


def clip(name, model, ids, mask=None, names=()):
    randomise(model)
    ids = torch.tensor(ids)
    arrays = {"input_ids": ids}
    # Tokens that see nothing differ between transformers' own implementations of attention.
    visible = torch.ones(ids.shape)
    if mask is not None:
        arrays["attention_mask"] = mask = torch.tensor(mask)
        visible = (mask.cumsum(1) > 0).float()
    output = model(ids, attention_mask=mask, output_hidden_states=True)
    arrays["visible"] = visible
    arrays["last_hidden_state"] = output.last_hidden_state * visible[..., None]
    arrays["penultimate_hidden_state"] = output.hidden_states[-2] * visible[..., None]
    if isinstance(model, CLIPTextModelWithProjection):
        arrays["pooler_output"] = model.text_model(ids, attention_mask=mask).pooler_output
        arrays["text_embeds"] = output.text_embeds
    else:
        arrays["pooler_output"] = output.pooler_output
    arrays |= gradients(model, arrays["last_hidden_state"], names)
    save(name, model, arrays)


def bert(name, model, ids, mask=None, types=None, names=()):
    randomise(model)
    options = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    arrays = options = {key: torch.tensor(value) for key, value in options.items() if value is not None}
    core = model if isinstance(model, BertModel) else model.bert
    output = core(**options)
    arrays = arrays | {"last_hidden_state": output.last_hidden_state}
    if output.pooler_output is not None:
        arrays["pooler_output"] = output.pooler_output
    if mask is not None:
        # sentence-transformers' modules Pooling (mean) and Normalize.
        weights = arrays["attention_mask"][..., None].float()
        mean = (output.last_hidden_state * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        arrays["sentence_embeddings"] = torch.nn.functional.normalize(mean, dim=1)
    arrays |= gradients(model, output.last_hidden_state, names)
    save(name, model, arrays)


def encode(tokenizer, texts, length):
    options = {"padding": "max_length", "truncation": True, "max_length": length} if length else {"padding": True}
    encoded = tokenizer(texts, return_tensors="pt", **options)
    return {"length": length} | {key: encoded[key].tolist() for key in ("input_ids", "attention_mask")}


def train(tokenizer, trainer):
    tokenizer.train_from_iterator([text for text in SENTENCES for _ in range(3)], trainer)
    return json.loads(tokenizer.to_str())["model"]


def tokenizer_case(name, kind, files, options):
    """What a folder with these files makes of the sentences."""
    with tempfile.TemporaryDirectory() as folder:
        for file, text in files.items():
            (pathlib.Path(folder) / file).write_text(text, encoding="utf-8")
        tokenizer = kind.from_pretrained(folder)
        outputs = [encode(tokenizer, SENTENCES + ODD, length) for length in options]
    return {"name": name, "files": files, "outputs": outputs}


def saved(kind, files):
    """What transformers saves of a tokenizer opened from these files."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as copy:
        for file, text in files.items():
            (pathlib.Path(folder) / file).write_text(text, encoding="utf-8")
        kind.from_pretrained(folder).save_pretrained(copy)
        texts = {path.name: path.read_text(encoding="utf-8") for path in pathlib.Path(copy).iterdir()}
    return {name: json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")) for name, text in texts.items()}


def tokenizers():
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=False)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    model = train(trained, trainers.WordPieceTrainer(vocab_size=220, special_tokens=special, show_progress=False))
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    # Trained on text as it was written; without these most words would be unknown in lower case.
    pieces += [piece for piece in dict.fromkeys(piece.lower() for piece in pieces) if piece not in pieces]
    vocab = "".join(piece + "\n" for piece in pieces)
    uncased = {"vocab.txt": vocab}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "strip_accents": True, "model_max_length": 64}
    cased = {"vocab.txt": vocab, "tokenizer_config.json": json.dumps(config)}

    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    model = train(trained, trainers.BpeTrainer(vocab_size=180, end_of_word_suffix="</w>", show_progress=False))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [pair for pair in map(tuple, model["merges"])]
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    tokens = list(dict.fromkeys(tokens)) + ["<|startoftext|>", "<|endoftext|>"]
    numbers = json.dumps({token: number for number, token in enumerate(tokens)}, ensure_ascii=False)
    lines = "#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in merges)
    clip = {"vocab.json": numbers, "merges.txt": lines}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "pad_token": "!",
        "bos_token": {"__type": "AddedToken", "content": "<|startoftext|>", "lstrip": False, "normalized": True,
                      "rstrip": False, "single_word": False},
    }  # fmt: skip
    other = clip | {"tokenizer_config.json": json.dumps(settings)}
    cases = [
        tokenizer_case("bert", BertTokenizer, uncased, [None, 16]),
        tokenizer_case("bert_cased", BertTokenizer, cased, [32]),
        tokenizer_case("bert_saved", BertTokenizer, saved(BertTokenizer, cased), [32]),
        tokenizer_case("clip", CLIPTokenizer, clip, [None, 77]),
        tokenizer_case("clip_other_padding", CLIPTokenizer, other, [20]),
        tokenizer_case("clip_saved", CLIPTokenizer, saved(CLIPTokenizer, other), [20]),
    ]
    path = HERE / "tokenizers.json"
    golden = {"texts": SENTENCES + ODD, "cases": cases}
    path.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print("tokenizers", path.stat().st_size, "bytes")


def minilm(folder):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    encoded = tokenizer(SENTENCES, padding="longest", truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        tokens = model(**encoded).last_hidden_state
    weights = encoded["attention_mask"][..., None].float()
    mean = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    arrays = {
        "golden/input_ids": encoded["input_ids"],
        "golden/attention_mask": encoded["attention_mask"],
        "golden/sentence_embeddings": torch.nn.functional.normalize(mean, dim=1),
    }
    metadata = {"config": (pathlib.Path(folder) / "config.json").read_text(), "texts": json.dumps(SENTENCES)}
    save_file(arrays, HERE / "minilm.safetensors", metadata=metadata)
    print("minilm", (HERE / "minilm.safetensors").stat().st_size, "bytes")


if len(sys.argv) > 1:
    minilm(sys.argv[1])
    sys.exit()

clip(
    "clip_text",
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=9, bos_token_id=37, eos_token_id=38, pad_token_id=38,
        )
    ),
    # The second has a token of a larger number than the end, the third no end.
    [[37, 3, 5, 7, 11, 38, 38, 38, 38], [37, 39, 1, 38, 0, 39, 2, 0, 0], [37, 1, 2, 3, 4, 5, 6, 7, 8]],
    names=("embeddings.token_embedding.weight", "encoder.layers.0.self_attn.q_proj.weight"),
)  # fmt: skip
clip(
    "clip_text_other",
    CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=30, hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3,
            max_position_embeddings=11, hidden_act="gelu", projection_dim=5, layer_norm_eps=1e-3,
            bos_token_id=0, eos_token_id=2, pad_token_id=1,
        )
    ),
    # The largest number ends a text, whatever the config says. The last is padded before the text.
    [[28, 3, 2, 5, 29, 1, 1], [28, 9, 29, 29, 29, 29, 29], [1, 1, 28, 2, 8, 4, 29]],
    mask=[[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1]],
    names=("text_model.encoder.layers.1.self_attn.k_proj.weight",),
)  # fmt: skip
bert(
    "bert",
    BertModel(
        BertConfig(
            vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=10,
        )
    ),
    [[2, 7, 9, 30, 3, 0, 0, 0], [2, 39, 3, 11, 12, 13, 14, 3], [2, 3, 0, 0, 0, 0, 0, 0]],
    mask=[[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0, 0]],
    types=[[0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0, 0]],
    names=("embeddings.LayerNorm.weight", "encoder.layer.0.attention.self.value.weight"),
)  # fmt: skip
bert(
    "bert_other",
    BertForMaskedLM(
        BertConfig(
            vocab_size=25, hidden_size=12, intermediate_size=28, num_hidden_layers=1, num_attention_heads=3,
            max_position_embeddings=6, type_vocab_size=3, hidden_act="gelu_new", layer_norm_eps=1e-5,
        )
    ),
    [[2, 7, 9, 24, 11, 3], [2, 4, 4, 12, 13, 3]],
    names=("bert.encoder.layer.0.attention.self.query.weight",),
)  # fmt: skip
tokenizers()
