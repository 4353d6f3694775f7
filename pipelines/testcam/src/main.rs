//! `watchpost-testcam`: test cameras as a process of their own, told on stdin what to do.
#![forbid(unsafe_code)]

mod arguments;
mod orders;

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use watchpost_testcam::{TestCamera, TestCameraError, unix_ns};

use arguments::{Arguments, Command, Serve};
use orders::Event;

/// A line on stdin may be this long.
const LINE_BYTES_MAX: u64 = 1024;
/// How often the parent is looked for.
const PARENT_CHECK: Duration = Duration::from_millis(500);

/// What the main thread waits for.
enum Happening {
    Line(String),
    StdinEnded,
    Signal,
}

fn main() -> ExitCode {
    let Command::Serve(serve) = Arguments::parse().command;
    match run(&serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("watchpost-testcam: {message}");
            ExitCode::from(code)
        }
    }
}

/// The error is an exit code of sysexits.h and what went wrong.
fn run(serve: &Serve) -> Result<(), (u8, String)> {
    let parent = std::os::unix::process::parent_id();
    let mut cameras = Vec::with_capacity(serve.cameras);
    for options in serve.all_options().map_err(|message| (64, message))? {
        cameras.push(TestCamera::start(options).map_err(|error| (exit_code(&error), error.to_string()))?);
    }
    let (sender, happenings) = sync_channel(16);
    watch_signals(sender.clone()).map_err(|error| (71, format!("signals cannot be watched: {error}")))?;
    watch_stdin(sender).map_err(|error| (71, format!("stdin cannot be watched: {error}")))?;
    let urls: Vec<_> = cameras.iter().map(TestCamera::url).collect();
    let ready = Event::now("ready", json!({"url": urls[0], "urls": urls}));
    if say(&ready) {
        let reason = obey(&cameras, &happenings, parent, serve.duration);
        drop(cameras);
        say(&Event::now("bye", json!({"reason": reason})));
    }
    Ok(())
}

fn exit_code(error: &TestCameraError) -> u8 {
    match error {
        TestCameraError::Options(_) => 64,
        TestCameraError::Clip { .. } | TestCameraError::Tls(_) => 66,
        TestCameraError::GStreamer(_) | TestCameraError::Port { .. } => 69,
        TestCameraError::FrameLog { .. } => 73,
    }
}

/// Carries out orders until it is time to end; says why.
fn obey(
    cameras: &[TestCamera],
    happenings: &Receiver<Happening>,
    parent: u32,
    duration: Option<Duration>,
) -> &'static str {
    let started_ns = unix_ns();
    loop {
        let past = Duration::from_nanos(unix_ns().saturating_sub(started_ns));
        let left = duration.map_or(PARENT_CHECK, |duration| duration.saturating_sub(past));
        match happenings.recv_timeout(left.min(PARENT_CHECK)) {
            Ok(Happening::Line(line)) => match orders::carry_out(cameras, &line) {
                Some(answer) if say(&answer) => {}
                Some(_) => return "stdout closed",
                None => return "quit",
            },
            Ok(Happening::Signal) => return "signal",
            Ok(Happening::StdinEnded) | Err(RecvTimeoutError::Disconnected) => return "end of stdin",
            Err(RecvTimeoutError::Timeout) => {}
        }
        if std::os::unix::process::parent_id() != parent {
            return "parent died";
        }
        if duration.is_some_and(|duration| unix_ns().saturating_sub(started_ns) >= duration.as_nanos() as u64)
        {
            return "duration over";
        }
    }
}

/// Writes one line to stdout; false when nobody reads it any more.
fn say(event: &Event) -> bool {
    let Ok(line) = serde_json::to_string(event) else { return false };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_ok()
}

fn watch_signals(sender: SyncSender<Happening>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _signal in signals.forever() {
            if sender.send(Happening::Signal).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn watch_stdin(sender: SyncSender<Happening>) -> std::io::Result<()> {
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut line = String::new();
            match stdin.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
                Ok(length) if length > 0 => {
                    if sender.send(Happening::Line(line)).is_err() {
                        return;
                    }
                }
                _ => {
                    let _ = sender.send(Happening::StdinEnded);
                    return;
                }
            }
        }
    })?;
    Ok(())
}
