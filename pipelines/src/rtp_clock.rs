//! When a frame was captured, by the camera's own clock.
