//! `watchpost completions SHELL`

use std::io::Write;

use clap::CommandFactory;

use super::{Cli, Failure, common};

pub(super) const AFTER_HELP: &str = "\
Example:
    watchpost completions bash > /etc/bash_completion.d/watchpost";

/// Arguments of `watchpost completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &CompletionsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "watchpost", &mut script);
    out.write_all(&script)
        .map_err(|error| common::output_failure("stdout", &error))
        .or_else(common::quiet_if_closed)
}
