//! The log on stderr: for people, as JSON Lines, or with systemd's priority prefixes. Always scrubbed.

use std::io::{self, Write};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::{Failure, exit};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Time, level, sentence
    Human,
    /// One JSON object a line
    Json,
    /// `<4>sentence`: the journal takes the level from the prefix and adds the time itself
    Systemd,
}

/// Starts the log. Panics of any thread go there too.
pub(super) fn start(format: LogFormat, level: Option<&str>, default_level: &str) -> Result<(), Failure> {
    let directives = level.unwrap_or(default_level);
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Failure::new(
            exit::USAGE,
            format!("--log-level: \"{directives}\" is not a level or filter ({error}); try info or debug"),
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Scrubbed).with_target(false);
    match format {
        LogFormat::Human => {
            builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).compact().init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Systemd => builder.with_ansi(false).event_format(Systemd).init(),
    }
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        tracing::error!(thread = name, "a thread panicked, which is a fault of watchpost: {info}");
    }));
    Ok(())
}

/// Writes whole lines to stderr, with every password replaced. The last of several fences: nothing that is
/// logged should contain one in the first place.
#[derive(Debug, Clone, Copy)]
struct Scrubbed;

impl Write for Scrubbed {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        // A log that nobody reads any more must not end what it tells of: an error here would be printed to
        // stderr, and that panics.
        let _nobody_listens = io::stderr().write_all(watchpost_pipelines::scrub(&text).as_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Scrubbed {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

/// sd-daemon(3): `<priority>` before the line.
struct Systemd;

impl<S, N> FormatEvent<S, N> for Systemd
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
