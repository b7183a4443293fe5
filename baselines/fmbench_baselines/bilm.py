"""BiLM: a frozen bidirectional language model of currents, adapted to video by adapters.

Yang, Miech, Sivic, Laptev, Schmid: "Zero-Shot Video Question Answering via Frozen Bidirectional
Language Models" (FrozenBiLM), NeurIPS 2022, arXiv 2206.08155, Sec. 3; the adapters' places and
initialisation follow the authors' code.
Differs: the language model is a small DeBERTa-V2 that first learns the language of currents, the
vision encoder a small ViT, and then both are frozen. A level of a phase is a word; a value between
two levels is embedded between their embeddings. Pretraining predicts masked words in sentences of
currents, and the word for the label at their end, so that the model knows each answer as a word.
For the mask, every patch of a frame is a token, and the projection has a bias for each frame, since
relative positions only reach as far as a sentence. The vision encoder is trained on this task
(source: CLIP's, trained on images with captions). The source adapts by masked words of captions
before it answers questions; here there is no such stage. Rate, clipping and weight decay are the
run's (source: 3e-5 and 5e-5, gradient norm 0.1, no decay). The frozen parts have no dropout; the
authors' decoder, which runs the last layer twice more, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn import ImageNet, Standardize, current_reader, dense_head, tube_grid, video_of
from fmbench.nn.tracing import exporting
from fmbench.stages import Learn, Stage, Turn
from fmbench.types import Batch, Modality, Prediction, Problem

if TYPE_CHECKING:  # their imports take a second, which only this model should cost
    from timm.models.vision_transformer import VisionTransformer
    from transformers import DebertaV2Config, DebertaV2ForMaskedLM

VisualTokens = Literal["grid", "frame"]
MASKED = 0.15  # share of masked words in pretraining, as in BERT and DeBERTa
REACH = 5.0  # the levels cover this many standard deviations on each side of the mean
CLS, MASK, FIRST_ANSWER = 0, 1, 2  # words; further labels follow, then the levels of each phase
RARE = 5.0  # weight of abnormal patches in the stage `vision`, as of profile cpu's pixels
LOADED = -1  # replaces the number of pretraining batches


class Adapted(nn.Module):
    """A branch's output map followed by an adapter: h + Up(ReLU(Down(h))), h = map(x).

    The rest of the branch (dropout, sum with the residual, LayerNorm) sees the adapted h.

    Args:
        dense: the frozen map, (…, in) -> (…, D).
        reduction: D divided by the adapter's width.
        dropout: rate inside the adapter, in training.
    """

    def __init__(self, dense: nn.Linear, reduction: int, dropout: float) -> None:
        super().__init__()
        dim = dense.out_features
        self.dense = dense
        self.down = nn.Linear(dim, dim // reduction)
        self.up = nn.Linear(dim // reduction, dim)
        self.dropout = nn.Dropout(dropout)
        self.active = True
        for parameter in (*self.down.parameters(), *self.up.parameters()):  # nearly the identity
            nn.init.normal_(parameter, std=1e-3)
            parameter.data.clamp_(-2e-3, 2e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, D)."""
        h: Tensor = self.dense(x)
        if self.active:
            h = h + self.up(self.dropout(F.relu(self.down(h))))
        return h


def insert_adapters(language: Any, reduction: int, dropout: float) -> None:
    """Insert adapters after the self-attention and after the feed-forward of every layer."""
    for layer in language.deberta.encoder.layer:
        for branch in (layer.attention.output, layer.output):
            branch.dense = Adapted(branch.dense, reduction, dropout)


@contextmanager
def without_adapters(module: nn.Module) -> Iterator[None]:
    """Switch the adapters off inside the block."""
    adapters = [m for m in module.modules() if isinstance(m, Adapted)]
    for adapter in adapters:
        adapter.active = False
    try:
        yield
    finally:
        for adapter in adapters:
            adapter.active = True


def language_config(words: int, samples: int, dim: int, depth: int, heads: int) -> DebertaV2Config:
    """The options of DeBERTa-V2-XLarge, without dropout.

    All distances longer than a sentence share one position, so that pretraining learns every frozen
    position. Initial weights are those of `fmbench.nn.bert.BertStack`, √(768/D) times the source's.
    """
    from transformers import DebertaV2Config

    options: dict[str, Any] = {
        "vocab_size": words,
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * dim,
        "pad_token_id": None,
        "relative_attention": True,
        "max_relative_positions": samples + 1,
        "max_position_embeddings": samples + 1,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "conv_kernel_size": 3,
        "conv_act": "gelu",
        "position_biased_input": False,
        "initializer_range": 0.02 * (768 / dim) ** 0.5,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "legacy": False,
    }
    return DebertaV2Config(**options)


def load_language(path: str, config: DebertaV2Config) -> DebertaV2ForMaskedLM:
    """Load from a folder written by `save_pretrained`, safetensors only.

    Raises:
        ValueError: the folder cannot be read or holds another model.
    """
    from transformers import DebertaV2ForMaskedLM

    load: Any = DebertaV2ForMaskedLM.from_pretrained
    try:
        language, report = load(
            path,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(f"pretrained_language: {path}: {_brief(error)}") from None
    keys = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if keys:
        raise ValueError(f"pretrained_language: {path}: another model, it differs in {keys[0]}")
    loaded: DebertaV2ForMaskedLM = language.float()
    return loaded


def load_vision(vision: VisionTransformer, path: str) -> None:
    """Load from a file that timm reads: safetensors, or pickled tensors and plain values only.

    timm resamples positions and patches of another size; a classifier is left out.

    Raises:
        ValueError: the file cannot be read or holds another encoder.
    """
    from timm.models import load_state_dict
    from timm.models.vision_transformer import checkpoint_filter_fn

    try:
        state = checkpoint_filter_fn(load_state_dict(path, weights_only=True), vision)
        vision.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.")})
    except Exception as error:  # the type depends on the file's format
        raise ValueError(f"pretrained_vision: {path}: {_brief(error)}") from None


class BiLM(nn.Module):
    """Predict the class as the word at [MASK] in one sentence of frames and currents.

    Three stages: `vision` learns which patches of the label's frame are abnormal (or the frame, if
    there are no masks) through a head that is then discarded, `language` predicts the label and the
    masked words of the training currents, `adapt` freezes both and trains projection, adapters,
    LayerNorms and dense head. Neither `adapt` nor a prediction runs on frozen weights that are
    neither pretrained nor loaded (`sources`).

    At the default size a window of 10 frames and 240 samples is 882 tokens.

    Args:
        problem: inputs and outputs; H and W multiples of the patch.
        dim: D, width of the language model (source: 1536).
        depth: layers of the language model (source: 24).
        heads: attention heads of the language model (source: 24).
        levels: number of words for the values of a phase.
        reduction: D divided by an adapter's width.
        dropout: rate for the adapters, in training.
        patch: side of the vision encoder's patches in pixels; for a mask 2, 4, 8, …
        vision_dim: width of the vision encoder.
        vision_depth: layers of the vision encoder.
        vision_heads: attention heads of the vision encoder.
        visual_tokens: "grid", every patch of every frame, or "frame" (source), their mean in each
            frame, which allows no mask.
        pretrained_vision: file of a ViT's weights, which replaces the stage `vision`; frames are
            then standardised by ImageNet's statistics.
        pretrained_language: folder written by `DebertaV2ForMaskedLM.save_pretrained`, which
            replaces the stage `language`; its words must be the levels of currents, not English.

    Raises:
        ValueError: sizes do not divide, "frame" is combined with a mask, or weights do not fit.
    """

    modalities = frozenset({Modality.CROSS})
    dense = frozenset({Modality.CROSS})

    vision_batches: Tensor
    language_batches: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 192,
        depth: int = 6,
        heads: int = 6,
        levels: int = 64,
        reduction: int = 8,
        dropout: float = 0.1,
        patch: int = 8,
        vision_dim: int = 96,
        vision_depth: int = 4,
        vision_heads: int = 3,
        visual_tokens: VisualTokens = "grid",
        pretrained_vision: str | None = None,
        pretrained_language: str | None = None,
    ) -> None:
        from timm.models.vision_transformer import VisionTransformer
        from transformers import DebertaV2ForMaskedLM

        from fmbench_baselines.disentangled import attend_in_pieces

        super().__init__()
        pairs = (("heads", dim, heads), ("reduction", dim, reduction))
        for name, width, part in (*pairs, ("vision_heads", vision_dim, vision_heads)):
            if width % part:
                raise ValueError(f"a width of {width} is not a multiple of {name} {part}")
        if levels < 2:
            raise ValueError(f"levels is {levels}; it must be at least 2")
        if visual_tokens == "frame" and problem.dense:
            raise ValueError('no mask can be drawn from visual_tokens "frame"; set dense to false')
        tube_grid(problem.frames, problem.image_size, (1, patch, patch))  # raises if not divisible
        self.problem = problem
        self.read_current = current_reader(problem, "bilm", any_from=1)
        self.levels = levels
        self.visual_tokens = visual_tokens
        self.paths = {"vision": pretrained_vision, "language": pretrained_language}
        for kind, path in self.paths.items():  # a checkpoint can be read without these files
            batches = LOADED if path and Path(path).exists() else 0
            self.register_buffer(f"{kind}_batches", torch.tensor(batches))

        self.standardize_video = ImageNet() if pretrained_vision else Standardize.video()
        self.standardize_current = Standardize.current(problem.current_channels)
        self.vision = VisionTransformer(
            img_size=problem.image_size,
            patch_size=patch,
            embed_dim=vision_dim,
            depth=vision_depth,
            num_heads=vision_heads,
            num_classes=0,
        )
        self.vision_head = None  # only used in pretraining
        if not pretrained_vision:
            self.vision_head = nn.Linear(vision_dim, problem.num_classes)
        elif Path(pretrained_vision).exists():
            load_vision(self.vision, pretrained_vision)

        self.first_level = FIRST_ANSWER + problem.num_classes
        words = self.first_level + problem.current_channels * levels
        config = language_config(words, problem.current_samples, dim, depth, heads)
        self.language: Any = DebertaV2ForMaskedLM(config)
        if pretrained_language and Path(pretrained_language).exists():
            self.language = load_language(pretrained_language, config)
        attend_in_pieces(self.language)
        insert_adapters(self.language, reduction, dropout)
        self.project = nn.Linear(vision_dim, dim, bias=False)
        self.frame_bias = nn.Parameter(torch.empty(problem.frames, 1, 1, dim))
        nn.init.trunc_normal_(self.frame_bias, std=0.02)
        self.dense_head = dense_head(problem, dim, steps=problem.frames, patch=(patch, patch))

    def stages(self) -> list[Stage]:
        """Pretraining of the parts that no file provides, then adaptation of the frozen parts."""
        stages: list[Stage] = []
        if self.vision_head is not None:
            learnt = [*self.vision.parameters(), *self.vision_head.parameters()]
            turn = Turn(parameters=learnt, losses=self.vision_losses)
            stages.append(Learn(name="vision", turns=[turn], check=self.seen))
        if not self.paths["language"]:
            learnt = [p for n, p in self.language.named_parameters() if not _of_adapter(n)]
            turn = Turn(parameters=learnt, losses=self.language_losses)
            stages.append(Learn(name="language", turns=[turn], check=self.answered))
        tuned = [p for n, p in self.language.named_parameters() if _of_adapter(n) or _of_norm(n)]
        tuned += [*self.project.parameters(), self.frame_bias]
        groups: list[dict[str, Any]] = [{"params": tuned, "lr_scale": 2}]  # 1e-3 if lr is 5e-4
        if self.dense_head is not None:
            groups.append({"params": list(self.dense_head.parameters())})
        return [*stages, Learn(name="adapt", turns=[Turn(parameters=groups)])]

    @property
    def sources(self) -> dict[str, str]:
        """Origin of the weights of each frozen part; an empty text if they are random."""
        texts = {}
        for part, path in self.paths.items():
            batches = int(self.get_buffer(f"{part}_batches"))
            pretrained = f"pretrained in stage {part}, {batches} batches" if batches else ""
            texts[part] = f"loaded from {path}" if batches == LOADED else pretrained
        return texts

    def vision_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the classes that `seen` tells apart; abnormal patches weigh more."""
        self.vision_batches += 1
        logits, label = self.seen(batch)
        weight = logits.new_ones(self.problem.num_classes)
        if batch.mask is not None:
            weight[1:] = RARE
        return {"patch": F.cross_entropy(logits, label, weight)}

    def seen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits and class of every patch of the label's own frame, 2 × (B·y·x, …).

        A patch with an abnormal pixel is abnormal. Without masks: of every frame, from its mean
        token, 2 × (B, …).
        """
        assert self.vision_head is not None
        tokens = self.frame_tokens(self._inputs(batch)[0][:, :, -1:])[:, 0]
        if batch.mask is None:
            return self.vision_head(tokens.mean((1, 2))), batch.label
        patches = reduce(
            batch.mask, "b (y h) (x w) -> (b y x)", "max", y=tokens.shape[1], x=tokens.shape[2]
        )
        return self.vision_head(tokens.flatten(0, 2)), patches.long()

    def language_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropies of the masked words and the label of the sentence [CLS], current, [MASK].

        A sample's loss is the mean over its phases, each classified among its own levels. Every
        sentence asks for the label, as in `forward`.
        """
        self.language_batches += 1
        place = self.places(self._inputs(batch)[1])
        masked = torch.rand(place.shape[:2], device=place.device) < MASKED
        scores = self.read_alone(place, masked)  # (B, L + 1, words)
        levels = scores[:, :-1, self.first_level :]
        levels = rearrange(levels, "b l (c q) -> b q l c", q=self.levels)
        sample = F.cross_entropy(levels, place.round().long(), reduction="none").mean(-1)
        return {
            "words": (sample * masked).sum() / masked.sum().clamp(min=1),
            "answer": F.cross_entropy(self.answers(scores[:, -1]), batch.label),
        }

    def answered(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits from the current alone, without adapters, and the class: 2 × (B, …)."""
        place = self.places(self._inputs(batch)[1])
        scores = self.read_alone(place, torch.zeros_like(place[..., 0], dtype=torch.bool))
        return self.answers(scores[:, -1]), batch.label

    def read_alone(self, place: Tensor, masked: Tensor) -> Tensor:
        """Scores of samples and label by the language model without video and adapters.

        (B, L, C) positions and (B, L) bool, the samples that are masked -> (B, L + 1, words).
        """
        sentence = self.sentence(place)
        hidden = F.pad(masked, (1, 1))  # neither [CLS] nor [MASK]
        sentence = torch.where(hidden[..., None], self.words[MASK], sentence)
        with without_adapters(self.language):
            states = self.language.deberta(inputs_embeds=sentence).last_hidden_state
        return self.scores(states[:, 1:])

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        if not exporting():
            self._refuse_random_weights()
        video, current = self._inputs(batch)
        tokens = self.frame_tokens(video)
        if self.visual_tokens == "frame":
            tokens = tokens.mean((2, 3), keepdim=True)
        visual = self.project(tokens) + self.frame_bias  # (B, T, y, x, D)
        text = self.sentence(self.places(current))
        sequence = torch.cat([visual.flatten(1, 3), text], dim=1)
        states = self.language.deberta(inputs_embeds=sequence).last_hidden_state
        logits = self.answers(self.scores(states[:, -1]))
        mask_logits = None
        if self.dense_head is not None:
            mask_logits = self.dense_head(states[:, : -text.shape[1]].reshape(visual.shape))
        return Prediction(logits, mask_logits)

    def frame_tokens(self, video: Tensor) -> Tensor:
        """Tokens of the patches, frame by frame: (B, 3, T, H, W) -> (B, T, y, x, D_v)."""
        frames = rearrange(self.standardize_video(video), "b c t h w -> (b t) c h w")
        tokens = self.vision.forward_features(frames)[:, self.vision.num_prefix_tokens :]
        rows: int = self.vision.patch_embed.grid_size[0]
        out: Tensor = rearrange(tokens, "(b t) (y x) d -> b t y x d", b=video.shape[0], y=rows)
        return out

    def places(self, current: Tensor) -> Tensor:
        """(B, L, C) amperes -> fractional positions among the levels, 0 to levels - 1."""
        value: Tensor = self.standardize_current(current).clamp(-REACH, REACH)
        return (value + REACH) * (self.levels - 1) / (2 * REACH)

    def sentence(self, place: Tensor) -> Tensor:
        """[CLS], the samples, [MASK], which asks for the label: (B, L, C) -> (B, L + 2, D).

        A sample is the sum of its phases' words, each value interpolated between two levels.
        """
        level = torch.arange(self.levels, device=place.device)
        nearness = F.relu(1 - (place[..., None] - level).abs())  # (B, L, C, levels)
        samples = nearness.flatten(2) @ self.words[self.first_level :]
        start, end = (self.words[word].expand(place.shape[0], 1, -1) for word in (CLS, MASK))
        return torch.cat([start, samples, end], dim=1)

    def scores(self, states: Tensor) -> Tensor:
        """The frozen head: transformed states times each word's embedding, plus its bias.

        (…, D) -> (…, words). An answer is one word: its embedding is the answer's.
        """
        head, words = self.language.lm_predictions.lm_head, self.language.get_input_embeddings()
        out: Tensor = head(states, words)
        return out

    def answers(self, scores: Tensor) -> Tensor:
        """Scores of the labels' words: (B, words) -> (B, K)."""
        return scores[:, FIRST_ANSWER : self.first_level]

    @property
    def words(self) -> Tensor:
        """Embeddings of [CLS], [MASK], the labels, the levels phase by phase: (words, D)."""
        words: Tensor = self.language.get_input_embeddings().weight
        return words

    def _refuse_random_weights(self) -> None:
        for part, source in self.sources.items():
            if not source:
                path = self.paths[part]
                cure = f"{path}: no such file" if path else f"fit pretrains it in stage {part}"
                raise ValueError(
                    f"bilm's {part} part is frozen, but neither pretrained nor loaded"
                    f" (pretrained_{part}): {cure}"
                )

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Video and current, if they have the sizes that the model was built for."""
        frames, size = self.problem.frames, self.problem.image_size
        return video_of(batch, frames=frames, image_size=size), self.read_current(batch)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split()[:40])


def _of_adapter(name: str) -> bool:
    return ".dense.down." in name or ".dense.up." in name


def _of_norm(name: str) -> bool:
    return ".LayerNorm." in name
