"""A campaign of faults: sweeps that are killed, damaged and starved must end with the bits of one that was left alone.

``python -m benchmarks.faults --kills 50 --seed 0`` prints what was done and what came of it, and ends with status 1 if
a result was lost, or differs without a word.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.bits import Results, results_of
from benchmarks.disturbed import (
    DEADLINE_S,
    DIVERGED,
    USUAL_S,
    WAYS,
    Campaign,
    Damage,
    Start,
    wait_for_session,
)
from benchmarks.measure import keep
from unitgain.errors import UnitgainError
from unitgain.runs import RunDirectory, read_gradients, read_metrics, read_runs, read_standing
from unitgain.spec import parse
from unitgain.sweep.job import start_of

TITLE = "Sweeps that were killed, damaged and starved, against one that was left alone"
KILLS_A_SWEEP = 10
"""Then it may end, so that there is something to compare."""
UNFINISHED = ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "metrics.csv", "gradients.parquet")
FINISHED = (
    "summary.json",
    "config.yaml",
    "overrides.yaml",
    "metrics.csv",
    "gradients.parquet",
    "checkpoints/best.ckpt",
)


def killing(campaign: Campaign, reference: Results, kills: int) -> None:
    """Sweeps under kill -9, with damage between their starts, one or two processes at a time."""
    round_ = 0
    while campaign.kills < kills:
        round_ += 1
        sweep, damages = campaign.folder / f"killed-{round_}", list[Damage]()
        until = min(campaign.kills + KILLS_A_SWEEP, kills)
        while campaign.kills < until and not _done(sweep):
            starts = [campaign.start(sweep)]
            if campaign.random.random() < 0.3:
                campaign.faults["sweeps started twice at once"] += 1
                starts.append(campaign.start(sweep))
            _kill(campaign, sweep, starts, until)
            for start in starts:
                if start.running:
                    start.wait()
                wait_for_session(start.process.pid, DEADLINE_S * campaign.slowness)
            damages += _damaged(campaign, sweep, UNFINISHED, 2)
        campaign.finish(sweep, reference, sweep.name)
        campaign.judge(damages)
        _say(campaign, f"{campaign.kills} of {kills} kills, in {round_} sweeps")


def _kill(campaign: Campaign, sweep: Path, starts: Sequence[Start], until: int) -> None:
    """Kill parts of a sweep for as long as it runs, and let one of its workers hang now and then."""
    early, hung = campaign.random.random() < 0.2, campaign.random.random() < 0.7
    if not early:
        _wait_until_training(campaign, starts[0], sweep)
    while campaign.kills < until and (running := [each for each in starts if each.running]):
        start = campaign.random.choice(running)
        moment = "as it started" if early else _moment(campaign, sweep)
        time.sleep(campaign.random.uniform(0.1, 3.0) if early else 0.0)
        if not hung and not early and start.stop_worker():
            hung = True
            campaign.faults["workers that hang"] += 1
            continue
        victims = ["worker", "worker", "worker", "server", "command", "group"]
        victim = "group" if early else campaign.random.choice(victims)
        if start.kill(victim):
            campaign.faults[f"kill -9 of a {victim} {moment}"] += 1
        early = False


def _moment(campaign: Campaign, sweep: Path) -> str:
    """Wait for a moment to kill at: a random one, or that of a checkpoint half written."""
    if campaign.random.random() < 0.5:
        time.sleep(campaign.random.uniform(0.05, 2.5) * campaign.slowness)
        return "at a random moment"
    end = time.monotonic() + 1.5 * campaign.slowness
    while time.monotonic() < end:
        if next(sweep.glob("*/checkpoints/.*.tmp"), None) is not None:
            return "as it wrote a checkpoint"
    return "at a random moment"


def _wait_until_training(campaign: Campaign, start: Start, sweep: Path) -> None:
    """Until the start has claimed a run: what an earlier one has left says nothing."""
    end = time.monotonic() + 60 * campaign.slowness
    while start.running and time.monotonic() < end:
        for claim in sweep.glob("*/claim-*.json"):
            with suppress(FileNotFoundError):
                if claim.stat().st_mtime > start.began:
                    return
        time.sleep(0.05)


def _done(sweep: Path) -> bool:
    with suppress(UnitgainError):
        found = read_standing(sweep)
        return all(run.status in ("finished", "diverged") for run in found.runs)
    return False


def _damaged(campaign: Campaign, sweep: Path, names: Sequence[str], count: int) -> Iterator[Damage]:
    """Damage some files of runs that have no end yet, and now and then the plan and a claim."""
    runs = [path.parent for path in sorted(sweep.glob("*/config.yaml"))]
    going = [run for run in runs if not (run / "summary.json").exists()]
    found = [run / name for run in going for name in names if (run / name).exists()]
    for path in campaign.random.sample(found, min(count, len(found))):
        yield campaign.damage(path)
    others = [*sweep.glob(".plan/*.json"), *sweep.glob("*/claim-*.json")]
    if others and campaign.random.random() < 0.5:
        campaign.damage(campaign.random.choice(others))


def damaging(campaign: Campaign, reference: Results, finished: Path) -> None:
    """Each file of finished runs, damaged in each way: readers must tell, and the sweep started again mends it."""
    runs = sorted(path.parent for path in finished.glob("*/config.yaml"))
    runs = [
        run
        for run, status in zip(runs, dict(_statuses(finished)).values(), strict=True)
        if status == "finished"
    ]
    damages, one = [], finished.with_name("one")
    for i, (name, way) in enumerate((name, way) for name in FINISHED for way in WAYS):
        shutil.copytree(runs[i % len(runs)], one)
        campaign.damage(one / name, way)
        if _noticed(one, name):
            campaign.outcomes["damaged files of finished runs that a reader refused"] += 1
        else:
            campaign.found(f"{name} of a finished run, {way}: nobody noticed")
        shutil.rmtree(one)
    for run, name in zip(runs, FINISHED * 2, strict=False):
        damages.append(campaign.damage(run / name))
    campaign.finish(finished, reference, "damaged after its end")
    campaign.judge(damages)


def _statuses(folder: Path) -> Iterator[tuple[str, str]]:
    frame = read_runs([folder]).frame
    yield from zip(frame["run"], frame["status"], strict=True)


def _noticed(run: Path, name: str) -> bool:
    """Whether the table, whoever reads the file, or the sweep started again says that a run is damaged."""
    [(_, status)] = _statuses(run)
    if status == "damaged":
        return True
    readers = {"metrics.csv": read_metrics, "gradients.parquet": read_gradients}
    try:
        if name in readers:
            readers[name](run / name)
            return False
        return start_of(parse(RunDirectory(run).read_config()), run).fault is not None
    except UnitgainError:
        return True


def starving(campaign: Campaign, reference: Results, bytes_: int) -> None:
    """A disk that is full in the midst of a sweep, then has room again."""
    for share in (0.3, 0.7):
        with _mounted(campaign, f"size={int(bytes_ * share)}") as disk:
            if disk is None:
                campaign.outcomes["full disks left out: mounting isn't allowed here"] += 1
                continue
            before = len(campaign.log)
            code = campaign.start(disk / "sweep").wait()
            campaign.faults["full disks"] += 1
            if code in (0, DIVERGED) or "No space left" not in campaign.log[before:]:
                campaign.found(
                    f"a full disk: status {code}, and no word of it: {campaign.log[before:][-500:]}"
                )
            subprocess.run(["mount", "-o", f"remount,size={4 * bytes_}", str(disk)], check=True)
            campaign.finish(disk / "sweep", reference, "full disk")


def refusing(campaign: Campaign, reference: Results) -> None:
    """A folder that turns read-only in the midst of a sweep, then can be written again."""
    with _mounted(campaign, "size=1g") as disk:
        if disk is None:
            campaign.outcomes["read-only folders left out: mounting isn't allowed here"] += 1
            return
        start = campaign.start(disk / "sweep")
        _wait_until_training(campaign, start, disk / "sweep")
        start.kill("group")
        campaign.faults["kill -9 of a group at a random moment"] += 1
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        before = len(campaign.log)
        code = campaign.start(disk / "sweep").wait()
        campaign.faults["read-only folders"] += 1
        if code in (0, DIVERGED) or "Read-only file system" not in campaign.log[before:]:
            campaign.found(
                f"a read-only folder: status {code}, no word of it: {campaign.log[before:][-500:]}"
            )
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        campaign.finish(disk / "sweep", reference, "read-only folder")


@contextmanager
def _mounted(campaign: Campaign, options: str) -> Iterator[Path | None]:
    """A small filesystem in memory, where this user may mount one."""
    place = campaign.folder / "disk"
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    done = shutil.which("mount") and subprocess.run(command, check=False, capture_output=True)
    allowed = bool(done) and done.returncode == 0
    try:
        yield place if allowed else None
    finally:
        if allowed:
            subprocess.run(["umount", "-l", str(place)], check=True)


def main() -> int:
    """Do the campaign and print what came of it."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="kill -9 that hit a live process")
    parser.add_argument("--seed", type=int, default=0, help="of moments and victims")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="unitgain-faults-"))
    elsewhere = _elsewhere(place)
    campaign = Campaign(place, elsewhere or place, random.Random(given.seed))
    try:
        _through(campaign, given.kills)
    finally:
        shutil.rmtree(place)
        if elsewhere is not None:
            shutil.rmtree(elsewhere)
    if elsewhere is None:
        del campaign.faults["starts with TMPDIR on another filesystem"]
        campaign.outcomes["starts with TMPDIR on another filesystem left out: there is none"] += 1
    counts = {"faults": campaign.faults, "outcomes": campaign.outcomes}
    for title, counted in counts.items():
        print(f"\n{title}")
        for name, count in counted.most_common():
            print(f"{count:6}  {name}")
    print(
        f"\n{campaign.kills} kill -9, {campaign.faults.total()} faults in {campaign.seconds:.0f} s: "
        f"{campaign.outcomes['runs lost or different']} results lost or different"
        + (f"; {len(campaign.wrong)} lines above say what is wrong" if campaign.wrong else "")
    )
    result = {"kills": campaign.kills, "seed": given.seed, "seconds": round(campaign.seconds)}
    keep("faults", TITLE, {**result, **counts, "wrong": campaign.wrong})
    return int(bool(campaign.wrong))


def _through(campaign: Campaign, kills: int) -> None:
    """All of it: a sweep that is left alone, then one kind of fault after another."""
    undisturbed = campaign.folder / "undisturbed"
    code = campaign.start(undisturbed).wait()
    if code != DIVERGED:
        raise RuntimeError(f"a sweep that was left alone ended with {code}: {campaign.log}")
    campaign.slowness = max(campaign.seconds / USUAL_S, 1.0)
    reference = results_of(undisturbed)
    size = sum(path.stat().st_size for path in undisturbed.rglob("*") if path.is_file())
    _say(campaign, f"{len(reference)} runs left alone, {size / 1e6:.1f} MB")
    killing(campaign, reference, kills)
    damaging(campaign, reference, undisturbed)
    _say(campaign, "files of finished runs damaged")
    starving(campaign, reference, size)
    _say(campaign, "disks filled")
    refusing(campaign, reference)
    _say(campaign, "a folder made read-only")


def _say(campaign: Campaign, what: str) -> None:
    wrong = f"{len(campaign.wrong)} wrong" if campaign.wrong else "nothing wrong"
    print(f"{campaign.seconds:5.0f} s  {what}: {wrong}", flush=True)


def _elsewhere(place: Path) -> Path | None:
    """A folder on another filesystem; None where there is no other one."""
    for folder in (Path("/dev/shm"), Path("/run"), Path.home()):
        if (
            folder.is_dir()
            and os.access(folder, os.W_OK)
            and folder.stat().st_dev != place.stat().st_dev
        ):
            return Path(tempfile.mkdtemp(prefix="unitgain-faults-", dir=folder))
    return None


if __name__ == "__main__":
    sys.exit(main())
