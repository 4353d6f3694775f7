//! Everything GStreamer: launch templates, bus, frame mapping, teardown.
