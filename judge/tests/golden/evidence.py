"""The evidence of judge/src/compare.rs, computed another way: scipy's negative binomial, dense transition
matrices, and every onset of a regression by itself. Writes evidence.json, which a test holds the judge against:

    pip install scipy && python3 judge/tests/golden/evidence.py > judge/tests/golden/evidence.json
"""

import json

import numpy as np
from scipy.special import logsumexp
from scipy.stats import nbinom

STEP, TOP = 0.1, 0.7
LEAST_NOISE, MOST_NOISE, JUMP, LEAST_DEVIATION = 0.05**2, 1.3, 0.0002, 0.15
AT_ONCE, OVERTIME = 0.6, 0.02
SPARED = (0.5, 0.2, 0.05)
CARED = (1.3, 1.7, 2.5, 4.0, 10.0, 30.0, 200.0, 2000.0)


def ratios():
    found, log = [], 0.2
    while log < 3.5:
        width = 0.2 + 0.2 * log
        found.append((int(np.floor(log / STEP + 0.5)), width / (0.4 + log) ** 1.6))
        log += width
    total = sum(weight for _, weight in found)
    return [(steps, weight / total) for steps, weight in found]


def regressions(known, low, tolerated):
    """(steps above blue, least node, weight)"""
    always = int(np.floor(-low / STEP + 0.5))
    own = [always - below for below in (0, 5, 10, 15, 20, 28, 36, 44, 56, 68, 80, 92)]
    own = [node for node in own if node > 0 and low + STEP * node > np.log(known["rate"]) + 1.4]
    near = [(steps, 0, (0.8 if own else 1.0) * weight) for steps, weight in ratios()]
    return near + [(tolerated + 2, node, 0.2 / len(own)) for node in own]


def learn(history):
    totals = np.array([[p["of"], p["bad"]] for p in history], dtype=float).reshape(-1, 2)
    of, bad = totals.sum(axis=0)
    mean = totals[:, 0] * (bad / of if of else 0.0)
    squares = (mean**2).sum()
    total = max(0.0, (((totals[:, 1] - mean) ** 2 - mean).sum()) / squares) if squares else 0.0
    above = below = 0.0
    zones = 0
    for p in history:
        counts = np.array(p.get("zones", []), dtype=float).reshape(-1, 2)
        zones = max(zones, len(counts))
        if len(counts) > 1:
            share = counts[:, 0] / counts[:, 0].sum()
            m = counts[:, 1].sum()
            above += ((counts[:, 1] - m * share) ** 2 - m * share * (1 - share)).sum()
            below += ((m * share) ** 2).sum()
    zone = max(0.0, above / below) if below else 0.0
    return dict(
        rate=(bad + 0.5) / (of + 10.0), bad=bad, total=total, zone=zone if zones > 1 else None, zones=zones,
        enough=sum(totals[:, 0] > 0) >= 5,
    )


def beliefs(known):
    """(weight, noise, noise in history, noise of the level)"""
    total = min(known["total"], MOST_NOISE)
    if not known["enough"]:
        return [(0.8, 0.01, LEAST_NOISE, 0.0), (0.15, 0.25, LEAST_NOISE, 0.0),
                (0.05, MOST_NOISE, LEAST_NOISE, 0.0)]
    if known["zone"] is not None:
        noise, of_zones = 1.3 * known["zone"], known["zone"] / known["zones"]
        first = (noise, of_zones, max(0.0, known["total"] - of_zones))
        if total > 1.5 * max(noise, LEAST_NOISE):
            return [(0.99, *first), (0.01, total, total, 0.0)]
        return [(1.0, *first)]
    if total <= LEAST_NOISE:
        return [(1.0, 0.0, 0.0, known["total"])]
    return [(0.4, 0.0, 0.0, known["total"]), (0.3, total, total, total / 4),
            (0.3, min(3 * total, MOST_NOISE), total, total / 4)]


def transition(levels, usual, stay, deviation):
    half = max(1, int(np.ceil(3 * deviation / STEP)))
    offsets = np.arange(-half, half + 1)
    bell = np.exp(-0.5 * (offsets * STEP / deviation) ** 2)
    bell /= bell.sum()
    matrix = np.zeros((levels, levels))
    for start in range(levels):
        for offset, weight in zip(offsets, bell):
            matrix[start, min(max(start + offset, 0), levels - 1)] += stay * weight
    return matrix + (1 - stay - JUMP) * usual[None, :] + JUMP / levels


def loglik(count, rates, noise):
    if count is None or count["of"] <= 0:
        return np.zeros(len(rates))
    size, mean = 1 / noise, count["of"] * rates
    return nbinom.logpmf(count["bad"], size, 1 / (1 + noise * mean))


def forward(start, matrix, logliks):
    """Logarithm of the likelihood of all periods, by plain matrix products on a scaled vector."""
    vector, scale, out = start, 0.0, []
    for log in logliks:
        top = log.max()
        vector = (vector @ matrix) * np.exp(log - top)
        total = vector.sum()
        vector, scale = vector / total, scale + top + np.log(total)
        out.append(scale)
    return np.array(out)


def evidence(case):
    known = learn(case["history"])
    low = min(0.0, np.log(known["rate"]) - 3 if known["enough"] else np.log(1e-6))
    levels = max(1, int(np.ceil((TOP - low) / STEP))) + 1
    logs = low + STEP * np.arange(levels)
    rates = np.exp(logs)
    window, others = case["window"], case["planned"] - 1
    onsets = np.full(others + 1, (1 - AT_ONCE - OVERTIME) / max(others, 1))
    onsets[0] = AT_ONCE
    # Periods beyond the plan: what is left goes down by a tenth in each.
    left = OVERTIME if others else 1 - AT_ONCE
    onsets = np.append(onsets, left * 0.1 * 0.9 ** np.arange(len(window)))
    tolerated = int(np.floor(np.log(case["tolerate"]) / STEP + 0.5))
    passing = max(int(np.floor(np.log(case["pass_below"]) / STEP + 0.5)), tolerated + 1)
    grid = regressions(known, low, tolerated)
    terms = {name: [] for name in ("good", "worse", "intolerable", "tolerated", "failing", "cared", "ignored",
                                    "spared")}
    for weight, noise, history_noise, level_noise in beliefs(known):
        noise, history_noise = max(noise, LEAST_NOISE), max(history_noise, LEAST_NOISE)
        deviation = max(np.sqrt(np.log1p(level_noise)), LEAST_DEVIATION)
        if known["enough"]:
            middle, width = np.log(known["rate"]) - deviation**2 / 2, np.sqrt(deviation**2 + 1 / (known["bad"] + 1))
            usual = np.exp(-0.5 * ((logs - middle) / width) ** 2)
            usual /= usual.sum()
            motions = [(0.3, 0.5 * STEP), (0.95, 0.45 * deviation)]
        else:
            usual = np.full(levels, 1 / levels)
            motions = [(0.5, 0.2), (0.95, 0.2)]
        lives = []
        for stay, spread in motions:
            matrix = transition(levels, usual, stay, spread)
            vector, likely = usual, 0.0
            for past in case["history"]:
                log = loglik(past, rates, history_noise)
                vector = (vector @ matrix) * np.exp(log - log.max())
                likely += log.max() + np.log(vector.sum())
                vector = vector / vector.sum()
            lives.append((matrix, vector, likely))
        everything = logsumexp([likely for *_, likely in lives])
        for matrix, vector, likely in lives:
            share = np.exp(likely - everything)
            if share < 1e-3:
                continue
            world = np.log(weight * share)
            blue = [loglik(pair["blue"], rates, noise) for pair in window]
            kinds = {(0, 0), (tolerated, 0), (passing, 0), *((steps, floor) for steps, floor, _ in grid)}
            nodes = np.arange(levels)
            green = {(steps, floor): [loglik(pair["green"], np.exp(low + STEP * np.maximum(nodes + steps, floor)), noise)
                                      for pair in window] for steps, floor in kinds}
            good = forward(vector, matrix, [b + g for b, g in zip(blue, green[0, 0])])
            terms["good"].append(world + good)
            terms["failing"].append(world + forward(vector, matrix, [b + g for b, g in zip(blue, green[passing, 0])]))

            def begun(*kind):
                """The likelihood when the regression holds from some period on, averaged over that period."""
                total = []
                for onset in range(len(window)):
                    series = [b + (green[kind] if at >= onset else green[0, 0])[at] for at, b in enumerate(blue)]
                    logs_ = np.log(onsets[onset]) + forward(vector, matrix, series)
                    logs_[:onset] = -np.inf
                    total.append(logs_)
                return logsumexp(total, axis=0)

            with np.errstate(divide="ignore"):
                rest = np.log(np.maximum(0.0, 1 - np.cumsum(onsets)[: len(window)]))
            worse = [(steps, np.log(share_) + begun(steps, floor)) for steps, floor, share_ in grid]
            terms["worse"] += [world + log for _, log in worse] + [world + rest + good]
            terms["intolerable"] += [world + log for steps, log in worse if steps > tolerated]
            terms["tolerated"] += [world + begun(tolerated, 0), world + rest + good]
            least = np.array([case["ignore_below"]])
            own = {times: np.array([loglik(p["green"], least * times, noise)[0] for p in window])
                   for times in {1.0, *CARED}}
            ignored = np.cumsum(own[1.0])
            terms["ignored"].append(world + ignored)
            terms["cared"].append(world + rest + ignored)
            for share_ in SPARED:
                low_ = np.array([loglik(p["green"], least * share_, noise)[0] for p in window])
                terms["spared"].append(world - np.log(len(SPARED)) + np.cumsum(low_))
            for times in CARED:
                for onset in range(len(window)):
                    series = np.where(np.arange(len(window)) >= onset, own[times], own[1.0])
                    log = world + np.log(onsets[onset] / len(CARED)) + np.cumsum(series)
                    log[:onset] = -np.inf
                    terms["cared"].append(log)
    total = {name: logsumexp(logs_, axis=0) for name, logs_ in terms.items()}
    return [
        dict(against_good=g, against_tolerated=t, against_ignored=i, for_pass=np.logaddexp(p, s) - np.log(2))
        for g, t, i, p, s in zip(total["worse"] - total["good"], total["intolerable"] - total["tolerated"],
                              total["cared"] - total["ignored"], total["good"] - total["failing"],
                                 total["spared"] - total["ignored"])
    ]


def count(of, bad):
    return dict(of=of, bad=bad)


def cases():
    quiet = [dict(of=3000, bad=bad, zones=[[1000, bad // 3], [1000, bad // 3], [1000, bad - 2 * (bad // 3)]])
             for bad in (6, 4, 7, 5, 9, 6, 3, 8, 6, 5, 7, 4)]
    bursts = [dict(of=3000, bad=sum(z), zones=[[1000, x] for x in z])
              for z in ((9, 1, 2), (0, 7, 1), (2, 2, 11), (1, 0, 3), (14, 2, 2), (1, 5, 0), (3, 1, 1), (0, 2, 9))]
    shared = [dict(of=3000, bad=bad) for bad in (2, 30, 6, 1, 17, 3, 40, 5, 2, 9)]
    worse = [dict(blue=count(2700, b), green=count(300, g)) for b, g in ((5, 4), (6, 2), (4, 5), (7, 3), (5, 4))]
    incident = [dict(blue=count(2700, 5), green=count(300, 0)), dict(blue=count(2700, 260), green=count(300, 31)),
                dict(blue=count(2700, 240), green=count(300, 26)), dict(blue=None, green=count(3000, 280))]
    base = dict(tolerate=1.25, ignore_below=0.0005, pass_below=3.0, planned=15)
    return [
        dict(base, name="quiet history, green four times worse", history=quiet, window=worse),
        dict(base, name="zones that burst", history=bursts, window=worse),
        dict(base, name="no zones, a noisy level", history=shared, window=worse),
        dict(base, name="no history", history=[], window=worse),
        dict(base, name="an incident on both, then green alone", history=quiet, window=incident),
        dict(base, name="hardly an error, ever", history=[count(3000, 0)] * 12,
             window=[dict(blue=count(2700, 0), green=count(4000, bad)) for bad in (0, 0, 1, 0)]),
        dict(base, name="green saturated, blue's level all over the place", history=bursts,
             window=[dict(blue=count(2700, b), green=count(300, 300)) for b in (270, 150, 540, 240)]),
        dict(base, name="nothing bad", history=quiet, tolerate=2.0, planned=3,
             window=[dict(blue=count(1500, 3), green=count(1500, 3))] * 3),
    ]


if __name__ == "__main__":
    print(json.dumps([dict(case, evidence=evidence(case)) for case in cases()], indent=1))
