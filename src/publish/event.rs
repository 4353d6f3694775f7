//! `type: "event"`: what happens in the zones and at the lines of a camera.

use std::time::SystemTime;

use serde::Serialize;

use super::record::{FrameSize, TsSource, optional_box, optional_seconds, rfc3339, write_wire};
use crate::filter::{Event, Parting, Where};

/// Something has happened in a zone or at a line. Follows the `detections` record of the same frame.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct EventRecord<'a> {
    /// The camera's configured name.
    pub camera: &'a str,
    /// Which opening of the camera, from 1.
    pub generation: u64,
    /// Number of the frame in which it was noticed.
    pub seq: u64,
    /// Time of that frame; written as RFC 3339 UTC with milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub ts: SystemTime,
    /// What `ts` means.
    pub ts_source: TsSource,
    /// Presentation time in nanoseconds, where the source has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pts_ns: Option<u64>,
    /// Size of the frame that `box` is in.
    pub frame: FrameSize,
    /// `enter`, `leave`, `dwell`, `cross`, `count` (the names of [`crate::metrics::EventKind`]).
    pub event: &'static str,
    /// The zone's configured name, for events of zones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<&'a str>,
    /// The line's configured name, for events of lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<&'a str>,
    /// Which way the line was crossed: one of its `directions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<&'a str>,
    /// Whom it happened to; left out for `count`, as are the next three.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track_id: Option<u64>,
    /// The model's label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a str>,
    /// Index into the model's labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// `[x1, y1, x2, y2]` when it was seen last, in pixels of the source frame; at most 1 decimal.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none", serialize_with = "optional_box")]
    pub bbox: Option<[f32; 4]>,
    /// Of a zone: objects in it after this. Of a line: crossings in this direction, this one included, since the camera
    /// was configured so.
    pub count: u64,
    /// For `dwell` and `leave`: how long it has been in the zone, in seconds; at most 3 decimals.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_seconds")]
    pub seconds: Option<f64>,
    /// For `leave`: `true` where it was not seen any more, and may not have gone. Left out otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// For `leave`: `true` where nobody looks any more, because the input has ended, the camera is watched no longer, or
    /// another configuration or model has taken over that does not know the zone or the track; the record is then of the
    /// last frame before, and may come later than it. Left out otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
}

impl<'a> EventRecord<'a> {
    /// The record of `event`, with what is said of it; the rest is the frame's.
    pub fn new(event: &Event<'a>, labels: &'a [String], of_frame: Self) -> Self {
        let (zone, line, direction) = match event.place {
            Where::Zone(name) => (Some(name), None, None),
            Where::Line { name, direction } => (None, Some(name), Some(direction)),
        };
        let subject = event.subject;
        let label = |class_id: u32| labels.get(class_id as usize).map_or("", String::as_str);
        Self {
            event: event.kind.as_str(),
            zone,
            line,
            direction,
            track_id: subject.map(|subject| subject.track_id),
            label: subject.map(|subject| label(subject.class_id)),
            class_id: subject.map(|subject| subject.class_id),
            bbox: subject.map(|subject| subject.bbox),
            count: event.count,
            seconds: event.stayed.map(|stayed| stayed.as_secs_f64()),
            lost: event.parting == Some(Parting::Lost),
            end: event.parting == Some(Parting::End),
            ..of_frame
        }
    }

    /// A record of a frame in which nothing happened: to be filled by [`EventRecord::new`].
    pub fn of_frame(
        camera: &'a str,
        (generation, seq): (u64, u64),
        (ts, ts_source, pts_ns): (SystemTime, TsSource, Option<u64>),
        frame: FrameSize,
    ) -> Self {
        Self {
            camera,
            generation,
            seq,
            ts,
            ts_source,
            pts_ns,
            frame,
            event: "",
            zone: None,
            line: None,
            direction: None,
            track_id: None,
            label: None,
            class_id: None,
            bbox: None,
            count: 0,
            seconds: None,
            lost: false,
            end: false,
        }
    }

    /// Appends this record as one JSON line, `'\n'` included. Allocates only what `buf` grows.
    pub fn write_line(&self, buf: &mut Vec<u8>) {
        write_wire(buf, "event", self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Subject;
    use crate::metrics::EventKind;
    use std::time::Duration;

    fn line(event: &Event<'_>) -> String {
        let frame = FrameSize { width: 1920, height: 1080 };
        let ts = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_253_401_123);
        let of_frame = EventRecord::of_frame("gate", (3, 1204), (ts, TsSource::RtcpSr, Some(40)), frame);
        let mut buf = Vec::new();
        EventRecord::new(event, &["person".to_owned(), "自転車".to_owned()], of_frame).write_line(&mut buf);
        String::from_utf8(buf).expect("UTF-8")
    }

    const START: &str = r#"{"schema":"watchpost/1","type":"event","camera":"gate","generation":3,"seq":1204,"ts":"2026-11-21T09:30:01.123Z","ts_source":"rtcp-sr","pts_ns":40,"frame":{"width":1920,"height":1080},"#;

    #[test]
    fn events_are_written_as_readers_are_promised() {
        let subject = Subject { track_id: 17, class_id: 1, bbox: [812.44, 300.0, 905.06, 560.7] };
        let whom = r#""track_id":17,"label":"自転車","class_id":1,"box":[812.4,300.0,905.1,560.7],"#;
        let zone = Where::Zone("door");
        let enter = Event {
            kind: EventKind::Enter,
            place: zone,
            subject: Some(subject),
            count: 2,
            stayed: None,
            parting: None,
        };
        assert_eq!(
            line(&enter),
            format!("{START}\"event\":\"enter\",\"zone\":\"door\",{whom}\"count\":2}}\n")
        );
        let stayed = Some(Duration::from_micros(12_345_678));
        let leave = Event { kind: EventKind::Leave, count: 1, stayed, parting: Some(Parting::Lost), ..enter };
        assert_eq!(
            line(&leave),
            format!(
                "{START}\"event\":\"leave\",\"zone\":\"door\",{whom}\"count\":1,\"seconds\":12.346,\"lost\":true}}\n"
            )
        );
        let end = Event { parting: Some(Parting::End), ..leave };
        assert!(line(&end).ends_with("\"seconds\":12.346,\"end\":true}\n"), "{}", line(&end));
        let went = Event { parting: Some(Parting::Seen), ..leave };
        assert!(line(&went).ends_with("\"seconds\":12.346}\n"), "{}", line(&went));
        let dwell = Event { kind: EventKind::Dwell, stayed, ..enter };
        assert!(line(&dwell).ends_with("\"count\":2,\"seconds\":12.346}\n"), "{}", line(&dwell));
        let place = Where::Line { name: "entrance", direction: "in" };
        let cross = Event { kind: EventKind::Cross, place, count: 40, ..enter };
        assert_eq!(
            line(&cross),
            format!(
                "{START}\"event\":\"cross\",\"line\":\"entrance\",\"direction\":\"in\",{whom}\"count\":40}}\n"
            )
        );
        let count = Event { kind: EventKind::Count, subject: None, count: 0, ..enter };
        assert_eq!(line(&count), format!("{START}\"event\":\"count\",\"zone\":\"door\",\"count\":0}}\n"));
    }

    #[test]
    fn a_class_that_the_model_has_no_label_for_is_still_told() {
        let subject = Some(Subject { track_id: 1, class_id: 9, bbox: [f32::NAN; 4] });
        let event = Event {
            kind: EventKind::Enter,
            place: Where::Zone("a"),
            subject,
            count: 1,
            stayed: None,
            parting: None,
        };
        let record: serde_json::Value = serde_json::from_str(&line(&event)).expect("JSON");
        assert_eq!((record["label"].as_str(), record["class_id"].as_u64()), (Some(""), Some(9)));
    }
}
