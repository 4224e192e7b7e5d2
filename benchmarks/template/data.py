"""The digits of scikit-learn behind loaders."""

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split


class DigitsDataModule(pl.LightningDataModule):
    """1797 images of 8 x 8 pixels, 60 % to train on, 20 % to validate, 20 % to test."""

    def __init__(self, batch_size: int = 64, num_workers: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.parts: list[Dataset] = []

    def setup(self, stage: str | None = None) -> None:
        if self.parts:
            return
        x, y = load_digits(return_X_y=True)
        rows = TensorDataset(torch.from_numpy(x).float() / 16, torch.from_numpy(y))
        generator = torch.Generator().manual_seed(self.seed)
        self.parts = random_split(rows, [1078, 360, 359], generator)

    def train_dataloader(self) -> DataLoader:
        return self._loader(0, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(1)

    def test_dataloader(self) -> DataLoader:
        return self._loader(2)

    def _loader(self, part: int, shuffle: bool = False) -> DataLoader:
        return DataLoader(
            self.parts[part], self.batch_size, shuffle=shuffle, num_workers=self.num_workers
        )
