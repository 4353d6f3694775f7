//! A real RTSP camera on loopback that can be told to misbehave.
