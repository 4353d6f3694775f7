"""What watchpost is to reach, what this run shows, and what nobody could exceed: the first table of the page."""

from figures import DL_STREAMER, median, number, ratios, table
from places import NANO, YOLOV8N

PYTHON = ("Python loop", "onnxruntime", "fp32")


def part(bench):
    rows = [row for part_of in (offline, dl_streamer, peers, live, latency, cost, startup) for row in part_of(bench.values)]
    if not rows:
        return ""
    head = ["what", "asked", "measured", "decoder and engine alone", ""]
    lines = [[what, asked, said, bare, "yes" if is_met else "**no**"] for what, asked, said, bare, is_met in rows]
    return (
        "## What is asked, and what this run shows\n\n*Decoder and engine alone*: the same figure of `tools/bench-peers/limit`, which decodes, "
        "infers a tensor that lies ready, and does nothing else. Where that itself is short of what is asked, what is asked cannot be had "
        "with this decoder and these engines. (Of B-frames it leaves out what ours leaves out.)\n\n"
    ) + table(head, lines)


def claim(what, asked, found, digits, is_met, bare=None):
    """A row, met when all of `found` (name -> value) is; none where nothing was measured. `bare` has what decoder and engine alone
    reach, under the same names."""
    found = {name: value for name, value in found.items() if value is not None}
    if not found:
        return []
    said = ", ".join(f"{number(value, digits)} ({name})" for name, value in found.items())
    least = ", ".join(number(bare[name], digits) for name in found if bare.get(name) is not None) if bare else ""
    return [(what, asked, said, least or "–", all(map(is_met, found.values())))]


def offline(values):
    shares, above = {}, {}
    for (model, who, backend, precision), got in values["offline"].items():
        limit = values["offline"].get((model, "limit", backend, precision))
        if who == "ours" and limit:
            name = f"{model} {backend} {precision}"
            shares[name] = ratios(got, limit, "fps")
            above[name] = median(got, "cpu_ms") - median(limit, "cpu_ms")
    of_float = {name: share for name, share in shares.items() if name.endswith("fp32")}
    return [
        *claim("every frame of a clip, of the limit", "≥ 0.95", of_float, 3, lambda share: share >= 0.95),
        *claim("CPU above decoder and engine, ms a frame", "≤ 1.2", above, 2, lambda over: over <= 1.2),
    ]


def dl_streamer(values):
    """Its figures come from another processor: each is divided by what decoder and engine alone took there, ours by what they take
    here."""
    work, memory, half = {}, {}, {}
    bare_work, bare_memory, bare_half = {}, {}, {}
    for model in (NANO, YOLOV8N):
        _, cpu, rss, bare = DL_STREAMER[model.name]
        ours = values["offline"].get((model.name, "ours", "openvino", "bf16"))
        limit = values["offline"].get((model.name, "limit", "openvino", "bf16"))
        if ours and limit:
            work[model.name] = (cpu / bare) / (median(ours, "cpu_ms") / median(limit, "cpu_ms"))
            bare_work[model.name] = cpu / bare
            half[model.name] = median(ours, "rss_mib") / rss
            bare_half[model.name] = median(limit, "rss_mib") / rss
        if builtin := values["offline"].get((model.name, "ours", "builtin", "fp32")):
            memory[model.name] = median(builtin, "rss_mib") / rss
        if builtin := values["offline"].get((model.name, "limit", "builtin", "fp32")):
            bare_memory[model.name] = median(builtin, "rss_mib") / rss
    what = "x DL Streamer's frames per CPU second, bf16, each beside its own machine's limit"
    return [
        *claim(what, "≥ 1.1", work, 2, lambda x: x >= 1.1, bare_work),
        *claim("of DL Streamer's peak memory, built-in engine", "≤ 0.33", memory, 2, lambda x: x <= 1 / 3, bare_memory),
        *claim("of DL Streamer's peak memory, OpenVINO", "≤ 0.5", half, 2, lambda x: x <= 0.5, bare_half),
    ]


def peers(values):
    rows = []
    for who, asked in ((PYTHON, 1.7), (("Ultralytics", "onnxruntime", "fp32"), 2.0)):
        best, bare = {}, {}
        for model in (NANO, YOLOV8N):
            theirs = values["offline"].get((model.name, *who))
            times = {"ours": {}, "limit": {}}
            for (name, party, backend, precision), got in values["offline"].items():
                if theirs and name == model.name and party in times:
                    times[party][f"{model.name} {backend} {precision}"] = ratios(got, theirs, "fps")
            if times["ours"]:
                name = max(times["ours"], key=times["ours"].get)
                best[name] = times["ours"][name]
                bare[name] = max(times["limit"].values(), default=None)
        rows += claim(f"x {who[0]}, every frame, our best at equal mAP", f"≥ {asked}", best, 2, lambda x, asked=asked: x >= asked, bare)
    return rows


def live(values):
    rows = []
    for what, scene, gop, modes, asked in (
        ("IPPP", "busy", "P", ("all", "auto"), 1.7),
        ("with B-frames", "busy", "B", ("auto",), 2.5),
        ("quiet scene, `lazy`", "quiet", "P", ("lazy", "lazy, motion_gate"), 8.0),
    ):
        times, bare = {}, {}
        for (size, its_scene, its_gop, model, who, mode, engine), got in values["live"].items():
            python = values["live"].get((size, its_scene, its_gop, model, "Python loop", "", "onnxruntime fp32"))
            if (size, its_scene, its_gop) != ("1080p30", scene, gop) or not python:
                continue
            if who == "limit":
                bare.setdefault(model, []).append(ratios(got, python, "cameras_per_core"))
            if who != "ours" or mode not in modes:
                continue
            times.setdefault(model, {})[f"{model} {engine}, `{mode}`"] = ratios(got, python, "cameras_per_core")
        best = {max(one, key=one.get): max(one.values()) for one in times.values()}
        most = {max(one, key=one.get): max(bare[model]) for model, one in times.items() if model in bare}
        rows += claim(f"x Python loop's cameras per core, 1080p30, {what}", f"≥ {asked}", best, 2, lambda x, asked=asked: x >= asked, most)
    return rows


def latency(values):
    rows = []
    for share, most in ((50, 3), (99, 10)):
        above = {}
        for (model, who, backend, precision, rate), got in values["latency"].items():
            limit = median(values["latency"].get((model, "limit", backend, precision, rate), []), f"own_p{share}")
            own = median(got, f"own_p{share}")
            if who == "ours" and limit is not None and own is not None:
                above[f"{model} {backend} {precision}, {rate}/s"] = own - limit
        rows += claim(f"arrival to record above decoder and engine, p{share}, ms", f"≤ {most}", above, 1, lambda x, most=most: x <= most)
    return rows


def cost(values):
    one = values["cost"].get(1)
    times = {f"{count} cameras": ratios(got, one, "cpu_ms_per_detection") for count, got in values["cost"].items() if count != 1}
    return claim("CPU a detection, of one camera's", "≤ 1.05", times if one else {}, 2, lambda x: x <= 1.05)


def startup(values):
    found = {
        f"{model} {backend}": median(got, "first_ms")
        for (model, who, backend), got in values["startup"].items() if who == "ours" and backend == "builtin"
    }
    return claim("start of the process to the first detection, ms", "≤ 1000", found, 0, lambda ms: ms <= 1000)
