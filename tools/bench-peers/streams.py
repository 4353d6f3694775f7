"""What the cameras of the live measurements show: clips that are made once."""

import subprocess

import places
from child import Failed

#: Width, height, bit rate of the camera in kbit/s.
SIZES = {"720p30": (1280, 720, 2000), "1080p30": (1920, 1080, 4000)}


def camera_arguments(size, scene, b_frames):
    """For the test camera: a keyframe every two seconds, as cameras are delivered."""
    bitrate = SIZES[size][2]
    more = ["--b-frames"] if b_frames else []
    return ["--clip", clip(size, scene), "--bitrate-kbps", bitrate, "--gop", 60, "--high-profile", *more]


def clip(size, scene):
    """`busy`: the footage, people walking; `quiet`: an empty room with the noise of a sensor."""
    width, height, _ = SIZES[size]
    path = places.WORK / f"{scene}-{size}.mp4"
    if not path.exists():
        if not places.has_python():
            raise Failed("the clips are made with the Python peers, which are not installed")
        footage = places.CLIP if scene == "busy" else places.ROOM
        make = [places.PYTHON, places.SCRIPTS / "make_clip.py", footage, path, width, height, scene]
        with open(places.LOG, "ab") as log:
            done = subprocess.run([str(word) for word in make], stdout=log, stderr=log)
        if done.returncode != 0:
            raise Failed(f"{path.name} could not be made: see {places.LOG}")
    return path
