"""What a project on Lightning and Hydra usually looks like: one run a job, rows through a DataLoader."""
