"""The command line: `python -m bnutils record PRESET` measures what is missing of a preset's runs and keeps it."""

import argparse

from bnutils import presets, runs


def main() -> None:
    """Read the command line and record; a bad argument or setting ends with one line."""
    parser = argparse.ArgumentParser(prog="python -m bnutils", description="Measure and keep the runs of a preset.")
    parser.add_argument("command", choices=["record"])
    parser.add_argument("preset", help=", ".join(presets.PRESETS))
    parser.add_argument(
        "--dataset", help="digits, cifar10 or the path of a folder of class folders; default: the preset's"
    )
    parser.add_argument("--only", choices=presets.EXPERIMENTS, help="one experiment; default: all")
    parser.add_argument("--publish", action="store_true", help="copy the records into book/results")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N; default: the preset's")
    given = parser.parse_args()
    try:
        setting = presets.get(given.preset, dataset=given.dataset, device=given.device)
        for name in [given.only] if given.only else presets.EXPERIMENTS:
            print(name + ":", runs.experiment(setting, name, limit=False).attrs["source"])
            if given.publish:
                print(f"{len(runs.publish(setting, name))} records published in {runs.RESULTS}")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
