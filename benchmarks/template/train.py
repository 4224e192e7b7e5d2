"""One job: ``python -m benchmarks.template.train [-m] [key=value...]``."""

import hydra
import lightning.pytorch as pl
from hydra.utils import instantiate
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float:
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule: pl.LightningDataModule = instantiate(cfg.data)
    model: pl.LightningModule = instantiate(cfg.model)
    callbacks = [instantiate(each) for each in cfg.callbacks.values()]
    loggers = [instantiate(each) for each in cfg.logger.values()]
    trainer: pl.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers)
    trainer.fit(model, datamodule)
    value = float(trainer.callback_metrics["val/acc"])
    trainer.test(model, datamodule, ckpt_path=trainer.checkpoint_callback.best_model_path)
    return value


if __name__ == "__main__":
    main()
