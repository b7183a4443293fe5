"""SSFGGAN: a GAN's discriminator that learns to classify from few labels.

Bu, Liu, Wang: a semi-supervised fine-grained generative adversarial network that assesses the
operation of an electro-fused magnesium furnace, 2023, as the FmFormer paper describes it in
Sec. II-B.
Reconstruction: the published facts are the title, and that a CNN's features of the image and an
MLP's features of the current predict together. Filled in: the classifier as a discriminator of K +
1 classes and feature matching (Salimans et al. 2016, arXiv 1606.03498, Secs. 3.1 and 5),
"fine-grained" as a code of several modes within each class that a head Q recovers from generated
pairs (InfoGAN, Chen et al. 2016, arXiv 1606.03657, Sec. 4), all layers, and the features of the
current.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from fmbench.nn import (
    Standardize,
    TimeBlocks,
    current_features,
    current_reader,
    how_to_fit,
    num_current_features,
    video_of,
)
from fmbench.stages import Learn, Stage, Turn, trainable
from fmbench.types import Batch, Modality, Prediction, Problem

HALVINGS = 4
FEATURES = (256, 128)
"""Numbers of features of the image and of the current."""


class Pair(NamedTuple):
    """Input of the discriminator, real or generated."""

    frame: Tensor
    """(B, 3, H, W), standardised."""
    features: Tensor
    """(B, 9·C + 1), of the standardised current."""


def real_loss(logits: Tensor) -> Tensor:
    """-log D for (B, K) logits: (B,). With Z = Σ exp(ℓ), D = Z / (Z + 1); the fake logit is 0."""
    return F.softplus(-logits.logsumexp(1))


def fake_loss(logits: Tensor) -> Tensor:
    """-log(1 - D) for (B, K) logits: (B,)."""
    return F.softplus(logits.logsumexp(1))


def mean_of(values: Tensor, rows: Tensor) -> Tensor:
    """Mean of (B,) or (B, D) over the rows of a mask (B,); 0 without any."""
    weight = rows.to(values).view(-1, *[1] * (values.ndim - 1))
    return (values * weight).sum(0) / weight.sum().clamp(min=1)


class Discriminator(nn.Module):
    """A pair -> features f; f -> logits of the K real classes. Weight norm, no batch norm."""

    def __init__(
        self, image_size: tuple[int, int], current_features: int, classes: int, width: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((3, width, 2 * width, 4 * width, 4 * width)):
            convolution = nn.Conv2d(before, after, 4, stride=2, padding=1)
            layers += [weight_norm(convolution), nn.LeakyReLU(0.2)]
        area = image_size[0] * image_size[1] // 4**HALVINGS
        for_image, for_current = FEATURES
        self.image = nn.Sequential(
            *layers,
            nn.Flatten(),
            weight_norm(nn.Linear(4 * width * area, for_image)),
            nn.LeakyReLU(0.2),
        )
        self.current = nn.Sequential(
            weight_norm(nn.Linear(current_features, for_current)),
            nn.LeakyReLU(0.2),
            weight_norm(nn.Linear(for_current, for_current)),
            nn.LeakyReLU(0.2),
        )
        self.norm = nn.LayerNorm(sum(FEATURES))
        self.classify = nn.Linear(sum(FEATURES), classes)

    def forward(self, pair: Pair) -> Tensor:
        """f: (B, 384), image and current side by side."""
        features = [self.image(pair.frame), self.current(pair.features)]
        out: Tensor = self.norm(torch.cat(features, dim=1))
        return out


class Generator(nn.Module):
    """Noise, class and fine code -> a frame in grey levels and features of the current.

    Batch normalisation stores no statistics: the generator only runs on batches, in training.
    """

    def __init__(
        self, image_size: tuple[int, int], current_features: int, codes: int, width: int
    ) -> None:
        super().__init__()
        rows, columns = (size // 2**HALVINGS for size in image_size)
        layers: list[nn.Module] = [
            nn.Linear(codes, 4 * width * rows * columns),
            Rearrange("b (c y x) -> b c y x", y=rows, x=columns),
        ]
        for before, after in pairwise((4 * width, 2 * width, width, width // 2, 3)):
            layers += [nn.BatchNorm2d(before, track_running_stats=False), nn.ReLU()]
            layers.append(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
        self.frame = nn.Sequential(*layers, nn.Tanh())
        self.features = nn.Sequential(
            nn.Linear(codes, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, current_features),
        )

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """(B, noise + K + fine) -> (B, 3, H, W) in 0-255 and (B, 9·C + 1)."""
        return 127.5 * (self.frame(code) + 1), self.features(code)


class Ssfggan(nn.Module):
    """Predict a class by a semi-supervised GAN of K + 1 classes on the last frame and the current.

    The discriminator is the classifier. It learns the class of labelled windows, that unlabelled
    windows are real and that generated pairs are not; it never reads the labels of the unlabelled.

    Args:
        problem: inputs and outputs; H and W multiples of 16, at least two samples of current.
        labelled_fraction: share of the blocks of time whose labels are used (source: not public;
            0.1 to 0.3 is usual).
        block_seconds: length of a block in seconds.
        width: channels of the discriminator's first convolution; 2, 4, 4 times as many follow, and
            the generator mirrors them.
        noise: length of the generator's noise.
        fine_codes: modes within each class.
        class_weight: λ_c, weight of the class loss of generated pairs.
        fine_weight: λ_k, weight of the loss of recovering the fine code.
        lr_scale: factor on the run's learning rate, for both networks: 2e-4 if the run's is 5e-4.

    Raises:
        ValueError: sizes do not divide, samples are too few, or an option is out of range.
    """

    modalities = frozenset({Modality.CROSS})
    dense: frozenset[Modality] = frozenset()

    def __init__(
        self,
        problem: Problem,
        *,
        labelled_fraction: float = 0.2,
        block_seconds: int = 600,
        width: int = 64,
        noise: int = 64,
        fine_codes: int = 4,
        class_weight: float = 1.0,
        fine_weight: float = 1.0,
        lr_scale: float = 0.4,
    ) -> None:
        super().__init__()
        rows, columns = problem.image_size
        step = 2**HALVINGS
        if rows % step or columns % step:
            raise ValueError(
                f"ssfggan draws frames of multiples of {step}, not {rows}x{columns}; "
                + how_to_fit(problem.image_size, (step, step))
            )
        if problem.current_samples < 2:
            raise ValueError("ssfggan needs at least 2 samples of current")
        for name, value, least in (("width", width, 2), ("noise", noise, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        if fine_codes < 2:
            raise ValueError(f"fine_codes is {fine_codes}; one mode in a class needs no code")
        self.problem = problem
        self.read_current = current_reader(problem, "ssfggan", any_from=2)
        self.noise, self.fine_codes = noise, fine_codes
        self.class_weight, self.fine_weight = class_weight, fine_weight
        self.lr_scale = lr_scale
        # No history: an unlabelled window discloses no label, even if it overlaps a labelled block.
        self.blocks = TimeBlocks(share=labelled_fraction, seconds=block_seconds)
        features = num_current_features(problem.current_channels)
        modes = problem.num_classes * fine_codes
        self.standardize_video = Standardize.video()
        self.standardize_current = Standardize.current(problem.current_channels)
        sizes = (problem.image_size, features)
        self.discriminator = Discriminator(*sizes, classes=problem.num_classes, width=width)
        codes = noise + problem.num_classes + modes
        self.generator = Generator(*sizes, codes=codes, width=width)
        self.recover = nn.Linear(sum(FEATURES), modes)  # Q

    def stages(self) -> list[Stage]:
        """One step of discriminator and generator per batch; Q learns with the generator."""

        def turn(losses: Callable[[Batch], dict[str, Tensor]], *modules: nn.Module) -> Turn:
            adam = {"betas": (0.5, 0.999), "weight_decay": 0.0, "lr_scale": self.lr_scale}
            return Turn(parameters=[{"params": trainable(*modules), **adam}], losses=losses)

        turns = [
            turn(self.discriminator_losses, self.discriminator),
            turn(self.generator_losses, self.generator, self.recover),
        ]
        return [Learn(name="adversaries", turns=turns)]

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the labelled windows, -log D of the others, -log(1 - D) of fakes."""
        labelled = self.labelled(batch)
        logits = self.classify(self.discriminator(self.real(batch)))
        with torch.no_grad():
            fake, _ = self.invent(len(batch.label))
        label = torch.where(labelled, batch.label, 0)  # the replacement has weight 0
        class_loss = F.cross_entropy(logits, label, reduction="none")
        return {
            "supervised": mean_of(class_loss, labelled),
            "unlabelled": mean_of(real_loss(logits), ~labelled),
            "fake": fake_loss(self.classify(self.discriminator(fake))).mean(),
        }

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Distance of the fakes' mean features from the unlabelled windows', and both code losses.

        The squared distance is a mean over features, as in the authors' code of feature matching.
        """
        unlabelled = ~self.labelled(batch)
        with torch.no_grad():
            wanted = mean_of(self.discriminator(self.real(batch)), unlabelled)  # (384,)
        fake, mode = self.invent(len(batch.label))
        features = self.discriminator(fake)
        matching = F.mse_loss(features.mean(0), wanted) * unlabelled.any()
        classes = self.classify(features)
        return {
            "matching": matching,
            "fake_class": self.class_weight * F.cross_entropy(classes, mode // self.fine_codes),
            "fine": self.fine_weight * F.cross_entropy(self.recover(features).float(), mode),
        }

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        return Prediction(self.classify(self.discriminator(self.real(batch))))

    def classify(self, features: Tensor) -> Tensor:
        """ℓ: (B, 384) -> (B, K)."""
        logits: Tensor = self.discriminator.classify(features)
        return logits.float()

    def labelled(self, batch: Batch) -> Tensor:
        """(B,) bool: windows whose label may be read."""
        return self.blocks.split(batch).chosen & (batch.label >= 0)

    def invent(self, size: int) -> tuple[Pair, Tensor]:
        """A batch of fakes and the mode of each, (B,); mode // fine_codes is its class."""
        classes = self.problem.num_classes
        device = self.recover.weight.device
        mode = torch.randint(classes * self.fine_codes, (size,), device=device)
        code = [
            torch.randn(size, self.noise, device=device),
            F.one_hot(mode // self.fine_codes, classes),
            F.one_hot(mode, classes * self.fine_codes),
        ]
        frame, features = self.generator(torch.cat(code, dim=1))
        return Pair(self.standardize_video(frame), features), mode

    def real(self, batch: Batch) -> Pair:
        """The batch's last frames and currents, as the discriminator reads them."""
        video = video_of(batch, image_size=self.problem.image_size)
        features = current_features(self.standardize_current(self.read_current(batch)))
        return Pair(self.standardize_video(video[:, :, -1]), features)
