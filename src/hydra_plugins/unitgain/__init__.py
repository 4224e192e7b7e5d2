"""The packed launcher, where Hydra looks for it."""
