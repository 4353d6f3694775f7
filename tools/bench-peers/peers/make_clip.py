"""Makes a clip of ten seconds for the test camera: make_clip.py FOOTAGE OUTPUT.mp4 WIDTH HEIGHT busy|quiet

`busy`: the footage itself. `quiet`: its first picture with the noise of a sensor, and nothing else."""

import os
import subprocess
import sys

import cv2
import numpy as np

SECONDS, RATE = 10, 30
#: Standard deviation of what a sensor adds to a picture, in code values.
NOISE = 1.5


def main():
    footage, output, width, height, scene = sys.argv[1:]
    width, height = int(width), int(height)
    part = output + ".part.mp4"
    encoder = subprocess.Popen(
        ["gst-launch-1.0", "-q", "fdsrc", "fd=0", "!",
         "rawvideoparse", "format=bgr", f"width={width}", f"height={height}", f"framerate={RATE}/1", "!",
         "videoconvert", "!", "video/x-raw,format=I420", "!",
         "x264enc", "speed-preset=superfast", "quantizer=20", "pass=quant", "key-int-max=60", "!",
         "h264parse", "!", "mp4mux", "!", "filesink", f"location={part}"],
        stdin=subprocess.PIPE,
    )
    capture = cv2.VideoCapture(footage)
    random = np.random.default_rng(1)
    noises = [np.rint(random.normal(0, NOISE, (height, width, 1))).astype(np.int16) for _ in range(17)]
    still = None
    for number in range(SECONDS * RATE):
        if scene == "busy" or still is None:
            is_there, picture = capture.read()
            if not is_there:
                break
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
            still = picture.astype(np.int16)
        if scene == "quiet":
            picture = np.clip(still + noises[number % len(noises)], 0, 255).astype(np.uint8)
        encoder.stdin.write(picture.tobytes())
    encoder.stdin.close()
    if encoder.wait() != 0:
        sys.exit(f"{output} could not be encoded")
    os.rename(part, output)


main()
