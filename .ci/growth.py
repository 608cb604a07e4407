"""What `cargo bench -p shiftgate` measured, as tables, and how it grows: `growth.py [FOLDER]`, by default target/criterion.

The exponent is the slope of a least-squares line through the logarithms: 1 is linear.
"""

import json
import math
import sys
from collections import defaultdict
from pathlib import Path

Times = dict[tuple[int, int], float]


def slope(points: list[tuple[int, float]]) -> float:
    logs = [(math.log(size), math.log(time)) for size, time in points]
    mean_size, mean_time = (sum(column) / len(logs) for column in zip(*logs))
    products = sum((size - mean_size) * (time - mean_time) for size, time in logs)
    return products / sum((size - mean_size) ** 2 for size, _ in logs)


def told(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.3g} ms" if nanoseconds >= 1e6 else f"{nanoseconds / 1e3:.3g} µs"


def table(name: str, times: Times) -> None:
    minutes, gates = (sorted(set(column)) for column in zip(*times))
    print(f"\n### {name}\n\n| gates | " + " | ".join(f"{m} min" if m else "time" for m in minutes), end=" | exponent |\n")
    print("|---" * (len(minutes) + 2) + "|")
    for gate in gates:
        row = [(m, times[m, gate]) for m in minutes]
        exponent = f"{slope(row):.2f}" if len(row) > 1 else ""
        print(f"| {gate} | " + " | ".join(told(time) for _, time in row) + f" | {exponent} |")
    exponents = [f"{slope([(gate, times[m, gate]) for gate in gates]):.2f}" for m in minutes]
    print("| exponent | " + " | ".join(exponents) + " | |")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "target/criterion")
    groups: dict[str, Times] = defaultdict(dict)
    for file in folder.glob("**/new/benchmark.json"):
        benchmark = json.loads(file.read_text())
        median = json.loads(file.with_name("estimates.json").read_text())["median"]["point_estimate"]
        minutes = int(benchmark["function_id"] or 0)
        groups[benchmark["group_id"]][minutes, int(benchmark["value_str"])] = median
    for name, times in sorted(groups.items()):
        table(name, times)


if __name__ == "__main__":
    main()
