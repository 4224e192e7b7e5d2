"""Sweeps of packs: which jobs train together, in which worker process, and how each of them ended.

A sweep is a list of jobs, each with a configuration and a directory of its own. `plan.plan` puts jobs
of one shape into packs, `pool.Pool` trains the packs in worker processes, and `job.start_of` finds
what an earlier sweep left to do. Nothing here imports torch but what runs in a worker.
"""
