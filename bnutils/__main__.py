"""The command line: `record PRESET` measures what is missing of a preset's runs, `verify` checks what is published."""

import argparse

from bnutils import data, presets, runs, store, verify


def main() -> None:
    """Read the command line and do it; a bad argument or setting ends with one line."""
    parser = argparse.ArgumentParser(prog="python -m bnutils", description="Measure runs, keep them, check them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="record | verify")
    record = commands.add_parser("record", help="measure and keep what is missing of a preset's runs")
    record.add_argument("preset", help=", ".join(presets.PRESETS))
    record.add_argument(
        "--dataset", help="digits, cifar10 or the path of a folder of class folders; default: the preset's"
    )
    record.add_argument("--only", choices=presets.EXPERIMENTS, nargs="+", help="some experiments; default: all")
    record.add_argument("--seeds", type=int, help="how many; default: the preset's")
    record.add_argument("--publish", action="store_true", help="copy the records into book/results")
    record.add_argument("--device", help="auto, cpu, cuda or cuda:N; default: the preset's")
    where = record.add_mutually_exclusive_group()
    at_once = "runs at once on this machine; default: one a core; one on a GPU, where `make bench` shows how many pay"
    where.add_argument("--workers", type=int, help=at_once)
    where.add_argument("--scheduler", metavar="ADDRESS", help="measure on the Dask cluster at tcp://host:port instead")
    check = commands.add_parser("verify", help="check every published record, and measure some of them again")
    check.add_argument("--sample", type=int, default=verify.SAMPLE, help="how many; default: %(default)s")
    check.add_argument("--dataset", metavar="FOLDER", help="where images are that do not come with the project")
    given = parser.parse_args()
    try:
        if given.command == "verify":
            parser.exit(verify.verify(sample=given.sample, dataset=given.dataset))
        setting = presets.get(given.preset, dataset=given.dataset, device=given.device, seeds=given.seeds)
        names = given.only or presets.EXPERIMENTS
        wanted = runs.record(setting, names, workers=given.workers, scheduler=given.scheduler)
        if given.publish:
            print(f"{len(runs.publish(wanted))} records published in {store.RESULTS}")
            if (identity := runs.identity_of(setting)) not in data.KNOWN.values():
                print(f"They are read only where the images are, unless bnutils.data.KNOWN has {identity}.")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted: what was measured is kept, the same command goes on from there\n")


if __name__ == "__main__":
    main()
