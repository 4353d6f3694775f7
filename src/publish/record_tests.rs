//! Tests of the wire schema.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// 2026-11-21T09:30:01.123Z
fn golden_time() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_253_401_123)
}

fn detections<'a>(objects: &'a [Object<'a>]) -> Detections<'a> {
    Detections {
        camera: "gate",
        generation: 3,
        seq: 1204,
        ts: golden_time(),
        ts_source: TsSource::RtcpSr,
        pts_ns: Some(40_160_000_000),
        stamp: None,
        latency_ms: 41.66,
        frame: FrameSize { width: 1920, height: 1080 },
        model: ModelPart {
            name: "yolox-nano",
            sha256: "0123456789ab",
            backend: "tensorrt",
            precision: "fp16",
        },
        dropped_since_last: 2,
        objects,
    }
}

fn object(label: &str) -> Object<'_> {
    Object { track_id: Some(17), ..Object::new(label, 0, 0.9123, [812.44, 300.0, 905.06, 560.7]) }
}

fn line(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut buf = Vec::new();
    write(&mut buf);
    String::from_utf8(buf).expect("records are UTF-8")
}

#[test]
fn a_detections_record_is_exactly_this_line() {
    let objects = [object("person")];
    assert_eq!(
        line(|buf| detections(&objects).write_line(buf)),
        concat!(
            r#"{"schema":"watchpost/1","type":"detections","camera":"gate","generation":3,"seq":1204,"#,
            r#""ts":"2026-11-21T09:30:01.123Z","ts_source":"rtcp-sr","pts_ns":40160000000,"latency_ms":41.7,"#,
            r#""frame":{"width":1920,"height":1080},"#,
            r#""model":{"name":"yolox-nano","sha256":"0123456789ab","backend":"tensorrt","precision":"fp16"},"#,
            r#""dropped_since_last":2,"#,
            r#""objects":[{"label":"person","class_id":0,"score":0.912,"box":[812.4,300.0,905.1,560.7],"track_id":17}]}"#,
            "\n"
        )
    );
}

#[test]
fn labels_in_any_language_and_with_any_character_stay_one_line() {
    let mut objects = [object("行人"), object("a \"b\" \\ c\n\u{1}\u{2028}")];
    objects.iter_mut().for_each(|o| o.track_id = None);
    let record = Detections { pts_ns: None, stamp: Some(77), ..detections(&objects) };
    let text = line(|buf| record.write_line(buf));
    assert!(
        text.ends_with(concat!(
            r#""objects":[{"label":"行人","class_id":0,"score":0.912,"box":[812.4,300.0,905.1,560.7]},"#,
            r#"{"label":"a \"b\" \\ c\n\u0001"#,
            "\u{2028}",
            r#"","class_id":0,"score":0.912,"box":[812.4,300.0,905.1,560.7]}]}"#,
            "\n"
        )),
        "{text}"
    );
    assert!(text.contains(r#""ts_source":"rtcp-sr","stamp":77,"latency_ms""#), "{text}");
}

#[test]
fn poses_masks_and_oriented_boxes_are_added_behind_the_box_and_left_out_elsewhere() {
    let keypoints = [[1.04, 2.06, 0.7891], [f32::NAN, 0.0, 0.0]];
    let polygon = [[1.0, 2.0], [3.26, 2.0], [3.0, 4.04]];
    let pose = Object { track_id: None, keypoints: &keypoints, ..object("p") };
    let masked = Object { track_id: None, mask: Some(Mask { polygon: &polygon }), ..object("m") };
    let corners = Some([[0.0, 1.0], [2.0, 1.0], [2.0, 3.0], [0.04, 3.0]]);
    let oriented = Object { track_id: None, angle: Some(-0.612_34), corners, ..object("o") };
    let text = line(|buf| detections(&[pose, masked, oriented]).write_line(buf));
    let head = r#""class_id":0,"score":0.912,"box":[812.4,300.0,905.1,560.7]"#;
    let expected = [
        format!(r#"{{"label":"p",{head},"keypoints":[[1.0,2.1,0.789],[null,0.0,0.0]]}}"#),
        format!(r#"{{"label":"m",{head},"mask":{{"polygon":[[1.0,2.0],[3.3,2.0],[3.0,4.0]]}}}}"#),
        format!(
            r#"{{"label":"o",{head},"angle":-0.6123,"corners":[[0.0,1.0],[2.0,1.0],[2.0,3.0],[0.0,3.0]]}}"#
        ),
    ];
    assert!(text.ends_with(&format!(r#""objects":[{}]}}{}"#, expected.join(","), "\n")), "{text}");
}

#[test]
fn a_frame_without_objects_has_an_empty_list() {
    assert!(line(|buf| detections(&[]).write_line(buf)).ends_with("\"objects\":[]}\n"));
}

#[test]
fn camera_state_lost_and_refused_records_are_exactly_these_lines() {
    let state = CameraState {
        camera: "gate",
        generation: 4,
        ts: golden_time(),
        state: State::BackingOff,
        reason: Some("stalled"),
        detail: Some("no new frame for 5.0 s"),
        shed: None,
        retry_in_ms: Some(1000),
    };
    let head = r#"{"schema":"watchpost/1","type":"camera_state","camera":"gate","generation":4,"ts":"2026-11-21T09:30:01.123Z","#;
    assert_eq!(
        line(|buf| state.write_line(buf)),
        format!(
            "{head}{}\n",
            r#""state":"backing_off","reason":"stalled","detail":"no new frame for 5.0 s","retry_in_ms":1000}"#
        )
    );
    let bare =
        CameraState { state: State::Streaming, reason: None, detail: None, retry_in_ms: None, ..state };
    assert_eq!(line(|buf| bare.write_line(buf)), format!("{head}{}\n", r#""state":"streaming"}"#));
    assert_eq!(
        line(|buf| Lost { output: "local", records: 12 }.write_line(buf)),
        "{\"schema\":\"watchpost/1\",\"type\":\"lost\",\"output\":\"local\",\"records\":12}\n"
    );
    assert_eq!(
        line(|buf| Refused { output: "local", detail: "full", max_readers: 2 }.write_line(buf)),
        "{\"schema\":\"watchpost/1\",\"type\":\"refused\",\"output\":\"local\",\"detail\":\"full\",\"max_readers\":2}\n"
    );
}

#[test]
fn every_state_and_time_source_has_its_name() {
    let states =
        [State::Opening, State::Streaming, State::Closing, State::BackingOff, State::Wedged, State::Stopped];
    assert_eq!(
        serde_json::to_string(&states).expect("serialises"),
        r#"["opening","streaming","closing","backing_off","wedged","stopped"]"#
    );
    let sources = [TsSource::RtcpSr, TsSource::Arrival, TsSource::V4l2, TsSource::File];
    assert_eq!(
        serde_json::to_string(&sources).expect("serialises"),
        r#"["rtcp-sr","arrival","v4l2","file"]"#
    );
}

#[test]
fn odd_times_are_written_as_the_nearest_time_that_rfc_3339_knows() {
    let written = |ts| {
        let text = line(|buf| Detections { ts, ..detections(&[]) }.write_line(buf));
        let value: Value = serde_json::from_str(&text).expect("parses");
        value["ts"].as_str().expect("is text").to_owned()
    };
    assert_eq!(written(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    assert_eq!(written(UNIX_EPOCH + Duration::from_nanos(999_999)), "1970-01-01T00:00:00.000Z");
    assert_eq!(written(UNIX_EPOCH - Duration::from_millis(250)), "1969-12-31T23:59:59.750Z");
    assert_eq!(written(UNIX_EPOCH - Duration::from_secs(62_167_219_200)), "0000-01-01T00:00:00.000Z");
    assert_eq!(written(UNIX_EPOCH - Duration::from_secs(62_167_219_201)), "0000-01-01T00:00:00.000Z");
    let far = Duration::from_secs(i64::MAX as u64 / 4);
    assert_eq!(written(UNIX_EPOCH - far), "0000-01-01T00:00:00.000Z");
    assert!(written(UNIX_EPOCH + far).starts_with("9999-12-30T"), "{}", written(UNIX_EPOCH + far));
}

#[test]
fn a_number_that_json_has_no_word_for_is_null_and_the_line_still_parses() {
    let objects = [Object { score: f32::NAN, bbox: [f32::INFINITY, -0.01, 1.0, 1.0], ..object("x") }];
    let record = Detections { latency_ms: f64::NEG_INFINITY, ..detections(&objects) };
    let value: Value = serde_json::from_str(&line(|buf| record.write_line(buf))).expect("parses");
    assert!(value["latency_ms"].is_null());
    assert_eq!(value["objects"][0]["box"].to_string(), "[null,0.0,1.0,1.0]");
}

proptest! {
    #[test]
    fn every_line_parses_back_to_the_same_values(
        labels in proptest::collection::vec(any::<String>(), 0..6),
        score in 0.0f32..=1.0,
        corner in -1e5f32..1e5,
        (generation, seq, dropped) in any::<(u64, u64, u64)>(),
        pts_ns in any::<Option<u64>>(),
        track_id in any::<Option<u64>>(),
        latency_ms in 0.0f64..1e7,
        camera in any::<String>(),
        ms in 0u64..253_402_207_200_000,
    ) {
        let objects: Vec<_> = labels
            .iter()
            .map(|label| Object { score, bbox: [corner, -corner, corner * 2.0, 0.0], track_id, ..object(label) })
            .collect();
        let ts = UNIX_EPOCH + Duration::from_millis(ms);
        let record = Detections {
            camera: &camera, generation, seq, ts, pts_ns, latency_ms, dropped_since_last: dropped,
            ..detections(&objects)
        };
        let mut buf = b"kept".to_vec();
        record.write_line(&mut buf);
        let head = br#"kept{"schema":"watchpost/1","type":"detections","#;
        prop_assert_eq!(&buf[..head.len()], head);
        prop_assert_eq!(buf.iter().filter(|byte| **byte == b'\n').count(), 1);
        prop_assert_eq!(buf.last(), Some(&b'\n'));
        let value: Value = serde_json::from_slice(&buf[4..]).expect("parses");
        prop_assert_eq!(value["camera"].as_str(), Some(camera.as_str()));
        prop_assert_eq!(value["generation"].as_u64(), Some(generation));
        prop_assert_eq!(value["seq"].as_u64(), Some(seq));
        prop_assert_eq!(value["dropped_since_last"].as_u64(), Some(dropped));
        prop_assert_eq!(value.get("pts_ns").and_then(Value::as_u64), pts_ns);
        prop_assert!((value["latency_ms"].as_f64().expect("number") - latency_ms).abs() <= 0.0501);
        let at: Timestamp = value["ts"].as_str().expect("text").parse().expect("RFC 3339");
        prop_assert_eq!(at.as_millisecond() as u64, ms);
        let written = value["objects"].as_array().expect("list");
        prop_assert_eq!(written.len(), labels.len());
        for (object, label) in written.iter().zip(&labels) {
            prop_assert_eq!(object["label"].as_str(), Some(label.as_str()));
            prop_assert_eq!(object.get("track_id").and_then(Value::as_u64), track_id);
            prop_assert!((object["score"].as_f64().expect("number") - f64::from(score)).abs() <= 0.000_501);
            let x1 = object["box"][0].as_f64().expect("number");
            prop_assert!((x1 - f64::from(corner)).abs() <= 0.0501);
        }
    }
}

#[test]
fn a_growth_record_says_what_grows_how_fast_and_when_it_is_over() {
    let growth = Growth {
        ts: golden_time(),
        kind: "rss",
        growing: true,
        held: 96_468_992,
        per_hour: Some(25_165_824.0),
        over_s: Some(1500),
        detail: "resident memory has grown",
    };
    assert_eq!(
        line(|buf| growth.write_line(buf)),
        concat!(
            r#"{"schema":"watchpost/1","type":"growth","ts":"2026-11-21T09:30:01.123Z","kind":"rss","growing":true,"#,
            r#""held":96468992,"per_hour":25165824.0,"over_s":1500,"detail":"resident memory has grown"}"#,
            "\n"
        )
    );
    let over = Growth { growing: false, per_hour: None, over_s: None, detail: "it is over", ..growth };
    let text = line(|buf| over.write_line(buf));
    assert!(text.ends_with("\"growing\":false,\"held\":96468992,\"detail\":\"it is over\"}\n"), "{text}");
}

#[test]
fn a_camera_state_says_what_is_given_up() {
    let state = CameraState {
        camera: "gate",
        generation: 3,
        ts: golden_time(),
        state: State::Streaming,
        reason: Some("shed"),
        detail: None,
        retry_in_ms: None,
        shed: Some("half"),
    };
    let text = line(|buf| state.write_line(buf));
    assert!(text.ends_with("\"state\":\"streaming\",\"reason\":\"shed\",\"shed\":\"half\"}\n"), "{text}");
}
