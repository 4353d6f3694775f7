"""The daemon with a configuration of ours."""

import places
from child import Child


def config(cameras, model="demo", backend="builtin", precision="auto", camera_keys=""):
    """A configuration file: cameras of these URLs, one detector thread, records on stdout."""
    text = (
        f'[detector]\nmodel = "{model}"\nbackend = "{backend}"\nprecision = "{precision}"\nthreads = 1\n\n'
        '[output.console]\ntype = "stdout"\n\n[debug]\nsocket = "off"\n'
    )
    for index, url in enumerate(cameras):
        text += f'\n[camera.c{index}]\nurl = "{url}"\n{camera_keys}\n'
    path = places.WORK / "config.toml"
    path.write_text(text)
    return path


def start(path):
    command = [places.WATCHPOST, "--log-level", "warn", "run", "-c", path]
    return Child(command, places.environment(), log=places.LOG)
